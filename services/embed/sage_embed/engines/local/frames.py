"""The clips of a timeline, and the frames at which they are sampled, decoded with FFmpeg through PyAV."""

import contextlib
import errno
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from sage_film.container import SeekableFile, open_film
from sage_film.timeline import (
    PicturePacket,
    SteadyPackets,
    frame_ticks,
    has_only_decoding_times,
    packet_ticks,
    states_lengths,
)
from sage_film.tracks import NoSuchTrackError, choose_track, picture_tracks, select_track
from sage_runtime.errors import Reason, SageError

from sage_embed.embeddings.model import LOCAL_PROVIDER, provider_name

# The recipe: changing it changes the vectors, and with them the model's revision. Measured on 2 s clips of four films,
# re-encoded eight ways (H.264, crf 23 to 33, 240p to 360p, 12 to 30 frames/s): the 95th percentile of a clip's distance
# to its own re-encode is 0.059 with 2 or 4 samples a second, and larger with 1. Centring or whitening the features
# changes harmless and real differences alike and separates them worse.
SAMPLES_PER_SECOND = 2
# A last clip shorter than this is not covered: two encodes of one film need not both have it, and a comparison treats
# times so close together as equal. A shorter video has one clip.
MIN_CLIP_SECONDS = 0.1

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
    """Reads the frames of one video, on the timeline that ingest measured.

    Args:
        source: The file.
        start_offset_seconds: The timestamp that is 0 on the timeline.
        threads: Threads that decode.
        video_track: The picture track that is the film; `None`: chosen as ingest does.
        timestamps_jump: Whether the timestamps jump. Where a frame belongs is then known only from the start.
        max_pixels: Pixels of a frame; `None`: any number.
    """

    def __init__(
        self,
        source: SeekableFile,
        *,
        start_offset_seconds: float,
        threads: int,
        video_track: int | None = None,
        timestamps_jump: bool = False,
        max_pixels: int | None = None,
    ) -> None:
        self._source = source
        self._origin = start_offset_seconds
        self._threads = threads
        self._video_track = video_track
        self._timestamps_jump = timestamps_jump
        self._max_pixels = max_pixels

    def samples(self, grid: ClipGrid, *, first_clip: int) -> Generator[Sample | End, None, None]:
        """Yield the samples of all clips starting with `first_clip`, then the end.

        The frames of a clip do not depend on `first_clip`. A clip after the last frame has no samples.

        Raises:
            SageError: PROVIDER_FAILED if the video cannot be decoded.
        """
        moments = ((clip, moment) for clip in range(first_clip, grid.count) for moment in grid.samples(clip))
        upcoming = next(moments, None)
        if upcoming is None:
            yield End(grid.duration_seconds)
            return
        shown: VideoFrame | None = None
        end = length = 0.0
        for start, length, frame in self._frames(grid, first_clip=first_clip):
            while upcoming is not None and start > upcoming[1] + _ROUNDING_SECONDS:
                # Sample times before the first frame are represented by that frame.
                yield Sample(upcoming[0], shown or frame)
                upcoming = next(moments, None)
            shown, end = frame, start + length
        if shown is None:
            raise _failed("no frame could be decoded")
        # Containers round the length of the last frame, or leave it out.
        if end > grid.duration_seconds - max(_ROUNDING_SECONDS, length / 2):
            end = grid.duration_seconds
        while upcoming is not None and (upcoming[1] < end or upcoming == (0, grid.samples(0)[0])):
            yield Sample(upcoming[0], shown)
            upcoming = next(moments, None)
        yield End(end)

    def _frames(self, grid: ClipGrid, *, first_clip: int) -> Iterator[tuple[float, float, VideoFrame]]:
        """Yield start, length and frame, from the first sample time of a clip or earlier to the end."""
        moment = grid.samples(first_clip)[0]
        for back in _SEEK_BACK_SECONDS if first_clip and not self._timestamps_jump else _NO_SEEK:
            # Reopened for every attempt, because a demuxer may not recover from a failed seek.
            with self._translated(), self._open() as container:
                stream = self._picture(container)
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
        shown: VideoFrame | None = None
        lost: list[_Lost] = []
        only_decoding_times = has_only_decoding_times(container, stream)
        for result in _decoded(SteadyPackets(container, stream), stream, only_decoding_times=only_decoding_times):
            start = end or 0.0 if result.ticks is None else float(result.ticks * (stream.time_base or 0)) - self._origin
            if isinstance(result, _Lost):
                lost.append(replace(result, start_seconds=start))
                continue
            if start < last_start:
                # Timestamps go back: these frames have already been shown.
                continue
            # Losses before the first frame are normal: packets may refer to frames before the seek or the recording.
            if end is not None:
                _check_loss(lost, end, min(start, duration))
                # Decoder threads report losses a few frames late.
                lost = [loss for loss in lost if loss.start_seconds > start]
            if start >= duration:
                return
            shown = result.frame or shown
            if shown is None:
                continue
            if states_lengths(container):
                length = float(result.length * (stream.time_base or 0)) or usual_length
            else:
                length = start - last_start if end is not None else usual_length
            last_start, end = start, start + length
            yield start, length, shown
        if end is not None:
            _check_loss(lost, end, duration)
        elif not sought and not stream.codec_context.width and self._max_pixels is not None:
            # What FFmpeg says of a picture that is too large for it to look at.
            raise _failed(f"its picture cannot be decoded, or has more than {self._max_pixels:,} pixels")
        elif not sought:
            raise _failed("no frame could be decoded")

    def _open(self) -> InputContainer:
        return open_film(self._source, max_pixels=self._max_pixels, buffer_bytes=_BUFFER_BYTES)

    def _picture(self, container: InputContainer) -> VideoStream:
        try:
            stream = select_track(container, choose_track(picture_tracks(container), self._video_track))
        except NoSuchTrackError as error:
            why = "the video has no picture track that can be decoded"
            raise _failed(why, detail=str(error)) from error
        context = stream.codec_context
        if self._max_pixels is not None:
            check_size(context.width, context.height, self._max_pixels)
            # Also if the size changes later.
            context.options = {"max_pixels": str(self._max_pixels)}
        return stream

    @staticmethod
    @contextlib.contextmanager
    def _translated() -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            raise _failed("the video cannot be read", detail=str(error)) from error


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check the size of a picture.

    Raises:
        SageError: PROVIDER_FAILED if it is too large.
    """
    if width * height > max_pixels:
        raise _failed(f"its picture has {width}x{height} pixels, and at most {max_pixels:,} are decoded")


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
class _Shown:
    """A frame, or the repetition of the one before it.

    Attributes:
        frame: The frame; `None`: the one before is shown again.
        ticks: When it is shown, in the stream's time base; `None` if unknown.
        length: For how many ticks; 0 if unknown.
    """

    frame: VideoFrame | None
    ticks: int | None
    length: int


@dataclass(frozen=True)
class _Lost:
    """A frame that could not be decoded.

    Attributes:
        error: Why.
        ticks: When it would have been shown, in the stream's time base; `None` if unknown.
        start_seconds: The same on the timeline.
    """

    error: Exception
    ticks: int | None
    start_seconds: float = 0.0


def _decoded(
    packets: Iterable[PicturePacket], stream: VideoStream, *, only_decoding_times: bool
) -> Iterator[_Shown | _Lost]:
    """Yield frames in the order in which they are shown, and a `_Lost` for each that cannot be decoded."""
    source = iter(packets)
    # Empty packets, each of which repeats the frame before it. Decoder threads return frames a few packets late.
    repeats = deque[_Shown]()
    while True:
        try:
            packet = next(source, None)
        except av.error.InvalidDataError as error:
            # The container is corrupt here, but the frames that the decoder still holds are good.
            yield _Lost(error, None)
            packet = None
        ticks = packet_ticks(packet, only_decoding_times=only_decoding_times) if packet is not None else None
        if packet is not None and not packet.size:
            # To the decoder this would be the end.
            if ticks is not None:
                repeats.append(_Shown(None, ticks, packet.duration or 0))
            continue
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            yield _Lost(error, ticks)
            frames = []
        for frame in frames:
            shown_at = frame_ticks(frame, only_decoding_times=only_decoding_times)
            while repeats and shown_at is not None and (repeats[0].ticks or 0) < shown_at:
                yield repeats.popleft()
            yield _Shown(frame, shown_at, frame.duration or 0)
        if packet is None:
            yield from repeats
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
