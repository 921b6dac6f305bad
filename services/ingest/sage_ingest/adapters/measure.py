"""What a container holds, measured with FFmpeg through PyAV."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sage_ingest.completeness import missing_bytes
from sage_ingest.model import Audio, Media
from sage_ingest.ports import UnreadableError

# FFmpeg tries no other format. Besides pictures and text, this keeps out playlists (HLS, DASH, concat), which make it
# open addresses and files that the uploader chose.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,dv,nut,rm,ivf"
# Packets without one decodable frame among them after which the picture counts as broken.
_MAX_PACKETS = 500
_MAX_RATE = 1000
# The nominal rate is the exact one where the average, computed from rounded timestamps, is this close.
_RATE_TOLERANCE = Fraction(1, 1000)

_CUT_OFF = "it ends in the middle"
_BROKEN = "its picture cannot be decoded"


class BudgetExceededError(OSError):
    """Reading on would take more bytes than probing may read."""


class SeekableFile(Protocol):
    """The part of a binary file that FFmpeg needs."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes.

        Raises:
            BudgetExceededError: Enough was read.
        """
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset."""
        ...

    def tell(self) -> int:
        """Return the offset."""
        ...


def measure(file: SeekableFile, *, size_bytes: int) -> Media:
    """Return what a file holds: it opens, its first frame decodes and its end is there.

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
        raise UnreadableError("too much of it must be read to tell what it holds") from error


@contextlib.contextmanager
def _open(file: SeekableFile) -> Iterator[InputContainer]:
    try:
        container = av.open(file, mode="r", options={"format_whitelist": _FORMATS}, metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        raise UnreadableError("it is in no video format that this server knows", detail=str(error)) from error
    with container:
        yield container


def _measure(container: InputContainer, *, size_bytes: int) -> Media:
    stream = _picture(container)
    try:
        first = _first_frame(container, stream)
        start = _seconds(first.pts, stream)
        end = _end(container, stream, start=start, size_bytes=size_bytes)
    except av.error.FFmpegError as error:
        raise UnreadableError(_BROKEN, detail=str(error)) from error
    if end <= start:
        raise UnreadableError("it has no length")
    context = stream.codec_context
    return Media(
        duration_seconds=float(end - start),
        start_offset_seconds=float(start),
        container=container.format.name,
        video_codec=context.name,
        width=context.width,
        height=context.height,
        # FFmpeg's angle is counter-clockwise.
        rotation_degrees=round(-first.rotation / 90) * 90 % 360,
        frame_rate=_frame_rate(stream, duration=end - start),
        frame_count=stream.frames or None,
        audio=_audio(container),
    )


def _picture(container: InputContainer) -> VideoStream:
    # The cover of an album is a video stream of one frame.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise UnreadableError("it has no picture track")
    stream = streams[0]
    # Typed as always there; it is not where FFmpeg has no decoder.
    if getattr(stream, "codec_context", None) is None or not stream.codec_context.is_decoder:
        raise UnreadableError("its picture is in a codec that this server does not know")
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
            # Streams that begin between two keyframes have packets that nothing can be made of.
            frames = []
        for frame in frames:
            if isinstance(frame, VideoFrame) and frame.width and frame.height:
                return frame
        if count > _MAX_PACKETS:
            break
    raise UnreadableError(_BROKEN)


def _end(container: InputContainer, stream: VideoStream, *, start: Fraction, size_bytes: int) -> Fraction:
    """Return the time at which the last frame ends, from the packets at the end of the file."""
    is_mov = container.format.name.startswith("mov")
    if is_mov and stream.index_entries:
        last = stream.index_entries[-1]
        if last.pos + last.size > size_bytes:
            raise UnreadableError(_CUT_OFF)
    stated = _stated_end(container, stream, start=start)
    frame_length = 1 / _frame_rate(stream, duration=stated - start if stated else None)
    end = start
    try:
        if stated and stream.time_base:
            # To the last keyframe; formats without an index search for it.
            container.seek(int((stated - frame_length) / stream.time_base), stream=stream, backward=True)
        for packet in container.demux(stream):
            if packet.is_corrupt and is_mov:
                raise UnreadableError(_CUT_OFF)
            if packet.pts is not None:
                length = _seconds(packet.duration, stream) if packet.duration else frame_length
                end = max(end, _seconds(packet.pts, stream) + length)
    except BudgetExceededError:
        if stated is None:
            raise
        return stated
    return end if end > start or stated is None else stated


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
    # No rate to be had, as of a single frame.
    return Fraction(1)


def _audio(container: InputContainer) -> Audio | None:
    for stream in container.streams.audio:
        context = getattr(stream, "codec_context", None)
        if context is not None:
            return Audio(codec=context.name, channels=context.layout.nb_channels, sample_rate=context.sample_rate)
    return None


def _seconds(ticks: int | None, stream: VideoStream) -> Fraction:
    return Fraction(ticks or 0) * (stream.time_base or Fraction(0))
