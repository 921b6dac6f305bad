"""Several tracks combined: where the picture is the same and the sound is not."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import Comparison, Kind, kind_of, noun_of

# The wording for one track, and for several.
_STATES: dict[Kind | None, tuple[str, str]] = {
    None: ("the same", "the same"),
    compare_pb2.DIFFERENCE_KIND_CHANGED: ("differs", "differ"),
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_A: ("only in old", "only in old"),
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_B: ("only in new", "only in new"),
    compare_pb2.DIFFERENCE_KIND_NOT_COMPARED: ("not compared", "not compared"),
}
AUDIO_TRACKS_DIFFER = "the audio tracks of the files differ"
# If the ranges of two tracks miss each other by a rounding error, the gap means nothing.
_SHORTEST_SECONDS = 1e-3


@dataclass(frozen=True)
class Reading:
    """A range of the timeline in which each track has one state and at least one differs.

    Attributes:
        start_seconds: Where it starts.
        end_seconds: Where it ends.
        states: The kind of difference in each track; None if it is the same.
    """

    start_seconds: float
    end_seconds: float
    states: tuple[Kind | None, ...]


def read_together(tracks: Sequence[compare_pb2.TrackComparison]) -> Sequence[Reading]:
    """Return where the tracks differ, in order of time.

    Second n of the old film is compared with second n of the new one, so all tracks share one timeline.
    """
    timelines = [_Timeline(track) for track in tracks]
    edges = sorted({edge for timeline in timelines for edge in (*timeline.starts, *timeline.ends)})
    readings: list[Reading] = []
    for start, end in pairwise(edges):
        states = tuple(timeline.at(start) for timeline in timelines)
        if not any(states) or end - start < _SHORTEST_SECONDS:
            continue
        last = readings[-1] if readings else None
        if last and last.states == states and start - last.end_seconds < _SHORTEST_SECONDS:
            readings[-1] = Reading(last.start_seconds, end, states)
        else:
            readings.append(Reading(start, end, states))
    return readings


def describe(reading: Reading, comparison: Comparison) -> str:
    """Return a reading in words, such as `picture the same, sound differs`."""
    return _describe(comparison.tracks, reading.states)


def summarize(comparison: Comparison) -> str:
    """Return the result of all tracks for the films, such as `Picture the same, sound differs`."""
    changed = compare_pb2.DIFFERENCE_KIND_CHANGED
    states = [changed if comparison.found_in(track) else None for track in comparison.tracks]
    words = _describe(comparison.tracks, states)
    if comparison.counted_media_differences:
        return f"{words.capitalize()}; {AUDIO_TRACKS_DIFFER}"
    return words.capitalize() if any(states) else f"No differences, {words}"


def _describe(tracks: Sequence[compare_pb2.TrackComparison], states: Sequence[Kind | None]) -> str:
    """Name the tracks of each state together, in the order of the first of them."""
    nouns: dict[Kind | None, list[str]] = {}
    for track, state in zip(tracks, states, strict=True):
        nouns.setdefault(state, []).append(noun_of(track))
    return ", ".join(f"{listed(names)} {_STATES[state][len(names) > 1]}" for state, names in nouns.items())


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


class _Timeline:
    """The differences of a track on the common timeline."""

    def __init__(self, track: compare_pb2.TrackComparison) -> None:
        marks = sorted(_marks(track), key=lambda mark: mark[0])
        self.starts = [start for start, _, _ in marks]
        self.ends = [end for _, end, _ in marks]
        self._kinds = [kind for _, _, kind in marks]

    def at(self, seconds: float) -> Kind | None:
        index = bisect_right(self.starts, seconds) - 1
        return self._kinds[index] if index >= 0 and seconds < self.ends[index] else None


def _marks(track: compare_pb2.TrackComparison) -> Iterator[tuple[float, float, Kind]]:
    for difference in track.time.differences:
        where = difference.a if difference.HasField("a") else difference.b
        yield where.start_seconds, where.end_seconds, kind_of(difference)
