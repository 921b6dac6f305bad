"""A retimed part joins the parts beside it without a jump."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import ChangeKind, EditKind
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import black, film

FIRST, END = 90, 390


@pytest.mark.parametrize("rounding", [np.floor, np.rint])
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.96, 1.04, 1.25, 2.0])
def test_a_retimed_part_has_one_rate_and_two_ends(encodes, rate, rounding):
    good, poor = encodes
    count = round((END - FIRST) / rate)
    slow = FIRST + rounding(np.arange(count) * rate + 1e-6).astype(int)
    frames = np.concatenate([np.arange(FIRST), slow, np.arange(END, len(poor))])
    new = film(poor, frames)
    script = align(Film(good, Fraction(24)), new, Options())
    kinds = [edit.kind for edit in script.edits]
    assert kinds == [EditKind.MATCHED, EditKind.CHANGED, EditKind.MATCHED]
    before, retimed, after = script.edits
    assert [change.kind for change in retimed.changes] == [ChangeKind.RETIMED]
    assert retimed.rate == pytest.approx(rate, rel=0.02)
    assert before.b is not None
    assert after.b is not None
    # At 4%, neighbouring frames of a slow shot are told apart if they differ by a frame.
    most = max(3.0, 1.5 / abs(rate - 1.0))
    assert before.b.end == pytest.approx(FIRST, abs=most)
    assert after.b.first == pytest.approx(FIRST + count, abs=most)
    shown = np.concatenate(
        [np.arange(len(edit.b)) * edit.rate + edit.a.first for edit in script.edits if edit.a and edit.b]
    )
    assert (np.abs(shown - frames) <= max(1.5, rate)).mean() > 0.98


def test_half_speed_is_found_if_nothing_of_it_looks_like_full_speed():
    # Every frame of fast shots is unlike the next: no part matches until the speed is known.
    fast = shots(3, 12)
    frames = np.concatenate([np.arange(40), np.repeat(np.arange(40, 180), 2), np.arange(180, 360)])
    script = align(Film(fast, Fraction(24)), film(fast, frames), Options())
    assert [edit.kind for edit in script.edits] == [EditKind.MATCHED, EditKind.CHANGED, EditKind.MATCHED]
    assert script.edits[1].rate == pytest.approx(0.5, abs=0.01)


def shots(seed: int, count: int) -> Fingerprint:
    """A film of shots of 30 frames that move by a cell a frame."""
    random = np.random.default_rng(seed)
    luma = []
    for _ in range(count):
        picture = random.integers(30, 220, (18, 32 + 30)).astype(np.float64)
        picture = (picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1)) / 3
        luma += [picture[:, step : step + 32] for step in range(30)]
    plain = black(len(luma))
    return replace(plain, luma=np.array(luma).astype(np.uint8), texture=np.full_like(plain.texture, 6))
