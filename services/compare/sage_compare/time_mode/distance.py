"""Distances between vectors, row by row.

Both metrics are derived from the squared length of the difference of two unit vectors, ``|u - v|^2 = 2 - 2 u.v``: the
Euclidean distance is its root and the cosine distance is half of it. The right side is faster to compute, but loses
digits when the two are close. Close rows therefore use the left side, which keeps all their digits and makes equal rows
exactly 0 apart.

A zero vector has no direction. Two of them are 0 apart, and a zero vector is as far from every other vector as at a
right angle: cosine distance 1, Euclidean distance the root of 2.
"""

from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from sage_compare.inputs.segments import Segments, Vectors, blocks

Distances = NDArray[np.float32]
Rows = NDArray[np.intp]

# Squared distances below this are computed from the difference itself. Above it, the float32 rounding of the product
# is less than a thousandth of the distance.
_CLOSE = 1e-3

# Squared: a right angle has cosine distance 1, half of it.
_RIGHT_ANGLE_SQUARED = 2.0
_OPPOSITE = 2.0


class Metric(Enum):
    """How the distance between two vectors is measured."""

    COSINE = auto()
    """One minus the cosine of the angle, 0 to 2."""
    EUCLIDEAN = auto()
    """Distance of the two vectors scaled to length 1, 0 to 2."""


def distances(a: Segments, b: Segments, a_rows: Rows, b_rows: Rows, *, metric: Metric) -> Distances:
    """Return the distance between row ``a_rows[i]`` of a and row ``b_rows[i]`` of b for each i.

    Args:
        a: Segments of one side.
        b: Segments of the other side, with the same dimensions.
        a_rows: Indices into a, shape ``(m,)``.
        b_rows: Indices into b, shape ``(m,)``.
        metric: What to measure.

    Returns:
        Shape ``(m,)``, each in ``[0, 2]``.
    """
    squared = _squared(a.units, b.units, a_rows, b_rows)
    _set_zero_vectors(squared, a, b, a_rows, b_rows)
    # Rounding may push opposite vectors past 2.
    if metric is Metric.EUCLIDEAN:
        return np.minimum(np.sqrt(squared, out=squared), np.float32(_OPPOSITE), out=squared)
    return np.minimum(np.multiply(squared, np.float32(0.5), out=squared), np.float32(_OPPOSITE), out=squared)


def _squared(a: Vectors, b: Vectors, a_rows: Rows, b_rows: Rows) -> Distances:
    """Return the squared lengths of the differences, computed block by block."""
    squared = np.empty(len(a_rows), np.float32)
    row_bytes = a.shape[1] * a.itemsize
    for first, last in blocks(len(a_rows), row_bytes):
        np.vecdot(_rows_of(a, a_rows[first:last]), _rows_of(b, b_rows[first:last]), out=squared[first:last])
    np.subtract(np.float32(2.0), np.multiply(squared, np.float32(2.0), out=squared), out=squared)
    close = np.flatnonzero(squared < _CLOSE)
    for first, last in blocks(len(close), row_bytes):
        rows = close[first:last]
        difference = _rows_of(a, a_rows[rows]) - _rows_of(b, b_rows[rows])
        squared[rows] = np.vecdot(difference, difference)
    return squared


def _set_zero_vectors(squared: Distances, a: Segments, b: Segments, a_rows: Rows, b_rows: Rows) -> None:
    """Set the distances of zero vectors: none between two of them, a right angle to any other vector."""
    if a.zero is None and b.zero is None:
        return
    none = np.zeros(len(squared), np.bool_)
    a_zero = none if a.zero is None else a.zero[a_rows]
    b_zero = none if b.zero is None else b.zero[b_rows]
    squared[a_zero | b_zero] = _RIGHT_ANGLE_SQUARED
    squared[a_zero & b_zero] = 0.0


def _rows_of(vectors: Vectors, rows: Rows) -> Vectors:
    """Return the rows, without a copy if they are consecutive, which they are if both sides have the same grid."""
    if (rows[1:] - rows[:-1] == 1).all():
        return vectors[rows[0] : rows[-1] + 1]
    return vectors[rows]
