"""The clips of a timeline, and the frames at which they are sampled, decoded by `sage_film.frames`."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from av.video.frame import VideoFrame
from sage_film.frames import ROUNDING_SECONDS, FrameDecoder, ShownFrame, UndecodableError

# The recipe: changing it changes the vectors, and with them the model's revision. Measured on 2 s clips of four films,
# re-encoded eight ways (H.264, crf 23 to 33, 240p to 360p, 12 to 30 frames/s): the 95th percentile of a clip's distance
# to its own re-encode is 0.059 with 2 or 4 samples a second, and larger with 1. Centring or whitening the features
# changes harmless and real differences alike and separates them worse.
SAMPLES_PER_SECOND = 2
# A last clip shorter than this is not covered: two encodes of one film need not both have it, and a comparison treats
# times so close together as equal. A shorter video has one clip.
MIN_CLIP_SECONDS = 0.1


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


class Sampler:
    """Picks the samples of all clips starting with `first_clip` from the frames of a film.

    The frames of a clip do not depend on `first_clip`. A clip after the last frame has no samples.

    Args:
        grid: The clips.
        first_clip: The clip to start with.

    Attributes:
        done: Whether no frame is needed, because there are no such clips.
        first_seconds: The time from which frames are needed.
    """

    def __init__(self, grid: ClipGrid, *, first_clip: int) -> None:
        self._grid = grid
        self._moments = ((clip, moment) for clip in range(first_clip, grid.count) for moment in grid.samples(clip))
        self._upcoming = next(self._moments, None)
        self._shown: VideoFrame | None = None
        self._end = self._length = 0.0
        self.done = self._upcoming is None
        self.first_seconds = 0.0
        if first_clip:
            self.first_seconds = grid.duration_seconds if self._upcoming is None else self._upcoming[1]

    def add(self, shown: ShownFrame) -> Iterator[Sample]:
        """Take the next frame, and yield the samples before it. The iterator must be exhausted."""
        while self._upcoming is not None and shown.start > self._upcoming[1] + ROUNDING_SECONDS:
            # Sample times before the first frame are represented by that frame.
            yield Sample(self._upcoming[0], self._shown or shown.frame)
            self._upcoming = next(self._moments, None)
        self._shown, self._end, self._length = shown.frame, shown.start + shown.length, shown.length

    def finish(self) -> Iterator[Sample | End]:
        """Yield the samples that are left, then the end.

        Raises:
            UndecodableError: There were no frames.
        """
        grid, end = self._grid, self._end
        if self.done:
            yield End(grid.duration_seconds)
            return
        if self._shown is None:
            raise UndecodableError("no frame could be decoded")
        # Containers round the length of the last frame, or leave it out.
        if end > grid.duration_seconds - max(ROUNDING_SECONDS, self._length / 2):
            end = grid.duration_seconds
        while self._upcoming is not None and (self._upcoming[1] < end or self._upcoming == (0, grid.samples(0)[0])):
            yield Sample(self._upcoming[0], self._shown)
            self._upcoming = next(self._moments, None)
        yield End(end)


def read_samples(frames: FrameDecoder, grid: ClipGrid, *, first_clip: int) -> Generator[Sample | End, None, None]:
    """Yield the samples of all clips starting with `first_clip`, then the end.

    Raises:
        UndecodableError: The video cannot be decoded.
    """
    sampler = Sampler(grid, first_clip=first_clip)
    if not sampler.done:
        for shown in frames.frames(first_seconds=sampler.first_seconds, end_seconds=grid.duration_seconds):
            yield from sampler.add(shown)
    yield from sampler.finish()
