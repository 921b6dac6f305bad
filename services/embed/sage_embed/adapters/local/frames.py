"""The frames that clips are looked at by: opened, sought and decoded with FFmpeg through PyAV."""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Final

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from sage_runtime.errors import Reason, SageError

from sage_embed.adapters.local.clips import ClipGrid
from sage_embed.adapters.local.http_source import HttpSource
from sage_embed.model import LOCAL_PROVIDER, provider_name

# As where the video was checked: no pictures, and no playlists, which make FFmpeg open addresses of their own.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,dv,nut,rm,ivf"
_BUFFER_BYTES = 256 * 1024
# Containers round timestamps, to a millisecond at the worst. A frame that starts so little after a moment counts as
# on screen at it, so that the same film in two containers gives the same frames.
_ROUNDING_SECONDS = 0.002
# So much picture may be lost to decoding errors, as players allow; more, and the vectors would be of something else.
_MAX_LOST_SECONDS = 1.0
# How far before the first moment to seek, until a frame is found that starts before it: indexes may be by decoding
# time, which runs ahead, and formats without an index are sought by guessing. None: the beginning.
_SEEK_BACK_SECONDS: Final = (0.0, 2.0, 20.0, None)
_NO_SEEK: Final = (None,)


@dataclass(frozen=True)
class Sample:
    """A frame to look at.

    Attributes:
        clip: Index of its clip.
        frame: The frame on screen at the sample's moment.
    """

    clip: int
    frame: VideoFrame


@dataclass(frozen=True)
class End:
    """No more frames.

    Attributes:
        at_seconds: Where the last one ends on the timeline; never after the video's duration.
    """

    at_seconds: float


