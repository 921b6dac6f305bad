"""Laying two timelines over each other: intervals, endings and what no segment covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_compare.inputs.segments import Segments
from sage_compare.time_mode.compare import TOLERANCE_SECONDS, Layout, lay_out
from sage_compare.time_mode.differences import DifferenceKind


def segments_at(*ranges: tuple[float, float]) -> Segments:
    """Return segments at these times. The vectors do not matter here."""
    times = np.array(ranges, np.float64).reshape(-1, 2)
    return Segments(times[:, 0], times[:, 1], np.zeros((len(times), 2), np.float32), None)


def grid(count: int, *, length: float = 2.0, end: float | None = None) -> Segments:
    """Return consecutive segments from 0. The last one ends at `end` if that is given."""
    ranges = [(i * length, (i + 1) * length) for i in range(count)]
    if end is not None:
        ranges[-1] = (ranges[-1][0], end)
    return segments_at(*ranges)


def intervals(layout: Layout) -> list[tuple[float, float, int, int]]:
    """Return start, end and both rows of each interval."""
    return [
        (start, start + length, a, b)
        for start, length, a, b in zip(
            layout.a_starts.tolist(), layout.lengths.tolist(), layout.a_rows, layout.b_rows, strict=True
        )
    ]


def unpaired(layout: Layout) -> list[tuple[DifferenceKind, float, float]]:
    """Return kind, start and end of what was not paired."""
    return [(d.kind, (d.a or d.b).start, (d.a or d.b).end) for d in layout.unpaired]


def test_equal_grids_pair_segment_by_segment():
    layout = lay_out(grid(3), grid(3), a_duration=6, b_duration=6)
    assert intervals(layout) == [(0, 2, 0, 0), (2, 4, 1, 1), (4, 6, 2, 2)]
    assert unpaired(layout) == []


def test_shorter_last_segment_makes_a_shorter_interval():
    layout = lay_out(grid(3, end=5.5), grid(3, end=5.5), a_duration=5.5, b_duration=5.5)
    assert intervals(layout)[-1] == (4, 5.5, 2, 2)
    assert unpaired(layout) == []


@pytest.mark.parametrize(("longer", "kind"), [("a", DifferenceKind.ONLY_IN_A), ("b", DifferenceKind.ONLY_IN_B)])
def test_what_follows_the_shorter_one_is_only_in_the_longer_one(longer, kind):
    long, short = grid(4), grid(3, end=5)
    a, b = (long, short) if longer == "a" else (short, long)
    layout = lay_out(a, b, a_duration=9 if longer == "a" else 5, b_duration=9 if longer == "b" else 5)
    assert intervals(layout)[-1] == (4, 5, 2, 2)
    assert unpaired(layout) == [(kind, 5, 9)]


def test_tail_that_no_segment_covers_is_not_compared():
    layout = lay_out(grid(2), grid(3, end=5.5), a_duration=5.5, b_duration=5.5)
    assert intervals(layout) == [(0, 2, 0, 0), (2, 4, 1, 1)]
    assert unpaired(layout) == [(DifferenceKind.NOT_COMPARED, 4, 5.5)]


def test_uncovered_tail_and_ending_are_two_differences():
    layout = lay_out(grid(2), grid(2), a_duration=5, b_duration=8)
    assert unpaired(layout) == [(DifferenceKind.NOT_COMPARED, 4, 5), (DifferenceKind.ONLY_IN_B, 5, 8)]


def test_gap_between_segments_is_one_difference():
    layout = lay_out(segments_at((0, 2), (6, 8)), grid(4), a_duration=8, b_duration=8)
    assert intervals(layout) == [(0, 2, 0, 0), (6, 8, 1, 3)]
    assert unpaired(layout) == [(DifferenceKind.NOT_COMPARED, 2, 6)]


def test_different_grids_are_refined_to_intervals_within_one_segment_each():
    layout = lay_out(grid(3), grid(2, length=3), a_duration=6, b_duration=6)
    assert intervals(layout) == [(0, 2, 0, 0), (2, 3, 1, 0), (3, 4, 1, 1), (4, 6, 2, 1)]


def test_nothing_is_compared_without_segments():
    layout = lay_out(segments_at(), segments_at(), a_duration=3, b_duration=4)
    assert intervals(layout) == []
    assert unpaired(layout) == [(DifferenceKind.NOT_COMPARED, 0, 3), (DifferenceKind.ONLY_IN_B, 3, 4)]


@pytest.mark.parametrize(
    ("a", "a_duration", "b", "b_duration"),
    [
        pytest.param(
            grid(3), 6.0, segments_at((0, 2), (2, 4), (4, 6), (6, 6.04)), 6.04, id="a segment of one more frame"
        ),
        pytest.param(
            grid(3, end=6.01),
            6.01,
            segments_at((0, 2), (2, 4), (4, 6), (6, 6.04)),
            6.04,
            id="a sliver of one more frame",
        ),
        pytest.param(grid(3), 6.0, grid(3, end=6.04), 6.04, id="a last segment one frame longer"),
        pytest.param(grid(3, end=5.96), 5.96, grid(3), 6.0, id="a last segment one frame shorter"),
        pytest.param(grid(3, end=5.96), 6.0, grid(3), 6.0, id="segments that end a frame before the container"),
        pytest.param(grid(3), 5.95, grid(3), 6.04, id="durations that contradict the segments by a frame"),
        pytest.param(segments_at((0.02, 2), (2, 4), (4, 6)), 6.0, grid(3), 6.0, id="a first frame slightly late"),
        pytest.param(segments_at((0, 1.98), (2.0, 3.99), (3.99, 6)), 6.0, grid(3), 6.0, id="boundaries on frames"),
        pytest.param(
            segments_at((0, 2.002), (2.002, 4.004), (4.004, 6)),
            6.0,
            grid(3),
            6.0,
            id="boundaries of another frame rate",
        ),
    ],
)
def test_one_frame_more_or_less_is_no_difference(a, a_duration, b, b_duration):
    for layout in (
        lay_out(a, b, a_duration=a_duration, b_duration=b_duration),
        lay_out(b, a, a_duration=b_duration, b_duration=a_duration),
    ):
        assert [(ours, theirs) for *_, ours, theirs in intervals(layout)] == [(0, 0), (1, 1), (2, 2)]
        assert unpaired(layout) == []


def test_durations_apart_by_more_than_the_tolerance_differ():
    layout = lay_out(grid(3), grid(3), a_duration=6, b_duration=6 + TOLERANCE_SECONDS * 1.5)
    assert [kind for kind, *_ in unpaired(layout)] == [DifferenceKind.ONLY_IN_B]


@st.composite
def timelines(draw):
    """Segments in order, some with gaps or overlaps, and a duration that they may exceed or not reach."""
    lengths = draw(st.lists(st.floats(0.03, 6), max_size=12))
    gaps = draw(
        st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, -0.02, 0.7, 3.0]), min_size=len(lengths), max_size=len(lengths))
    )
    ranges, at = [], 0.0
    for length, gap in zip(lengths, gaps, strict=True):
        start = max(0.0, at + gap)
        if ranges and start <= ranges[-1][0]:
            start = at
        ranges.append((start, start + length))
        at = start + length
    duration = max(0.0, at + draw(st.sampled_from([0.0, 0.0, 0.04, -0.04, 1.0, -1.0, 5.0])))
    return segments_at(*ranges), duration


@given(timelines(), timelines())
def test_intervals_and_unpaired_ranges_tile_both_timelines(first, second):
    (a, a_duration), (b, b_duration) = first, second
    layout = lay_out(a, b, a_duration=a_duration, b_duration=b_duration)
    pieces = sorted(
        [(start, end) for start, end, *_ in intervals(layout)] + [(start, end) for _, start, end in unpaired(layout)]
    )
    close = abs(a_duration - b_duration) <= TOLERANCE_SECONDS
    end = min(a_duration, b_duration) if close else max(a_duration, b_duration)
    edges = [0.0, *(edge for _, edge in pieces)]
    assert [start for start, _ in pieces] == pytest.approx(edges[:-1], abs=1e-9)
    assert edges[-1] == pytest.approx(end if pieces else 0.0, abs=1e-9)
    assert (layout.lengths > 0).all()
    assert (layout.a_starts == layout.b_starts).all()
    assert (np.diff(layout.a_rows) >= 0).all()
    assert (np.diff(layout.b_rows) >= 0).all()
    # A segment yields at most the tolerance to its neighbours on either side, and twice that if its grid is snapped.
    for start, stop, a_row, b_row in intervals(layout):
        for segments, row in ((a, a_row), (b, b_row)):
            assert segments.starts[row] - start <= 2 * TOLERANCE_SECONDS + 1e-9
            assert stop - segments.ends[row] <= 2 * TOLERANCE_SECONDS + 1e-9


@given(timelines())
def test_timeline_aligned_with_itself_pairs_each_segment_with_itself(timeline):
    segments, duration = timeline
    layout = lay_out(segments, segments, a_duration=duration, b_duration=duration)
    assert (layout.a_rows == layout.b_rows).all()


def test_silence_equals_silence_and_differs_from_sound():
    a, b = segments_at((0, 2), (6, 8)), segments_at((0, 2), (4, 6))
    layout = lay_out(a, b, a_duration=11, b_duration=11, silence_seconds=2)
    assert intervals(layout) == [(0, 2, 0, 0)]
    assert unpaired(layout) == [(DifferenceKind.ONLY_IN_A, 6, 8), (DifferenceKind.ONLY_IN_B, 4, 6)]


def test_sound_that_ends_early_is_silent_from_then_on():
    layout = lay_out(grid(4), grid(1), a_duration=8, b_duration=8, silence_seconds=2)
    assert unpaired(layout) == [(DifferenceKind.ONLY_IN_A, 2, 8)]


@pytest.mark.parametrize("silence_seconds", [2, None])
def test_remainder_that_is_shorter_than_a_clip_is_not_silence(silence_seconds):
    layout = lay_out(grid(3), grid(3), a_duration=7.5, b_duration=7.5, silence_seconds=silence_seconds)
    assert unpaired(layout) == [(DifferenceKind.NOT_COMPARED, 6, 7.5)]
