"""The generator of pairs: what a cutting says about its two cuts is true of where their frames come from."""

import numpy as np
import pytest
from accuracy.cutting import Cutting, Edited, Source
from accuracy.encoding import Encoded
from accuracy.looks import fade
from accuracy.truth import truth_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sage_compare.aligned.script import ChangeKind, EditKind, Frames


def film(name: str, frames: int) -> list[Source]:
    return [Source(name, i) for i in range(frames)]


@st.composite
def cuttings(draw: st.DrawFn) -> Edited:
    """Random edits of a film of 300 frames."""
    cutting = Cutting(film("old", 300))
    operations = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 40)), max_size=8))
    for operation, count in operations:
        if cutting.at + count + 30 > 300:
            break
        cutting.keep(draw(st.integers(1, 20)))
        match operation:
            case 0:
                cutting.insert(film("other", count))
            case 1:
                cutting.delete(count)
            case 2:
                cutting.replace(count, film("other", count + 3))
            case 3:
                cutting.black(count)
            case 4:
                cutting.freeze(count)
            case 5:
                cutting.retime(count + 4, draw(st.sampled_from([0.5, 0.96, 1.25, 2.0])))
            case 6:
                cutting.change(count, new=[fade(out=True)])
            case 7:
                cutting.repeat(0, count)
    if cutting.at < 300:
        cutting.keep_rest()
    return cutting.finish()


@settings(max_examples=30, deadline=None)
@given(cuttings())
def test_matched_frames_have_one_source_and_edits_tile_both_cuts(edited: Edited) -> None:
    for one in (edited, edited.swapped(), edited.swapped().swapped()):
        assert _tiles([e.a for e in one.edits if e.a], len(one.old.frames))
        assert _tiles([e.b for e in one.edits if e.b], len(one.new.frames))
        for edit in one.edits:
            if edit.kind is EditKind.MATCHED and edit.a and edit.b:
                assert one.old.frames[edit.a.first : edit.a.end] == one.new.frames[edit.b.first : edit.b.end]
                shown = one.a_of_b[edit.b.first : edit.b.end]
                assert shown.tolist() == list(range(edit.a.first, edit.a.end))


def _tiles(ranges: list[Frames], frames: int) -> bool:
    edges = sorted(ranges)
    return [r.first for r in edges] == [0, *(r.end for r in edges)][: len(edges)] and edges[-1].end == frames


@settings(max_examples=30, deadline=None)
@given(cuttings())
def test_the_mapped_frame_is_the_one_that_is_shown(edited: Edited) -> None:
    mapped = np.flatnonzero(~np.isnan(edited.a_of_b))
    for b in mapped:
        assert edited.new.frames[b] == edited.old.frames[int(edited.a_of_b[b] + 1e-9)]


def test_a_move_is_told_with_both_of_its_places() -> None:
    cutting = Cutting(film("old", 100))
    cutting.keep(20)
    cutting.skip_moved(10)
    cutting.keep(40)
    cutting.move_here(20, 10)
    cutting.keep_rest()
    (moved,) = (e for e in cutting.finish().edits if e.kind is EditKind.MOVED)
    assert (moved.a, moved.b) == (Frames(20, 30), Frames(60, 70))


def test_a_delete_stands_after_the_edit_that_it_follows_in_the_old_cut() -> None:
    cutting = Cutting(film("old", 100))
    cutting.keep(20)
    cutting.delete(30)
    cutting.insert(film("other", 5))
    cutting.keep_rest()
    kinds = [e.kind.name for e in cutting.finish().edits]
    assert kinds == ["MATCHED", "DELETED", "INSERTED", "MATCHED"]
    kinds = [e.kind.name for e in cutting.finish().swapped().edits]
    assert kinds == ["MATCHED", "DELETED", "INSERTED", "MATCHED"]


def test_a_ramp_is_a_chain_of_retimed_edits() -> None:
    cutting = Cutting(film("old", 300))
    cutting.keep(50)
    cutting.retime(150, 1.0, 2.0)
    cutting.keep_rest()
    ramp = [e for e in cutting.finish().edits if any(c.kind is ChangeKind.RETIMED for c in e.changes)]
    rates = [e.rate for e in ramp]
    assert rates == pytest.approx(sorted(rates), abs=0.1)
    assert rates[0] < 1.2 < 1.8 < rates[-1]


def test_edits_are_told_in_the_frames_of_files_of_another_rate(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cutting = Cutting(film("old", 48))
    cutting.keep(24)
    cutting.insert(film("other", 24))
    cutting.keep_rest()
    edited = cutting.finish()
    old = Encoded(tmp_path, np.arange(48), np.arange(48) / 24, 2.0)
    # 30 frames a second: every fourth frame is shown twice.
    shown = (np.arange(90) * 0.8 + 1e-6).astype(int)
    new = Encoded(tmp_path, shown, np.arange(90) / 30, 3.0)
    edits, times = truth_of("pair", edited, old, new)
    assert [(e.a, e.b) for e in edits] == [
        (Frames(0, 24), Frames(0, 30)),
        (None, Frames(30, 60)),
        (Frames(24, 48), Frames(60, 90)),
    ]
    assert np.abs(times[:30] - np.arange(30) / 30).max() < 1 / 24
