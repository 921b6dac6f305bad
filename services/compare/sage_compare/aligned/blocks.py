"""Measures how two films differ along the time map, in blocks of a quarter of a second."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import CHROMA_COLUMNS, CHROMA_ROWS, COLUMNS, ROWS, Fingerprint

from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.inputs import Stretch

CELLS: Final = ROWS * COLUMNS
CHROMA_CELLS: Final = CHROMA_ROWS * CHROMA_COLUMNS
STEP: Final = 0.25
"""Differences of luma and chroma are stored in quarters of a level, of texture in halves."""

_TEXTURE_EDGES: Final = np.array([4, 8, 14, 22, 34, 52, 80], np.int64)
_MOTION_EDGES: Final = np.array([1, 2, 4, 8, 16], np.int64)
TEXTURES: Final = len(_TEXTURE_EDGES) + 1
MOTIONS: Final = len(_MOTION_EDGES) + 1
CLASSES: Final = TEXTURES * MOTIONS
"""Cells are alike if their texture and their motion are: their noise is."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Pairs:
    """The pairs of frames that belong together, in blocks that lie in one stretch each.

    Attributes:
        a: Frame numbers in a.
        b: Frame numbers in b.
        starts: First pair of each block, and the number of pairs.
        stretch: Stretch of each block.
    """

    a: NDArray[np.int32]
    b: NDArray[np.int32]
    starts: NDArray[np.int64]
    stretch: NDArray[np.int64]

    @property
    def blocks(self) -> int:
        return len(self.stretch)


@dataclass(frozen=True)
class Blocks:
    """What differs in each block and cell.

    Attributes:
        luma: Mean absolute difference of luma, shape ``(blocks, ROWS, COLUMNS)``.
        texture: Mean difference of texture, b above a, same shape, int8.
        chroma: Mean absolute difference of Cb or Cr, the larger, shape ``(blocks, CHROMA_ROWS, CHROMA_COLUMNS)``.
        kind: Class of each cell by texture and motion.
    """

    luma: Bytes
    texture: NDArray[np.int8]
    chroma: Bytes
    kind: Bytes


def pair_up(a: Fingerprint, b: Fingerprint, stretches: Sequence[Stretch]) -> Pairs:
    """Return the pairs of all stretches in blocks of about a quarter of a second of the slower film."""
    length = max(1, round(min(_rate(a), _rate(b)) / 4))
    starts, owners, at = list[NDArray[np.int64]](), list[NDArray[np.int64]](), 0
    for number, stretch in enumerate(stretches):
        count = max(1, round(len(stretch.b) / length))
        edges = at + np.arange(count) * len(stretch.b) // count
        starts.append(edges.astype(np.int64))
        owners.append(np.full(count, number, np.int64))
        at += len(stretch.b)
    empty = np.empty(0, np.int32)
    return Pairs(
        a=np.concatenate([empty, *(stretch.a for stretch in stretches)]).astype(np.int32),
        b=np.concatenate([empty, *(stretch.b for stretch in stretches)]).astype(np.int32),
        starts=np.append(np.concatenate([np.empty(0, np.int64), *starts]), at).astype(np.int64),
        stretch=np.concatenate([np.empty(0, np.int64), *owners]),
    )


def _rate(film: Fingerprint) -> float:
    return len(film) / film.duration_seconds if film.duration_seconds > 0 else 24.0


def measure(a: Fingerprint, b: Fingerprint, pairs: Pairs, curves: Bytes, curve: NDArray[np.int32]) -> Blocks:
    """Return what differs in each block.

    Args:
        a: One film.
        b: The other film.
        pairs: Their frames.
        curves: Shape ``(curves, 8, 256)``: what Y, Cb, Cr and texture of a, then those of b, are replaced by.
        curve: The curves of each block.
    """
    count = pairs.blocks
    blocks = Blocks(
        np.empty((count, ROWS, COLUMNS), np.uint8),
        np.empty((count, ROWS, COLUMNS), np.int8),
        np.empty((count, CHROMA_ROWS, CHROMA_COLUMNS), np.uint8),
        np.empty((count, ROWS, COLUMNS), np.uint8),
    )
    _measure(
        a.luma.reshape(-1, CELLS),
        b.luma.reshape(-1, CELLS),
        a.texture.reshape(-1, CELLS),
        b.texture.reshape(-1, CELLS),
        a.chroma.reshape(-1, 2, CHROMA_CELLS),
        b.chroma.reshape(-1, 2, CHROMA_CELLS),
        pairs.a,
        pairs.b,
        pairs.starts,
        curves,
        curve,
        _bins(_TEXTURE_EDGES) * MOTIONS,
        _bins(_MOTION_EDGES),
        blocks.luma.reshape(-1, CELLS),
        blocks.texture.reshape(-1, CELLS),
        blocks.chroma.reshape(-1, CHROMA_CELLS),
        blocks.kind.reshape(-1, CELLS),
    )
    return blocks


