"""What a comparison says beyond its tracks: differences between the files' media, and what was not compared.

The rules are part of the contract: the comments on `MediaDifferenceKind` and `NotComparedReason` in
`protos/sage/compare/v1/compare.proto` state them.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction

from sage_compare.inputs.media import Area, AudioTrack, Media

PICTURE, SOUND = "visual", "audio"

# Two conventions for the pixels of standard definition are 2.3% apart, and scaling rounds to whole pixels. 1.78 and
# 1.85, the closest ratios that films are cropped to, are 4% apart.
_SAME_ASPECT = Fraction(103, 100)
# How much of the frame black bars may cover, or differ in, and say nothing: blanking, and the edges that codecs and
# scalers blur.
_SAME_SHARE = Fraction(3, 100)
_UNKNOWN_LANGUAGES = frozenset({"", "und", "mis"})
# ISO 639-2 has two codes for these languages. Matroska uses the bibliographic one, MP4 the terminological one.
_TERMINOLOGICAL = {
    "alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces", "dut": "nld", "fre": "fra",
    "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd", "mao": "mri", "may": "msa", "per": "fas",
    "rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym",
}  # fmt: skip


class MediaDifferenceKind(Enum):
    """What differs between the media of two files."""

    AUDIO_TRACK_COUNT = auto()
    AUDIO_LAYOUT = auto()
    AUDIO_LANGUAGE = auto()
    DYNAMIC_RANGE = auto()
    ASPECT_RATIO = auto()
    SCAN = auto()
    MIRRORING = auto()
    BLACK_BARS = auto()


_COUNTS_AS_DIFFERENCE = frozenset(
    {MediaDifferenceKind.AUDIO_TRACK_COUNT, MediaDifferenceKind.AUDIO_LAYOUT, MediaDifferenceKind.AUDIO_LANGUAGE}
)


@dataclass(frozen=True)
class MediaDifference:
    """A difference between the media of two files.

    Attributes:
        kind: What differs.
        a: The value in a.
        b: The value in b.
        audio_track: Index of the audio track that differs. `None` if the kind is not about one track.
    """

    kind: MediaDifferenceKind
    a: str
    b: str
    audio_track: int | None = None

    @property
    def counts_as_difference(self) -> bool:
        """Whether the films differ because of it. If not, it only explains differences in the picture."""
        return self.kind in _COUNTS_AS_DIFFERENCE


class NotComparedReason(Enum):
    """Why a part of both films was not compared."""

    MODEL_LACKS_TRACK = auto()
    NOT_REQUESTED = auto()
    OTHER_TRACKS = auto()


@dataclass(frozen=True)
class NotCompared:
    """A part of both films that was not compared.

    Attributes:
        track: The track that would compare it.
        reason: Why it was not compared.
    """

    track: str
    reason: NotComparedReason


def find_media_differences(a: Media, b: Media) -> tuple[MediaDifference, ...]:
    """Return what differs between the media of two files, by kind and then by audio track."""
    found = [
        *_values(MediaDifferenceKind.AUDIO_TRACK_COUNT, str(len(a.audio_tracks)), str(len(b.audio_tracks))),
        *_audio(MediaDifferenceKind.AUDIO_LAYOUT, a, b),
        *_audio(MediaDifferenceKind.AUDIO_LANGUAGE, a, b),
        *_values(MediaDifferenceKind.DYNAMIC_RANGE, a.dynamic_range.name, b.dynamic_range.name),
    ]
    if a.aspect_ratio and b.aspect_ratio:
        low, high = sorted((a.aspect_ratio, b.aspect_ratio))
        if high / low > _SAME_ASPECT:
            found += _values(MediaDifferenceKind.ASPECT_RATIO, _aspect(a.aspect_ratio), _aspect(b.aspect_ratio))
    if a.interlaced is not None and b.interlaced is not None:
        found += _values(MediaDifferenceKind.SCAN, _scan(a.interlaced), _scan(b.interlaced))
    found += _values(MediaDifferenceKind.MIRRORING, _mirroring(a.mirrored), _mirroring(b.mirrored))
    if a.active and b.active and not _same_share(a.active, b.active):
        found += _values(MediaDifferenceKind.BLACK_BARS, _bars(a, a.active), _bars(b, b.active))
    return tuple(found)


def find_not_compared(
    a: Media, b: Media, *, compared: Collection[str], model_tracks: Collection[str]
) -> tuple[NotCompared, ...]:
    """Return what both films have and was not compared, the picture before the sound.

    Args:
        a: Media of one film.
        b: Media of the other film.
        compared: Names of the tracks that were compared.
        model_tracks: Names of the tracks that the model makes.
    """
    found = []
    both_have_sound = bool(a.audio_tracks and b.audio_tracks)
    several_sounds = max(len(a.audio_tracks), len(b.audio_tracks)) > 1
    for track, present, several in (
        (PICTURE, True, max(a.picture_count, b.picture_count) > 1),
        (SOUND, both_have_sound, both_have_sound and several_sounds),
    ):
        if track in compared:
            if several:
                found.append(NotCompared(track, NotComparedReason.OTHER_TRACKS))
        elif present:
            made = track in model_tracks
            reason = NotComparedReason.NOT_REQUESTED if made else NotComparedReason.MODEL_LACKS_TRACK
            found.append(NotCompared(track, reason))
    return tuple(found)


def _values(kind: MediaDifferenceKind, a: str, b: str) -> Iterator[MediaDifference]:
    if a != b:
        yield MediaDifference(kind, a, b)


def _audio(kind: MediaDifferenceKind, a: Media, b: Media) -> Iterator[MediaDifference]:
    same = _same_layout if kind is MediaDifferenceKind.AUDIO_LAYOUT else _same_language
    value = _layout if kind is MediaDifferenceKind.AUDIO_LAYOUT else _language
    # The track count says which file has more of them.
    for index, (one, other) in enumerate(zip(a.audio_tracks, b.audio_tracks, strict=False)):
        if not same(one, other):
            yield MediaDifference(kind, value(one), value(other), audio_track=index)


def _same_layout(a: AudioTrack, b: AudioTrack) -> bool:
    if not a.channels or not b.channels:
        return True
    if a.channels != b.channels:
        return False
    return not (_is_named(a) and _is_named(b)) or a.layout.partition("(")[0] == b.layout.partition("(")[0]


def _is_named(track: AudioTrack) -> bool:
    """Whether the layout is known. FFmpeg writes `6 channels` if only their number is."""
    return bool(track.layout) and not track.layout.endswith("channels")


def _layout(track: AudioTrack) -> str:
    if _is_named(track):
        return track.layout
    return "1 channel" if track.channels == 1 else f"{track.channels} channels"


def _same_language(a: AudioTrack, b: AudioTrack) -> bool:
    one, other = _language_code(a), _language_code(b)
    # Codes of different lengths belong to different standards, and may name the same language.
    return one == other or not one or not other or len(one) != len(other)


def _language_code(track: AudioTrack) -> str:
    code = track.language.lower().partition("-")[0]
    return "" if code in _UNKNOWN_LANGUAGES else _TERMINOLOGICAL.get(code, code)


def _language(track: AudioTrack) -> str:
    return track.language


def _aspect(ratio: Fraction) -> str:
    return f"{float(ratio):.2f}:1"


def _same_share(a: Area, b: Area) -> bool:
    return abs(a.width - b.width) <= _SAME_SHARE and abs(a.height - b.height) <= _SAME_SHARE


def _bars(media: Media, active: Area) -> str:
    at_sides, above_and_below = (1 - share >= _SAME_SHARE for share in (active.width, active.height))
    if not at_sides and not above_and_below:
        return "none"
    kind = "windowbox" if at_sides and above_and_below else "pillarbox" if at_sides else "letterbox"
    return f"{kind} {_aspect(media.aspect_ratio * active.width / active.height)}" if media.aspect_ratio else kind


def _scan(interlaced: bool) -> str:
    return "interlaced" if interlaced else "progressive"


def _mirroring(mirrored: bool) -> str:
    return "mirrored" if mirrored else "not mirrored"
