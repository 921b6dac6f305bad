"""The lanes: true to scale at any width, readable without colour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from sage_cli.comparison import Comparison, Difference, Interval, Kind, Side, TimeRange, TrackComparison
from sage_cli.timeline_view import ASCII, LABEL_WIDTH, draw_timeline

WIDTHS = [40, 60, 80, 120, 237]


def lanes(comparison, width, **options):
    """Return the text of each labelled line, without its label."""
    lines = [line.plain for line in draw_timeline(comparison, width=width, **options)]
    return {line[:LABEL_WIDTH].strip(): line[LABEL_WIDTH:] for line in lines if line[:LABEL_WIDTH].strip()}


@pytest.mark.parametrize("width", WIDTHS)
def test_lanes_fill_the_width_and_no_more(make_comparison, width):
    """The longer film ends at the last column, and no line is longer."""
    lines = draw_timeline(make_comparison(), width=width)
    assert cell_len(next(line.plain for line in lines if line.plain.startswith("new"))) == width
    assert all(cell_len(line.plain) <= width for line in lines[:-1])


@pytest.mark.parametrize("width", WIDTHS)
def test_differences_are_where_they_are(make_comparison, width):
    """Each glyph begins and ends within half a column of its time."""
    drawn = lanes(make_comparison(), width)
    columns = width - LABEL_WIDTH
    for lane in ("old", "new"):
        first, last = drawn[lane].index("█"), drawn[lane].rindex("█") + 1
        assert abs(first - 4 / 22.5 * columns) <= 0.5
        assert abs(last - 8 / 22.5 * columns) <= 0.5
    assert abs(len(drawn["old"]) - 20 / 22.5 * columns) <= 0.5
    assert abs(drawn["new"].index("+") - 20 / 22.5 * columns) <= 0.5


def test_each_kind_has_a_glyph_of_its_own(make_comparison):
    """Without colour, every kind and what is the same can be told apart, in both character sets."""
    ranges = [TimeRange(2.0 * index, 2.0 * index + 1) for index in range(len(Kind))]
    differences = [Difference(kind, span, span) for kind, span in zip(Kind, ranges, strict=True)]
    comparison = make_comparison(differences=differences)
    for options in ({}, {"glyphs": ASCII}):
        assert len(set(lanes(comparison, 80, **options)["old"])) == len(Kind) + 1


def test_short_difference_stays_visible(make_comparison):
    """One frame in two hours is still a column."""
    spans = [TimeRange(3600.0, 3600.04), TimeRange(7199.99, 7200.0)]
    comparison = make_comparison(
        old=Side("a", "", "", 7200.0, None),
        new=Side("b", "", "", 7200.0, None),
        differences=[Difference(Kind.CHANGED, span, span) for span in spans],
        intervals=[],
    )
    drawn = lanes(comparison, 80)
    assert drawn["old"].count("█") == 2
    assert drawn["old"][-1] == "█"
    assert "dist" not in drawn


def test_change_shows_over_what_was_not_compared(make_comparison):
    """In a shared column the change wins, whichever comes first."""
    shared = TimeRange(0.0, 20.0)
    kinds = (Kind.CHANGED, Kind.NOT_COMPARED)
    for order in (kinds, kinds[::-1]):
        comparison = make_comparison(differences=[Difference(kind, shared, shared) for kind in order])
        assert set(lanes(comparison, 80)["old"]) == {"█"}


def test_half_height_is_the_threshold(make_comparison):
    """A distance over the threshold is drawn in the upper half, one that equals it is not."""
    intervals = [Interval(5.0 * index, 5.0 * index, 5.0, distance) for index, distance in enumerate((0, 0.05, 0.06, 1))]
    drawn = lanes(make_comparison(intervals=intervals, new=Side("b", "", "", 20.0, None)), LABEL_WIDTH + 20)
    assert [drawn["dist"][column] for column in (0, 5, 10, 15)] == ["▁", "▄", "▅", "█"]


def test_threshold_is_compared_as_float32(make_comparison):
    """A distance that equals the threshold in float32 is not over it, as the service has it."""
    just_above_as_double = 0.05000000074505806
    comparison = make_comparison(intervals=[Interval(0.0, 0.0, 20.0, just_above_as_double)])
    assert set(lanes(comparison, 60)["dist"].strip()) == {"▄"}


def test_ruler_names_true_times(make_comparison):
    """Each mark of the ruler stands at the time that it names."""
    line = draw_timeline(make_comparison(), width=100)[0].plain[LABEL_WIDTH:]
    for name, seconds in (("0:00", 0), ("0:05", 5), ("0:20", 20)):
        assert abs(line.index(f"╷{name}") - seconds / 22.5 * 95) <= 0.5


def test_no_room_is_no_picture(make_comparison):
    """Where nothing can be drawn, nothing is."""
    assert draw_timeline(make_comparison(), width=8) == []
    assert (
        draw_timeline(make_comparison(old=Side("a", "", "", 0, None), new=Side("b", "", "", 0, None)), width=80) == []
    )


def test_second_track_has_lanes_of_its_own_under_the_first(make_comparison, track):
    """Both tracks are named above their lanes, on one scale, and one legend has the kinds of both."""
    changed = TimeRange(10.0, 20.0)
    comparison = make_comparison(
        new=Side("b", "", "", 20.0, None),
        differences=[],
        second=track(track="audio", differences=[Difference(Kind.CHANGED, changed, changed, 0.4, 0.3)], intervals=[]),
    )
    lines = [line.plain for line in draw_timeline(comparison, width=LABEL_WIDTH + 20)]
    assert [line[:LABEL_WIDTH].strip() for line in lines[:7]] == ["", "", "old", "new", "dist", "", "old"]
    assert (lines[1].strip(), lines[5].strip()) == ("picture", "sound")
    assert lines[2][LABEL_WIDTH:] == "─" * 20
    assert lines[6][LABEL_WIDTH:] == lines[7][LABEL_WIDTH:] == "─" * 10 + "█" * 10
    assert "changed" in lines[-1]


def test_colour_is_on_top_of_the_glyphs(make_comparison):
    """The same characters come out with and without colour."""
    plain, coloured = (
        Console(color_system=system, force_terminal=True, width=80, highlight=False) for system in (None, "standard")
    )
    lines = draw_timeline(make_comparison(), width=80)
    outputs = []
    for console in (plain, coloured):
        with console.capture() as capture:
            for line in lines:
                console.print(line)
        outputs.append(capture.get())
    assert "\x1b[" not in outputs[0]
    assert "\x1b[1;33m█" in outputs[1]
    assert "\x1b[1;32m+" in outputs[1]


times = st.floats(0, 10_000, allow_nan=False)
spans = st.tuples(times, times).map(lambda pair: TimeRange(min(pair), max(pair)))


@given(
    width=st.integers(0, 300),
    durations=st.tuples(times, times),
    differences=st.lists(st.builds(Difference, st.sampled_from(Kind), st.none() | spans, st.none() | spans)),
    distances=st.lists(st.tuples(times, st.floats(0, 2, width=32))),
    threshold=st.floats(0, 2),
)
def test_any_comparison_can_be_drawn(width, durations, differences, distances, threshold):
    """Whatever the server says, no line of lanes is wider than the terminal."""
    comparison = Comparison(
        old=Side("a", "", "", durations[0], None),
        new=Side("b", "", "", durations[1], None),
        metric="cosine",
        model="local",
        clip_seconds=2.0,
        first=TrackComparison(
            track="visual",
            threshold=threshold,
            similarity_percent=50.0,
            compared_count=0,
            differing_count=0,
            differences=differences,
            intervals=[Interval(start, start, 2.0, distance) for start, distance in distances],
        ),
    )
    assert all(cell_len(line.plain) <= width for line in draw_timeline(comparison, width=width)[:-1])
