"""The part of a picture that another picture shows."""

import itertools

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned.script import Region

ROWS, COLUMNS = 9, 16
"""Grid on which the pictures are compared."""
FRAMES = 2
"""Frames that are compared."""
LIKE = 0.86
"""Correlation from which the part is found."""
SMALLEST = 0.4
"""Smallest width and height of the part."""

Pictures = NDArray[np.float32]


def find_crop(whole: Pictures, part: Pictures, plain: float) -> Region | None:
    """Return the part of `whole` that `part` shows, with the same shape as the picture.

    Args:
        whole: Frames of luma, shape ``(frames, 18, 32)``.
        part: The frames of the other film.
        plain: Correlation of the frames as they are.
    """
    numbers = np.unique(np.linspace(0, len(whole) - 1, FRAMES).round().astype(int))
    whole, part = whole[numbers], part[numbers]
    target = _standard(part.reshape(-1, 9, 2, 16, 2).mean((2, 4)))
    best = (plain, 1.0, 0.0, 0.0)
    for size in np.linspace(0.94, SMALLEST, 14):
        places = np.linspace(0.0, 1.0 - size, max(round((1.0 - size) * 20), 1) + 1)
        best = max(best, _best_place(whole, target, float(size), places, places))
    step = 1 / 48
    while step > 1 / 200:
        _, size, x, y = best
        for dsize, dx, dy in itertools.product((-step, 0.0, step), repeat=3):
            if SMALLEST <= size + dsize <= 1.0 and x + dx >= 0.0 and y + dy >= 0.0:
                inside = x + dx + size + dsize <= 1.0 and y + dy + size + dsize <= 1.0
                if inside:
                    tried = _best_place(whole, target, size + dsize, np.array([x + dx]), np.array([y + dy]))
                    best = max(best, tried)
        step /= 2
    alike, size, x, y = best
    if alike < LIKE or alike < plain + 0.1 or size > 0.985:
        return None
    return Region(x, y, size, size)


def _best_place(
    whole: Pictures, target: Pictures, size: float, xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Return the best correlation over places of a part of one size, and the size and place."""
    across = np.stack([_weights(32, COLUMNS, x, size) for x in xs])
    down = np.stack([_weights(18, ROWS, y, size) for y in ys])
    shown = np.einsum("fij,xcj->fxic", whole, across, optimize=True)
    shown = np.einsum("fxic,yri->fxyrc", shown, down, optimize=True)
    flat = shown.reshape(*shown.shape[:3], -1)
    flat = flat - flat.mean(-1, keepdims=True)
    flat /= np.sqrt((flat * flat).sum(-1, keepdims=True)) + 1.0
    alike = np.median(np.einsum("fxyk,fk->fxy", flat, target), axis=0)
    x, y = np.unravel_index(int(np.argmax(alike)), alike.shape)
    return float(alike[x, y]), size, float(xs[x]), float(ys[y])


def _standard(pictures: Pictures) -> Pictures:
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(1, keepdims=True)
    scaled: Pictures = flat / (np.sqrt((flat * flat).sum(1, keepdims=True)) + 1.0)
    return scaled


def _weights(cells: int, parts: int, start: float, size: float) -> NDArray[np.float32]:
    """Return how much each cell covers each part of ``[start, start + size)``, shape ``(parts, cells)``."""
    edges = (start + size * np.arange(parts + 1) / parts) * cells
    low, high = edges[:-1, None], edges[1:, None]
    cell = np.arange(cells)[None, :]
    covered = np.clip(np.minimum(high, cell + 1) - np.maximum(low, cell), 0.0, 1.0)
    weights: NDArray[np.float32] = (covered / covered.sum(1, keepdims=True)).astype(np.float32)
    return weights
