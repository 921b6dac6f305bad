"""Videos, their media, and what a client declares about one before it is stored.

Times on a film's timeline are seconds from its first frame.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any

VIDEO_ID_PREFIX = "video"
OBJECT_KEY_PREFIX = "videos/"
_OBJECT_KEY = re.compile(rf"{OBJECT_KEY_PREFIX}{VIDEO_ID_PREFIX}_[0-9a-f]{{32}}")


class FrameRateMode(StrEnum):
    """Whether every frame has the same duration."""

    UNSPECIFIED = "UNSPECIFIED"
    CONSTANT = "CONSTANT"
    VARIABLE = "VARIABLE"


class FieldOrder(StrEnum):
    """Whether frames are whole pictures or two fields, and which field is displayed first."""

    UNSPECIFIED = "UNSPECIFIED"
    PROGRESSIVE = "PROGRESSIVE"
    TOP_FIRST = "TOP_FIRST"
    BOTTOM_FIRST = "BOTTOM_FIRST"


class ColorRange(StrEnum):
    """Range of the picture's values: 16 to 235 (limited) or 0 to 255 (full), at 8 bits."""

    UNSPECIFIED = "UNSPECIFIED"
    LIMITED = "LIMITED"
    FULL = "FULL"


@dataclass(frozen=True)
class Timecode:
    """An SMPTE 12M timecode; `drop_frame` means that it skips frame numbers to keep up with the clock."""

    hours: int
    minutes: int
    seconds: int
    frames: int
    drop_frame: bool


