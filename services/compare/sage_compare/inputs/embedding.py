"""Embeddings as the embed service describes them, without their vectors."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from sage_compare.inputs.media import Media

# Containers such as Matroska store times in milliseconds, so a frame's time may be this much too early.
_TIMESTAMP_ERROR_SECONDS = 0.001


@dataclass(frozen=True)
class TimeRange:
    """A half-open range ``[start, end)`` on one timeline, in seconds."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """Its length in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class FrameClock:
    """Counts the displayed frames of a video from 0.

    Attributes:
        duration: Length of the video's timeline in seconds.
        rate: Frames per second, the average if it varies. `None` if unknown.
        stated_count: Number of frames that the container states. `None` if it states none or the rate is not constant.
    """

    duration: float
    rate: Fraction | None = None
    stated_count: int | None = None

    def frame_at(self, seconds: float) -> int:
        """Return the frame that is displayed at a time: the number of frames at the end, 0 if the rate is unknown.

        It never decreases with time, and depends on the time alone: adjacent ranges share a frame number.
        """
        if self.rate is None:
            return 0
        if seconds >= self.duration - _TIMESTAMP_ERROR_SECONDS:
            return self.count
        # Half a frame is less than the error above 500 frames per second.
        error = min(_TIMESTAMP_ERROR_SECONDS * self._per_second, 0.5)
        return min(math.floor(seconds * self._per_second + error), self.count)

    @cached_property
    def count(self) -> int:
        """Number of frames, 0 if the rate is unknown.

        The count that the container states only decides how the last frame rounds: the file may hold more frames than
        are displayed, such as those that an edit list of MP4 cuts off.
        """
        computed = self.duration * self._per_second
        if self.stated_count is not None and abs(self.stated_count - computed) <= 1.0:
            return self.stated_count
        return round(computed)

    @cached_property
    def _per_second(self) -> float:
        return float(self.rate or 0)


@dataclass(frozen=True)
class Track:
    """One of an embedding's tracks.

    Attributes:
        name: Its name.
        segment_count: How many segments it has.
        covered: From the start of the first segment to the end of the last. `None` if it has no segments.
    """

    name: str
    segment_count: int
    covered: TimeRange | None


@dataclass(frozen=True)
class Embedding:
    """An embedding, without its vectors.

    Attributes:
        id: Its ID.
        video_id: The video that it was made from.
        clock: Duration and frames of that video, however much of it the segments cover.
        media: Tracks and presentation of the video's file.
        media_message: The whole media, as a serialised `sage.ingest.v1.Media`. Passed through to the response.
        model: Name of the model.
        model_revision: Version of its weights and preprocessing.
        dimensions: Numbers per vector.
        clip_seconds: Length of a segment in seconds. The last segment may be shorter.
        state: Name of its state, such as `COMPLETED`.
        requested_tracks: Names of the tracks that were requested.
        tracks: The tracks that it holds.
        revision: Grows with every change.
    """

    id: str
    video_id: str
    clock: FrameClock
    media: Media
    media_message: bytes
    model: str
    model_revision: str
    dimensions: int
    clip_seconds: float
    state: str
    requested_tracks: tuple[str, ...]
    tracks: tuple[Track, ...]
    revision: int

    @property
    def duration(self) -> float:
        """Length of the video's timeline in seconds."""
        return self.clock.duration

    @property
    def completed(self) -> bool:
        """Whether all its vectors are stored."""
        return self.state == "COMPLETED"

    @property
    def in_progress(self) -> bool:
        """Whether it may still become COMPLETED."""
        return self.state in {"PENDING", "PROCESSING"}

    @property
    def vector_space(self) -> tuple[str, str, int, float]:
        """What comparable embeddings share: model, revision, dimensions and clip length."""
        return self.model, self.model_revision, self.dimensions, self.clip_seconds

    def track(self, name: str) -> Track | None:
        """Return the track with this name, or `None` if it is absent."""
        return next((track for track in self.tracks if track.name == name), None)

    def has_requested(self, name: str) -> bool:
        """Whether the track was requested. If it was and is absent from a completed embedding, the video is silent."""
        return name in self.requested_tracks or self.track(name) is not None
