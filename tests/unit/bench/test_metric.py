"""The metric of `make bench-accuracy`, against figures that were computed by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accuracy.metric import box_iou, events, score
from accuracy.pool import Scored, pool
from accuracy.truth import Timeline, Truth, edits_from_api, edits_from_json, edits_to_json
from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Edit, EditKind, Frames, Region

RATE = 25.0
LOGO = Region(0.8, 0.1, 0.1, 0.2)


def timeline(frames: int) -> Timeline:
    return Timeline(Path("film.mp4"), np.arange(frames) / RATE, frames / RATE)


def matched(a: int, b: int, count: int) -> Edit:
    return Edit(EditKind.MATCHED, Frames(a, a + count), Frames(b, b + count))


def changed(a: int, b: int, count: int, kind: ChangeKind, region: Region | None = None, b_count: int = 0) -> Edit:
    frames_a, frames_b = Frames(a, a + count), Frames(b, b + (b_count or count))
    return Edit(
        EditKind.CHANGED,
        frames_a,
        frames_b,
        count / (b_count or count),
        changes=(Change(kind, frames_a, frames_b, 1.0, region=region),),
    )


def inserted(first: int, end: int) -> Edit:
    return Edit(EditKind.INSERTED, None, Frames(first, end), rate=0)


def truth(edits: list[Edit], **fields: object) -> Truth:
    old = max(e.a.end for e in edits if e.a)
    new = max(e.b.end for e in edits if e.b)
    times = np.full(new, np.nan)
    for edit in edits:
        if edit.a and edit.b and not any(c.kind is ChangeKind.REPLACED for c in edit.changes):
            share = np.arange(len(edit.b)) / len(edit.b)
            times[edit.b.first : edit.b.end] = (edit.a.first + share * len(edit.a)) / RATE
    return replace(
        Truth("pair", "class", "structural", timeline(old), timeline(new), tuple(edits), times),
        **fields,  # type: ignore[arg-type]
    )


INSERT = [matched(0, 0, 100), inserted(100, 150), matched(100, 150, 100)]
EVERYTHING = [
    matched(0, 0, 100),
    inserted(100, 150),
    changed(100, 150, 50, ChangeKind.OVERLAY, LOGO),
    Edit(EditKind.DELETED, Frames(150, 180), None, rate=0),
    changed(180, 200, 40, ChangeKind.RETIMED, b_count=20),
    matched(220, 220, 30),
    Edit(EditKind.MOVED, Frames(300, 350), Frames(250, 300)),
    matched(250, 300, 50),
]


@pytest.mark.parametrize("edits", [INSERT, EVERYTHING, [matched(0, 0, 50)]])
def test_the_truth_itself_scores_1(edits: list[Edit]) -> None:
    found = score(truth(edits), edits)
    assert (found.diff_f1, found.diff_f1_strict, found.typed_f1, found.event_f1) == (1, 1, 1, (1, 1))
    assert set(found.boundary_errors) <= {0}
    assert found.mapped[0] == found.mapped[1] > 0
    assert all(region == pytest.approx(1) for region in found.regions)
    assert found.extra_seconds == 0


def test_an_insert_that_is_missed_scores_0() -> None:
    found = score(truth(INSERT), [matched(0, 0, 200), inserted(200, 250)])
    # 100 to 150 is missed, 200 to 250 is extra: nothing is right.
    assert found.diff_f1_strict == 0
    assert found.event_f1 == (0, 0)
    # Frames 150 to 200 are mapped two seconds off, the last 50 not at all.
    assert found.mapped == (200, 100)


def test_without_a_collar_late_frames_count_and_within_it_they_do_not() -> None:
    late = [matched(0, 0, 105), inserted(105, 155), matched(105, 155, 95)]
    found = score(truth(INSERT), late)
    # 45 right, 5 extra, 5 missed.
    assert found.diff_f1_strict == pytest.approx(90 / 100)
    assert found.diff_f1 == 1
    assert found.boundary_errors == (5, 5)
    # 45 of 55 frames overlap.
    assert found.event_f1 == (1, 1)
    assert found.mapped == (200, 195)


def test_the_collar_of_a_short_edit_does_not_swallow_it() -> None:
    short = [matched(0, 0, 100), inserted(100, 101), matched(100, 101, 100)]
    missed = [matched(0, 0, 200), inserted(200, 201)]
    assert score(truth(short), missed).diff_f1 == 0


def test_a_wrong_kind_lowers_typed_f1_alone() -> None:
    replaced = [matched(0, 0, 100), changed(100, 100, 50, ChangeKind.REPLACED), matched(150, 150, 50)]
    as_black = [matched(0, 0, 100), changed(100, 100, 50, ChangeKind.BLACK), matched(150, 150, 50)]
    found = score(truth(replaced), as_black)
    assert (found.diff_f1, found.typed_f1, found.event_f1) == (1, 0, (1, 1))


def test_half_an_event_is_found_at_an_overlap_of_half_alone() -> None:
    logo = [matched(0, 0, 100), changed(100, 100, 100, ChangeKind.OVERLAY, LOGO), matched(200, 200, 50)]
    part = [matched(0, 0, 100), changed(100, 100, 60, ChangeKind.OVERLAY, LOGO), matched(160, 160, 90)]
    found = score(truth(logo), part)
    assert found.event_f1 == (1, 0)
    assert found.boundary_errors == (0, 40, 0, 40)
    # 120 of 200 frames, nothing extra.
    assert found.diff_f1_strict == pytest.approx(240 / 320)


def test_the_region_is_compared_by_overlap_and_none_is_the_whole_picture() -> None:
    logo = [changed(0, 0, 50, ChangeKind.OVERLAY, LOGO), matched(50, 50, 50)]
    shifted = [changed(0, 0, 50, ChangeKind.OVERLAY, Region(0.85, 0.1, 0.1, 0.2)), matched(50, 50, 50)]
    whole = [changed(0, 0, 50, ChangeKind.OVERLAY), matched(50, 50, 50)]
    assert score(truth(logo), shifted).regions == (pytest.approx(1 / 3),)
    assert score(truth(logo), whole).regions == (pytest.approx(0.02),)
    assert box_iou(LOGO, Region(0, 0, 0.5, 0.5)) == 0


def test_what_is_found_in_two_films_that_are_the_same_is_a_false_alarm() -> None:
    silent = truth([matched(0, 0, 1500)])
    alarm = [matched(0, 0, 100), changed(100, 100, 25, ChangeKind.GRADE), matched(125, 125, 1375)]
    found = score(silent, alarm)
    assert found.diff_f1 == 0
    assert found.extra_seconds == pytest.approx(1.0)
    assert found.minutes == pytest.approx(1.0)
    pooled = pool([Scored("pair", "class", "silent", False, found, 3.0)])
    assert pooled.false_alarm == pytest.approx(1.0)
    assert pooled.times_real_time == pytest.approx(0.05)
    assert np.isnan(pooled.typed_f1)


def test_sound_weak_tolerated_and_unscored_changes_do_not_count() -> None:
    plain = [matched(0, 0, 100)]
    sound = [changed(0, 0, 100, ChangeKind.SOUND_REPLACED)]
    grade = [changed(0, 0, 100, ChangeKind.GRADE)]
    weak = [replace(edit, changes=tuple(replace(c, weak=True) for c in edit.changes)) for edit in grade]
    assert score(truth(plain), sound).diff_f1 == 1
    assert score(truth(plain), weak).diff_f1 == 1
    assert score(truth(plain), grade).diff_f1 == 0
    assert score(truth(plain, tolerated=frozenset({ChangeKind.GRADE})), grade).diff_f1 == 1
    assert score(truth(plain, scored="structural"), grade).diff_f1 == 1
    replaced = [changed(0, 0, 100, ChangeKind.REPLACED)]
    assert score(truth(plain, scored="structural"), replaced).diff_f1 == 0


def test_a_change_that_continues_over_edits_is_one_event() -> None:
    edits = [changed(i, i, 10, ChangeKind.OVERLAY, LOGO) for i in (0, 10, 20)]
    assert [(e.a, e.b) for e in events(edits)] == [(Frames(0, 30), Frames(0, 30))]
    assert len(events([edits[0], edits[2]])) == 2


def test_the_end_of_a_slight_retime_may_be_anywhere_in_the_frames_that_it_does_not_change() -> None:
    # At 1.04, a frame is skipped after 25, so the first 25 frames are those of the plain film.
    retimed = [matched(0, 0, 100), changed(100, 100, 260, ChangeKind.RETIMED, b_count=250), matched(360, 350, 100)]
    later = [matched(0, 0, 120), changed(120, 120, 240, ChangeKind.RETIMED, b_count=230), matched(360, 350, 100)]
    assert score(truth(retimed), later).boundary_errors == (0, 0, 0, 0)
    assert score(truth(retimed), later).diff_f1 == 1


def test_classes_count_the_same_however_many_pairs_they_have() -> None:
    good, bad = score(truth(INSERT), INSERT), score(truth(INSERT), [matched(0, 0, 200), inserted(200, 250)])
    pairs = [Scored("x", "one", "g", True, good, 1.0)] * 3 + [Scored("y", "two", "g", True, bad, 1.0)]
    assert pool(pairs).diff_f1 == pytest.approx(0.5)


def test_json_returns_the_same_edits() -> None:
    assert edits_from_json(edits_to_json(EVERYTHING)) == tuple(EVERYTHING)


def test_the_answer_of_the_api_is_read_in_frames_of_the_files() -> None:
    found = edits_from_api(
        {
            "edits": [
                {"kind": "EDIT_KIND_MATCHED", "a": {"endSeconds": 4.0}, "b": {"endSeconds": 4.0}, "rate": 1},
                {
                    "kind": "EDIT_KIND_CHANGED",
                    "a": {"startSeconds": 4.0, "endSeconds": 5.0},
                    "b": {"startSeconds": 4.0, "endSeconds": 5.0},
                    "rate": 1,
                    "changes": [
                        {
                            "kind": "CHANGE_KIND_OVERLAY",
                            "a": {"startSeconds": 4.0, "endSeconds": 5.0},
                            "b": {"startSeconds": 4.0, "endSeconds": 5.0},
                            "region": {"x": 0.5, "width": 0.25, "height": 0.25},
                            "side": "CHANGE_SIDE_B",
                        }
                    ],
                },
                {"kind": "EDIT_KIND_INSERTED", "b": {"startSeconds": 5.0, "endSeconds": 5.04}},
            ]
        },
        timeline(125),
        timeline(126),
    )
    assert [(e.kind, e.a, e.b) for e in found] == [
        (EditKind.MATCHED, Frames(0, 100), Frames(0, 100)),
        (EditKind.CHANGED, Frames(100, 125), Frames(100, 125)),
        (EditKind.INSERTED, None, Frames(125, 126)),
    ]
    (change,) = found[1].changes
    assert (change.kind, change.region, change.side) == (
        ChangeKind.OVERLAY,
        Region(0.5, 0, 0.25, 0.25),
        ChangeSide.B,
    )


def test_an_insert_and_a_delete_at_the_same_place_are_a_replacement() -> None:
    replaced = [matched(0, 0, 100), changed(100, 100, 50, ChangeKind.REPLACED, b_count=30), matched(150, 130, 50)]
    in_two = [
        matched(0, 0, 100),
        Edit(EditKind.DELETED, Frames(100, 150), None, rate=0),
        inserted(100, 130),
        matched(150, 130, 50),
    ]
    for true, found in ((replaced, in_two), (in_two, replaced)):
        result = score(truth(true), found)
        assert (result.diff_f1, result.typed_f1, result.event_f1) == (1, 1, (1, 1))
