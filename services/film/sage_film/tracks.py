"""The picture tracks of a film, and which of them is the film."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

UNKNOWN_CODEC = "unknown"
# Codecs of still pictures, which also carry films: Motion JPEG, PNG in QuickTime.
_STILL_CODECS = {"mjpeg", "png", "apng", "bmp", "gif", "tiff", "webp", "jpeg2000", "jpegls", "jpegxl"}
# A track of one still picture: its length is a frame's, or unknown.
_STILL_SECONDS = 0.2
# Tracks that are this close in length count as equally long. Versions of one film in one file differ by a few frames.
_SAME_LENGTH = 0.95


class NoSuchTrackError(Exception):
    """The film has no picture track to use. The message is a clause for people."""


@dataclass(frozen=True)
class PictureTrack:
    """A picture track, as the file describes it.

    Attributes:
        codec: Such as `h264`; `unknown` if FFmpeg cannot decode it.
        width: Of the coded picture in pixels, before rotation.
        height: Of the coded picture in pixels, before rotation.
        is_default: Whether the file marks it as the track to play.
        is_cover: Whether the file marks it as a still picture, such as the cover of an album.
        duration_seconds: Length; 0 if the file does not state it.
        is_still: Whether it seems to be a single picture, marked or not.
    """

    codec: str
    width: int
    height: int
    is_default: bool
    is_cover: bool
    duration_seconds: float
    is_still: bool


def picture_tracks(container: InputContainer) -> list[PictureTrack]:
    """Return the picture tracks in the order of the file."""
    return [_describe(container, stream) for stream in container.streams.video]


def choose_track(tracks: Sequence[PictureTrack], requested: int | None = None) -> int:
    """Return the index of the track that is the film.

    It is the requested one. Otherwise the one that the file marks as default, of several or none the longest, and of
    those the one with the largest picture. Cover art and other stills are skipped, marked or not, and so are tracks
    that cannot be decoded.

    Raises:
        NoSuchTrackError: There is no such track, or it cannot be decoded.
    """
    if requested is not None:
        if requested >= len(tracks):
            raise NoSuchTrackError(f"it has no picture track {requested}: {_listed(len(tracks))}")
        if tracks[requested].codec == UNKNOWN_CODEC:
            raise NoSuchTrackError(f"the codec of its picture track {requested} is not supported by this server")
        return requested
    films = [index for index, track in enumerate(tracks) if not track.is_cover]
    if not films:
        raise NoSuchTrackError("it has no picture track")
    films = [index for index in films if tracks[index].codec != UNKNOWN_CODEC]
    if not films:
        raise NoSuchTrackError("its video codec is not supported by this server")
    # A film of one frame remains if there is nothing else.
    films = [index for index in films if not tracks[index].is_still] or films
    films = [index for index in films if tracks[index].is_default] or films
    longest = max(tracks[index].duration_seconds for index in films)
    films = [index for index in films if tracks[index].duration_seconds >= longest * _SAME_LENGTH]
    return max(films, key=lambda index: (tracks[index].width * tracks[index].height, -index))


def sound_track(container: InputContainer) -> AudioStream | None:
    """Return the track of sound that players choose: the default one, or the first. `None` if none can be decoded."""
    # Typed as always present; it is absent if FFmpeg has no decoder.
    tracks = [one for one in container.streams.audio if getattr(one, "codec_context", None) is not None]
    return next((one for one in tracks if one.disposition & Disposition.default), tracks[0] if tracks else None)


def select_track(container: InputContainer, index: int, *, sound: AudioStream | None = None) -> VideoStream:
    """Return a picture track, after telling FFmpeg to skip all others.

    Args:
        container: An open film.
        index: Of the picture track.
        sound: A track that is not skipped.
    """
    selected = container.streams.video[index]
    kept = {selected.index} if sound is None else {selected.index, sound.index}
    for other in container.streams:
        if other.index not in kept:
            other.discard = Discard.all
    return selected


def _describe(container: InputContainer, stream: VideoStream) -> PictureTrack:
    # Typed as always present; it is absent if FFmpeg has no decoder.
    context = getattr(stream, "codec_context", None)
    codec = context.name if context is not None and context.is_decoder else UNKNOWN_CODEC
    duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    return PictureTrack(
        codec=codec,
        width=context.width if context is not None else 0,
        height=context.height if context is not None else 0,
        is_default=bool(stream.disposition & Disposition.default),
        is_cover=bool(stream.disposition & Disposition.attached_pic),
        duration_seconds=max(0.0, duration or _stated_in_tags(stream)),
        is_still=_is_still(stream, codec, duration),
    )


def _is_still(stream: VideoStream, codec: str, duration: float) -> bool:
    if stream.frames == 1:
        return True
    return codec in _STILL_CODECS and not stream.frames and duration <= _STILL_SECONDS


def _stated_in_tags(stream: VideoStream) -> float:
    # Matroska states a track's length in a tag, `01:02:03.456000000`.
    stated = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    try:
        hours, minutes, seconds = stated.split(":")
        return float(Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds))
    except (ValueError, OverflowError, ZeroDivisionError):
        return 0.0


def _listed(count: int) -> str:
    return "it has one, track 0" if count == 1 else f"it has {count}, counted from 0"