@dataclass(frozen=True)
class PictureArea:
    """A rectangle in pixels of the coded picture, before rotation."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Color:
    """How the picture's values map to colors. Names are FFmpeg's for ITU-T H.273; empty if unknown."""

    primaries: str = ""
    transfer: str = ""
    matrix: str = ""
    range: ColorRange = ColorRange.UNSPECIFIED


@dataclass(frozen=True)
class AudioTrack:
    """An audio track.

    Attributes:
        codec: Such as `aac`.
        channels: Number of channels.
        sample_rate: Samples per second.
        layout: Such as `stereo` or `5.1`; empty if unknown.
        language: As the file names it, usually ISO 639-2 such as `eng`; empty if unknown.
    """

    codec: str
    channels: int
    sample_rate: int
    layout: str = ""
    language: str = ""


@dataclass(frozen=True)
class VideoTrack:
    """A picture track.

    Attributes:
        codec: Such as `h264`; `unknown` if the server cannot decode it.
        width: Of the coded picture in pixels, before rotation.
        height: Of the coded picture in pixels, before rotation.
        is_default: Whether the file marks it as the track to play.
        is_cover: Whether the file marks it as a still picture, such as the cover of an album.
        duration_seconds: 0 if the file does not state it.
    """

    codec: str
    width: int
    height: int
    is_default: bool
    is_cover: bool
    duration_seconds: float


@dataclass(frozen=True)
class Media:
    """What a file holds, measured from its bytes.

    Fields with a default were added later: rows that were stored earlier have the default.

    Attributes:
        duration_seconds: From the first frame to the end of the last.
        start_offset_seconds: Timestamp of the first frame, as stored in the container.
        container: Container format, such as `mov,mp4,m4a,3gp,3g2,mj2`.
        video_codec: Such as `h264`.
        width: Of the coded picture in pixels, before rotation.
        height: Of the coded picture in pixels, before rotation.
        rotation_degrees: Clockwise turn for display: 0, 90, 180 or 270.
        frame_rate: Frames per second, exact; the average if it varies.
        frame_count: Frames that a player shows; `None` if it cannot be known without reading the entire file.
        frame_rate_mode: Whether every frame has the same duration.
        sample_aspect_ratio: Width of a pixel divided by its height. Files that do not state it have square pixels.
        mirrored: Whether the picture is mirrored left to right before it is turned.
        start_timecode: Timecode of the first frame; `None` if the file has none.
        field_order: Progressive, or which field comes first.
        color: `None` if the file does not say.
        audio_tracks: In the order of the file.
        video_track: The picture track that is the film: its index in `video_tracks`.
        video_tracks: In the order of the file, with cover art and tracks that the server cannot decode.
        timestamps_jump: Whether the file's timestamps start again or jump, and so do not tell a frame's place.
        active_picture: The area inside black bars, the whole frame if there are none; `None` if unknown.
    """

    duration_seconds: float
    start_offset_seconds: float
    container: str
    video_codec: str
    width: int
    height: int
    rotation_degrees: int
    frame_rate: Fraction
    frame_count: int | None
    frame_rate_mode: FrameRateMode = FrameRateMode.UNSPECIFIED
    sample_aspect_ratio: Fraction = Fraction(1)
    mirrored: bool = False
    start_timecode: Timecode | None = None
    field_order: FieldOrder = FieldOrder.UNSPECIFIED
    color: Color | None = None
    audio_tracks: tuple[AudioTrack, ...] = ()
    video_track: int = 0
    video_tracks: tuple[VideoTrack, ...] = ()
    timestamps_jump: bool = False
    active_picture: PictureArea | None = None

    @property
    def display_size(self) -> tuple[int, int]:
        """Width and height of the displayed picture in square pixels.

        The sample aspect ratio stretches the width and keeps the height, as players do; then the picture is turned.
        """
        width, height = max(1, round(self.width * self.sample_aspect_ratio)), self.height
        return (height, width) if self.rotation_degrees % 180 else (width, height)


def media_to_json(media: Media) -> dict[str, Any]:
    """Return plain values; ratios as text such as `30000/1001`."""
    return {
        **asdict(media),
        "frame_rate": str(media.frame_rate),
        "sample_aspect_ratio": str(media.sample_aspect_ratio),
    }


def media_from_json(values: Mapping[str, Any]) -> Media:
    """Invert `media_to_json`. Also reads rows that were stored before several tracks were supported."""
    fields = dict(values)
    first_track = fields.pop("audio", None)
    tracks = fields.get("audio_tracks", [first_track] if first_track else [])
    timecode, color, area = fields.get("start_timecode"), fields.get("color"), fields.get("active_picture")
    fields |= {
        "frame_rate": Fraction(fields["frame_rate"]),
        "frame_rate_mode": FrameRateMode(fields.get("frame_rate_mode", FrameRateMode.UNSPECIFIED)),
        "sample_aspect_ratio": Fraction(fields.get("sample_aspect_ratio", 1)),
        "start_timecode": Timecode(**timecode) if timecode else None,
        "field_order": FieldOrder(fields.get("field_order", FieldOrder.UNSPECIFIED)),
        "color": Color(**{**color, "range": ColorRange(color["range"])}) if color else None,
        "audio_tracks": tuple(AudioTrack(**track) for track in tracks),
        "video_tracks": tuple(VideoTrack(**track) for track in fields.get("video_tracks", ())),
        "active_picture": PictureArea(**area) if area else None,
    }
    return Media(**fields)


@dataclass(frozen=True)
class VideoSpec:
    """What a client declared about a file, checked and in normal form (`uploads.model.check_video_spec`).

    Attributes:
        filename: A label for people. Never a path, never part of an object key.
        content_type: Media type without parameters, lower-case, such as `video/mp4`; `application/octet-stream` if
            neither the client nor the extension states one.
        size_bytes: Size of the whole file, at least 1.
        sha256: 64 lower-case hexadecimal digits; empty if the client declared none.
        video_track: The picture track that is the film; `None`: the file decides.
    """

    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    video_track: int | None = None


@dataclass(frozen=True)
class Video:
    """A video that is stored, verified and probed.

    Attributes:
        id: `video_` and 32 hexadecimal digits; sorts by the time at which the upload began.
        filename: The label that it was uploaded under.
        content_type: The media type that it was uploaded as.
        size_bytes: Size of the file.
        sha256: Of the file, 64 lower-case hexadecimal digits.
        media: What the file holds.
        create_time: When the upload began, with time zone.
        request_id: The client's idempotency key; empty if it sent none.
    """

    id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    media: Media
    create_time: datetime
    request_id: str = ""

    def was_uploaded_as(self, spec: VideoSpec) -> bool:
        """Whether an upload with this spec that repeats the request ID may return this video."""
        return (
            self.filename == spec.filename
            and self.content_type == spec.content_type
            and self.size_bytes == spec.size_bytes
            and spec.sha256 in ("", self.sha256)
            and spec.video_track in (None, self.media.video_track)
        )


def object_key(video_id: str) -> str:
    """Return the key of a video's object. It is made from the ID alone, so nothing that a client sends reaches it."""
    return f"{OBJECT_KEY_PREFIX}{video_id}"


def is_object_key(key: str) -> bool:
    """Return whether a key in the bucket has the form of a video's. Other programs may use the same bucket."""
    return _OBJECT_KEY.fullmatch(key) is not None
