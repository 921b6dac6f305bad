"""The report for people and the document for scripts."""

import io
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sage.compare.v1 import compare_pb2
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
    assert text.startswith("The picture is 71.1% the same: 2 differences.\n")
    assert "1  changed       00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00  0.400\n" in text
    assert "2  only in new   -                        00:00:20:00-00:00:22:12\n" in text


def test_narrow_report_has_a_line_per_side_and_fits(make_comparison):
    text = text_of(make_comparison(), 60)
    assert "old 00:00:04:00-00:00:08:00  0.400\n" in text
    assert "new 00:00:04:00-00:00:08:00\n" in text
    assert max(map(len, text.splitlines())) <= 60


def test_without_differences_there_is_no_table(make_comparison):
    text = text_of(make_comparison(differences=[], similarity_percent=100.0), 80)
    assert text.startswith("The picture is 100% the same.\n")
    assert "what" not in text
    assert "█" not in text.split("dist")[0]
    assert "threshold\n" not in text


def test_each_side_counts_in_its_own_frames(make_comparison, film, difference):
    """A side whose frame rate is unknown has clock time."""
    ntsc = Fraction(30_000, 1001)
    old = film("a", 20.0, rate=ntsc)
    old.media.start_timecode.drop_frame = True
    text = text_of(
        make_comparison(
            old=old,
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
    assert text.startswith("The picture is the same; the last 1.4 s were not compared.\n")
    assert "not compared  00:00:18:00-00:00:19:10" in text
    assert "?" in text


def test_tail_next_to_differences_is_reported_and_not_counted(make_comparison, film, difference):
    changed = difference(CHANGED, (4.0, 8.0), (4.0, 8.0), distance=0.4)
    tail = difference(*not_compared(18.0, 19.4))
    comparison = make_comparison(old=film("a", 19.4), new=film("b", 19.4), differences=[changed, tail])
    assert comparison.differ
    text = text_of(comparison, 80)
    assert text.startswith("The picture is 71.1% the same: 1 difference; the last 1.4 s were not compared.\n")


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
    assert "% the same: " in text_of(comparison, 80).splitlines()[0]


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


SAME = {"differences": [], "similarity_percent": 100.0, "differing_count": 0}


def media_difference(kind, a, b, *, audio_track=None, counts=False):
    """Return a difference between the media of two files."""
    value = compare_pb2.MediaDifferenceKind.Value(f"MEDIA_DIFFERENCE_KIND_{kind}")
    return compare_pb2.MediaDifference(kind=value, a=a, b=b, audio_track=audio_track, counts_as_difference=counts)


def not_compared_part(track, reason):
    """Return a part of both films that was not compared."""
    return compare_pb2.NotCompared(
        track=track, reason=compare_pb2.NotComparedReason.Value(f"NOT_COMPARED_REASON_{reason}")
    )


def test_sound_that_was_not_compared_is_named_with_the_reason(make_comparison, film):
    comparison = make_comparison(
        new=film("new.mp4", 20.0), not_compared=[not_compared_part("audio", "MODEL_LACKS_TRACK")], **SAME
    )
    assert not comparison.differ
    lines = text_of(comparison, 80).splitlines()
    assert lines[:2] == [
        "The picture is 100% the same.",
        "Sound was not compared: model local has no audio track.",
    ]
    document = comparison_document(comparison)
    assert document["notCompared"] == [{"track": "audio", "reason": "NOT_COMPARED_REASON_MODEL_LACKS_TRACK"}]


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (("audio", "NOT_REQUESTED"), "Sound was not compared: it was not requested. Use --track visual --track audio."),
        (("audio", "OTHER_TRACKS"), "One track of sound per file was compared; the others were not."),
        (("audio", "UNSPECIFIED"), "Sound was not compared."),
    ],
)
def test_every_reason_has_a_sentence(make_comparison, part, sentence):
    assert text_of(make_comparison(not_compared=[not_compared_part(*part)]), 80).splitlines()[1] == sentence


