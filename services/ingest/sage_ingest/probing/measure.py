"""Measures a video file with FFmpeg through PyAV: whether it is complete, and its media."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sage_ingest.probing import description
from sage_ingest.probing.description import missing_bytes
from sage_ingest.probing.ports import UnreadableError
from sage_ingest.videos.model import FrameRateMode, Media

# FFmpeg tries no other format. Apart from images and text, this excludes playlists (HLS, DASH, concat), which make it
# open addresses and files of the uploader's choice.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,dv,nut,rm,ivf"
# Packets without a decodable frame after which the picture counts as broken.
_MAX_PACKETS = 500
_MAX_RATE = 1000
# The nominal rate is the exact one if the average, computed from rounded timestamps, is this close.
_RATE_TOLERANCE = Fraction(1, 1000)
# Timestamps are rounded to the container's ticks, or were rounded to milliseconds in an earlier container.
_ROUNDING_SECONDS = Fraction(1, 1000)
# Without an index of all frames, the frame rate at the end of the file is measured over this length.
_EVIDENCE_SECONDS = Fraction(2)
# Frames that may be decoded before others that are displayed earlier: the most that H.264 and H.265 allow.
_MAX_REORDERED = 16
# Four and a half hours at 60 frames per second, which take half a second.
_MAX_TIMESTAMPS = 1_000_000

_CUT_OFF = "it is incomplete"
_BROKEN = "its picture cannot be decoded"


class BudgetExceededError(OSError):
    """Reading more would exceed the number of bytes that probing may read."""


class SeekableFile(Protocol):
    """The part of a binary file that FFmpeg needs."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes.

        Raises:
            BudgetExceededError: Too many bytes were read.
        """
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset."""
        ...

    def tell(self) -> int:
        """Return the offset."""
        ...


@dataclass(frozen=True)
class _Timeline:
    """Timing of the picture.

    Attributes:
        start: Timestamp of the first frame in seconds.
        end: When the last frame ends, in seconds.
        timestamps: Of consecutive frames, in ticks of the stream, as many as are known without reading more.
        is_whole: Whether those are all frames of the file.
    """

    start: Fraction
    end: Fraction
    timestamps: Sequence[int]
    is_whole: bool


def measure(file: SeekableFile, *, size_bytes: int) -> Media:
    """Return the media of a file, after decoding its first frame and finding its end.

    Args:
        file: The file.
        size_bytes: Its size.

    Raises:
        UnreadableError: It is not a complete video that can be decoded.
    """

    def read_at(offset: int, length: int) -> bytes:
        file.seek(offset)
        data = b""
        while len(data) < length and (more := file.read(length - len(data))):
            data += more
        return data

    try:
        missing = missing_bytes(read_at, size_bytes=size_bytes)
        if missing:
            raise UnreadableError(f"{_CUT_OFF}: at least {missing} bytes are missing")
        file.seek(0)
        with _open(file) as container:
            return _measure(container, size_bytes=size_bytes)
    except BudgetExceededError as error:
        raise UnreadableError("too much of it would have to be read to determine its contents") from error


