import numpy as np
import pytest
from numpy.typing import NDArray
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.script import ChangeKind, Edit, EditKind
from support.edited_fingerprints import film
from support.moving_film import MOVING, WHOLE, with_noise

FIRST = 70


def shown(frames: int, low: float, high: float) -> NDArray[np.int64]:
    """The frames of `MOVING` in a cut that plays `frames` of them from `FIRST` on at a speed from `low` to `high`."""
    count = round(frames / ((low + high) / 2))
    time = np.arange(count) / count
    positions = (low * time + (high - low) / 2 * time**2) / ((low + high) / 2) * frames
    return np.r_[0:FIRST, FIRST + np.floor(positions + 1e-9).astype(int), FIRST + frames : 360]


def retimed(edits: tuple[Edit, ...]) -> list[Edit]:
    assert [edit.kind for edit in edits] == [
        EditKind.MATCHED,
        *[EditKind.CHANGED] * (len(edits) - 2),
        EditKind.MATCHED,
    ]
    inside = list(edits[1:-1])
    assert {tuple(change.kind for change in edit.changes) for edit in inside} == {(ChangeKind.RETIMED,)}
    return inside


def furthest(edits: tuple[Edit, ...], frames: NDArray[np.int64]) -> float:
    """How far the edits are from the frames that are shown, at worst."""
    apart = 0.0
    for edit in edits:
        assert edit.a
        assert edit.b
        at = np.arange(len(edit.b)) / len(edit.b)
        apart = max(apart, np.abs(edit.a.first + at * len(edit.a) - frames[edit.b.first : edit.b.end]).max())
    return apart


@pytest.mark.parametrize("rate", [0.5, 0.667, 0.8, 1.25, 1.5])
def test_a_retimed_stretch_is_one_edit_from_where_the_speed_changes(rate: float) -> None:
    frames = shown(100, rate, rate)
    script = align(WHOLE, with_noise(film(MOVING, frames), 1, 12), Options())
    (edit,) = retimed(script.edits)
    assert edit.b
    assert edit.rate == pytest.approx(rate, rel=0.02)
    # Until the speeds are a frame apart, nothing tells where the change is.
    late = 1 + 1 / abs(rate - 1)
    assert abs(edit.b.first - FIRST) <= late
    assert abs(edit.b.end - (len(frames) - (360 - FIRST - 100))) <= late
    assert furthest(script.edits, frames) <= 1.5


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.5), (1.6, 0.7), (1.0, 0.5)])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_ramp_is_a_chain_of_retimed_edits(low: float, high: float, swapped: bool) -> None:
    frames = shown(150, low, high)
    other = with_noise(film(MOVING, frames), 1, 12)
    script = align(other, WHOLE, Options()) if swapped else align(WHOLE, other, Options())
    inside = retimed(script.edits)
    assert len(inside) >= 2
    rates = [edit.rate for edit in inside]
    if swapped:
        rates = [1 / rate for rate in rates]
    else:
        assert furthest(script.edits, frames) <= 2
    assert rates == sorted(rates, reverse=low > high)


def test_short_cuts_are_not_another_speed() -> None:
    frames = np.r_[0:70, 76:96, 102:130, 134:170, 176:360]
    script = align(WHOLE, with_noise(film(MOVING, frames), 1, 12), Options())
    assert {edit.kind for edit in script.edits} == {EditKind.MATCHED, EditKind.DELETED}
