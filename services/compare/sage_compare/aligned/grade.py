"""Finds where brightness, contrast or colour of the whole picture changed, and removes the change."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned.blocks import CELLS, CHROMA_CELLS, Bytes, Pairs
from sage_compare.aligned.compiled import kernel

CHANNELS: Final = 4
"""Y, Cb, Cr and texture, each of which a curve maps."""

LEVELS_OF_STRENGTH_1: Final = 4.0
"""Half of the picture must differ by this many levels to be reported at NORMAL. Matrices and ranges differ by 2."""

# Least share of `LEVELS_OF_STRENGTH_1` from which a grade is taken out.
_LEAST: Final = 0.4
# Blocks that may show no grade within a graded range: they are too dark or too flat.
_GAP: Final = 2
_SAMPLES: Final = 400
# Deviation of luma below which a block is of one colour.
_PLAIN: Final = 2.0


@dataclass(frozen=True)
class Graded:
    """A range of blocks with another grade.

    Attributes:
        first: First block.
        end: Block after the last one.
        strength: How strong it is.
        fades: Whether it ramps, so that no one curve describes it.
    """

    first: int
    end: int
    strength: float
    fades: bool


def find_grades(a: Fingerprint, b: Fingerprint, pairs: Pairs) -> list[Graded]:
    """Return where the grade differs, in order of time."""
    fits = np.zeros((pairs.blocks, 5), np.float32)
    _fit_blocks(
        a.luma.reshape(-1, CELLS),
        b.luma.reshape(-1, CELLS),
        a.chroma.reshape(-1, 2, CHROMA_CELLS),
        b.chroma.reshape(-1, 2, CHROMA_CELLS),
        pairs.a,
        pairs.b,
        pairs.starts,
        fits,
    )
    strength = fits[:, 0] / np.float32(LEVELS_OF_STRENGTH_1)
    graded = np.flatnonzero(strength >= _LEAST)
    runs = list[Graded]()
    if not len(graded):
        return runs
    # No grade shows in black.
    seen = np.cumsum(fits[:, 4] >= _PLAIN)
    apart = (np.diff(seen[graded]) > _GAP + 1) | (np.diff(pairs.stretch[graded]) != 0)
    for own in np.split(graded, np.flatnonzero(apart) + 1):
        first, end = int(own[0]), int(own[-1]) + 1
        size = float(np.quantile(strength[own], 0.75))
        if len(own) >= 2 or size >= 1:
            runs.append(Graded(first, end, size, _ramps(fits[own])))
    return runs


def _ramps(fits: NDArray[np.float32]) -> bool:
    """Return whether gain or offset runs from one end to the other, as in a fade."""
    if len(fits) < 3:
        return False
    gains, offsets = np.log(np.maximum(fits[:, 1], 1e-3)), fits[:, 2]
    for values, least in ((gains, 0.6), (offsets, 40.0)):
        way = float(np.abs(np.diff(values)).sum())
        straight = abs(float(values[-1] - values[0]))
        if straight >= least and straight >= 0.8 * way and min(abs(values[0]), abs(values[-1])) < straight / 2:
            return True
    return False


def curves_of(a: Fingerprint, b: Fingerprint, pairs: Pairs, grades: list[Graded]) -> tuple[Bytes, NDArray[np.int32]]:
    """Return curves that map both films to the mean of the two, and which curves each block has; 0 changes nothing."""
    curves = [np.tile(np.arange(256, dtype=np.uint8), (2 * CHANNELS, 1))]
    curve = np.zeros(pairs.blocks, np.int32)
    for grade in grades:
        curve[grade.first : grade.end] = len(curves)
        first, end = int(pairs.starts[grade.first]), int(pairs.starts[grade.end])
        chosen = np.arange(first, end, max(1, (end - first) // _SAMPLES))
        fa, fb = pairs.a[chosen], pairs.b[chosen]
        values = (
            (a.luma[fa], b.luma[fb]),
            (a.chroma[fa, 0], b.chroma[fb, 0]),
            (a.chroma[fa, 1], b.chroma[fb, 1]),
            (a.texture[fa], b.texture[fb]),
        )
        both = [towards_middle(of_a, of_b) for of_a, of_b in values]
        curves.append(np.stack([one for one, _ in both] + [other for _, other in both]))
    return np.stack(curves), curve


def towards_middle(a: Bytes, b: Bytes) -> tuple[Bytes, Bytes]:
    """Return the curves that give a and b the same distribution of values: the mean of the two."""
    counts = [np.bincount(values.ravel(), minlength=256).astype(np.float64) for values in (a, b)]
    ranks = [(np.cumsum(count) - count / 2) / count.sum() for count in counts]
    seen = [np.flatnonzero(count) for count in counts]
    tables = []
    for own, other in ((0, 1), (1, 0)):
        steps = np.arange(256, dtype=np.float64)
        # Values that this film never has keep the distance of the nearest one that it has.
        moved = np.interp(ranks[own][seen[own]], ranks[other][seen[other]], seen[other].astype(np.float64))
        shift = np.interp(steps, seen[own], moved - seen[own])
        tables.append(np.clip(np.floor(steps + shift / 2 + 0.5), 0, 255).astype(np.uint8))
    return tables[0], tables[1]


@kernel
def _fit_blocks(
    la: Bytes,
    lb: Bytes,
    ca: Bytes,
    cb: Bytes,
    ia: NDArray[np.int32],
    ib: NDArray[np.int32],
    starts: NDArray[np.int64],
    fits: NDArray[np.float32],
) -> None:
    """Fit b = gain * a + offset to each block.

    Fills in levels of change, gain and offset of luma, levels that remain, and the deviation of luma.
    """
    cells, half = la.shape[1], ca.shape[2]
    xa, xb = np.empty(cells, np.float32), np.empty(cells, np.float32)
    for block in range(len(starts) - 1):
        first, end = starts[block], starts[block + 1]
        fits[block, 1] = 1
        for channel in range(3):
            size = cells if channel == 0 else half
            xa[:] = 0
            xb[:] = 0
            for pair in range(first, end, 2):
                if channel == 0:
                    ua, ub = la[ia[pair]], lb[ib[pair]]
                else:
                    ua, ub = ca[ia[pair], channel - 1], cb[ib[pair], channel - 1]
                for cell in range(size):
                    xa[cell] += ua[cell]
                    xb[cell] += ub[cell]
            total_a = total_b = np.float32(0)
            for cell in range(size):
                xa[cell] /= (end - first + 1) // 2
                xb[cell] /= (end - first + 1) // 2
                total_a += xa[cell]
                total_b += xb[cell]
            total_a /= size
            total_b /= size
            square_a = square_b = np.float32(0)
            for cell in range(size):
                square_a += (xa[cell] - total_a) ** 2
                square_b += (xb[cell] - total_b) ** 2
            deviation_a, deviation_b = np.sqrt(square_a / size), np.sqrt(square_b / size)
            if channel == 0:
                fits[block, 4] = max(deviation_a, deviation_b)
            if abs(total_a - total_b) < 1 and abs(deviation_a - deviation_b) < 1:
                continue
            gain, offset, before, after = fit(xa[:size], xb[:size])
            if before >= 1.25 and after <= 0.5 * before and before > fits[block, 0]:
                fits[block, 0] = before
                fits[block, 3] = after
            if channel == 0 and before >= 1.25 and after <= 0.5 * before:
                fits[block, 1] = gain
                fits[block, 2] = offset


@kernel
def fit(xa: NDArray[np.float32], xb: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Fit by reduced major axes, which is the same both ways, without the cells that keep away from the line."""
    away = np.abs(xa - xb)
    before = np.median(away)
    inside = np.ones(len(xa), np.bool_)
    gain, offset, after = 1.0, 0.0, before
    for _ in range(5):
        count = 0
        mean_a = mean_b = 0.0
        for cell in range(len(xa)):
            if inside[cell]:
                mean_a += xa[cell]
                mean_b += xb[cell]
                count += 1
        mean_a /= count
        mean_b /= count
        square_a = square_b = 0.0
        for cell in range(len(xa)):
            if inside[cell]:
                square_a += (xa[cell] - mean_a) ** 2
                square_b += (xb[cell] - mean_b) ** 2
        # Flat pictures have no gain.
        gain = np.sqrt((square_b / count + 1) / (square_a / count + 1))
        offset = mean_b - gain * mean_a
        root = np.sqrt(gain)
        for cell in range(len(xa)):
            away[cell] = abs(xb[cell] - gain * xa[cell] - offset) / root
        after = np.median(away)
        for cell in range(len(xa)):
            inside[cell] = away[cell] <= 2.5 * after + 0.5
    # Judged on the scale of the darker or flatter film, a fade would explain everything.
    return gain, offset, before, after * max(root, 1 / root) if after > 0 else after
