"""The report for people and the document for scripts."""

import io
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sage.compare.v1 import compare_pb2
from sage_cli.comparison import Difference, Kind, TimeRange, read_comparison
from sage_cli.json_output import comparison_document
from sage_cli.report import draw_report, percent


def text_of(comparison, width, **options):
    """Return the report as it goes into a pipe."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(draw_report(comparison, width=width, **options), soft_wrap=True)
    return console.file.getvalue()


def test_wide_report_has_a_line_for_each_difference(make_comparison):
    """With room, both ranges of a difference are in one line with its kind and distance."""
    text = text_of(make_comparison(), 80)
    assert "2 differences, 71.1% the same." in text
    assert "1  changed       00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00  0.400\n" in text
    assert "2  only in new   -                        00:00:20:00-00:00:22:12\n" in text


def test_report_fits_sixty_columns(make_comparison):
    """Each side has a line of its own where the terminal is narrow, and no line is longer than it."""
    text = text_of(make_comparison(), 60)
    assert "old 00:00:04:00-00:00:08:00  0.400\n" in text
    assert "new 00:00:04:00-00:00:08:00\n" in text
    assert max(map(len, text.splitlines())) <= 60


def test_no_differences_are_said_so(make_comparison):
    """Two films that are the same have no table, and the lanes say so as well."""
    text = text_of(make_comparison(differences=[], similarity_percent=100.0), 80)
    assert text.startswith("No differences, 100% the same.")
    assert "what" not in text
    assert "█" not in text.split("dist")[0]
    assert "threshold\n" not in text


def test_each_side_counts_in_its_own_frames(make_comparison, side):
    """Timecodes of a side use its frame rate; a side without one has clock time."""
    text = text_of(
        make_comparison(old=side("a", 20.0, rate=Fraction(30_000, 1001)), new=side("b", 22.5, rate=None)), 100
    )
    assert "00:00:04;00-00:00:08;00" in text
    assert "00:00:04.000-00:00:08.000" in text


def test_ascii_output_is_ascii(make_comparison, side):
    """Where the output knows ASCII only, the report keeps to it, names of films included."""
    text = text_of(make_comparison(old=side("Amélie.mp4", 20.0)), 80, ascii_only=True)
    assert text.isascii()
    assert "####" in text
    assert "640x360" in text


def test_names_cannot_drive_the_terminal(make_comparison, side):
    """Control characters in a name are shown, not sent."""
    assert "\x1b" not in text_of(make_comparison(old=side("\x1b[2Jfilm", 20.0)), 80)


@pytest.mark.parametrize(("value", "shown"), [(100.0, "100%"), (99.99, "99.9%"), (71.111, "71.1%"), (0.0, "0%")])
def test_only_the_same_is_a_hundred_percent(value, shown):
    """A percentage is never rounded up."""
    assert percent(value) == shown


@given(st.floats(0, 100, exclude_max=True))
def test_less_than_all_is_never_shown_as_all(value):
    """No value below 100 reads as 100%."""
    assert percent(value) != "100%"


def make_response():
    """Return an answer with a change and an end that only b has."""
    response = compare_pb2.CompareEmbeddingsResponse(
        metric=compare_pb2.METRIC_EUCLIDEAN,
        threshold=0.05,
        a=compare_pb2.Side(embedding_id="embed_a", duration_seconds=20),
        b=compare_pb2.Side(embedding_id="embed_b", duration_seconds=22.5),
        series=compare_pb2.Series(a_start_seconds=[4], b_start_seconds=[4.5], length_seconds=[2], distances=[0.25]),
    )
    response.differences.add(
        kind=compare_pb2.DIFFERENCE_KIND_CHANGED,
        a=compare_pb2.TimeRange(start_seconds=4, end_seconds=6),
        b=compare_pb2.TimeRange(start_seconds=4.5, end_seconds=6.5),
        max_distance=0.25,
        mean_distance=0.0,
    )
    response.differences.add(
        kind=compare_pb2.DIFFERENCE_KIND_ONLY_IN_B, b=compare_pb2.TimeRange(start_seconds=20, end_seconds=22.5)
    )
    return response


def test_answer_is_read_whole():
    """Ranges, distances and intervals come through; zero is not the same as unset."""
    comparison = read_comparison(make_response(), old=("a.mp4", None), new=("b.mp4", None))
    assert comparison.metric == "euclidean"
    assert comparison.differences == [
        Difference(Kind.CHANGED, TimeRange(4, 6), TimeRange(4.5, 6.5), 0.25, 0.0),
        Difference(Kind.ONLY_IN_NEW, None, TimeRange(20, 22.5), None, None),
    ]
    (interval,) = comparison.intervals
    assert (interval.old_start_seconds, interval.new_start_seconds, interval.distance) == (4, 4.5, 0.25)


def test_document_has_the_same_keys_always():
    """Every difference has every key; what it does not have is null."""
    response = make_response()
    document = comparison_document(response, read_comparison(response, old=("a.mp4", None), new=("b.mp4", None)))
    changed, longer = document["differences"]
    assert changed.keys() == longer.keys()
    assert changed["meanDistance"] == 0.0
    assert longer["a"] is None
    assert longer["maxDistance"] is None
    assert longer["b"]["startTimecode"] == "00:00:20.000"
    assert document["differ"] is True
    assert document["a"]["label"] == "a.mp4"
    assert document["a"]["frameRate"] is None
    assert document["a"]["covered"] is None


def test_unknown_kind_still_counts_as_a_difference():
    """A kind that this client does not know is shown as a change, not lost."""
    response = make_response()
    response.differences[0].kind = 99  # type: ignore[assignment]
    comparison = read_comparison(response, old=("a.mp4", None), new=("b.mp4", None))
    assert comparison.differences[0].kind is Kind.CHANGED


def test_long_names_leave_their_facts_a_line(make_comparison, side):
    """Where a name leaves no room, length and frame rate go below it, and nothing is cut."""
    name = "a-name-that-is-rather-long-for-a-film-final-v2.mp4"
    lines = text_of(make_comparison(old=side(name, 20.0)), 60).splitlines()
    assert f"old      {name}" in lines
    assert "         00:00:20:00  24 fps  640×360" in lines
