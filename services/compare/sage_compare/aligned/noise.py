"""How much the same pictures differ in two films because of their encoding, estimated from the pair itself."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned.blocks import CELLS, CHROMA_CELLS, CLASSES, MOTIONS, TEXTURES, Blocks, Bytes
from sage_compare.aligned.compiled import kernel

UNIT: Final = 32
"""Scores are bytes. This is a score of 1, from which a cell counts as changed at NORMAL."""

# Deviations from the noise at which a cell counts as changed. In re-encodes at crf 34 and in MPEG-4 at 240p no cell
# came above 6 (luma), 6 (chroma) and 9 (texture); a logo with an opacity of a third has 30 and more.
_LUMA_CUT: Final = 8.0
_CHROMA_CUT: Final = 9.0
_TEXTURE_CUT: Final = 12.0
# Least deviation of the noise in stored steps, and the least change that counts at all: 4 levels of luma.
_LEAST_DEVIATION: Final = 3.0
_LEAST_CHANGE: Final = 16.0
_FEW: Final = 400
_CONVERTED: Final = 2.0
# Films put into the bars of another reach 1.6 at edges that lie across a cell.
_RESAMPLED: Final = 2.0


@dataclass(frozen=True)
class Tables:
    """Scores by class and stored difference, shape ``(CLASSES, 256)``. The difference of texture is shifted by 128."""

    luma: Bytes
    texture: Bytes
    chroma: Bytes


def score(blocks: Blocks, *, exact: bool, resampled: bool, graded: NDArray[np.bool_]) -> Bytes:
    """Return how far each cell of each block stands out from the noise, in units of 1/`UNIT`.

    Args:
        blocks: What differs.
        exact: Whether frames correspond one to one. If not, what moves differs more.
        resampled: Whether the cells of one film were computed from others. Edges between them are then off by more.
        graded: Blocks whose grade was taken out, which leaves more behind.
    """
    shape = blocks.luma.shape
    kind, luma = blocks.kind.reshape(-1, CELLS), blocks.luma.reshape(-1, CELLS)
    texture, chroma = blocks.texture.reshape(-1, CELLS), blocks.chroma.reshape(-1, CHROMA_CELLS)
    scores = np.empty(luma.shape, np.uint8)
    # What a curve leaves behind of a grade is a separate noise: pixels that were clipped, colours that mix.
    everything = np.arange(len(kind))
    for counted, scored in ((everything, np.flatnonzero(~graded)), (np.flatnonzero(graded),) * 2):
        if len(scored):
            counts = _count(kind, luma, texture, chroma, counted)
            tables = _tables(counts, exact=exact, resampled=resampled)
            _score(kind, luma, texture, chroma, tables.luma, tables.texture, tables.chroma, graded, scored, scores)
    return scores.reshape(shape)


def _tables(counts: NDArray[np.int64], *, exact: bool, resampled: bool) -> Tables:
    steps = np.arange(256, dtype=np.float64)
    tables = []
    for number, (cut, least) in enumerate(
        ((_LUMA_CUT, _LEAST_CHANGE), (_TEXTURE_CUT, _LEAST_CHANGE / 2), (_CHROMA_CUT, _LEAST_CHANGE))
    ):
        middle, deviation = _middle_and_deviation(counts[number], exact=exact, signed=number == 1)
        away = np.abs(steps - middle[:, None]) if number == 1 else steps - middle[:, None]
        floor = 1.5 if number == 1 else _LEAST_DEVIATION
        # Between two frames that are not of the same moment, single cells move much more than most.
        moving = np.where(np.arange(CLASSES) % MOTIONS > 0, 1.0 if exact else _CONVERTED, 1.0)
        z = away / (np.maximum(deviation, floor) * moving)[:, None] / cut
        z = np.minimum(z, away / least)
        if resampled:
            z /= _RESAMPLED
        tables.append(np.clip(np.floor(z * UNIT), 0, 255).astype(np.uint8))
    return Tables(*tables)


def _middle_and_deviation(
    counts: NDArray[np.int64], *, exact: bool, signed: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median of each class and how far 90% of its cells keep to it."""
    pooled = counts.sum(axis=0)
    grid = counts.reshape(TEXTURES, MOTIONS, 256)
    middle, deviation = np.empty((TEXTURES, MOTIONS)), np.empty((TEXTURES, MOTIONS))
    for t in range(TEXTURES):
        for m in range(MOTIONS):
            own = grid[t, m].astype(np.float64)
            # A class with few cells is judged with those of the same texture, then with all.
            for more in (grid[t].sum(axis=0), pooled):
                missing = max(0.0, _FEW - own.sum())
                if missing and more.sum():
                    own = own + more * (missing / max(missing, more.sum()))
            middle[t, m] = _quantile(own, 0.5)
            if signed:
                away = np.zeros(256)
                np.add.at(away, np.abs(np.arange(256) - round(middle[t, m])), own)
                deviation[t, m] = _quantile(away, 0.9)
            else:
                deviation[t, m] = _quantile(own, 0.9) - middle[t, m]
            if exact and m:
                # Where frames correspond one to one, motion adds little: more is a change that fills the class.
                deviation[t, m] = min(deviation[t, m], 1.5 * deviation[t, m - 1] + 1)
                middle[t, m] = middle[t, m - 1] + np.clip(middle[t, m] - middle[t, m - 1], -3, 3)
    return middle.ravel(), deviation.ravel()


