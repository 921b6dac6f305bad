"""Recognises that one film shows a part of the other's picture."""

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS, Fingerprint

from sage_compare.aligned.regions import Map

_SIZES: Final = tuple(float(size) for size in np.linspace(0.98, 0.66, 9))
_PLACES: Final = 5
# A crop must explain this much of the difference, in most of the frames that are looked at.
_LEFT: Final = 0.6
_FRAMES: Final = 5


def is_cropped(a: Fingerprint, b: Fingerprint, frames_a: NDArray[np.int32], frames_b: NDArray[np.int32]) -> bool:
    """Return whether the frames of one film are parts of those of the other, enlarged.

    The part may move from frame to frame.
    """
    chosen = np.unique(np.linspace(0, len(frames_a) - 1, _FRAMES).round().astype(int))
    votes = 0
    for index in chosen:
        one, other = _flat(a.luma[frames_a[index]]), _flat(b.luma[frames_b[index]])
        plain = float(np.abs(one - other).mean())
        votes += min(_best(one, other), _best(other, one)) < _LEFT * plain
    return votes * 2 > len(chosen)


def _flat(luma: NDArray[np.uint8]) -> Map:
    values = luma.astype(np.float32)
    flat: Map = (values - values.mean()) / (values.std() + np.float32(9))
    return flat


@njit(cache=True, nogil=True)
def _best(whole, part):  # type: ignore[no-untyped-def] # numba infers the types
    """Return the least difference between a part and any part of the whole, after two refinements."""
    least, size, x, y = np.inf, 0.0, 0.0, 0.0
    for tried in _SIZES:
        for across in range(_PLACES):
            for down in range(_PLACES):
                left, top = across * (1 - tried) / (_PLACES - 1), down * (1 - tried) / (_PLACES - 1)
                found = _distance(whole, part, tried, left, top)
                if found < least:
                    least, size, x, y = found, tried, left, top
    for step in (0.02, 0.01):
        size_0, x_0, y_0 = size, x, y
        for move in range(27):
            tried = size_0 + step * (move // 9 - 1)
            left, top = x_0 + step * (move // 3 % 3 - 1), y_0 + step * (move % 3 - 1)
            if 0.5 < tried < 1 and 0 <= left <= 1 - tried and 0 <= top <= 1 - tried:
                found = _distance(whole, part, tried, left, top)
                if found < least:
                    least, size, x, y = found, tried, left, top
    return least


@njit(cache=True, nogil=True)
def _distance(whole, part, size, x, y):  # type: ignore[no-untyped-def] # numba infers the types
    """Return the mean difference between a part and the rectangle of the whole that is enlarged to it."""
    total = 0.0
    for row in range(ROWS):
        at_y = min(max((y + size * (row + 0.5) / ROWS) * ROWS - 0.5, 0.0), ROWS - 1.001)
        top = int(at_y)
        down = at_y - top
        for column in range(COLUMNS):
            at_x = min(max((x + size * (column + 0.5) / COLUMNS) * COLUMNS - 0.5, 0.0), COLUMNS - 1.001)
            left = int(at_x)
            across = at_x - left
            upper = whole[top, left] * (1 - across) + whole[top, left + 1] * across
            lower = whole[top + 1, left] * (1 - across) + whole[top + 1, left + 1] * across
            total += abs(upper * (1 - down) + lower * down - part[row, column])
    return total / (ROWS * COLUMNS)
