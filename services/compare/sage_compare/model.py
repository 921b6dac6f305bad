"""What a comparison is made of: clips with their vectors, the intervals they are compared in, the differences found."""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Distances = NDArray[np.float32]
Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]


class Mode(Enum):
    """How the two timelines are laid on each other."""

    TIME = auto()
    """Second n of a beside second n of b."""


class Metric(Enum):
    """How the distance of two vectors is measured."""

    COSINE = auto()
    """One minus the cosine of the angle, 0 to 2."""
    EUCLIDEAN = auto()
    """The distance of the two vectors scaled to length 1, 0 to 2."""


class Kind(Enum):
    """What kind of difference."""

    CHANGED = auto()
    """Both have something there, and it differs."""
    ONLY_IN_A = auto()
    """a goes on after b has ended, or has something there and b is silent."""
    ONLY_IN_B = auto()
    """b goes on after a has ended, or has something there and a is silent."""
    NOT_COMPARED = auto()
    """Both have something there, but no clip of one or both covers it, and they are different videos."""


@dataclass(frozen=True)
class TimeRange:
    """A half-open range ``[start, end)`` on one timeline, in seconds."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """How long it is, in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Track:
    """What an embedding says of one of its tracks.

    Attributes:
        name: Its name.
        segment_count: How many segments it has.
        covered: From the start of the first segment to the end of the last; None where it has no segments.
    """

    name: str
    segment_count: int
    covered: TimeRange | None


@dataclass(frozen=True)
class Embedding:
    """An embedding as the embed service describes it, without its vectors.

    Attributes:
        id: Its id.
        video_id: The video that it was made from.
        duration: The length of that video's timeline in seconds, whatever part of it the clips cover.
        model: The name of the model.
        model_revision: The version of its weights and recipe.
        dimensions: Numbers in every vector.
        clip_seconds: Length of a clip; the last may be shorter.
        state: The name of its state, such as `COMPLETED`.
        requested_tracks: The names of the tracks that were asked for.
        tracks: What it holds.
        revision: Grows with every change.
    """

    id: str
    video_id: str
    duration: float
    model: str
    model_revision: str
    dimensions: int
    clip_seconds: float
    state: str
    requested_tracks: tuple[str, ...]
    tracks: tuple[Track, ...]
    revision: int

    @property
    def completed(self) -> bool:
        """Whether all its vectors are there."""
        return self.state == "COMPLETED"

    @property
    def under_way(self) -> bool:
        """Whether they may still come."""
        return self.state in {"PENDING", "PROCESSING"}

    def track(self, name: str) -> Track | None:
        """Return the track with this name, None where there is none."""
        return next((track for track in self.tracks if track.name == name), None)

    def asked_for(self, name: str) -> bool:
        """Whether the track was asked for. One that was, and is not there once all vectors are, is silent."""
        return name in self.requested_tracks or self.track(name) is not None


@dataclass(frozen=True)
class Clips:
    """The clips of one track in the order of time, their vectors ready to be compared.

    Build it with `sage_compare.distance.to_clips`, which checks and scales.

    Attributes:
        starts: Where each starts, in seconds, shape ``(n,)``.
        ends: Where each ends, in seconds, shape ``(n,)``.
        units: The vectors scaled to length 1, shape ``(n, dimensions)``, contiguous. A zero vector stays zero.
        zero: Which vectors are zero, shape ``(n,)``; None where none is, as is normal.
    """

    starts: Floats
    ends: Floats
    units: Vectors
    zero: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def nbytes(self) -> int:
        """The memory that the arrays take."""
        return (
            self.starts.nbytes + self.ends.nbytes + self.units.nbytes + (0 if self.zero is None else self.zero.nbytes)
        )


@dataclass(frozen=True)
class Difference:
    """A place where the two differ.

    Attributes:
        kind: What kind of difference.
        a: Where it is in a; None where a does not have it.
        b: Where it is in b; None where b does not have it.
        max_distance: The largest distance in it; None where nothing was compared.
        mean_distance: The mean distance in it, weighed by time; None where nothing was compared.
    """

    kind: Kind
    a: TimeRange | None
    b: TimeRange | None
    max_distance: float | None = None
    mean_distance: float | None = None

    @property
    def start(self) -> float:
        """Where it starts, on a if a has it."""
        where = self.a or self.b
        return where.start if where else 0.0

    @property
    def length(self) -> float:
        """How much of the two timelines' union it takes, in seconds."""
        return max(where.length for where in (self.a, self.b, TimeRange(0.0, 0.0)) if where)


@dataclass(frozen=True)
class Layout:
    """Two timelines laid on each other: which clip meets which, and what meets nothing.

    Attributes:
        a_starts: Where each interval starts on a, in seconds, shape ``(m,)``.
        b_starts: Where it starts on b, shape ``(m,)``.
        lengths: How long it is, more than zero, shape ``(m,)``.
        a_rows: The clip of a that covers it, shape ``(m,)``.
        b_rows: The clip of b that covers it, shape ``(m,)``.
        unpaired: What has nothing to be compared with, whatever the threshold.
    """

    a_starts: Floats
    b_starts: Floats
    lengths: Floats
    a_rows: Rows
    b_rows: Rows
    unpaired: tuple[Difference, ...]


@dataclass(frozen=True)
class Series:
    """The distance of every compared interval, in the order of time. All arrays have the shape ``(m,)``.

    Attributes:
        a_starts: Where each interval starts on a, in seconds.
        b_starts: Where it starts on b.
        lengths: How long it is, more than zero.
        distances: The distance of the two clips that cover it.
    """

    a_starts: Floats
    b_starts: Floats
    lengths: Floats
    distances: Distances

    def __len__(self) -> int:
        return len(self.distances)


@dataclass(frozen=True)
class Findings:
    """What a threshold makes of a series.

    Attributes:
        differences: The differences, in the order of time.
        similarity_percent: How much of the two is the same, 0 to 100; 100 exactly where there is no difference.
        differing_count: How many intervals differ.
    """

    differences: tuple[Difference, ...]
    similarity_percent: float
    differing_count: int


@dataclass(frozen=True)
class Request:
    """What is to be compared, and how. The fields have been checked one by one.

    Attributes:
        embedding_id_a: The embedding of the one cut.
        embedding_id_b: The embedding of the other.
        mode: How the two timelines are laid on each other.
        metric: How distances are measured.
        threshold: Distances above it are differences; None for the default of mode, metric and model.
        track: The track to compare.
        second_track: Another track to compare; empty for none.
        second_threshold: The threshold for that one; None for its default.
    """

    embedding_id_a: str
    embedding_id_b: str
    mode: Mode
    metric: Metric
    threshold: float | None
    track: str
    second_track: str = ""
    second_threshold: float | None = None


@dataclass(frozen=True)
class TrackComparison:
    """The comparison of one track.

    Attributes:
        track: Its name.
        threshold: The threshold that was used.
        a_covered: What its clips cover in a; None where a has none.
        b_covered: What its clips cover in b; None where b has none.
        series: Every interval with its distance.
        findings: What the threshold makes of the series.
    """

    track: str
    threshold: float
    a_covered: TimeRange | None
    b_covered: TimeRange | None
    series: Series
    findings: Findings


@dataclass(frozen=True)
class Comparison:
    """A comparison.

    Attributes:
        mode: The mode that was used.
        metric: The metric that was used.
        a: The one embedding.
        b: The other.
        first: The track that was compared.
        second: The other track that was; None where none was asked for.
    """

    mode: Mode
    metric: Metric
    a: Embedding
    b: Embedding
    first: TrackComparison
    second: TrackComparison | None = None
