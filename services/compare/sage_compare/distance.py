"""Distances between vectors, row by row.

Both metrics rest on one kernel, the squared length of the difference of two unit vectors:
``|u - v|^2 = 2 - 2 u.v``. So the Euclidean distance is its root and the cosine distance is its half. The right side is
the faster one, and loses digits where the two are close. There the left side is computed, so that close rows have all
their digits and equal rows are exactly 0 apart.

A zero vector has no direction. Two of them are 0 apart, and a zero vector is at the distance of a right angle from
every other: 1 by cosine, the root of 2 by Euclid.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sage_compare.model import Clips, Distances, Metric, Rows, Vectors

_Floating = TypeVar("_Floating", np.float32, np.float64)

# Rows that do not follow each other are copied; a block of them should stay in a core's second-level cache (1 MiB and
# more on today's servers) between being written and being read again.
_BLOCK_BYTES = 512 * 1024

# Squared distances below it are computed from the difference itself. Above it, rounding of the product in float32 is
# less than a thousandth of the distance.
_CLOSE = 1e-3

# Halves of squared distances: a right angle has cosine distance 1.
_RIGHT_ANGLE_SQUARED = 2.0
_OPPOSITE = 2.0


def to_clips(starts: ArrayLike, ends: ArrayLike, vectors: Vectors) -> Clips:
    """Return clips that can be compared, their vectors scaled to length 1.

    Lengths are computed in float64, where no float32 vector overflows or vanishes.

    Args:
        starts: Where each clip starts, in seconds, shape ``(n,)``.
        ends: Where each clip ends, in seconds, shape ``(n,)``.
        vectors: Shape ``(n, dimensions)``. Not changed.

    Raises:
        ValueError: Shapes do not go together, a clip does not end after it starts, clips are not in the order of
            time from 0, or a number is not finite.
    """
    starts, ends = np.asarray(starts, np.float64), np.asarray(ends, np.float64)
    if vectors.ndim != 2 or not starts.shape == ends.shape == (len(vectors),):
        raise ValueError(f"{starts.shape} starts, {ends.shape} ends and {vectors.shape} vectors do not go together")
    if not (np.isfinite(starts).all() and np.isfinite(ends).all() and (ends > starts).all()):
        raise ValueError("every clip must start and end at a finite time, and end after it starts")
    if (starts < 0.0).any() or (starts[1:] <= starts[:-1]).any():
        raise ValueError("clips must start at 0 or later and be in the order of time")
    units = np.empty(vectors.shape, np.float32)
    zero = np.zeros(len(vectors), np.bool_)
    for first, last in _blocks(len(vectors), vectors.shape[1] * 8):
        block = vectors[first:last].astype(np.float64)
        lengths = np.sqrt(np.vecdot(block, block))
        if not np.isfinite(lengths).all():
            raise ValueError("every number of a vector must be finite")
        zero[first:last] = lengths == 0.0
        lengths[lengths == 0.0] = 1.0
        block /= lengths[:, np.newaxis]
        units[first:last] = block
    return Clips(starts, ends, units, zero if zero.any() else None)


def distances(a: Clips, b: Clips, a_rows: Rows, b_rows: Rows, *, metric: Metric) -> Distances:
    """Return the distance of row ``a_rows[i]`` of a and row ``b_rows[i]`` of b for each i.

    Args:
        a: The clips of the one, of the same dimensions as those of the other.
        b: The clips of the other.
        a_rows: Indices into a, shape ``(m,)``.
        b_rows: Indices into b, shape ``(m,)``.
        metric: What to measure.

    Returns:
        Shape ``(m,)``, each in ``[0, 2]``.
    """
    squared = _squared(a.units, b.units, a_rows, b_rows)
    _mark_zero(squared, a, b, a_rows, b_rows)
    # Rounding may carry opposite vectors past 2.
    if metric is Metric.EUCLIDEAN:
        return np.minimum(np.sqrt(squared, out=squared), np.float32(_OPPOSITE), out=squared)
    return np.minimum(np.multiply(squared, np.float32(0.5), out=squared), np.float32(_OPPOSITE), out=squared)


def _squared(a: Vectors, b: Vectors, a_rows: Rows, b_rows: Rows) -> Distances:
    """Return the squared lengths of the differences, computed block by block."""
    squared = np.empty(len(a_rows), np.float32)
    row_bytes = a.shape[1] * a.itemsize
    for first, last in _blocks(len(a_rows), row_bytes):
        np.vecdot(_take(a, a_rows[first:last]), _take(b, b_rows[first:last]), out=squared[first:last])
    np.subtract(np.float32(2.0), np.multiply(squared, np.float32(2.0), out=squared), out=squared)
    close = np.flatnonzero(squared < _CLOSE)
    for first, last in _blocks(len(close), row_bytes):
        rows = close[first:last]
        difference = _take(a, a_rows[rows]) - _take(b, b_rows[rows])
        squared[rows] = np.vecdot(difference, difference)
    return squared


def _mark_zero(squared: Distances, a: Clips, b: Clips, a_rows: Rows, b_rows: Rows) -> None:
    """Put the distance where a vector is zero: none between two of them, a right angle to any other."""
    if a.zero is None and b.zero is None:
        return
    none = np.zeros(len(squared), np.bool_)
    a_zero = none if a.zero is None else a.zero[a_rows]
    b_zero = none if b.zero is None else b.zero[b_rows]
    squared[a_zero | b_zero] = _RIGHT_ANGLE_SQUARED
    squared[a_zero & b_zero] = 0.0


def _take(vectors: NDArray[_Floating], rows: Rows) -> NDArray[_Floating]:
    """Return the rows, without copying where they follow each other, as they do where both have the same grid."""
    if (rows[1:] - rows[:-1] == 1).all():
        return vectors[rows[0] : rows[-1] + 1]
    return vectors[rows]


def _blocks(count: int, row_bytes: int) -> list[tuple[int, int]]:
    """Return ``[first, last)`` of each block of rows that fits the cache."""
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    return [(first, min(first + step, count)) for first in range(0, count, step)]