@contextlib.contextmanager
def _open(file: SeekableFile) -> Iterator[InputContainer]:
    try:
        container = av.open(file, mode="r", options={"format_whitelist": _FORMATS}, metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        raise UnreadableError("it is not in a video format that this server supports", detail=str(error)) from error
    with container:
        yield container


def _measure(container: InputContainer, *, size_bytes: int) -> Media:
    stream = _picture(container)
    try:
        first = _first_frame(container, stream)
        timeline = _read_timeline(container, stream, start=_seconds(first.pts, stream), size_bytes=size_bytes)
    except av.error.FFmpegError as error:
        raise UnreadableError(_BROKEN, detail=str(error)) from error
    duration = timeline.end - timeline.start
    if duration <= 0:
        raise UnreadableError("it has no length")
    context = stream.codec_context
    mirrored, rotation_degrees = description.orientation(first)
    return Media(
        duration_seconds=float(duration),
        start_offset_seconds=float(timeline.start),
        container=container.format.name,
        video_codec=context.name,
        width=context.width,
        height=context.height,
        rotation_degrees=rotation_degrees,
        frame_rate=_frame_rate(stream, duration=duration),
        frame_count=stream.frames or None,
        frame_rate_mode=_frame_rate_mode(stream, timeline),
        sample_aspect_ratio=description.sample_aspect_ratio(stream),
        mirrored=mirrored,
        start_timecode=description.start_timecode(container, stream),
        field_order=description.field_order(context),
        color=description.color(first),
        audio_tracks=description.audio_tracks(container),
    )


def _picture(container: InputContainer) -> VideoStream:
    # The cover art of an album is a video stream of one frame.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise UnreadableError("it has no picture track")
    stream = streams[0]
    # Typed as always present; it is absent if FFmpeg has no decoder.
    if getattr(stream, "codec_context", None) is None or not stream.codec_context.is_decoder:
        raise UnreadableError("its video codec is not supported by this server")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    # One frame is decoded: threads would cost memory and save no time.
    stream.codec_context.thread_count = 1
    return stream


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame:
    for count, packet in enumerate(container.demux(stream)):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            # Streams that begin between two keyframes have packets that cannot be decoded.
            frames = []
        for frame in frames:
            if isinstance(frame, VideoFrame) and frame.width and frame.height:
                return frame
        if count > _MAX_PACKETS:
            break
    raise UnreadableError(_BROKEN)


def _read_timeline(container: InputContainer, stream: VideoStream, *, start: Fraction, size_bytes: int) -> _Timeline:
    """Return the picture's timing, from the packets at the end of the file and the index if it lists every frame."""
    is_mov = container.format.name.startswith("mov")
    indexed = _indexed_timestamps(stream)
    if is_mov and stream.index_entries:
        last = stream.index_entries[-1]
        if last.pos + last.size > size_bytes:
            raise UnreadableError(_CUT_OFF)
    stated = _stated_end(container, stream, start=start)
    frame_length = 1 / _frame_rate(stream, duration=stated - start if stated else None)
    end, read, unknown = start, list[int](), 0
    try:
        if stated:
            before_end = frame_length if indexed else max(frame_length, _EVIDENCE_SECONDS)
            _seek(container, stream, max(start, stated - before_end), otherwise=stated - frame_length)
        for packet in container.demux(stream):
            if packet.is_corrupt and is_mov:
                raise UnreadableError(_CUT_OFF)
            if packet.pts is not None:
                length = _seconds(packet.duration, stream) if packet.duration else frame_length
                end = max(end, _seconds(packet.pts, stream) + length)
                if not read and not packet.is_keyframe:
                    # Frames that are displayed among the first ones here may be stored earlier in the file.
                    unknown = _MAX_REORDERED
                read.append(packet.pts)
    except BudgetExceededError:
        if stated is None:
            raise
        end, read = stated, []
    if end <= start and stated is not None:
        end = stated
    return _Timeline(start, end, indexed or sorted(read)[unknown:], is_whole=bool(indexed))


def _seek(container: InputContainer, stream: VideoStream, seconds: Fraction, *, otherwise: Fraction) -> None:
    """Seek to the last keyframe before a time; formats without an index search for it, or for any packet."""
    if not stream.time_base:
        return
    # FFmpeg refuses to seek before the first keyframe that it knows.
    with contextlib.suppress(av.error.FFmpegError):
        container.seek(int(seconds / stream.time_base), stream=stream, backward=True)
        return
    container.seek(int(otherwise / stream.time_base), stream=stream, backward=True)


def _indexed_timestamps(stream: VideoStream) -> Sequence[int]:
    """Return the timestamps of all frames if the file has an index of them. Many indexes list keyframes only."""
    entries = stream.index_entries
    if not entries or not 0 < stream.frames <= len(entries):
        return []
    return [entry.timestamp for entry in itertools.islice(entries, _MAX_TIMESTAMPS)]


def _stated_end(container: InputContainer, stream: VideoStream, *, start: Fraction) -> Fraction | None:
    if stream.duration:
        return start + _seconds(stream.duration, stream)
    if container.duration:
        return start + Fraction(container.duration, av.time_base)
    return None


def _frame_rate(stream: VideoStream, *, duration: Fraction | None) -> Fraction:
    average, nominal = stream.average_rate, stream.base_rate
    if average and nominal and abs(nominal - average) <= average * _RATE_TOLERANCE:
        average = nominal
    computed = Fraction(stream.frames) / duration if stream.frames and duration else None
    for rate in (average, stream.guessed_rate, nominal, computed):
        if rate and 0 < rate <= _MAX_RATE:
            return Fraction(rate).limit_denominator(1_000_000)
    # None, for example for a single frame.
    return Fraction(1)


def _frame_rate_mode(stream: VideoStream, timeline: _Timeline) -> FrameRateMode:
    """Return whether every frame has the same duration, as far as the parts of the file that are read show.

    An index of every frame decides alone. Otherwise the frames at the end of the file must be evenly spaced, at the
    rate that FFmpeg found at its beginning and that the container states as the average.
    """
    timestamps, tick = timeline.timestamps, stream.time_base or Fraction(0)
    even = _evenly_spaced(timestamps, tick=tick)
    if even is None:
        return FrameRateMode.UNSPECIFIED
    if not even:
        return FrameRateMode.VARIABLE
    if timeline.is_whole:
        return FrameRateMode.CONSTANT
    nominal, length = stream.base_rate, timestamps[-1] - timestamps[0]
    if not nominal:
        return FrameRateMode.UNSPECIFIED
    at_end = (len(timestamps) - 1) / (length * tick)
    agree = _same_rate(nominal, at_end, tolerance=_RATE_TOLERANCE + max(tick, _ROUNDING_SECONDS) / (length * tick))
    if stream.average_rate:
        agree = agree and _same_rate(nominal, stream.average_rate, tolerance=_RATE_TOLERANCE)
    return FrameRateMode.CONSTANT if agree else FrameRateMode.VARIABLE


def _same_rate(nominal: Fraction, rate: Fraction, *, tolerance: Fraction) -> bool:
    # The nominal rate of an interlaced picture may be that of its fields.
    return any(abs(nominal - multiple * rate) <= multiple * rate * tolerance for multiple in (1, 2))


def _evenly_spaced(timestamps: Sequence[int], *, tick: Fraction) -> bool | None:
    """Return whether timestamps are evenly spaced except for rounding; `None` if there are too few to tell."""
    steps = len(timestamps) - 1
    # Frames that are all stated for one moment have no spacing.
    if steps < 2 or tick <= 0 or timestamps[-1] <= timestamps[0]:
        return None
    first, length = timestamps[0], timestamps[-1] - timestamps[0]
    # Each may be off the line from the first to the last by rounding, which is less than a frame.
    allowed = min(max(Fraction(1), _ROUNDING_SECONDS / tick), Fraction(length, 4 * steps))
    # Multiplied by the number of steps, so that all are whole numbers.
    most = int(allowed * steps)
    return all(abs((timestamp - first) * steps - index * length) <= most for index, timestamp in enumerate(timestamps))


def _seconds(ticks: int | None, stream: VideoStream) -> Fraction:
    return Fraction(ticks or 0) * (stream.time_base or Fraction(0))
