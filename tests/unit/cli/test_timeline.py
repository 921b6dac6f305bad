"""The lanes: true to scale at any width, readable without colour."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2
from sage_cli.show.comparison import KIND_NAMES, Comparison, Film, over_threshold
from sage_cli.show.timeline import ASCII, LABEL_WIDTH, draw_timeline

WIDTHS = [40, 60, 80, 120, 237]
CHANGED, ONLY_IN_OLD, ONLY_IN_NEW, NOT_COMPARED = KIND_NAMES
CASES = json.loads((Path(__file__).parents[2] / "cases" / "series.json").read_text())


def lanes(comparison, width, **options):
    """Return the text of each labelled line, without its label."""
    lines = [line.plain for line in draw_timeline(comparison, width=width, **options)]
    return {line[:LABEL_WIDTH].strip(): line[LABEL_WIDTH:] for line in lines if line[:LABEL_WIDTH].strip()}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_longer_film_fills_the_width_and_no_line_is_longer(make_comparison, width):
    lines = draw_timeline(make_comparison(), width=width)
    assert cell_len(next(line.plain for line in lines if line.plain.startswith("new"))) == width
    assert all(cell_len(line.plain) <= width for line in lines[:-1])


@pytest.mark.parametrize("width", WIDTHS)
def test_differences_begin_and_end_within_half_a_column_of_their_time(make_comparison, width):
    drawn = lanes(make_comparison(), width)
    columns = width - LABEL_WIDTH
    for lane in ("old", "new"):
        first, last = drawn[lane].index("█"), drawn[lane].rindex("█") + 1
        assert abs(first - 4 / 22.5 * columns) <= 0.5
        assert abs(last - 8 / 22.5 * columns) <= 0.5
    assert abs(len(drawn["old"]) - 20 / 22.5 * columns) <= 0.5
    assert abs(drawn["new"].index("+") - 20 / 22.5 * columns) <= 0.5


def test_kinds_can_be_told_apart_without_colour(make_comparison, difference):
    spans = [(2.0 * index, 2.0 * index + 1) for index in range(len(KIND_NAMES))]
    differences = [difference(kind, span, span) for kind, span in zip(KIND_NAMES, spans, strict=True)]
    comparison = make_comparison(differences=differences)
    for options in ({}, {"glyphs": ASCII}):
        assert len(set(lanes(comparison, 80, **options)["old"])) == len(KIND_NAMES) + 1


def test_one_frame_in_two_hours_is_visible(make_comparison, film, difference):
    spans = [(3600.0, 3600.04), (7199.99, 7200.0)]
    comparison = make_comparison(
        old=film("a", 7200.0),
        new=film("b", 7200.0),
        differences=[difference(CHANGED, span, span) for span in spans],
        intervals=[],
    )
    drawn = lanes(comparison, 80)
    assert drawn["old"].count("█") == 2
    assert drawn["old"][-1] == "█"
    assert "dist" not in drawn


def test_in_a_shared_column_a_change_hides_what_was_not_compared(make_comparison, difference):
    shared = (0.0, 20.0)
    kinds = (CHANGED, NOT_COMPARED)
    for order in (kinds, kinds[::-1]):
        comparison = make_comparison(differences=[difference(kind, shared, shared) for kind in order])
        assert set(lanes(comparison, 80)["old"]) == {"█"}


def test_half_height_is_the_threshold(make_comparison, film):
    """A distance above the threshold is drawn in the upper half; one equal to it is not."""
    intervals = [(5.0 * index, 5.0 * index, 5.0, distance) for index, distance in enumerate((0, 0.05, 0.06, 1))]
    drawn = lanes(make_comparison(intervals=intervals, new=film("b", 20.0)), LABEL_WIDTH + 20)
    assert [drawn["dist"][column] for column in (0, 5, 10, 15)] == ["▁", "▄", "▅", "█"]


def test_threshold_is_compared_as_float32(make_comparison):
    just_above_as_double = 0.05000000074505806
    comparison = make_comparison(intervals=[(0.0, 0.0, 20.0, just_above_as_double)])
    assert set(lanes(comparison, 60)["dist"].strip()) == {"▄"}


def test_marks_of_the_ruler_are_at_the_times_that_they_name(make_comparison):
    line = draw_timeline(make_comparison(), width=100)[0].plain[LABEL_WIDTH:]
    for name, seconds in (("0:00", 0), ("0:05", 5), ("0:20", 20)):
        assert abs(line.index(f"╷{name}") - seconds / 22.5 * 95) <= 0.5


def test_without_room_or_films_nothing_is_drawn(make_comparison, film):
    assert draw_timeline(make_comparison(), width=8) == []
    assert draw_timeline(make_comparison(old=film("a", 0), new=film("b", 0)), width=80) == []


def test_each_track_has_its_name_and_lanes_on_one_scale(make_comparison, track, film, difference):
    changed = (10.0, 20.0)
    comparison = make_comparison(
        new=film("b", 20.0),
        differences=[],
        others=[track(name="audio", differences=[difference(CHANGED, changed, changed, distance=0.4)], intervals=[])],
    )
    lines = [line.plain for line in draw_timeline(comparison, width=LABEL_WIDTH + 20)]
    assert [line[:LABEL_WIDTH].strip() for line in lines[:7]] == ["", "", "old", "new", "dist", "", "old"]
    assert (lines[1].strip(), lines[5].strip()) == ("picture", "sound")
    assert lines[2][LABEL_WIDTH:] == "─" * 20
    assert lines[6][LABEL_WIDTH:] == lines[7][LABEL_WIDTH:] == "─" * 10 + "█" * 10
    assert "changed" in lines[-1]


def test_colour_is_added_to_the_same_glyphs(make_comparison):
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


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_intervals_over_the_threshold_are_those_of_the_shared_cases(case):
    """The report draws as many intervals over the threshold as the service counts."""
    over = [
        over_threshold(distance, case["threshold"])
        for distance in compare_pb2.Series(distances=case["series"]["distances"]).distances
    ]
    assert sum(over) == case["expected"]["differingCount"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_differences_of_the_shared_cases_are_drawn_as_lanes(case):
    time = json_format.ParseDict(
        {"series": case["series"], "threshold": case["threshold"], "differences": case["expected"]["differences"]},
        compare_pb2.TimeComparison(),
    )
    kinds = {one.kind for one in time.differences}
    end = max([one.b.end_seconds for one in time.differences] + [one.a.end_seconds for one in time.differences] + [10])
    drawn = lanes(comparison_of(time, seconds=(end, end)), 200)
    glyphs = dict(zip(KIND_NAMES, "█x+?", strict=True))
    assert set(drawn["old"] + drawn["new"]) - {"─"} == {glyphs[kind] for kind in kinds}


times = st.floats(0, 10_000, allow_nan=False)
spans = st.tuples(times, times).map(lambda pair: compare_pb2.FrameRange(start_seconds=min(pair), end_seconds=max(pair)))


def comparison_of(time, *, seconds):
    old, new = (media_pb2.Media(duration_seconds=duration) for duration in seconds)
    response = compare_pb2.CompareEmbeddingsResponse(
        a=compare_pb2.Side(media=old),
        b=compare_pb2.Side(media=new),
        tracks=[compare_pb2.TrackComparison(name="visual", time=time)],
    )
    return Comparison(response, Film("a", old), Film("b", new), clip_seconds=2.0)


@given(
    width=st.integers(0, 300),
    durations=st.tuples(times, times),
    differences=st.lists(
        st.builds(
            lambda kind, a, b: compare_pb2.Difference(kind=kind, a=a, b=b),
            st.sampled_from([*KIND_NAMES, 99]),
            st.none() | spans,
            st.none() | spans,
        )
    ),
    distances=st.lists(st.tuples(times, st.floats(0, 2, width=32))),
    threshold=st.floats(0, 2),
)
def test_any_comparison_can_be_drawn(width, durations, differences, distances, threshold):
    """No line of lanes is wider than the terminal, whatever the server sends."""
    time = compare_pb2.TimeComparison(
        threshold=threshold,
        differences=differences,
        series=compare_pb2.Series(
            a_start_seconds=[start for start, _ in distances],
            b_start_seconds=[start for start, _ in distances],
            length_seconds=[2.0] * len(distances),
            distances=[distance for _, distance in distances],
        ),
    )
    comparison = comparison_of(time, seconds=durations)
    assert all(cell_len(line.plain) <= width for line in draw_timeline(comparison, width=width)[:-1])
