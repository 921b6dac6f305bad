"""The rule that turns a series of distances into differences.

The rule is part of the contract: the comment on `TimeComparison` in `protos/sage/compare/v1/compare.proto` states it,
clients follow it when they change a threshold, and `tests/cases/series.json` checks this service and the clients
against the same cases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from sage_compare.inputs.embedding import TimeRange
from sage_compare.inputs.segments import Floats, Mask
from sage_compare.time_mode.distance import Distances, Rows

# A client computes the end of an interval as start plus length, which need not equal the next start to the last bit.
# No segment is this short.
_SAME_MOMENT_SECONDS = 1e-6


class DifferenceKind(Enum):
    """Kind of difference."""

    CHANGED = auto()
    """Both have content there, and it differs."""
    ONLY_IN_A = auto()
    """a continues after b has ended, or has the track while b is silent."""
    ONLY_IN_B = auto()
    """b continues after a has ended, or has the track while a is silent."""
    NOT_COMPARED = auto()
    """Both have content there, but at least one has no segment for it. Never between embeddings of the same video."""


@dataclass(frozen=True)
class Difference:
    """A range where the two cuts differ.

    Attributes:
        kind: Kind of difference.
        a: Where it is in a. `None` if a does not have it.
        b: Where it is in b. `None` if b does not have it.
        max_distance: Largest distance within it. `None` if nothing was compared.
        mean_distance: Mean distance within it, weighted by time. `None` if nothing was compared.
    """

    kind: DifferenceKind
    a: TimeRange | None
    b: TimeRange | None
    max_distance: float | None = None
    mean_distance: float | None = None

    @property
    def start(self) -> float:
        """Its start in seconds, on a if a has it."""
        where = self.a or self.b
        return where.start if where else 0.0

    @property
    def length(self) -> float:
        """Its share of the union of both timelines, in seconds."""
        return max(where.length for where in (self.a, self.b, TimeRange(0.0, 0.0)) if where)


@dataclass(frozen=True)
class Series:
    """The distance of every compared interval, in order of time. All arrays have the shape ``(m,)``.

    Attributes:
        a_starts: Start of each interval on a, in seconds.
        b_starts: Start of each interval on b, in seconds.
        lengths: Length of each interval in seconds, greater than zero.
        distances: Distance between the two segments that cover it.
    """

    a_starts: Floats
    b_starts: Floats
    lengths: Floats
    distances: Distances

    def __len__(self) -> int:
        return len(self.distances)


@dataclass(frozen=True)
class TimeComparison:
    """A track compared at equal times.

    Attributes:
        threshold: The threshold that was used.
        series: Every compared interval with its distance.
        differing_count: Number of intervals that differ.
        differences: In order of start.
        similarity_percent: How much of the two cuts is the same, 0 to 100; 100 only if there is no difference.
    """

    threshold: float
    series: Series
    differing_count: int
    differences: tuple[Difference, ...]
    similarity_percent: float


def find_differences(series: Series, *, unpaired: Sequence[Difference], threshold: float) -> TimeComparison:
    """Return the comparison of a series under a threshold.

    Args:
        series: The compared intervals.
        unpaired: Differences that do not depend on the threshold: ranges that only one cut has, and ranges that were
            not compared.
        threshold: Distances above it, as float32, are differences.
    """
    differing = np.flatnonzero(series.distances > np.float32(threshold))
    found = [*_changed(series, differing), *unpaired]
    found.sort(key=lambda difference: difference.start)
    return TimeComparison(
        threshold=threshold,
        series=series,
        differing_count=len(differing),
        differences=tuple(found),
        similarity_percent=_similarity_percent(series, differing, unpaired),
    )


def _changed(series: Series, differing: Rows) -> list[Difference]:
    """Return the differing intervals, with neighbours merged."""
    if not len(differing):
        return []
    a_starts, b_starts, lengths = series.a_starts[differing], series.b_starts[differing], series.lengths[differing]
    a_ends, b_ends = a_starts + lengths, b_starts + lengths
    found = series.distances[differing]
    neighbours = (np.diff(differing) == 1) & _meets_next(a_starts, a_ends) & _meets_next(b_starts, b_ends)
    firsts = np.append(0, np.flatnonzero(~neighbours) + 1)
    lasts = np.append(firsts[1:], len(differing)) - 1
    largest = np.maximum.reduceat(found, firsts).astype(np.float64)
    means = np.add.reduceat(found * lengths, firsts) / np.add.reduceat(lengths, firsts)
    columns = (
        a_starts[firsts], a_ends[lasts], b_starts[firsts], b_ends[lasts], largest, np.minimum(means, largest),
    )  # fmt: skip
    return [
        Difference(DifferenceKind.CHANGED, TimeRange(a_start, a_end), TimeRange(b_start, b_end), maximum, mean)
        for a_start, a_end, b_start, b_end, maximum, mean in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _meets_next(starts: Floats, ends: Floats) -> Mask:
    """Return for each interval but the last whether it ends where the next one starts."""
    meets: Mask = np.abs(starts[1:] - ends[:-1]) < _SAME_MOMENT_SECONDS
    return meets


def _similarity_percent(series: Series, differing: Rows, unpaired: Sequence[Difference]) -> float:
    """Return the share of the union of both timelines that does not differ, in percent."""
    if not len(differing) and not unpaired:
        return 100.0
    compared = float(series.lengths.sum())
    differs = float(series.lengths[differing].sum())
    union = compared + sum(difference.length for difference in unpaired)
    # A tiny difference in a day of film would round to 100, which means no difference.
    return min(100.0 * max(0.0, compared - differs) / union, math.nextafter(100.0, 0.0))
