"""Same-time comparison: intervals, endings and what nothing covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_compare.model import Clips, Kind, Layout
from sage_compare.timeline import TOLERANCE_SECONDS, lay_out


def clips_at(*ranges: tuple[float, float]) -> Clips:
    """Return clips at these times; the vectors do not matter here."""
    times = np.array(ranges, np.float64).reshape(-1, 2)
    return Clips(times[:, 0], times[:, 1], np.zeros((len(times), 2), np.float32), None)


def grid(count: int, *, clip: float = 2.0, end: float | None = None) -> Clips:
    """Return clips that follow each other from 0, the last one up to `end`."""
    ranges = [(i * clip, (i + 1) * clip) for i in range(count)]
    if end is not None:
        ranges[-1] = (ranges[-1][0], end)
    return clips_at(*ranges)


def intervals(layout: Layout) -> list[tuple[float, float, int, int]]:
    """Return start, end and both rows of each interval."""
    return [
        (start, start + length, a, b)
        for start, length, a, b in zip(
            layout.a_starts.tolist(), layout.lengths.tolist(), layout.a_rows, layout.b_rows, strict=True
        )
    ]


def unpaired(layout: Layout) -> list[tuple[Kind, float, float]]:
    """Return kind, start and end of what was not paired."""
    return [(d.kind, (d.a or d.b).start, (d.a or d.b).end) for d in layout.unpaired]


def test_equal_grids_pair_clip_by_clip():
    """On equal grids interval i is clip i of both: no boundary belongs to the clip before it."""
    layout = lay_out(grid(3), grid(3), a_duration=6, b_duration=6)
    assert intervals(layout) == [(0, 2, 0, 0), (2, 4, 1, 1), (4, 6, 2, 2)]
    assert unpaired(layout) == []


def test_shorter_last_clip_is_compared_as_long_as_it_is():
    """A last clip that is shorter makes a shorter interval, and no empty one follows an even duration."""
    layout = lay_out(grid(3, end=5.5), grid(3, end=5.5), a_duration=5.5, b_duration=5.5)
    assert intervals(layout)[-1] == (4, 5.5, 2, 2)
    assert unpaired(layout) == []


@pytest.mark.parametrize(("longer", "kind"), [("a", Kind.ONLY_IN_A), ("b", Kind.ONLY_IN_B)])
def test_what_goes_on_is_only_in_one(longer, kind):
    """What one has after the other has ended is only in that one, whether clips cover it or not."""
    long, short = grid(4), grid(3, end=5)
    a, b = (long, short) if longer == "a" else (short, long)
    layout = lay_out(a, b, a_duration=9 if longer == "a" else 5, b_duration=9 if longer == "b" else 5)
    assert intervals(layout)[-1] == (4, 5, 2, 2)
    assert unpaired(layout) == [(kind, 5, 9)]


def test_tail_that_no_clip_covers_is_not_compared():
    """The tail of both that the clips of one leave out is not compared."""
    layout = lay_out(grid(2), grid(3, end=5.5), a_duration=5.5, b_duration=5.5)
    assert intervals(layout) == [(0, 2, 0, 0), (2, 4, 1, 1)]
    assert unpaired(layout) == [(Kind.NOT_COMPARED, 4, 5.5)]


def test_uncovered_tail_and_ending_are_told_apart():
    """Both have the tail, and then only one goes on: two differences."""
    layout = lay_out(grid(2), grid(2), a_duration=5, b_duration=8)
    assert unpaired(layout) == [(Kind.NOT_COMPARED, 4, 5), (Kind.ONLY_IN_B, 5, 8)]


def test_gap_between_clips_is_not_compared_once():
    """A gap is one difference even where the other grid cuts through it."""
    layout = lay_out(clips_at((0, 2), (6, 8)), grid(4), a_duration=8, b_duration=8)
    assert intervals(layout) == [(0, 2, 0, 0), (6, 8, 1, 3)]
    assert unpaired(layout) == [(Kind.NOT_COMPARED, 2, 6)]


def test_different_grids_are_refined():
    """Clips of 2 s and 3 s meet in the intervals that both grids cut."""
    layout = lay_out(grid(3), grid(2, clip=3), a_duration=6, b_duration=6)
    assert intervals(layout) == [(0, 2, 0, 0), (2, 3, 1, 0), (3, 4, 1, 1), (4, 6, 2, 1)]


def test_no_clips_is_nothing_compared():
    """Two videos without clips are not compared from beginning to end."""
    layout = lay_out(clips_at(), clips_at(), a_duration=3, b_duration=4)
    assert intervals(layout) == []
    assert unpaired(layout) == [(Kind.NOT_COMPARED, 0, 3), (Kind.ONLY_IN_B, 3, 4)]


@pytest.mark.parametrize(
    ("a", "a_duration", "b", "b_duration"),
    [
        pytest.param(grid(3), 6.0, clips_at((0, 2), (2, 4), (4, 6), (6, 6.04)), 6.04, id="a clip of one frame more"),
        pytest.param(
            grid(3, end=6.01), 6.01, clips_at((0, 2), (2, 4), (4, 6), (6, 6.04)), 6.04, id="a scrap of one frame more"
        ),
        pytest.param(grid(3), 6.0, grid(3, end=6.04), 6.04, id="a last clip one frame longer"),
        pytest.param(grid(3, end=5.96), 5.96, grid(3), 6.0, id="a last clip one frame shorter"),
        pytest.param(grid(3, end=5.96), 6.0, grid(3), 6.0, id="clips that end a frame before the container does"),
        pytest.param(grid(3), 5.95, grid(3), 6.04, id="durations that contradict the clips by a frame"),
        pytest.param(clips_at((0.02, 2), (2, 4), (4, 6)), 6.0, grid(3), 6.0, id="a first frame a little late"),
        pytest.param(clips_at((0, 1.98), (2.0, 3.99), (3.99, 6)), 6.0, grid(3), 6.0, id="boundaries on frames"),
        pytest.param(
            clips_at((0, 2.002), (2.002, 4.004), (4.004, 6)), 6.0, grid(3), 6.0, id="boundaries of another frame rate"
        ),
    ],
)
def test_a_frame_more_or_less_is_no_difference(a, a_duration, b, b_duration):
    """What a re-encode does to times pairs the same clips and leaves nothing over, whichever comes first."""
    for layout in (
        lay_out(a, b, a_duration=a_duration, b_duration=b_duration),
        lay_out(b, a, a_duration=b_duration, b_duration=a_duration),
    ):
        assert [(ours, theirs) for *_, ours, theirs in intervals(layout)] == [(0, 0), (1, 1), (2, 2)]
        assert unpaired(layout) == []


def test_durations_apart_by_more_than_the_tolerance_differ():
    """An ending longer than the tolerance is a difference."""
    layout = lay_out(grid(3), grid(3), a_duration=6, b_duration=6 + TOLERANCE_SECONDS * 1.5)
    assert [kind for kind, *_ in unpaired(layout)] == [Kind.ONLY_IN_B]


@st.composite
def timelines(draw):
    """Clips in order, some with gaps or overlaps, and a duration that they may pass or not reach."""
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
    return clips_at(*ranges), duration


@given(timelines(), timelines())
def test_intervals_and_unpaired_ranges_tile_both_timelines(first, second):
    """Every moment of both timelines is in exactly one interval or unpaired range, and both clips cover intervals."""
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
    # A clip gives to its neighbours at most the tolerance on either side, twice over for a grid that is snapped.
    for start, stop, a_row, b_row in intervals(layout):
        for clips, row in ((a, a_row), (b, b_row)):
            assert clips.starts[row] - start <= 2 * TOLERANCE_SECONDS + 1e-9
            assert stop - clips.ends[row] <= 2 * TOLERANCE_SECONDS + 1e-9


@given(timelines())
def test_a_timeline_beside_itself_pairs_each_clip_with_itself(timeline):
    """Whatever the clips, comparing a timeline with itself never pairs two different clips."""
    clips, duration = timeline
    layout = lay_out(clips, clips, a_duration=duration, b_duration=duration)
    assert (layout.a_rows == layout.b_rows).all()


def test_silence_is_the_same_as_silence_and_not_as_sound():
    """Where neither has clips for a while there is no difference; where one has, it alone has something there."""
    a, b = clips_at((0, 2), (6, 8)), clips_at((0, 2), (4, 6))
    layout = lay_out(a, b, a_duration=11, b_duration=11, silence_seconds=2)
    assert intervals(layout) == [(0, 2, 0, 0)]
    assert unpaired(layout) == [(Kind.ONLY_IN_A, 6, 8), (Kind.ONLY_IN_B, 4, 6)]


def test_sound_that_ends_early_is_silent_from_there_on():
    """The one that has ended is silent; what the other still has is only in that one, as one range."""
    layout = lay_out(grid(4), grid(1), a_duration=8, b_duration=8, silence_seconds=2)
    assert unpaired(layout) == [(Kind.ONLY_IN_A, 2, 8)]


@pytest.mark.parametrize("silence_seconds", [2, None])
def test_a_rest_that_makes_no_clip_is_no_silence(silence_seconds):
    """An end shorter than a clip may have been left out for that, so it was not compared."""
    layout = lay_out(grid(3), grid(3), a_duration=7.5, b_duration=7.5, silence_seconds=silence_seconds)
    assert unpaired(layout) == [(Kind.NOT_COMPARED, 6, 7.5)]
