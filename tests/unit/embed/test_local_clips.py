"""The clips of a timeline and the times at which they are sampled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_embed.engines.local.frames import MIN_CLIP_SECONDS, ClipGrid


@pytest.mark.parametrize(
    ("duration", "clip", "ends"),
    [
        (6.0, 2.0, [2.0, 4.0, 6.0]),
        (5.0, 2.0, [2.0, 4.0, 5.0]),
        (4.5, 2.0, [2.0, 4.0, 4.5]),
        (4.2, 2.0, [2.0, 4.0, 4.2]),
        (4.05, 2.0, [2.0, 4.0]),
        (0.1, 2.0, [0.1]),
        (0.3, 1.0, [0.3]),
        (3.3, 1.1, [1.1, 2.2, 3.3]),
    ],
)
def test_clips_cover_the_timeline_except_for_a_tiny_rest(duration: float, clip: float, ends: list[float]) -> None:
    grid = ClipGrid(duration, clip)
    assert [grid.end(index) for index in range(grid.count)] == pytest.approx(ends)


@given(st.floats(0.01, 5_000), st.floats(1, 10))
def test_the_uncovered_rest_is_shorter_than_the_shortest_clip(duration: float, clip: float) -> None:
    grid = ClipGrid(duration, clip)
    for index in {0, grid.count // 2, grid.count - 1}:
        start, end, moments = grid.start(index), grid.end(index), grid.samples(index)
        assert start < end <= duration
        assert moments == sorted(set(moments))
        assert start < moments[0]
        assert moments[-1] < end
    assert grid.end(grid.count - 1) > duration - MIN_CLIP_SECONDS - 1e-4 * clip


def test_sample_times_do_not_depend_on_the_duration() -> None:
    """Two cuts of different lengths are sampled in the same phase."""
    assert ClipGrid(60.0, 2.0).samples(7) == ClipGrid(59.7, 2.0).samples(7)
