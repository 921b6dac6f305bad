"""A retimed part joins the parts beside it without a jump."""

from fractions import Fraction

import numpy as np
import pytest
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import ChangeKind, EditKind
from support.edited_fingerprints import film

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
