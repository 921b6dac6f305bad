import numpy as np
import pytest
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.script import ChangeKind, ChangeSide, EditKind, EditScript, Frames
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import film
from support.moving_film import MOVING, WHOLE, moving, with_noise


def edits(script: EditScript) -> list[tuple[EditKind, Frames | None, Frames | None]]:
    return [(edit.kind, edit.a, edit.b) for edit in script.edits]


@pytest.mark.parametrize(("first", "end"), [(70, 100), (84, 89), (100, 140)])
@pytest.mark.parametrize("side", [ChangeSide.A, ChangeSide.B])
def test_a_freeze_is_named_from_its_second_frame_to_where_the_film_catches_up(
    first: int, end: int, side: ChangeSide
) -> None:
    frames = np.arange(360)
    frames[first:end] = first - 1
    other = with_noise(film(MOVING, frames), 1)
    old, new = (other, WHOLE) if side is ChangeSide.A else (WHOLE, other)
    script = align(old, new, Options())
    here = Frames(first, end)
    assert edits(script) == [
        (EditKind.MATCHED, Frames(0, first), Frames(0, first)),
        (EditKind.CHANGED, here, here),
        (EditKind.MATCHED, Frames(end, 360), Frames(end, 360)),
    ]
    assert [(one.kind, one.side) for one in script.edits[1].changes] == [(ChangeKind.FROZEN, side)]


def test_a_picture_that_is_shown_longer_is_matched_where_it_is_first_shown() -> None:
    new = with_noise(film(MOVING, np.r_[0:80, np.full(25, 79), 80:360]), 2)
    assert edits(align(WHOLE, new, Options())) == [
        (EditKind.MATCHED, Frames(0, 80), Frames(0, 80)),
        (EditKind.INSERTED, None, Frames(80, 105)),
        (EditKind.MATCHED, Frames(80, 360), Frames(105, 385)),
    ]


def test_a_shot_that_stands_still_in_both_films_is_not_frozen() -> None:
    still = moving(pauses=((70, 110),))
    whole = film(still, np.arange(360))
    assert edits(align(whole, with_noise(whole, 3), Options())) == [(EditKind.MATCHED, Frames(0, 360), Frames(0, 360))]


def test_other_pictures_before_a_still_shot_continues_are_a_replacement() -> None:
    still = moving(pauses=((62, 118),))
    luma = still.luma.copy()
    luma[80:92] = still.luma[250:262]
    other = Fingerprint(luma, still.texture, still.chroma, still.frame_seconds, still.duration_seconds)
    old, new = film(still, np.arange(360)), film(other, np.arange(360))
    for script in (align(old, new, Options()), align(new, old, Options())):
        kinds = [change.kind for edit in script.edits for change in edit.changes]
        assert ChangeKind.FROZEN not in kinds


@pytest.mark.parametrize("side", [ChangeSide.A, ChangeSide.B])
def test_a_keyframe_does_not_end_a_freeze(side: ChangeSide) -> None:
    frames = np.arange(360)
    frames[70:110] = 69
    other = with_noise(film(MOVING, frames), 1)
    other.fingerprint.luma[90:110] += (np.random.default_rng(5).random((18, 32)) < 0.3).astype(np.uint8)
    old, new = (other, WHOLE) if side is ChangeSide.A else (WHOLE, other)
    here = Frames(70, 110)
    assert edits(align(old, new, Options())) == [
        (EditKind.MATCHED, Frames(0, 70), Frames(0, 70)),
        (EditKind.CHANGED, here, here),
        (EditKind.MATCHED, Frames(110, 360), Frames(110, 360)),
    ]
