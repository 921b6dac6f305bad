"""What the compare service needs to know about a video file, apart from its timeline."""

from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction


class DynamicRange(Enum):
    """Dynamic range of a picture. Players show a picture without a stated transfer function as SDR."""

    SDR = auto()
    PQ = auto()
    HLG = auto()


@dataclass(frozen=True)
class AudioTrack:
    """An audio track.

    Attributes:
        channels: Number of channels, 0 if unknown.
        layout: Layout of the channels, such as `5.1(side)`. Empty if unknown.
        language: Language as the file names it, usually ISO 639-2. Empty if unknown.
    """

    channels: int
    layout: str = ""
    language: str = ""


@dataclass(frozen=True)
class Area:
    """A rectangle of the displayed picture, in shares of its width and height."""

    x: Fraction
    y: Fraction
    width: Fraction
    height: Fraction


@dataclass(frozen=True)
class Media:
    """Tracks and presentation of a video file.

    Attributes:
        audio_tracks: In the order of the file. Empty if the video has no sound.
        picture_count: Number of picture tracks, without cover art. 0 if unknown.
        dynamic_range: Of the picture.
        aspect_ratio: Width of the displayed picture divided by its height. `None` if unknown.
        active: The picture inside black bars: the whole displayed frame if there are none. `None` if unknown.
        interlaced: Whether frames are two fields. `None` if unknown.
        mirrored: Whether a player mirrors the picture.
    """

    audio_tracks: tuple[AudioTrack, ...] = ()
    picture_count: int = 0
    dynamic_range: DynamicRange = DynamicRange.SDR
    aspect_ratio: Fraction | None = None
    active: Area | None = None
    interlaced: bool | None = None
    mirrored: bool = False
