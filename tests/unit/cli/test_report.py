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


def read(response):
    """Return a comparison from an answer."""
    return read_comparison(response, old=("a.mp4", None), new=("b.mp4", None), clip_seconds=2.0)


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
    comparison = read(make_response())
    assert comparison.metric == "euclidean"
    assert comparison.first.differences == [
        Difference(Kind.CHANGED, TimeRange(4, 6), TimeRange(4.5, 6.5), 0.25, 0.0),
        Difference(Kind.ONLY_IN_NEW, None, TimeRange(20, 22.5), None, None),
    ]
    (interval,) = comparison.first.intervals
    assert (interval.old_start_seconds, interval.new_start_seconds, interval.distance) == (4, 4.5, 0.25)


def test_document_has_the_same_keys_always():
    """Every difference has every key; what it does not have is null."""
    response = make_response()
    document = comparison_document(response, read(response))
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


def test_document_has_the_second_track_like_the_first():
    """The second track has the same keys, times and nulls; without one it is null."""
    response = make_response()
    document = comparison_document(response, read(response))
    assert document["second"] is None
    response.second.CopyFrom(
        compare_pb2.TrackComparison(
            track="audio",
            similarity_percent=0,
            a_covered=compare_pb2.TimeRange(start_seconds=0, end_seconds=20),
            differences=[
                compare_pb2.Difference(
                    kind=compare_pb2.DIFFERENCE_KIND_ONLY_IN_A,
                    a=compare_pb2.TimeRange(start_seconds=0, end_seconds=20),
                )
            ],
        )
    )
    second = comparison_document(response, read(response))["second"]
    assert (second["track"], second["aCovered"], second["bCovered"]) == (
        "audio",
        {"startSeconds": 0.0, "endSeconds": 20.0},
        None,
    )
    assert second["differences"][0].keys() == document["differences"][0].keys()
    assert second["differences"][0]["a"]["endTimecode"] == "00:00:20.000"
    assert second["tailNotComparedSeconds"] is None


def test_unknown_kind_still_counts_as_a_difference():
    """A kind that this client does not know is shown as a change, not lost."""
    response = make_response()
    response.differences[0].kind = 99  # type: ignore[assignment] # of a newer server
    comparison = read(response)
    assert comparison.first.differences[0].kind is Kind.CHANGED


def test_long_names_leave_their_facts_a_line(make_comparison, side):
    """Where a name leaves no room, length and frame rate go below it, and nothing is cut."""
    name = "a-name-that-is-rather-long-for-a-film-final-v2.mp4"
    lines = text_of(make_comparison(old=side(name, 20.0)), 60).splitlines()
    assert f"old      {name}" in lines
    assert "         00:00:20:00  24 fps  640×360" in lines


SAME_LENGTH = {"similarity_percent": 92.4, "differing_count": 0}


def ending(start, end):
    """Return what no clip covers."""
    return Difference(Kind.NOT_COMPARED, TimeRange(start, end), TimeRange(start, end))


def test_tail_that_no_clip_covers_is_said_and_is_no_difference(make_comparison, side):
    """Less than a clip at the end of both films is named and listed, without a percentage that says otherwise."""
    comparison = make_comparison(
        old=side("a", 19.4), new=side("b", 19.44), differences=[ending(18.0, 19.4)], **SAME_LENGTH
    )
    assert not comparison.differ
    text = text_of(comparison, 80)
    assert text.startswith("No differences; the last 1.4 s were not compared.\n")
    assert "not compared  00:00:18:00-00:00:19:10" in text
    assert "?" in text


def test_tail_is_said_beside_differences(make_comparison, side):
    """Where something differs the tail is not counted among it."""
    changed = Difference(Kind.CHANGED, TimeRange(4.0, 8.0), TimeRange(4.0, 8.0), 0.4, 0.35)
    comparison = make_comparison(old=side("a", 19.4), new=side("b", 19.4), differences=[changed, ending(18.0, 19.4)])
    assert comparison.differ
    assert text_of(comparison, 80).startswith("1 difference, 71.1% the same; the last 1.4 s were not compared.\n")


@pytest.mark.parametrize(
    ("differences", "changes"),
    [
        ([ending(18.0, 20.0)], {}),
        ([ending(4.0, 5.0)], {}),
        ([ending(4.0, 5.0), ending(18.6, 20.0)], {}),
        ([ending(18.6, 19.5)], {}),
        ([ending(18.6, 20.0), Difference(Kind.ONLY_IN_NEW, None, TimeRange(20.0, 22.5))], {}),
        ([ending(18.6, 20.0)], {"compared_count": 0}),
    ],
    ids=["as long as a clip", "in the middle", "a gap besides", "before the end", "one goes on", "nothing compared"],
)
def test_whatever_else_was_not_compared_counts(make_comparison, side, differences, changes):
    """Only less than a clip at the very end of both, after what was compared, is taken for no difference."""
    comparison = make_comparison(
        old=side("a", 20.0), new=side("b", 20.0), differences=differences, **{**SAME_LENGTH, **changes}
    )
    assert comparison.differ
    assert not text_of(comparison, 80).startswith("No differences")


def test_document_names_the_tail(make_comparison, side):
    """Scripts see the tail's length, and `differ` as the exit code has it."""
    response = make_response()
    response.b.duration_seconds = 20
    response.compared_count = 9
    del response.differences[:]
    where = compare_pb2.TimeRange(start_seconds=18.5, end_seconds=20)
    response.differences.add(kind=compare_pb2.DIFFERENCE_KIND_NOT_COMPARED, a=where, b=where)
    document = comparison_document(response, read(response))
    assert (document["differ"], document["tailNotComparedSeconds"]) == (False, 1.5)
    assert len(document["differences"]) == 1


def test_two_tracks_are_read_together(make_comparison, track, side):
    """The headline says what each track does, then where and how, then each track has its facts and its table."""
    dub = TimeRange(12.0, 20.0)
    comparison = make_comparison(
        new=side("new.mp4", 20.0),
        differences=[],
        similarity_percent=100.0,
        differing_count=0,
        second=track(
            track="audio",
            threshold=0.1,
            differences=[Difference(Kind.CHANGED, dub, dub, 0.4, 0.3)],
            similarity_percent=60.0,
            differing_count=4,
        ),
    )
    assert comparison.differ
    text = text_of(comparison, 80)
    assert text.startswith("Picture the same, sound differs.\n")
    assert "\n00:00:12:00-00:00:20:00  picture the same, sound differs\n" in text
    assert "\npicture  no differences, 100% the same; 0 of 10 differ\n" in text
    assert "\nsound    1 difference, 60% the same; 4 of 10 differ\n" in text
    assert "\nmeasure  cosine distance, model local\n         thresholds 0.05 (picture) and 0.1 (sound)\n" in text
    assert "\nsound\n#  what" in text
    assert max(map(len, text_of(comparison, 60).splitlines())) <= 60


def test_silent_film_is_said_to_be(make_comparison, track):
    """A track that one film does not have is named as that, not as clips of which none differ."""
    whole = Difference(Kind.ONLY_IN_OLD, TimeRange(0.0, 20.0), None)
    silent = track(
        track="audio",
        differences=[whole],
        similarity_percent=0.0,
        compared_count=0,
        differing_count=0,
        intervals=[],
        silent=("new",),
    )
    text = text_of(make_comparison(second=silent), 80)
    assert "\nsound    1 difference, 0% the same; no sound in new\n" in text


def test_track_that_is_not_the_picture_is_named(make_comparison):
    """A comparison of another track alone says which."""
    assert "model local, track audio" in text_of(make_comparison(track="audio"), 80)
