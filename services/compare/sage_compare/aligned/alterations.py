"""What may have been done to a stretch of pictures, and how much they differ if it was."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import crops, kernels
from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.grade import fit
from sage_compare.aligned.pictures import FLAT_DEVIATION
from sage_compare.aligned.script import ChangeKind, ChangeSide, Region

LEAST_CROP: Final = 6
"""Frames of the shortest stretch that is tested for a crop."""
STILL: Final = 0.75
"""Mean difference of luma between frames of a still shot, in which any frame that is held explains all."""
STILL_FRAMES: Final = 8
"""Frames between the two: animation on twos and slow motion stand still for less."""
PLAIN: Final = 2.0
"""A frame with less deviation of luma than this is of one colour."""
MOST_GAIN: Final = 3.0
"""Most that another grade may scale the contrast by."""
UNCOVERED: Final = 0.6
"""Share of the picture that something over it leaves as it was."""

Costs = NDArray[np.float64]
Pictures = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Alteration:
    """What may have been done, and the pictures of both films that are the same then."""

    kind: ChangeKind | None
    a: Pictures
    b: Pictures
    compared: Mask
    side: ChangeSide | None = None
    region: Region | None = None


def is_still(pictures: Pictures) -> Mask:
    """Return which pictures are the same for a while before or after them."""
    still = np.zeros(len(pictures), np.bool_)
    if len(pictures) > STILL_FRAMES:
        same = np.abs(pictures[STILL_FRAMES:] - pictures[:-STILL_FRAMES]).mean((1, 2)) < STILL
        still[STILL_FRAMES:] |= same
        still[:-STILL_FRAMES] |= same
    return still


def is_plain(pictures: NDArray[np.uint8] | Pictures) -> Mask:
    """Return which pictures are of one colour."""
    plain: Mask = pictures.std(axis=(1, 2)) < PLAIN
    return plain


def alterations(a: Pictures, b: Pictures, inside: slice, compared: Mask) -> list[Alteration]:
    """Return what may have been done."""
    found = [
        Alteration(ChangeKind.MIRRORED, a[:, :, ::-1], b, compared & compared[:, ::-1]),
        Alteration(ChangeKind.NEGATIVE, 255 - a, b, compared),
        Alteration(None, a, b, compared),
    ]
    graded = _graded(a, b, inside)
    if graded is not None:
        found.append(Alteration(None, graded, b, compared))
    count = inside.stop - inside.start
    crop = crops.find_crop(a[inside], b[inside]) if count >= LEAST_CROP else None
    if crop:
        at = (np.arange(len(a)) - inside.start) / (count - 1)
        part = crops.shown(a if crop.side is ChangeSide.B else b, crop.path, at)
        of_a, of_b = (part, b) if crop.side is ChangeSide.B else (a, part)
        found.append(Alteration(ChangeKind.CROP, of_a, of_b, compared, crop.side, crop.region))
    return found


def _graded(a: Pictures, b: Pictures, inside: slice) -> Pictures | None:
    """Return pictures of a with brightness and contrast of b; `None` if that does not explain the difference."""
    step = max(1, (inside.stop - inside.start) // 16)
    chosen = slice(inside.start, inside.stop, step)
    gain, offset, before, after = fit(_pooled(a[chosen]).ravel(), _pooled(b[chosen]).ravel())
    if after > 0.5 * before or not 1 / MOST_GAIN < gain < MOST_GAIN:
        return None
    graded: Pictures = np.float32(gain) * a + np.float32(offset)
    return graded


def cap_of(a: Pictures, b: Pictures, compared: Mask, limits: tuple[float, float]) -> float:
    """Return `Pair.cap` for altered pictures: five times the difference that 10% of the cells exceed."""
    apart = np.abs(_rows(a, compared)[0] - _rows(b, compared)[0])[:, compared]
    return float(np.clip(5 * np.percentile(apart, 90), *limits))


def alike(a: Pictures, b: Pictures, compared: Mask) -> Mask:
    """Return the cells of each picture that differ least: those that something over it does not cover."""
    apart = np.where(compared, np.abs(_pooled(a) - _pooled(b)), np.inf).reshape(len(a), -1)
    count = max(1, round(UNCOVERED * compared.sum()))
    cells = np.zeros(apart.shape, np.bool_)
    np.put_along_axis(cells, np.argsort(apart, axis=1, kind="stable")[:, :count], values=True, axis=1)
    return cells.reshape(-1, 9, 16)


def costs_of(a: Pictures, b: Pictures, compared: Mask, cap: float) -> Costs:
    """Return how much pictures differ in the cells that are compared, on the scale of `kernels.pair_cost`."""
    (rows_a, level_a, flat_a), (rows_b, level_b, flat_b) = _rows(a, compared), _rows(b, compared)
    cells = np.broadcast_to(compared, rows_a.shape).sum((1, 2))
    apart = np.minimum(np.abs(rows_a - rows_b), cap).sum((1, 2)) / (cap * np.maximum(cells, 1))
    costs: Costs = np.minimum(apart + flat_a * flat_b * np.minimum(np.abs(level_a - level_b) / 48, 1), 1.0)
    return costs


def _rows(pictures: Pictures, compared: Mask) -> tuple[Pictures, Pictures, Pictures]:
    """Return normalised cells of luma, the mean luma, and whether they are of one colour, from the compared cells."""
    cells = _pooled(pictures)
    rows = np.zeros_like(cells)
    level, deviation = np.empty(len(cells), np.float32), np.empty(len(cells), np.float32)
    _normalise(cells, np.broadcast_to(compared, cells.shape), rows, level, deviation)
    return rows, level, np.clip(2 - deviation / np.float32(FLAT_DEVIATION), 0, 1)


def _pooled(pictures: Pictures) -> Pictures:
    pooled = np.empty((len(pictures), 9, 16), np.float32)
    _pool(pictures, pooled)
    return pooled


@kernel
def _pool(pictures: Pictures, pooled: Pictures) -> None:
    """Take the mean of four cells each."""
    for number in range(len(pictures)):
        for y in range(9):
            for x in range(16):
                upper = pictures[number, 2 * y, 2 * x] + pictures[number, 2 * y, 2 * x + 1]
                lower = pictures[number, 2 * y + 1, 2 * x] + pictures[number, 2 * y + 1, 2 * x + 1]
                pooled[number, y, x] = (upper + lower) * np.float32(0.25)


@kernel
def _normalise(cells: Pictures, compared: Mask, rows: Pictures, level: Pictures, deviation: Pictures) -> None:
    """Scale the compared cells of each picture as `kernels.normalise` does."""
    for number in range(len(cells)):
        count, total = 0, 0.0
        for y in range(9):
            for x in range(16):
                if compared[number, y, x]:
                    total += cells[number, y, x]
                    count += 1
        count = max(count, 1)
        mean, square = total / count, 0.0
        for y in range(9):
            for x in range(16):
                if compared[number, y, x]:
                    square += (cells[number, y, x] - mean) ** 2
        spread = np.sqrt(square / count)
        for y in range(9):
            for x in range(16):
                if compared[number, y, x]:
                    rows[number, y, x] = (cells[number, y, x] - mean) * (kernels.SCALE / (spread + 9.0))
        level[number] = mean
        deviation[number] = spread