def _bins(edges: NDArray[np.int64]) -> Bytes:
    return np.searchsorted(edges, np.arange(256), side="right").astype(np.uint8)


@kernel
def _measure(
    la: Bytes,
    lb: Bytes,
    ta: Bytes,
    tb: Bytes,
    ca: Bytes,
    cb: Bytes,
    ia: NDArray[np.int32],
    ib: NDArray[np.int32],
    starts: NDArray[np.int64],
    curves: Bytes,
    curve: NDArray[np.int32],
    texture_bin: Bytes,
    motion_bin: Bytes,
    luma: Bytes,
    texture: NDArray[np.int8],
    chroma: Bytes,
    kind: Bytes,
) -> None:
    cells, half = la.shape[1], ca.shape[2]
    difference = np.empty(cells, np.int32)
    moved_a = np.empty(cells, np.int32)
    moved_b = np.empty(cells, np.int32)
    sum_ta = np.empty(cells, np.int32)
    sum_tb = np.empty(cells, np.int32)
    colour = np.empty((2, half), np.int32)
    for block in range(len(starts) - 1):
        first, end = starts[block], starts[block + 1]
        count = end - first
        difference[:] = 0
        moved_a[:] = 0
        moved_b[:] = 0
        sum_ta[:] = 0
        sum_tb[:] = 0
        colour[:] = 0
        tables = curves[curve[block]]
        plain = curve[block] == 0
        for pair in range(first, end):
            fa, fb = ia[pair], ib[pair]
            xa, xb = la[fa], lb[fb]
            # What moves differs most. Every second frame is enough to know it.
            na, nb = la[max(fa - 1, 0)], lb[max(fb - 1, 0)]
            ua, ub = ta[fa], tb[fb]
            if plain:
                for cell in range(cells):
                    difference[cell] += abs(np.int32(xa[cell]) - np.int32(xb[cell]))
            else:
                for cell in range(cells):
                    difference[cell] += abs(np.int32(tables[0, xa[cell]]) - np.int32(tables[4, xb[cell]]))
            if (pair - first) % 2 == 0:
                for cell in range(cells):
                    moved_a[cell] += abs(np.int32(xa[cell]) - np.int32(na[cell]))
                    moved_b[cell] += abs(np.int32(xb[cell]) - np.int32(nb[cell]))
            if plain:
                for cell in range(cells):
                    sum_ta[cell] += np.int32(ua[cell])
                    sum_tb[cell] += np.int32(ub[cell])
            else:
                for cell in range(cells):
                    sum_ta[cell] += np.int32(tables[3, ua[cell]])
                    sum_tb[cell] += np.int32(tables[7, ub[cell]])
            for channel in range(2):
                va, vb = ca[fa, channel], cb[fb, channel]
                if plain:
                    for cell in range(half):
                        colour[channel, cell] += abs(np.int32(va[cell]) - np.int32(vb[cell]))
                else:
                    for cell in range(half):
                        colour[channel, cell] += abs(
                            np.int32(tables[1 + channel, va[cell]]) - np.int32(tables[5 + channel, vb[cell]])
                        )
        for cell in range(cells):
            luma[block, cell] = min(255, (4 * difference[cell] + count // 2) // count)
            change = sum_tb[cell] - sum_ta[cell]
            # Rounded towards zero, so that it is the same whichever film is first.
            size = min(127, abs(change) // (2 * count))
            texture[block, cell] = size if change > 0 else -size
            level = min(sum_ta[cell], sum_tb[cell]) // count
            motion = min(255, max(moved_a[cell], moved_b[cell]) // ((count + 1) // 2))
            kind[block, cell] = texture_bin[level] + motion_bin[motion]
        for cell in range(half):
            chroma[block, cell] = min(255, (4 * max(colour[0, cell], colour[1, cell]) + count // 2) // count)