def _quantile(counts: NDArray[np.float64], share: float) -> float:
    total = np.cumsum(counts)
    return float(np.searchsorted(total, share * total[-1]))


@kernel
def _count(
    kind: Bytes, luma: Bytes, texture: NDArray[np.int8], chroma: Bytes, blocks: NDArray[np.intp]
) -> NDArray[np.int64]:
    counts = np.zeros((3, CLASSES, 256), np.int64)
    for block in blocks:
        for cell in range(kind.shape[1]):
            own = kind[block, cell]
            counts[0, own, luma[block, cell]] += 1
            counts[1, own, np.int32(texture[block, cell]) + 128] += 1
            counts[2, own, chroma[block, _chroma_cell(cell)]] += 1
    return counts


@kernel
def _score(
    kind: Bytes,
    luma: Bytes,
    texture: NDArray[np.int8],
    chroma: Bytes,
    by_luma: Bytes,
    by_texture: Bytes,
    by_chroma: Bytes,
    graded: NDArray[np.bool_],
    blocks: NDArray[np.intp],
    scores: Bytes,
) -> None:
    for block in blocks:
        for cell in range(kind.shape[1]):
            own = kind[block, cell]
            most = max(by_luma[own, luma[block, cell]], by_texture[own, np.int32(texture[block, cell]) + 128])
            # Chroma has a curve per channel only, and colours mix.
            most = most // 2 if graded[block] else max(most, by_chroma[own, chroma[block, _chroma_cell(cell)]])
            scores[block, cell] = most


def peaks_of(scores: Bytes) -> NDArray[np.float32]:
    """Return the mean of the four highest scores of each block, as a strength."""
    peaks = np.empty(len(scores), np.float32)
    _peaks(scores.reshape(len(scores), -1), peaks)
    return peaks


@kernel
def _peaks(scores: Bytes, peaks: NDArray[np.float32]) -> None:
    for block in range(len(scores)):
        first = second = third = fourth = 0
        for value in scores[block]:
            if value > fourth:
                fourth = int(value)
                if fourth > third:
                    third, fourth = fourth, third
                if third > second:
                    second, third = third, second
                if second > first:
                    first, second = second, first
        peaks[block] = (first + second + third + fourth) / (4 * UNIT)


@kernel
def _chroma_cell(cell: int) -> int:
    return cell // 64 * 16 + cell % 32 // 2
