"""Two tracks read together: where the picture is the same and the sound is not."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sage_cli.comparison import Comparison, Kind, TrackComparison

_STATES = {
    None: "the same",
    Kind.CHANGED: "differs",
    Kind.ONLY_IN_OLD: "only in old",
    Kind.ONLY_IN_NEW: "only in new",
    Kind.NOT_COMPARED: "not compared",
}
# Where the ranges of two tracks miss each other by a rounding error, the gap says nothing.
_SHORTEST_SECONDS = 1e-3


@dataclass(frozen=True)
class Reading:
    """A stretch of the timeline through which each track says one thing, and at least one that it is not the same.

    Attributes:
        start_seconds: Where it starts.
        end_seconds: Where it ends.
        first: What the first track says; None where it is the same.
        second: What the second track says.
    """

    start_seconds: float
    end_seconds: float
    first: Kind | None
    second: Kind | None


def read_together(first: TrackComparison, second: TrackComparison) -> Sequence[Reading]:
    """Return where two tracks differ, in the order of time.

    Second n of the old film lies beside second n of the new one, so the two have one timeline.
    """
    ours, theirs = _Marks(first), _Marks(second)
    edges = sorted({*ours.starts, *ours.ends, *theirs.starts, *theirs.ends})
    readings: list[Reading] = []
    for start, end in pairwise(edges):
        states = ours.at(start), theirs.at(start)
        if states == (None, None) or end - start < _SHORTEST_SECONDS:
            continue
        last = readings[-1] if readings else None
        if last and (last.first, last.second) == states and start - last.end_seconds < _SHORTEST_SECONDS:
            readings[-1] = Reading(last.start_seconds, end, *states)
        else:
            readings.append(Reading(start, end, *states))
    return readings


def describe(reading: Reading, comparison: Comparison) -> str:
    """Return a reading in words, such as `picture the same, sound differs`."""
    first, second = (track.noun for track in comparison.tracks)
    if reading.first is reading.second:
        return f"{first} and {second} {'differ' if reading.first is Kind.CHANGED else _STATES[reading.first]}"
    return f"{first} {_STATES[reading.first]}, {second} {_STATES[reading.second]}"


def summarize(comparison: Comparison) -> str:
    """Return what two tracks say of the whole, such as `Picture the same, sound differs`."""
    names, found = zip(*((track.noun, bool(comparison.found_in(track))) for track in comparison.tracks), strict=True)
    if not any(found):
        return f"No differences, {' and '.join(names)} the same"
    if all(found):
        return f"{' and '.join(names)} differ".capitalize()
    states = (f"{name} {'differs' if differs else 'the same'}" for name, differs in zip(names, found, strict=True))
    return ", ".join(states).capitalize()


class _Marks:
    """The differences of a track on the one timeline, to be asked for a moment."""

    def __init__(self, track: TrackComparison) -> None:
        marks = sorted(_marks(track), key=lambda mark: mark[0])
        self.starts = [start for start, _, _ in marks]
        self.ends = [end for _, end, _ in marks]
        self._kinds = [kind for _, _, kind in marks]

    def at(self, seconds: float) -> Kind | None:
        index = bisect_right(self.starts, seconds) - 1
        return self._kinds[index] if index >= 0 and seconds < self.ends[index] else None


def _marks(track: TrackComparison) -> Iterator[tuple[float, float, Kind]]:
    for difference in track.differences:
        where = difference.old or difference.new
        if where:
            yield where.start_seconds, where.end_seconds, difference.kind
