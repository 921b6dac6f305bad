"""An edit script for people: the summary, the table, the remarks, and the JSON."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2
from sage_cli.show.comparison import Comparison
from sage_cli.show.json_output import comparison_document
from sage_cli.show.script.remarks import describe_burn_in, describe_normalization
from sage_cli.show.script.report import draw_script_report
from sage_cli.show.script.summary import summarize_edits
from sage_cli.show.script.words import duration, noun_of_change, place, read_changes
from support.scripts import LOGO, PICTURE, SOUND, SUBTITLE, make_change, make_edit, make_script

CHANGED, INSERTED = compare_pb2.EDIT_KIND_CHANGED, compare_pb2.EDIT_KIND_INSERTED
MATCHED, DELETED = compare_pb2.EDIT_KIND_MATCHED, compare_pb2.EDIT_KIND_DELETED
SAME = make_script(make_edit(MATCHED, (0, 480), (0, 480)))


@pytest.fixture
def compared(film):
    """A call makes an aligned comparison of 20 with 20.8 s: scripts by the name of their track."""

    def make(*, media_differences=(), rate=24, **scripts: compare_pb2.EditScript) -> Comparison:
        old, new = film("old.mp4", 20.0, rate=rate), film("new.mp4", 500 / 24, rate=rate)
        response = compare_pb2.CompareEmbeddingsResponse(
            mode=compare_pb2.COMPARE_MODE_ALIGNED,
            metric=compare_pb2.METRIC_COSINE,
            model="local",
            a=compare_pb2.Side(embedding_id="embed_a", video_id="video_a", media=old.media),
            b=compare_pb2.Side(embedding_id="embed_b", video_id="video_b", media=new.media),
            tracks=[
                compare_pb2.TrackComparison(name=name, similarity_percent=71.2, script=script)
                for name, script in scripts.items()
            ],
            media_differences=media_differences,
        )
        return Comparison(response, old, new, clip_seconds=2.0)

    return make


def draw(comparison: Comparison, *, width: int = 80, ascii_only: bool = False) -> str:
    console = Console(width=200, file=StringIO(), highlight=False)
    console.print(draw_script_report(comparison, width=width, ascii_only=ascii_only), soft_wrap=True)
    return console.file.getvalue()


def test_report_has_a_headline_a_summary_and_a_row_per_edit(compared):
    report = draw(compared(visual=PICTURE))
    assert report.startswith(
        "The picture is 71.2% the same: 9 edits.\n"
        "1 inserted (1.5 s), 1 repeated (0.25 s), 1 deleted (0.50 s), 1 moved (1.5 s), 1\n"
        "shot replaced, a logo added bottom right at 00:00:07:12, a subtitle removed at\n"
        "00:00:11:14, the grade changes at 00:00:08:08, 1 shot black, 1 shot at 125%\n"
        "speed.\n"
    )
    assert (
        "#  what         old                      new                      length\n"
        "1  ~ replaced   00:00:02:00-00:00:04:00  00:00:02:00-00:00:04:00     2 s\n"
        "2  + inserted   -                        00:00:04:00-00:00:05:12   1.5 s\n"
        "3  - deleted    00:00:06:00-00:00:06:12  -                          12 f\n"
        "4  ~ logo       00:00:06:12-00:00:09:00  00:00:07:12-00:00:10:00   2.5 s\n"
        "     added, bottom right\n"
        "     also grade (00:00:08:08-00:00:10:00)\n"
        "5  ~ retimed    00:00:09:00-00:00:11:00  00:00:10:00-00:00:11:14   1.6 s\n"
        "     at 125% speed\n"
        "     2 s in old\n"
        "6  ~ subtitle   00:00:12:12-00:00:15:00  00:00:11:14-00:00:14:02   2.5 s\n"
        "     removed, bottom\n"
        "7  ~ black      00:00:15:00-00:00:15:12  00:00:14:02-00:00:14:14    12 f\n"
        "     in new\n"
        "8  > moved      00:00:11:00-00:00:12:12  00:00:14:14-00:00:16:02   1.5 s\n"
        "9  + inserted   -                        00:00:18:20-00:00:19:02     6 f\n"
        "     repeats 00:00:00:00-00:00:00:06 of old\n"
    ) in report
    assert max(map(len, report.splitlines())) <= 80


def test_wide_terminal_has_the_details_in_the_row(compared):
    assert (
        "4  ~ logo       00:00:06:12-00:00:09:00  00:00:07:12-00:00:10:00   2.5 s  "
        "added, bottom right; also grade (00:00:08:08-00:00:10:00)\n"
    ) in draw(compared(visual=PICTURE), width=140)


@pytest.mark.parametrize("width", [44, 60])
def test_narrow_report_fits(compared, width):
    comparison = compared(visual=PICTURE)
    report = draw(comparison, width=width)
    assert "4  ~ logo  2.5 s\n     added, bottom right\n" in report
    assert "     old 00:00:06:12-00:00:09:00\n     new 00:00:07:12-00:00:10:00\n" in report
    assert max(map(len, report.splitlines())) <= width


def test_ascii_report_is_ascii(compared):
    assert draw(compared(visual=PICTURE, audio=SOUND), ascii_only=True).isascii()


def test_films_without_differences(compared):
    comparison = compared(visual=SAME)
    assert not comparison.differ
    report = draw(comparison)
    assert report.startswith("No differences: the picture is the same.\n\nold ")
    assert "what" not in report


def test_audio_tracks_that_differ_are_named_beside_a_picture_that_does_not(compared):
    lost = compare_pb2.MediaDifference(
        kind=compare_pb2.MEDIA_DIFFERENCE_KIND_AUDIO_TRACK_COUNT, a="1", b="0", counts_as_difference=True
    )
    report = draw(compared(visual=SAME, media_differences=[lost]))
    assert report.startswith("The picture is the same; the audio tracks of the files differ.\n")


def test_sound_is_said_in_words_and_its_cuts_are_not_repeated(compared):
    report = draw(compared(visual=PICTURE, audio=SOUND))
    assert report.startswith(
        "The picture is 71.2% the same: 9 edits; the sound has 4 others.\n1 inserted (1.5 s), 1 repeated"
    )
    for words in (
        "the sound is dubbed from 00:00:00:00 to 00:00:01:00, ",
        "the sound is shifted by +80 ms from 00:00:01:00 to 00:00:02:00, ",
        "the sound is 6 dB louder from 00:00:16:02 to 00:00:17:06, ",
        "the sound is missing in new from 00:00:19:02 to 00:00:20:20.",
    ):
        assert words in " ".join(report.split())
    rows = report[report.index("\nsound\n") :]
    assert rows.count("inserted") == rows.count("deleted") == 1, "only in the legend"
    for words in ("1  ~ dubbed ", "2  ~ shifted ", "by +80 ms", "6 dB louder", "4  ~ silent ", "in new"):
        assert words in rows
    alone = draw(compared(audio=SOUND))
    assert alone.startswith("The sound is 71.2% the same: 8 edits.\n")
    assert "+ inserted   - " in alone


def test_sound_that_is_cut_like_the_picture_is_told_once(compared):
    """A shot that is replaced with its sound is one edit; a dub beside it is another."""
    cuts = make_script(
        make_edit(MATCHED, (0, 96), (0, 96)),
        make_edit(INSERTED, None, (96, 132)),
        make_edit(CHANGED, (96, 144), (132, 180), make_change(compare_pb2.CHANGE_KIND_REPLACED)),
        make_edit(MATCHED, (144, 480), (180, 500)),
    )
    dub = make_change(compare_pb2.CHANGE_KIND_SOUND_REPLACED)
    sound = make_script(*cuts.edits[:2], make_edit(CHANGED, (100, 150), (136, 186), dub), cuts.edits[3])
    report = draw(compared(visual=cuts, audio=sound))
    assert report.startswith(
        "The picture is 71.2% the same: 2 edits; the sound has no others.\n1 inserted (1.5 s), 1 shot replaced.\n"
    )
    assert "replaced   00:00:04:00-00:00:06:00  00:00:05:12-00:00:07:12     2 s\n     with its sound\n" in report
    for absent in ("\nsound\n", "snd", "dubbed"):
        assert absent not in report
    elsewhere = make_script(
        *cuts.edits[:2], make_edit(MATCHED, (96, 144), (132, 180)), make_edit(CHANGED, (144, 480), (180, 500), dub)
    )
    report = draw(compared(visual=cuts, audio=elsewhere))
    assert "; the sound has 1 other.\n" in report
    assert "1  ~ dubbed     00:00:06:00-00:00:20:00" in report


def test_sound_of_a_moved_shot_may_differ(compared):
    moved = make_edit(compare_pb2.EDIT_KIND_MOVED, (0, 48), (48, 96))
    louder = make_edit(moved.kind, (0, 48), (48, 96), make_change(compare_pb2.CHANGE_KIND_SOUND_LEVEL, amount=6.0))
    report = draw(compared(visual=make_script(moved), audio=make_script(louder)))
    assert "1 moved (2 s), the sound is 6 dB louder from 00:00:02:00 to 00:00:04:00.\n" in " ".join(report.split(" "))
    assert "with level 6 dB louder" in report


def test_difference_of_the_sound_alone_is_a_difference(compared):
    sound = make_script(make_edit(CHANGED, (0, 480), (0, 480), make_change(compare_pb2.CHANGE_KIND_SOUND_REPLACED)))
    comparison = compared(visual=SAME, audio=sound)
    assert comparison.differ
    report = draw(comparison)
    assert report.startswith("The picture is the same; the sound is 71.2% the same: 1 edit.\nThe sound is dubbed ")
    assert [track["name"] for track in comparison_document(comparison)["tracks"]] == ["visual", "audio"]
    assert draw(compared(visual=SAME, audio=SAME)).startswith("No differences: picture and sound are the same.\n")


def test_list_of_hundreds_of_edits_is_aligned_and_summarized(compared):
    edits = []
    for number in range(200):
        at = 2 * number
        edits.append(make_edit(MATCHED, (at, at + 2), (at + number, at + number + 2)))
        edits.append(make_edit(INSERTED, None, (at + number + 2, at + number + 3)))
    report = draw(compared(visual=make_script(*edits)))
    assert "200 inserted (8.3 s).\n" in report
    assert "\n  1  + inserted " in report
    assert "\n200  + inserted " in report


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([(CHANGED, "GRADE", (0, 24)), (CHANGED, "GRADE", (48, 72))], "The grade changes in 2 shots."),
        ([(CHANGED, "GRADE", (0, 500))], "The grade changes throughout."),
        ([(CHANGED, "CROP", (0, 300))], "The framing changes from 00:00:00:00."),
        ([(CHANGED, "MIRRORED", (0, 24)), (CHANGED, "FROZEN", (48, 72))], "1 shot mirrored, 1 freeze."),
        ([(CHANGED, "FADE", (0, 24)), (CHANGED, "FADE", (48, 72))], "2 fades."),
        ([(CHANGED, "RETIMED", (0, 24)), (CHANGED, "RETIMED", (48, 72))], "2 shots retimed."),
    ],
)
def test_summary_counts_shots_and_says_when(compared, changes, sentence):
    edits = [
        make_edit(kind, span, span, make_change(compare_pb2.ChangeKind.Value(f"CHANGE_KIND_{name}")))
        for kind, name, span in changes
    ]
    assert summarize_edits(edits, compared(visual=SAME).new) == sentence


def test_summary_puts_alike_additions_together(compared):
    logo, text = compare_pb2.CHANGE_KIND_OVERLAY, compare_pb2.CHANGE_KIND_TEXT
    added = compare_pb2.CHANGE_SIDE_B

    def edit(number: int, kind: int, region) -> compare_pb2.Edit:
        span = (48 * number, 48 * number + 24)
        return make_edit(CHANGED, span, span, make_change(kind, region=region, side=added))

    new = compared(visual=SAME).new
    edits = [edit(1, logo, LOGO), edit(2, text, SUBTITLE), edit(3, logo, LOGO), edit(4, text, SUBTITLE)]
    assert summarize_edits(edits, new) == ("A logo added bottom right in 2 places from 00:00:02:00, 2 subtitles added.")
    many = [edit(number, logo, (0.1 * number, 0.1 * number, 0.3, 0.3)) for number in range(7)]
    assert summarize_edits(many, new) == "7 overlays added, changed or removed."


def test_weak_changes_are_not_told(compared):
    weak = make_change(compare_pb2.CHANGE_KIND_GRADE, (0, 480), weak=True)
    report = draw(compared(visual=make_script(make_edit(MATCHED, (0, 480), (0, 480), weak))))
    assert report.startswith("No differences")


def test_kinds_of_a_newer_server_count_as_changes(compared):
    script = make_script(
        make_edit(77, (0, 240), (0, 240)), make_edit(CHANGED, (240, 480), (240, 500), make_change(88, (240, 260)))
    )
    comparison = compared(visual=script)
    report = draw(comparison)
    assert comparison.differ
    assert "2 edits" in report
    assert "1  ~ changed " in report
    assert "2  ~ changed " in report


@pytest.mark.parametrize(
    ("region", "where"),
    [
        (LOGO, "bottom right"),
        (SUBTITLE, "bottom"),
        ((0.05, 0.04, 0.2, 0.06), "top left"),
        ((0.4, 0.4, 0.2, 0.2), "centre"),
        ((0.0, 0.2, 0.2, 0.7), "left"),
        ((0.0, 0.0, 1.0, 1.0), ""),
        ((0.9, 0.4, 0.1, 0.1), "right"),
    ],
)
def test_part_of_the_picture_has_a_name(region, where):
    x, y, width, height = region
    assert place(compare_pb2.Region(x=x, y=y, width=width, height=height)) == where


def test_overlay_is_a_logo_only_if_it_is_small_and_in_a_corner():
    def noun(kind: int, region) -> str:
        return noun_of_change(make_change(kind, region=region))

    overlay, text = compare_pb2.CHANGE_KIND_OVERLAY, compare_pb2.CHANGE_KIND_TEXT
    assert noun(overlay, LOGO) == "logo"
    assert noun(overlay, (0.45, 0.45, 0.1, 0.1)) == "overlay"
    assert noun(overlay, (0.6, 0.6, 0.4, 0.4)) == "overlay"
    assert noun(overlay, None) == "overlay"
    assert noun(text, SUBTITLE) == "subtitle"
    assert noun(text, (0.2, 0.1, 0.6, 0.1)) == "title"


def test_every_change_of_the_contract_has_a_noun_that_fits():
    for name, kind in compare_pb2.ChangeKind.items():
        if kind != compare_pb2.CHANGE_KIND_UNSPECIFIED:
            edit = make_edit(CHANGED, (0, 24), (0, 24), make_change(kind, amount=1.0))
            (change,) = read_changes(edit)
            assert change.noun != "changed", name
            assert len(change.noun) <= 9, name


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0417, "0.04 s"), (2.0, "2 s"), (9.97, "10 s"), (12.4, "12 s"), (59.8, "1:00"), (90, "1:30")],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("kind", "a", "b", "sentence"),
    [
        ("BLACK_BARS", "letterbox", "none", "Letterbox in old: ignored."),
        ("BLACK_BARS", "letterbox", "pillarbox", "Letterbox in old, pillarbox in new: ignored."),
        (
            "FRAME_RATE_CONFORMED",
            "25",
            "24",
            "25 fps in old against 24 fps in new: conformed, the frames are the same.",
        ),
        (
            "FRAME_RATE_CONVERTED",
            "24",
            "30",
            "24 fps in old against 30 fps in new: converted, repeated and dropped frames are ignored.",
        ),
        ("TONE", "PQ", "SDR", "HDR (PQ) in old against SDR in new: the tone curve is ignored."),
        ("LOUDNESS", "0", "-6", "New is 6 dB softer throughout: ignored."),
        ("LOUDNESS", "", "loud", "Loudness loud throughout: ignored."),
        ("END_FRAMES", "1", "0", "1 frame more at the ends of old: ignored."),
        ("END_FRAMES", "1", "2", "1 frame more at the ends of old and 2 frames more at the ends of new: ignored."),
        ("UNSPECIFIED", "x", "y", "x in old against y in new: ignored."),
    ],
)
def test_normalization_is_a_remark(kind, a, b, sentence):
    value = compare_pb2.NormalizationKind.Value(f"NORMALIZATION_KIND_{kind}")
    assert describe_normalization(compare_pb2.Normalization(kind=value, a=a, b=b)) == sentence


def test_black_bars_that_were_taken_out_are_told_once(compared):
    bars = compare_pb2.MediaDifference(
        kind=compare_pb2.MEDIA_DIFFERENCE_KIND_BLACK_BARS, a="letterbox 2.39:1", b="none"
    )
    taken_out = compare_pb2.Normalization(kind=compare_pb2.NORMALIZATION_KIND_BLACK_BARS, a="letterbox", b="none")
    script = make_script(*SAME.edits, normalizations=[taken_out])
    report = draw(compared(visual=script, audio=script, media_differences=[bars]))
    assert report.count("Letterbox in old: ignored.") == 1
    assert "Black bars" not in report
    unexplained = draw(compared(visual=SAME, media_differences=[bars]))
    assert "Black bars: letterbox 2.39:1 in old, none in new.\n" in unexplained


@pytest.mark.parametrize(
    ("side", "sentence"),
    [
        (
            compare_pb2.CHANGE_SIDE_B,
            "at the top left of new differs in 97% of the frames: --ignore-region new:5%,4%,21%,7%",
        ),
        (
            compare_pb2.CHANGE_SIDE_A,
            "at the top left of old differs in 97% of the frames: --ignore-region old:5%,4%,21%,7%",
        ),
        (0, "at the top left of both films differs in 97% of the frames: --ignore-region 5%,4%,21%,7%"),
    ],
)
def test_burn_in_is_offered_to_be_ignored(side, sentence):
    """The percents are whole and lie around it."""
    region = compare_pb2.Region(x=0.055, y=0.041, width=0.2, height=0.06)
    assert describe_burn_in(compare_pb2.BurnIn(side=side, region=region, frame_share=0.97)) == (
        f"A burn-in {sentence} hides it."
    )


def test_conformed_frame_rate_is_not_told_of_every_edit(compared):
    """At 25 against 24 frames a second each edit is 4% longer in one film."""
    rate = 25 / 24
    change = make_change(compare_pb2.CHANGE_KIND_REPLACED)
    matched = make_edit(MATCHED, (0, 250), (0, 240), rate=rate)
    script = make_script(matched, make_edit(CHANGED, (250, 500), (240, 480), change, rate=rate))
    assert "in old\n" not in draw(compared(visual=script))


def test_times_start_at_the_timecode_of_the_file_and_are_clock_times_without_frame_rate(compared):
    comparison = compared(visual=PICTURE)
    new = media_pb2.Media.FromString(comparison.new.media.SerializeToString())
    new.start_timecode.hours = 10
    report = draw(replace(comparison, new=replace(comparison.new, media=new)))
    assert "00:00:02:00-00:00:04:00  10:00:02:00-10:00:04:00" in report
    assert "bottom right at 10:00:07:12" in report
    report = draw(compared(visual=PICTURE, rate=None))
    assert "00:00:02.000-00:00:04.000" in report
    assert " 0.50 s\n" in report


def test_json_has_frames_seconds_timecodes_and_the_same_keys_everywhere(compared):
    document = comparison_document(compared(visual=PICTURE))
    assert document["differ"] is True
    (track,) = document["tracks"]
    assert "time" not in track
    edits = track["script"]["edits"]
    assert len({tuple(edit) for edit in edits}) == 1
    assert len({tuple(sorted(change)) for edit in edits for change in edit["changes"]}) == 1
    logo = edits[5]
    assert logo["kind"] == "EDIT_KIND_CHANGED"
    assert logo["b"] == {
        "firstFrame": "180",
        "endFrame": "240",
        "startSeconds": 7.5,
        "endSeconds": 10.0,
        "startTimecode": "00:00:07:12",
        "endTimecode": "00:00:10:00",
    }
    change, grade = logo["changes"]
    assert change["kind"] == "CHANGE_KIND_OVERLAY"
    assert change["region"] == {"x": 0.85, "y": 0.83, "width": 0.11, "height": 0.1}
    assert grade["region"] is None
    assert grade["b"]["startTimecode"] == "00:00:08:08"
    assert edits[2]["a"] is None
    assert edits[11]["repeats"]["endTimecode"] == "00:00:00:06"
    assert track["script"]["minStrength"] == 3.0
    assert track["script"]["noise"]["p99"] == 1.6
    assert track["script"]["burnIns"] == track["script"]["normalizations"] == []
    assert comparison_document(compared(visual=SAME))["differ"] is False
