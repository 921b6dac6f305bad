"""Groups the cells that differ into things that lie somewhere for some time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS

from sage_compare.aligned.blocks import Bytes
from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.noise import UNIT

# Cells that are this far apart belong together: letters have gaps between them.
_REACH_X: Final = 2
_REACH_Y: Final = 1
# Blocks that one thing may be invisible for: what lies under it may have its colour.
_GAP: Final = 4
# Letters that two texts have in common: cells between the rest of their line.
_COMMON: Final = 6


@dataclass(frozen=True)
class Component:
    """Cells that differ.

    Attributes:
        first: First block.
        end: Block after the last one.
        counts: In how many blocks each cell differs, shape ``(ROWS, COLUMNS)``.
        strength: How far it stands out: the mean of its four highest scores.
    """

    first: int
    end: int
    counts: NDArray[np.int32]
    strength: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in cells, around the cells that often differ."""
        often = self.often
        rows, columns = np.flatnonzero(often.any(axis=1)), np.flatnonzero(often.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def often(self) -> NDArray[np.bool_]:
        """Cells that differ for a quarter as long as the one that differs longest."""
        often: NDArray[np.bool_] = self.counts * 4 >= self.counts.max()
        return often


def components(scores: Bytes, stretch: NDArray[np.int64], least: float) -> list[Component]:
    """Return what differs, in order of time.

    Args:
        scores: Score of each cell of each block.
        stretch: Stretch of each block; nothing reaches from one to another.
        least: Least strength.
    """
    flat = scores.reshape(len(scores), -1)
    grow = max(1, round(UNIT * 0.45 * min(1.0, least)))
    blocks, cells = np.nonzero(flat >= grow)
    if not len(blocks):
        return []
    values = flat[blocks, cells]
    roots = _label(blocks, cells, stretch, len(scores))
    _, labels = np.unique(roots, return_inverse=True)
    found = _collect(blocks, cells, values, labels, least * 0.5)
    joined = _joined(found, stretch)
    return [one for one in joined if one.strength >= least]


def _collect(
    blocks: NDArray[np.intp], cells: NDArray[np.intp], values: Bytes, labels: NDArray[np.intp], least: float
) -> list[Component]:
    count = int(labels.max()) + 1
    peak = np.zeros(count, np.uint8)
    np.maximum.at(peak, labels, values)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(count + 1))
    found = []
    for label in np.flatnonzero(peak >= least * UNIT):
        own = order[edges[label] : edges[label + 1]]
        counts = np.bincount(cells[own], minlength=ROWS * COLUMNS).astype(np.int32).reshape(ROWS, COLUMNS)
        found.append(Component(int(blocks[own[0]]), int(blocks[own[-1]]) + 1, counts, _strength(values[own])))
    return sorted(found, key=lambda one: (one.first, one.end))


def _strength(values: Bytes) -> float:
    highest = np.sort(values)[-4:].astype(np.int64)
    return float(highest.sum()) / 4 / UNIT


def _joined(found: list[Component], stretch: NDArray[np.int64]) -> list[Component]:
    """Return components of which those that overlap in the picture and almost meet in time are one."""
    joined = list[Component]()
    for one in found:
        while True:
            partner = next((k for k, other in enumerate(joined) if _belong(other, one, stretch)), None)
            if partner is None:
                break
            one = merged([one, joined.pop(partner)])
        joined.append(one)
    return sorted(joined, key=lambda one: (one.first, one.end))


def merged(parts: Sequence[Component]) -> Component:
    """Return several components as one."""
    return Component(
        min(one.first for one in parts),
        max(one.end for one in parts),
        np.sum([one.counts for one in parts], axis=0, dtype=np.int32),
        max(one.strength for one in parts),
    )


def _belong(one: Component, other: Component, stretch: NDArray[np.int64]) -> bool:
    if stretch[one.first] != stretch[other.first]:
        return False
    gap = max(one.first, other.first) - min(one.end, other.end)
    if gap > _GAP:
        return False
    a, b = one.box, other.box
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if gap > -min(one.end - one.first, other.end - other.first) / 2:
        # One after the other: the same place.
        least = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
        most = max((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
        return width > 0 and height > 0 and width * height * 2 >= least and least * 3 >= most
    # At the same time: beside each other in one line.
    together = max(abs(one.first - other.first), abs(one.end - other.end)) <= 1
    reach = _COMMON if together else _REACH_X + 1
    return width > -reach and height > 0 and height * 2 >= min(a[3] - a[1], b[3] - b[1])


@kernel
def _label(
    blocks: NDArray[np.intp], cells: NDArray[np.intp], stretch: NDArray[np.int64], count: int
) -> NDArray[np.intp]:
    """Return the root of each cell: one number for cells that are connected in space and time."""
    parent = np.arange(len(blocks))
    here = np.full((ROWS, COLUMNS), -1, np.int64)
    before = np.full((ROWS, COLUMNS), -1, np.int64)
    at = 0
    for block in range(count):
        if block and stretch[block] != stretch[block - 1]:
            before[:] = -1
        start = at
        while at < len(blocks) and blocks[at] == block:
            row, column = cells[at] // COLUMNS, cells[at] % COLUMNS
            here[row, column] = at
            for y in range(max(0, row - _REACH_Y), row + 1):
                for x in range(max(0, column - _REACH_X), min(COLUMNS, column + _REACH_X + 1)):
                    if here[y, x] >= 0:
                        _union(parent, at, here[y, x])
            for y in range(max(0, row - 1), min(ROWS, row + 2)):
                for x in range(max(0, column - 1), min(COLUMNS, column + 2)):
                    if before[y, x] >= 0:
                        _union(parent, at, before[y, x])
            at += 1
        before[:] = -1
        for index in range(start, at):
            before[cells[index] // COLUMNS, cells[index] % COLUMNS] = index
            here[cells[index] // COLUMNS, cells[index] % COLUMNS] = -1
    for index in range(len(parent)):
        parent[index] = _root(parent, index)
    return parent


@kernel
def _root(parent: NDArray[np.intp], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index


@kernel
def _union(parent: NDArray[np.intp], one: int, other: int) -> None:
    one, other = _root(parent, one), _root(parent, other)
    if one < other:
        parent[other] = one
    elif other < one:
        parent[one] = other
