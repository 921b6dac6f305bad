"""The report for people and the document for scripts."""

import io
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sage_cli.show.comparison import KIND_NAMES
from sage_cli.show.json_output import comparison_document
from sage_cli.show.report import draw_report, percent

CHANGED, ONLY_IN_OLD, ONLY_IN_NEW, NOT_COMPARED = KIND_NAMES


def text_of(comparison, width, **options):
    """Return the report as it is written to a pipe."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(draw_report(comparison, width=width, **options), soft_wrap=True)
    return console.file.getvalue()


def test_wide_report_has_a_line_per_difference(make_comparison):
    text = text_of(make_comparison(), 80)
    assert "2 differences, 71.1% the same." in text
    assert "1  changed       00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00  0.400\n" in text
    assert "2  only in new   -                        00:00:20:00-00:00:22:12\n" in text


def test_narrow_report_has_a_line_per_side_and_fits(make_comparison):
    text = text_of(make_comparison(), 60)
    assert "old 00:00:04:00-00:00:08:00  0.400\n" in text
    assert "new 00:00:04:00-00:00:08:00\n" in text
    assert max(map(len, text.splitlines())) <= 60


def test_without_differences_there_is_no_table(make_comparison):
    text = text_of(make_comparison(differences=[], similarity_percent=100.0), 80)
    assert text.startswith("No differences, 100% the same.")
    assert "what" not in text
    assert "█" not in text.split("dist")[0]
    assert "threshold\n" not in text


def test_each_side_counts_in_its_own_frames(make_comparison, film, difference):
    """A side whose frame rate is unknown has clock time."""
    ntsc = Fraction(30_000, 1001)
    text = text_of(
        make_comparison(
            old=film("a", 20.0, rate=ntsc),
            new=film("b", 22.5, rate=None),
            differences=[difference(CHANGED, (4.0, 8.0), (4.0, 8.0), rates=(ntsc, None))],
        ),
        100,
    )
    assert "00:00:04;00-00:00:08;00" in text
    assert "00:00:04.000-00:00:08.000" in text


def test_timecodes_are_those_of_the_frames_that_the_service_names(make_comparison, difference):
    """Frames are exact; seconds may be rounded to another frame."""
    changed = difference(CHANGED, (4.0, 8.0), (4.0, 8.0))
    changed.a.first_frame += 1
    assert "00:00:04:01-00:00:08:00  00:00:04:00-00:00:08:00" in text_of(make_comparison(differences=[changed]), 80)


def test_ascii_output_is_ascii(make_comparison, film):
    text = text_of(make_comparison(old=film("Amélie.mp4", 20.0)), 80, ascii_only=True)
    assert text.isascii()
    assert "####" in text
    assert "640x360" in text


def test_film_names_cannot_control_the_terminal(make_comparison, film):
    assert "\x1b" not in text_of(make_comparison(old=film("\x1b[2Jfilm", 20.0)), 80)


@pytest.mark.parametrize(("value", "shown"), [(100.0, "100%"), (99.99, "99.9%"), (71.111, "71.1%"), (0.0, "0%")])
def test_percentages_are_never_rounded_up(value, shown):
    assert percent(value) == shown


@given(st.floats(0, 100, exclude_max=True))
def test_less_than_100_percent_is_never_printed_as_100(value):
    assert percent(value) != "100%"


def test_every_difference_of_the_document_has_the_same_keys(make_comparison, film):
    """What a difference does not have is null."""
    comparison = make_comparison(
        old=film("a.mp4", 20.0), new=film("b.mp4", 22.5, rate=None), covered=(None, (0.0, 22.5))
    )
    document = comparison_document(comparison)
    (track,) = document["tracks"]
    changed, longer = track["time"]["differences"]
    assert changed.keys() == longer.keys()
    assert changed["a"] == {
        "firstFrame": "96",
        "endFrame": "192",
        "startSeconds": 4.0,
        "endSeconds": 8.0,
        "startTimecode": "00:00:04:00",
        "endTimecode": "00:00:08:00",
    }
    assert longer["a"] is None
    assert longer["maxDistance"] is None
    assert longer["b"]["startTimecode"] == "00:00:20.000"
    assert (track["aCovered"], track["bCovered"]["endSeconds"]) == (None, 22.5)
    assert document["differ"] is True
    assert document["a"]["label"] == "a.mp4"
    assert document["a"]["media"]["frameRate"] == {"numerator": 24, "denominator": 1}


def test_document_mirrors_the_tracks_of_the_contract(make_comparison, track, difference):
    dub = track(name="audio", differences=[difference(ONLY_IN_OLD, (0.0, 20.0))], covered=((0.0, 20.0), None))
    picture, sound = comparison_document(make_comparison(others=[dub]))["tracks"]
    assert (picture["name"], sound["name"]) == ("visual", "audio")
    assert picture.keys() == sound.keys()
    assert sound["bCovered"] is None
    assert sound["time"]["differences"][0]["a"]["endTimecode"] == "00:00:20:00"
    assert sound["tailNotComparedSeconds"] is None
    assert len(sound["time"]["series"]["distances"]) == 10


def test_kind_of_a_newer_server_counts_as_a_change(make_comparison, difference):
    comparison = make_comparison(differences=[difference(99, (4.0, 8.0), (4.0, 8.0))])
    assert comparison.differ
    assert "1  changed " in text_of(comparison, 80)


def test_details_of_a_film_with_a_long_name_have_their_own_line(make_comparison, film):
    name = "a-name-that-is-rather-long-for-a-film-final-v2.mp4"
    lines = text_of(make_comparison(old=film(name, 20.0)), 60).splitlines()
    assert f"old      {name}" in lines
    assert "         00:00:20:00  24 fps  640×360" in lines


SAME_LENGTH = {"similarity_percent": 92.4, "differing_count": 0}


def not_compared(start, end):
    """Return the arguments of a difference that no clip covers."""
    return NOT_COMPARED, (start, end), (start, end)


def test_tail_that_no_clip_covers_is_reported_and_is_no_difference(make_comparison, film, difference):
    """The headline has no percentage, which would say otherwise."""
    comparison = make_comparison(
        old=film("a", 19.4), new=film("b", 19.44), differences=[difference(*not_compared(18.0, 19.4))], **SAME_LENGTH
    )
    assert not comparison.differ
    text = text_of(comparison, 80)
    assert text.startswith("No differences; the last 1.4 s were not compared.\n")
    assert "not compared  00:00:18:00-00:00:19:10" in text
    assert "?" in text


def test_tail_next_to_differences_is_reported_and_not_counted(make_comparison, film, difference):
    changed = difference(CHANGED, (4.0, 8.0), (4.0, 8.0), distance=0.4)
    tail = difference(*not_compared(18.0, 19.4))
    comparison = make_comparison(old=film("a", 19.4), new=film("b", 19.4), differences=[changed, tail])
    assert comparison.differ
    assert text_of(comparison, 80).startswith("1 difference, 71.1% the same; the last 1.4 s were not compared.\n")


@pytest.mark.parametrize(
    ("differences", "changes"),
    [
        ([not_compared(18.0, 20.0)], {}),
        ([not_compared(4.0, 5.0)], {}),
        ([not_compared(4.0, 5.0), not_compared(18.6, 20.0)], {}),
        ([not_compared(18.6, 19.5)], {}),
        ([not_compared(18.6, 20.0), (ONLY_IN_NEW, None, (20.0, 22.5))], {}),
        ([not_compared(18.6, 20.0)], {"compared_count": 0}),
    ],
    ids=["as long as a clip", "in the middle", "a gap besides", "before the end", "one is longer", "nothing compared"],
)
def test_any_other_part_that_was_not_compared_is_a_difference(make_comparison, film, difference, differences, changes):
    comparison = make_comparison(
        old=film("a", 20.0),
        new=film("b", 20.0),
        differences=[difference(*one) for one in differences],
        **{**SAME_LENGTH, **changes},
    )
    assert comparison.differ
    assert not text_of(comparison, 80).startswith("No differences")


def test_document_states_the_length_of_the_tail(make_comparison, film, difference):
    """`differ` agrees with the exit code."""
    tail = difference(*not_compared(18.5, 20.0))
    comparison = make_comparison(old=film("a", 20.0), new=film("b", 20.0), differences=[tail], **SAME_LENGTH)
    document = comparison_document(comparison)
    (track,) = document["tracks"]
    assert (document["differ"], track["tailNotComparedSeconds"]) == (False, 1.5)
    assert len(track["time"]["differences"]) == 1


def test_each_track_has_a_section(make_comparison, track, film, difference):
    """The headline sums up the tracks; the ranges, the facts and the table of each track follow."""
    dub = (12.0, 20.0)
    sound = track(
        name="audio",
        threshold=0.1,
        differences=[difference(CHANGED, dub, dub, distance=0.4)],
        similarity_percent=60.0,
        differing_count=4,
    )
    comparison = make_comparison(
        new=film("new.mp4", 20.0),
        differences=[],
        similarity_percent=100.0,
        differing_count=0,
        others=[sound],
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


def test_stretches_have_the_timecodes_of_the_tables(make_comparison, track, difference):
    """Both name the frames of the response, which are not always those nearest to the time."""
    changed = difference(CHANGED, (4.0, 8.0), (4.0, 8.0))
    changed.a.end_frame -= 1
    text = text_of(make_comparison(differences=[], others=[track(name="audio", differences=[changed])]), 100)
    assert "\n00:00:04:00-00:00:07:23  picture the same, sound differs\n" in text
    assert "00:00:04:00-00:00:07:23  00:00:04:00-00:00:08:00" in text


def test_stretch_between_the_ends_of_two_films_is_named(make_comparison, track, difference):
    """The picture is missing in one film, the sound in the other."""
    sound = track(name="audio", differences=[difference(ONLY_IN_NEW, None, (0.0, 22.5))])
    text = text_of(make_comparison(differences=[difference(ONLY_IN_OLD, (0.0, 20.0))], others=[sound]), 80)
    assert "00:00:20:00-00:00:22:12  picture the same, sound only in new\n" in text


def test_silent_film_is_reported_as_such(make_comparison, track, difference):
    silent = track(
        name="audio",
        differences=[difference(ONLY_IN_OLD, (0.0, 20.0))],
        similarity_percent=0.0,
        compared_count=0,
        differing_count=0,
        intervals=[],
        covered=((0.0, 20.0), None),
    )
    text = text_of(make_comparison(others=[silent]), 80)
    assert "\nsound    1 difference, 0% the same; no sound in new\n" in text


def test_single_track_other_than_the_picture_is_named(make_comparison):
    assert "model local, track audio" in text_of(make_comparison(name="audio"), 80)
