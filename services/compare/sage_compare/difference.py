"""The rule that makes differences from a series of distances.

It is part of the contract: the comment on `Series` in `protos/sage/compare/v1/compare.proto` states it, clients follow
it when they move a threshold, and `tests/cases/series.json` holds this service and the clients to the same cases.
"""

import math
from collections.abc import Sequence

import numpy as np

from sage_compare.model import Difference, Findings, Floats, Kind, Rows, Series, TimeRange

# Start and length of an interval come to the client as two numbers, and their sum need not be the next start to the
# last bit. No clip is this short.
_SAME_MOMENT_SECONDS = 1e-6


def find_differences(series: Series, *, unpaired: Sequence[Difference], threshold: float) -> Findings:
    """Return what a threshold makes of a series.

    Args:
        series: The compared intervals.
        unpaired: What was not compared or only one of the two has. Differs whatever the threshold.
        threshold: Distances above it, as float32, are differences.
    """
    differing = np.flatnonzero(series.distances > np.float32(threshold))
    found = [*_changed(series, differing), *unpaired]
    found.sort(key=lambda difference: difference.start)
    return Findings(
        differences=tuple(found),
        similarity_percent=_similarity_percent(series, differing, unpaired),
        differing_count=len(differing),
    )


def _changed(series: Series, differing: Rows) -> list[Difference]:
    """Return the differing intervals, neighbours as one."""
    if not len(differing):
        return []
    a_starts, b_starts, lengths = series.a_starts[differing], series.b_starts[differing], series.lengths[differing]
    a_ends, b_ends = a_starts + lengths, b_starts + lengths
    weighed = series.distances[differing]
    neighbours = (np.diff(differing) == 1) & _meet(a_ends, a_starts) & _meet(b_ends, b_starts)
    firsts = np.append(0, np.flatnonzero(~neighbours) + 1)
    lasts = np.append(firsts[1:], len(differing)) - 1
    largest = np.maximum.reduceat(weighed, firsts).astype(np.float64)
    means = np.add.reduceat(weighed * lengths, firsts) / np.add.reduceat(lengths, firsts)
    columns = (
        a_starts[firsts], a_ends[lasts], b_starts[firsts], b_ends[lasts], largest, np.minimum(means, largest),
    )  # fmt: skip
    return [
        Difference(Kind.CHANGED, TimeRange(a_start, a_end), TimeRange(b_start, b_end), maximum, mean)
        for a_start, a_end, b_start, b_end, maximum, mean in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _meet(ends: Floats, starts: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return for each interval but the last whether it ends where the next one starts."""
    return np.abs(starts[1:] - ends[:-1]) < _SAME_MOMENT_SECONDS


def _similarity_percent(series: Series, differing: Rows, unpaired: Sequence[Difference]) -> float:
    """Return the share of both timelines' union that does not differ, as a percentage: 100 only where nothing does."""
    if not len(differing) and not unpaired:
        return 100.0
    compared = float(series.lengths.sum())
    differs = float(series.lengths[differing].sum())
    union = compared + sum(difference.length for difference in unpaired)
    # A blink in a day of film rounds to all of it, and is a difference nevertheless.
    return min(100.0 * max(0.0, compared - differs) / union, math.nextafter(100.0, 0.0))