class FrameReader:
    """Reads the frames of one video.

    Args:
        source: The file.
        start_offset_seconds: Timestamp of the timeline's 0.
        threads: Threads that decode.
    """

    def __init__(self, source: HttpSource, *, start_offset_seconds: float, threads: int) -> None:
        self._source = source
        self._origin = start_offset_seconds
        self._threads = threads

    def samples(self, grid: ClipGrid, *, first_clip: int) -> Generator[Sample | End, None, None]:
        """Return the samples of all clips from one on, then the end.

        Whatever clip it begins with, it returns the same frames for the ones that follow. A clip after the end of
        the frames has no samples.

        Raises:
            SageError: PROVIDER_FAILED where the video cannot be decoded, STORE_UNAVAILABLE where it cannot be read.
            AbortedError: The source was aborted.
        """
        moments = ((clip, moment) for clip in range(first_clip, grid.count) for moment in grid.samples(clip))
        upcoming = next(moments, None)
        if upcoming is None:
            yield End(grid.duration_seconds)
            return
        shown: VideoFrame | None = None
        end = 0.0
        for start, length, frame in self._frames(grid, first_clip=first_clip):
            while upcoming is not None and start > upcoming[1] + _ROUNDING_SECONDS:
                # Before the first frame there is nothing to show but that frame.
                yield Sample(upcoming[0], shown or frame)
                upcoming = next(moments, None)
            shown, end = frame, start + length
        if shown is None:
            raise _failed("no frame could be decoded")
        if end > grid.duration_seconds - _ROUNDING_SECONDS:
            end = grid.duration_seconds
        while upcoming is not None and (upcoming[1] < end or upcoming == (0, grid.samples(0)[0])):
            yield Sample(upcoming[0], shown)
            upcoming = next(moments, None)
        yield End(end)

    def _frames(self, grid: ClipGrid, *, first_clip: int) -> Iterator[tuple[float, float, VideoFrame]]:
        """Return start, length and frame from the first moment of a clip, or before it, to the end."""
        moment = grid.samples(first_clip)[0]
        for back in _SEEK_BACK_SECONDS if first_clip else _NO_SEEK:
            # Always opened anew: a demuxer that sought in vain may not find its way back.
            with self._translated(), self._open() as container:
                stream = _picture(container)
                stream.codec_context.thread_type = "AUTO"
                stream.codec_context.thread_count = self._threads
                if back is not None and not _seek(container, stream, self._origin + moment - back):
                    continue
                frames = self._decode(container, stream, duration=grid.duration_seconds, sought=back is not None)
                first = next(frames, None)
                if back is not None and (first is None or first[0] > moment + _ROUNDING_SECONDS):
                    continue
                if first is not None:
                    yield first
                    yield from frames
                return

    def _decode(
        self, container: InputContainer, stream: VideoStream, *, duration: float, sought: bool
    ) -> Iterator[tuple[float, float, VideoFrame]]:
        rate = stream.average_rate or stream.guessed_rate
        usual_length = float(1 / rate) if rate else 0.0
        last_start = float("-inf")
        end: float | None = None
        lost: list[_Lost] = []
        for result in _decoded(container, stream):
            self._raise_source_error()
            start = self._start(result, stream, otherwise=end or 0.0)
            if isinstance(result, _Lost):
                lost.append(replace(result, start_seconds=start))
                continue
            if start < last_start:
                # Timestamps that jump back: what follows has been shown already.
                continue
            # Before the first frame, packets may refer to what was before the place that was sought, or recorded.
            if end is not None:
                _check_loss(lost, end, min(start, duration))
                # Threads report what they lost a few frames late.
                lost = [one for one in lost if one.start_seconds > start]
            if start >= duration:
                return
            length = float(result.duration * stream.time_base) if result.duration and stream.time_base else usual_length
            last_start, end = start, start + length
            yield start, length, result
        self._raise_source_error()
        if end is not None:
            _check_loss(lost, end, duration)
        elif not sought:
            raise _failed("no frame could be decoded")

    def _start(self, result: "VideoFrame | _Lost", stream: VideoStream, *, otherwise: float) -> float:
        ticks = result.pts if result.pts is not None else result.dts
        return otherwise if ticks is None or not stream.time_base else float(ticks * stream.time_base) - self._origin

    def _raise_source_error(self) -> None:
        if self._source.error is not None:
            raise self._source.error

    def _open(self) -> InputContainer:
        self._source.seek(0)
        return av.open(
            self._source,
            mode="r",
            options={"format_whitelist": _FORMATS},
            metadata_errors="ignore",
            buffer_size=_BUFFER_BYTES,
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            self._raise_source_error()
            raise _failed("the video cannot be read", detail=str(error)) from error


def _picture(container: InputContainer) -> VideoStream:
    # The cover of an album is a video stream of one frame.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    # Typed as always there; it is not where FFmpeg has no decoder.
    if not streams or getattr(streams[0], "codec_context", None) is None:
        raise _failed("it has no picture track that can be decoded")
    for other in container.streams:
        if other.index != streams[0].index:
            other.discard = Discard.all
    return streams[0]


def _seek(container: InputContainer, stream: VideoStream, timestamp: float) -> bool:
    """Go to the last keyframe up to a timestamp. Returns whether there is one to go to."""
    if not stream.time_base:
        return False
    try:
        container.seek(int(timestamp / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


@dataclass(frozen=True)
class _Lost:
    """What could not be decoded.

    Attributes:
        error: Why.
        pts: Its timestamps, in the stream's time base.
        dts: See `pts`.
        start_seconds: Where it would have been on the timeline.
    """

    error: Exception
    pts: int | None
    dts: int | None
    start_seconds: float = 0.0


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | _Lost]:
    """Return frames, and in their place what cannot be decoded."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.InvalidDataError as error:
            # The container itself is broken here; what the decoder still holds is good.
            yield _Lost(error, None, None)
            packet = None
        try:
            frames = stream.decode(packet)
        except av.error.EOFError:
            # The container's own end has emptied the decoder already.
            return
        except av.error.InvalidDataError as error:
            yield _Lost(error, packet.pts if packet else None, packet.dts if packet else None)
            frames = []
        yield from (frame for frame in frames if isinstance(frame, VideoFrame))
        if packet is None:
            return


def _check_loss(lost: list[_Lost], last_end: float, next_start: float) -> None:
    """Raise where too much is missing between two frames, and missing because it could not be decoded."""
    if next_start - last_end > _MAX_LOST_SECONDS:
        for one in lost:
            if one.start_seconds <= next_start:
                why = f"the picture cannot be decoded from {last_end:.1f} s on"
                raise _failed(why, detail=str(one.error)) from one.error


def _failed(why: str, *, detail: str = "") -> SageError:
    return SageError(Reason.PROVIDER_FAILED, detail=detail, provider=provider_name(LOCAL_PROVIDER), why=why)
