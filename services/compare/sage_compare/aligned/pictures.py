"""The two films as the kernels compare them: small normalised pictures, and the position of each frame."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS, Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.script import Region

FIRST_CAP = 60.0
"""`Pair.cap` before the noise of the pair is known."""
FLAT_DEVIATION = 6.0
"""Deviation of luma below which a frame counts as of one colour, in part from twice that."""
STILL = 1.0
"""Mean difference of two frames that stand still, in parts of `kernels.SCALE`."""
RECODED = 4.0
"""The same of a frame that stands still and the keyframe after it, after which a film is coded independently."""
BESIDE = 3
"""Frames on both sides of such a keyframe that are the same."""

Rows = NDArray[np.int16]


@dataclass(frozen=True)
class Pictures:
    """The pictures of one film, as `kernels.normalise` makes them.

    Attributes:
        rows: Normalised luma of each frame.
        level: Mean luma of each frame.
        deviation: Deviation of luma in each frame.
    """

    rows: Rows
    level: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @property
    def flat(self) -> NDArray[np.float32]:
        """1 for frames of one colour, 0 for frames with a picture."""
        flat: NDArray[np.float32] = np.clip(np.float32(2.0) - self.deviation / np.float32(FLAT_DEVIATION), 0.0, 1.0)
        return flat


def measure_both(a: Fingerprint, b: Fingerprint, weight: NDArray[np.float32]) -> tuple[Pictures, Pictures]:
    """Return the pictures of both films. `weight` says which of the 144 cells count, 1 or 0."""
    with ThreadPoolExecutor(1) as other:
        second = other.submit(_measure, b, weight)
        return _measure(a, weight), second.result()


def _measure(fingerprint: Fingerprint, weight: NDArray[np.float32]) -> Pictures:
    frames = len(fingerprint)
    rows = np.empty((frames, kernels.CELLS), np.int16)
    level, deviation = np.empty(frames, np.float32), np.empty(frames, np.float32)
    kernels.normalise(fingerprint.luma, weight, rows, level, deviation)
    return Pictures(rows, level, deviation)


def weight_of_cells(ignored: tuple[Region, ...]) -> NDArray[np.float32]:
    """Return 1 for each of the 144 cells that no ignored region touches, else 0; all 1 if none would be left."""
    weight = np.ones((ROWS // 2, COLUMNS // 2), np.float32)
    for region in ignored:
        top, bottom = region.y * ROWS / 2, (region.y + region.height) * ROWS / 2
        left, right = region.x * COLUMNS / 2, (region.x + region.width) * COLUMNS / 2
        weight[int(top + 0.01) : int(np.ceil(bottom - 0.01)), int(left + 0.01) : int(np.ceil(right - 0.01))] = 0.0
    return weight.ravel() if weight.any() else np.ones(weight.size, np.float32)


def make_pair(
    a: Pictures,
    b: Pictures,
    weight: NDArray[np.float32],
    positions: NDArray[np.float64] | None = None,
    shown: NDArray[np.int32] | None = None,
) -> kernels.Pair:
    """Return the pair for the kernels. Without `positions`, frame ``j`` of b is at position ``j``."""
    return kernels.Pair(
        a=a.rows,
        b=b.rows,
        level_a=a.level,
        level_b=b.level,
        flat_a=a.flat,
        flat_b=b.flat,
        u=np.arange(len(b.rows), dtype=np.float64) if positions is None else positions,
        shown=np.empty(0, np.int32) if shown is None else shown,
        cap=FIRST_CAP,
        cells=float(weight.sum()),
    )


def stands_still(steps: NDArray[np.float32], limit: float = STILL) -> NDArray[np.bool_]:
    """Return which frames the next one repeats.

    Args:
        steps: How much each frame differs from the next, as from `kernels.steps`.
        limit: How much it may.
    """
    still = steps < limit
    same = np.pad(steps < STILL / 4, BESIDE)
    count = len(steps)
    recoded = steps < RECODED
    for shift in range(2 * BESIDE + 1):
        if shift != BESIDE:
            recoded &= same[shift : shift + count]
    return still | recoded


def black_frames(fingerprint: Fingerprint) -> NDArray[np.bool_]:
    """Return which frames are black: dark and of one colour."""
    frames = len(fingerprint)
    luma = fingerprint.luma.reshape(frames, -1)
    # The range of a few cells tells most frames without reading all.
    black = np.zeros(frames, np.bool_)
    maybe = np.flatnonzero(luma[:, ::37].max(1) < 40)
    cells = luma[maybe].astype(np.float32)
    black[maybe] = (cells.mean(1) < 26.0) & (cells.std(1) < 4.0)
    return black
