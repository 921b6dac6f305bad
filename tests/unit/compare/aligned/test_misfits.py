"""A camera that does not move: what passes tells the moments apart."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.script import EditKind, EditScript, Frames
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import black, film

COUNT = 300


def watched(noise: int) -> Fingerprint:
    """Return a still view. Something of three by two cells crosses it in the first 100 frames, another in the last."""
    random = np.random.default_rng(3)
    luma = np.repeat(random.integers(50, 180, (1, 18, 32)).astype(np.float32), COUNT, 0)
    for frame in (*range(100), *range(200, 300)):
        # A third of a cell a frame; what covers a part of a cell changes it in part.
        left = frame % 100 * 0.29
        rows = slice(12, 14) if frame < 100 else slice(5, 7)
        for column in range(32):
            share = max(0.0, min(left + 3, column + 1) - max(left, column))
            luma[frame, rows, column] += (230 - luma[frame, rows, column]) * share
    luma += np.random.default_rng(noise).normal(0, 0.7, luma.shape)
    plain = black(COUNT)
    texture = np.full(luma.shape, 8, np.uint8)
    return Fingerprint(
        np.clip(luma, 0, 255).astype(np.uint8), texture, plain.chroma, plain.frame_seconds, plain.duration_seconds
    )


def compared(old: NDArray[np.int64], new: NDArray[np.int64]) -> EditScript:
    return align(film(watched(1), old), film(watched(2), new), Options())


def matched(script: EditScript) -> list[tuple[Frames | None, Frames | None]]:
    assert {edit.kind for edit in script.edits} <= {
        EditKind.MATCHED,
        EditKind.INSERTED,
        EditKind.DELETED,
        EditKind.CHANGED,
    }
    return [(edit.a, edit.b) for edit in script.edits if edit.kind is EditKind.MATCHED]


def spans(*ranges: tuple[int, int]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(first, end) for first, end in ranges])


@pytest.mark.parametrize("swapped", [False, True], ids=["in-b", "in-a"])
def test_frames_between_an_insertion_and_a_cut_belong_to_their_moment(swapped: bool) -> None:
    """What was put in is the same view at another time: 16 frames are there 30 later, and a cut follows them."""
    old, new = spans((0, 200)), spans((0, 40), (230, 260), (40, 56), (80, 200))
    ranges = [
        (Frames(0, 40), Frames(0, 40)),
        (Frames(40, 56), Frames(70, 86)),
        (Frames(80, 200), Frames(86, 206)),
    ]
    if swapped:
        assert matched(compared(new, old)) == [(b, a) for a, b in ranges]
    else:
        assert matched(compared(old, new)) == ranges


def test_as_much_put_in_as_left_out_is_not_one_match() -> None:
    old, new = spans((0, 200)), spans((0, 20), (45, 80), (250, 275), (80, 200))
    assert matched(compared(old, new)) == [
        (Frames(0, 20), Frames(0, 20)),
        (Frames(45, 80), Frames(20, 55)),
        (Frames(80, 200), Frames(80, 200)),
    ]


def test_another_moment_is_no_repeat() -> None:
    script = compared(spans((0, 150)), spans((0, 30), (240, 280), (30, 150)))
    inserted = [edit for edit in script.edits if edit.kind is EditKind.INSERTED]
    assert [(edit.b, edit.repeats) for edit in inserted] == [(Frames(30, 70), None)]
