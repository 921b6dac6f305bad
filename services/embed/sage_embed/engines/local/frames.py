"""The clips of a timeline, and the frames at which they are sampled, decoded with FFmpeg through PyAV."""

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
from sage_runtime.process.confined import RemoteFile

from sage_embed.embeddings.model import LOCAL_PROVIDER, provider_name

# The recipe: changing it changes the vectors, and with them the model's revision. Measured on 2 s clips of four films,
# re-encoded eight ways (H.264, crf 23 to 33, 240p to 360p, 12 to 30 frames/s): the 95th percentile of a clip's distance
# to its own re-encode is 0.059 with 2 or 4 samples a second, and larger with 1. Centring or whitening the features
# changes harmless and real differences alike and separates them worse.
SAMPLES_PER_SECOND = 2
# A last clip shorter than this is not covered: two encodes of one film need not both have it, and a comparison treats
# times so close together as equal. A shorter video has one clip.
MIN_CLIP_SECONDS = 0.1

# The same formats that ingest accepts: no images, and no playlists, which make FFmpeg open other addresses.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,dv,nut,rm,ivf"
_BUFFER_BYTES = 256 * 1024
# Containers round timestamps, to a millisecond at worst. A frame that starts less than this after a sample time
# counts as shown at that time, so that the same film in two containers yields the same frames.
_ROUNDING_SECONDS = 0.002
# Length of picture that may be lost to decoding errors. With more, the vectors would describe something else.
_MAX_LOST_SECONDS = 1.0
# How far before the first sample time to seek, until a frame is found that starts before it: indexes may use decoding
# time, which runs ahead, and in formats without an index FFmpeg seeks by guessing. None: start at the beginning.
_SEEK_BACK_SECONDS: Final = (0.0, 2.0, 20.0, None)
_NO_SEEK: Final = (None,)


@dataclass(frozen=True)
class ClipGrid:
    """Consecutive clips of one length, starting at 0, and the times at which they are sampled.

    The sample times are spread evenly over a clip and depend only on its index, so that a run that starts at any clip
    sees the same frames, and two cuts of a film are sampled in the same phase.

    Attributes:
        duration_seconds: Length of the timeline. Greater than zero.
        clip_seconds: Length of every clip but the last. Greater than zero.
    """

    duration_seconds: float
    clip_seconds: float

    @property
    def count(self) -> int:
        """The number of clips, at least one."""
        # The remainder after full clips, without the rounding error of a division with a fractional result.
        whole = int(self.duration_seconds / self.clip_seconds + 1e-6)
        rest = self.duration_seconds - whole * self.clip_seconds
        return max(1, whole + (rest >= MIN_CLIP_SECONDS))

    def start(self, index: int) -> float:
        """Return the start of a clip, which is exactly the end of the previous one."""
        return index * self.clip_seconds

    def end(self, index: int) -> float:
        """Return the end of a clip."""
        return min(self.start(index + 1), self.duration_seconds)

    def samples(self, index: int) -> list[float]:
        """Return the sample times of a clip in order, at least one."""
        count = max(1, round(self.clip_seconds * SAMPLES_PER_SECOND))
        start, end, step = self.start(index), self.end(index), self.clip_seconds / count
        moments = [start + (number + 0.5) * step for number in range(count)]
        return [moment for moment in moments if moment < end] or [(start + end) / 2]


@dataclass(frozen=True)
class Sample:
    """A frame that represents its clip.

    Attributes:
        clip: Index of its clip.
        frame: The frame shown at the sample time.
    """

    clip: int
    frame: VideoFrame


@dataclass(frozen=True)
class End:
    """The end of the frames.

    Attributes:
        at_seconds: End of the last frame on the timeline, at most the video's duration.
    """

    at_seconds: float


class FrameReader:
    """Reads the frames of one video.

    Args:
        source: The file.
        start_offset_seconds: The timestamp that is 0 on the timeline.
        threads: Threads that decode.
    """

    def __init__(self, source: RemoteFile, *, start_offset_seconds: float, threads: int) -> None:
        self._source = source
        self._origin = start_offset_seconds
        self._threads = threads

    def samples(self, grid: ClipGrid, *, first_clip: int) -> Generator[Sample | End, None, None]:
        """Yield the samples of all clips starting with `first_clip`, then the end.

        The frames of a clip do not depend on `first_clip`. A clip after the last frame has no samples.

        Raises:
            SageError: PROVIDER_FAILED if the video cannot be decoded, STORE_UNAVAILABLE if it cannot be read.
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
                # Sample times before the first frame are represented by that frame.
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
        """Yield start, length and frame, from the first sample time of a clip or earlier to the end."""
        moment = grid.samples(first_clip)[0]
        for back in _SEEK_BACK_SECONDS if first_clip else _NO_SEEK:
            # Reopened for every attempt, because a demuxer may not recover from a failed seek.
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
                # Timestamps jump back: these frames have already been shown.
                continue
            # Losses before the first frame are normal: packets may refer to frames before the seek or the recording.
            if end is not None:
                _check_loss(lost, end, min(start, duration))
                # Decoder threads report losses a few frames late.
                lost = [loss for loss in lost if loss.start_seconds > start]
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
    # Cover art is a video stream of one frame.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    # Typed as always present, but absent if FFmpeg has no decoder.
    if not streams or getattr(streams[0], "codec_context", None) is None:
        raise _failed("the video has no picture track that can be decoded")
    for other in container.streams:
        if other.index != streams[0].index:
            other.discard = Discard.all
    return streams[0]


def _seek(container: InputContainer, stream: VideoStream, timestamp: float) -> bool:
    """Seek to the last keyframe up to a timestamp. Return whether that succeeded."""
    if not stream.time_base:
        return False
    try:
        container.seek(int(timestamp / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


@dataclass(frozen=True)
class _Lost:
    """A frame that could not be decoded.

    Attributes:
        error: Why.
        pts: Its presentation timestamp in the stream's time base.
        dts: Its decoding timestamp in the stream's time base.
        start_seconds: Where it would have started on the timeline.
    """

    error: Exception
    pts: int | None
    dts: int | None
    start_seconds: float = 0.0


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | _Lost]:
    """Yield frames, and a `_Lost` for each that cannot be decoded."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.InvalidDataError as error:
            # The container is corrupt here, but the frames that the decoder still holds are good.
            yield _Lost(error, None, None)
            packet = None
        try:
            frames = stream.decode(packet)
        except av.error.EOFError:
            # The end of the container has flushed the decoder already.
            return
        except av.error.InvalidDataError as error:
            yield _Lost(error, packet.pts if packet else None, packet.dts if packet else None)
            frames = []
        yield from (frame for frame in frames if isinstance(frame, VideoFrame))
        if packet is None:
            return


def _check_loss(lost: list[_Lost], last_end: float, next_start: float) -> None:
    """Raise if too much is missing between two frames because it could not be decoded."""
    if next_start - last_end > _MAX_LOST_SECONDS:
        for loss in lost:
            if loss.start_seconds <= next_start:
                why = f"the picture cannot be decoded after {last_end:.1f} s"
                raise _failed(why, detail=str(loss.error)) from loss.error


def _failed(why: str, *, detail: str = "") -> SageError:
    return SageError(Reason.PROVIDER_FAILED, detail=detail, provider=provider_name(LOCAL_PROVIDER), why=why)