@pytest.mark.parametrize(
    ("difference_of", "sentence"),
    [
        (("AUDIO_TRACK_COUNT", "1", "0"), "Audio tracks: 1 in old, none in new."),
        (("AUDIO_LAYOUT", "5.1", "stereo", 0), "Audio track 1: 5.1 in old, stereo in new."),
        (("AUDIO_LANGUAGE", "eng", "fra", 1), "Audio track 2: language eng in old, fra in new."),
    ],
)
def test_different_audio_tracks_are_a_difference_under_the_same_picture(make_comparison, difference_of, sentence):
    kind, a, b, *track = difference_of
    found = media_difference(kind, a, b, audio_track=track[0] if track else None, counts=True)
    comparison = make_comparison(media_differences=[found], **SAME)
    assert comparison.differ
    assert comparison_document(comparison)["differ"] is True
    lines = text_of(comparison, 80).splitlines()
    assert lines[:2] == ["The picture is 100% the same; the audio tracks of the files differ.", sentence]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (("DYNAMIC_RANGE", "PQ", "SDR"), "Dynamic range: HDR (PQ) in old, SDR in new, so colours differ everywhere."),
        (
            ("ASPECT_RATIO", "1.78:1", "2.39:1"),
            "Aspect ratio: 1.78:1 in old, 2.39:1 in new; one may be cropped or letterboxed.",
        ),
        (("SCAN", "interlaced", "progressive"), "Scan: interlaced in old, progressive in new."),
        (("MIRRORING", "mirrored", "not mirrored"), "Mirroring: mirrored in old, not mirrored in new."),
        (
            ("BLACK_BARS", "none", "letterbox 2.39:1"),
            "Black bars: none in old, letterbox 2.39:1 in new, so pictures differ everywhere.",
        ),
        (("UNSPECIFIED", "this", "that"), "The files: this in old, that in new."),
    ],
)
def test_presentation_is_told_and_is_no_difference(make_comparison, found, sentence):
    comparison = make_comparison(media_differences=[media_difference(*found)], **SAME)
    assert not comparison.differ
    lines = text_of(comparison, 80).splitlines()
    assert lines[:2] == ["The picture is 100% the same.", sentence]
    assert len(sentence) <= 80


def test_headline_of_several_tracks_mentions_the_audio_tracks_of_the_files(make_comparison, track):
    lost = media_difference("AUDIO_TRACK_COUNT", "2", "1", counts=True)
    sound = track(name="audio", differences=[], similarity_percent=100.0)
    comparison = make_comparison(media_differences=[lost], others=[sound], **SAME)
    assert text_of(comparison, 80).startswith("Picture and sound the same; the audio tracks of the files differ.\n")


def test_report_states_the_range_that_was_compared(make_comparison, film):
    old, new = film("old.mp4", 20.0), film("new.mp4", 22.5)
    assert "\ncompared picture, 00:00:00:00-00:00:20:00\n" in text_of(make_comparison(old=old, new=new), 80)
    old.media.start_timecode.hours = 10
    text = text_of(make_comparison(old=old, new=new), 80)
    assert "\ncompared picture, 10:00:00:00-10:00:20:00 of old, 00:00:00:00-00:00:20:00 of new\n" in text
    text = text_of(make_comparison(old=old, new=new), 60)
    assert "\ncompared picture, 10:00:00:00-10:00:20:00 of old,\n         00:00:00:00-00:00:20:00 of new\n" in text


def test_times_are_those_of_each_file_unless_counted_from_zero(make_comparison, film):
    old, new = film("old.mp4", 20.0), film("new.mp4", 22.5)
    old.media.start_timecode.hours, new.media.start_timecode.minutes = 10, 58
    comparison = make_comparison(old=old, new=new)
    text = text_of(comparison, 80)
    assert "1  changed       10:00:04:00-10:00:08:00  00:58:04:00-00:58:08:00  0.400\n" in text
    assert "old.mp4  00:00:20:00  24 fps  640×360  from 10:00:00:00\n" in text
    (track,) = comparison_document(comparison)["tracks"]
    assert track["time"]["differences"][0]["b"]["startTimecode"] == "00:58:04:00"
    zero = make_comparison(old=replace(old, from_zero=True), new=replace(new, from_zero=True))
    text = text_of(zero, 80)
    assert "1  changed       00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00  0.400\n" in text
    assert "from" not in text


def test_picture_track_is_named_if_there_was_a_choice(make_comparison, film):
    """Pictures that the file marks as covers are no choice."""
    old, new = film("old.mkv", 20.0), film("new.mp4", 22.5)
    for is_cover in (False, True):
        new.media.video_tracks.add(codec="h264", is_cover=is_cover)
        old.media.video_tracks.add(codec="h264")
    old.media.video_track, old.media.video_codec, old.media.width, old.media.height = 1, "h264", 640, 360
    text = text_of(make_comparison(old=old, new=new), 80)
    assert "\nPicture of old: track 1 of 0 to 1 (h264 640×360); --video-track chooses another.\n" in text
    assert "Picture of new" not in text


def test_same_file_is_called_so(make_comparison):
    comparison = make_comparison(**SAME)
    comparison.response.b.video_id = comparison.response.a.video_id
    assert text_of(comparison, 80).splitlines()[1] == "Old and new are the same file."


def test_films_without_sound_are_called_so(make_comparison, film):
    old, new = film("old.mp4", 20.0), film("new.mp4", 20.0)
    for one in (old, new):
        del one.media.audio_tracks[:]
    assert text_of(make_comparison(old=old, new=new, **SAME), 80).splitlines()[1] == "Neither film has sound."
    compared = make_comparison(old=old, new=new, name="audio", **SAME)
    assert "Neither" not in text_of(compared, 80)
