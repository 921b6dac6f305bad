"""Measures one change: its first and last frame, its box inside the cells, and what it looks like in both films."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS, Fingerprint

from sage_compare.aligned.blocks import Bytes, Pairs
from sage_compare.aligned.script import Region

_SAMPLES: Final = 48
# A cell belongs to a change if it differs by this share of the change's own size.
_PART: Final = 0.12
# Frames for which a change is faint, and the levels that it stands out by then. Encoders show a trace in fewer frames.
_FAINT: Final = 3
_LEAST_STEP: Final = 0.8

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sight:
    """Both films and how they correspond.

    Attributes:
        a: One film.
        b: The other film.
        pairs: Frames that belong together.
        curves: Curves that take grades out.
        curve: The curves of each block.
    """

    a: Fingerprint
    b: Fingerprint
    pairs: Pairs
    curves: Bytes
    curve: NDArray[np.int32]

    def differences(self, chosen: NDArray[np.int64]) -> tuple[Map, Map, Map, Map, Map]:
        """Return the luma of a and b, the absolute difference of chroma, and the texture of a and b, for some pairs."""
        block = np.searchsorted(self.pairs.starts, chosen, side="right") - 1
        tables = self.curves[self.curve[block]]
        fa, fb = self.pairs.a[chosen], self.pairs.b[chosen]

        def through(values: Bytes, table: int) -> Map:
            flat = values.reshape(len(values), -1)
            return np.take_along_axis(tables[:, table], flat, axis=1).reshape(values.shape).astype(np.float32)

        chroma = np.maximum(
            np.abs(through(self.b.chroma[fb, 0], 5) - through(self.a.chroma[fa, 0], 1)),
            np.abs(through(self.b.chroma[fb, 1], 6) - through(self.a.chroma[fa, 1], 2)),
        )
        wide = np.repeat(np.repeat(chroma, ROWS // chroma.shape[1], 1), COLUMNS // chroma.shape[2], 2)
        return (
            through(self.a.luma[fa], 0),
            through(self.b.luma[fb], 4),
            wide,
            through(self.a.texture[fa], 3),
            through(self.b.texture[fb], 7),
        )

    def amounts(self, chosen: NDArray[np.int64]) -> Map:
        """Return how much each cell differs, for some pairs."""
        luma_a, luma_b, chroma, texture_a, texture_b = self.differences(chosen)
        amount: Map = np.abs(luma_b - luma_a) + chroma + np.abs(texture_b - texture_a) / 2
        return amount


@dataclass(frozen=True)
class Look:
    """What a change looks like, means over its frames of each cell.

    Attributes:
        luma: b minus a.
        size: Absolute difference of luma.
        chroma: Absolute difference of chroma.
        power: Absolute difference of the squared texture, which grows with the share of a cell that changed.
        texture_a: Texture of a.
        texture_b: Texture of b.
        pictures_a: Luma of some frames of a, shape ``(frames, ROWS, COLUMNS)``.
        pictures_b: Luma of the same frames of b.
    """

    luma: Map
    size: Map
    chroma: Map
    power: Map
    texture_a: Map
    texture_b: Map
    pictures_a: Map
    pictures_b: Map


def sample(sight: Sight, first: int, end: int) -> Look:
    """Return what the pairs ``[first, end)`` look like."""
    chosen = np.unique(np.linspace(first, end - 1, min(end - first, _SAMPLES)).round().astype(np.int64))
    luma_a, luma_b, chroma, texture_a, texture_b = sight.differences(chosen)
    luma = luma_b - luma_a
    return Look(
        luma.mean(axis=0),
        np.abs(luma).mean(axis=0),
        chroma.mean(axis=0),
        np.abs(texture_b**2 - texture_a**2).mean(axis=0),
        texture_a.mean(axis=0),
        texture_b.mean(axis=0),
        luma_a,
        luma_b,
    )


def ends(sight: Sight, cells: Mask, first: int, end: int, low: int, high: int, reach: int) -> tuple[int, int]:
    """Return the pairs from the first to behind the last one that a change covers.

    The start is where the difference *steps* (least squares). A threshold would be late: an encoder renders the first
    frames after a change badly.

    Args:
        sight: Both films.
        cells: Cells that differ.
        first: First pair of the blocks that differ.
        end: Pair after the last one.
        low: First pair of the stretch.
        high: Pair after the last one of the stretch.
        reach: Pairs by which the ends of blocks may be off.
    """
    if end - first <= 2 * reach:
        return _burst(sight, cells, max(low, first - reach), min(high, end + reach))
    middle = (first + end) // 2
    start_low, start_high = max(low, first - reach), max(min(middle, first + 2 * reach), first + 1)
    stop_low, stop_high = min(max(middle, end - 2 * reach), end - 1), min(high, end + reach)
    inside = np.arange(first, end)[:: max(1, (end - first) // _SAMPLES)]
    typical = float(np.median(_signal(sight, cells, inside)))
    start = start_low + _first(_signal(sight, cells, np.arange(start_low, start_high)), typical)
    stop = stop_high - _first(_signal(sight, cells, np.arange(stop_low, stop_high))[::-1], typical)
    return (start, stop) if stop > start else (first, end)


def _burst(sight: Sight, cells: Mask, low: int, high: int) -> tuple[int, int]:
    """Return the pairs of a change that may be shorter than a block."""
    signal = _signal(sight, cells, np.arange(low, high))
    least = (float(np.quantile(signal, 0.25)) + float(signal.max())) / 2
    above = np.flatnonzero(signal >= least)
    return low + int(above[0]), low + int(above[-1]) + 1


def ramp_ends(sight: Sight, first: int, end: int, low: int, high: int, reach: int) -> tuple[int, int]:
    """Return the pairs from the first to behind the last one that a change of the whole picture covers, which may ramp.

    Args:
        sight: Both films.
        first: First pair of the blocks that differ.
        end: Pair after the last one.
        low: First pair of the stretch.
        high: Pair after the last one of the stretch.
        reach: Pairs by which the ends of blocks may be off.
    """
    cells = np.ones((ROWS, COLUMNS), np.bool_)
    inside = _signal(sight, cells, np.arange(first, end)[:: max(1, (end - first) // _SAMPLES)])
    found = []
    for edge, limit, way in ((first, low, -1), (end - 1, high - 1, 1)):
        outer = np.arange(
            edge, (max(limit, edge - 4 * reach) - 1) if way < 0 else min(limit, edge + 4 * reach) + 1, way
        )
        inner = np.arange(edge, (min(end, edge + 2 * reach)) if way < 0 else max(first - 1, edge - 2 * reach), -way)
        signal = _signal(sight, cells, np.concatenate([outer[::-1], inner[1:]]))
        ground = float(np.quantile(signal[: max(1, len(outer) // 2)], 0.5)) if len(outer) > reach else 0.0
        limit_level = ground + max(0.6, 0.06 * (float(np.median(inside)) - ground))
        quiet = np.flatnonzero(signal <= limit_level)
        order = np.concatenate([outer[::-1], inner[1:]])
        found.append(int(order[min(len(order) - 1, quiet[-1] + 1)]) if len(quiet) else int(order[0]))
    return (found[0], found[1] + 1) if found[1] >= found[0] else (first, end)


def _signal(sight: Sight, cells: Mask, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    signal: NDArray[np.float64] = sight.amounts(chosen)[:, cells].mean(axis=1, dtype=np.float64)
    return signal


def _first(signal: NDArray[np.float64], typical: float) -> int:
    """Return the number of values before a change, which may be faint at first: the picture under it hides it."""
    step = _step(signal, typical)
    for at in range(1, step - _FAINT + 1):
        before, after = signal[:at], signal[at:step]
        least = max(_LEAST_STEP, 0.05 * typical, 4 * float(before.std()))
        if after.min() - before.max() >= least:
            return at
    return step


def _step(signal: NDArray[np.float64], typical: float) -> int:
    """Return the number of values before a step up; 0 if there is none."""
    signal = np.minimum(signal, typical)
    best, least = 0, float(((signal - signal.mean()) ** 2).sum())
    if signal.mean() >= 0.9 * typical or len(signal) < 2:
        return 0
    # A change that is there from the first value on has no step.
    whole = float(((signal - typical) ** 2).sum())
    least = min(least, whole)
    for at in range(1, len(signal)):
        before, after = signal[:at], signal[at:]
        if after.mean() <= before.mean() or before.mean() > 0.8 * typical:
            continue
        left = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
        if left < least:
            best, least = at, left
    return best


def box_of(look: Look, cells: Mask) -> tuple[Region, Mask]:
    """Return the box of a change, with its edges inside cells, and the cells in it.

    A cell at the edge that is covered by half differs half as much as its neighbour inside.

    Args:
        look: What it looks like.
        cells: Cells that differ.
    """
    amount = _coverage(look, cells)
    member = (amount >= _PART) & grown(cells)
    if not member.any():
        member = cells
    rows, columns = np.flatnonzero(member.any(axis=1)), np.flatnonzero(member.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    within = amount[top:bottom, left:right] * member[top:bottom, left:right]
    x0, x1 = _edges(within.sum(axis=0), left)
    y0, y1 = _edges(within.sum(axis=1), top)
    region = Region(float(x0 / COLUMNS), float(y0 / ROWS), float((x1 - x0) / COLUMNS), float((y1 - y0) / ROWS))
    return region, member


def _coverage(look: Look, cells: Mask) -> Map:
    """Return about what share of each cell changed."""
    shares, weights = list[Map](), list[float]()
    for values, root in ((look.size, False), (look.power, True), (look.chroma, False)):
        ground = float(np.median(values[~cells])) if not cells.all() else 0.0
        above = np.maximum(values - ground, 0)
        inside = max(float(np.quantile(above[cells], 0.85)), 1e-3)
        shares.append(np.minimum(above / inside, 1))
        weights.append(np.sqrt(inside) / 2 if root else inside)
    # Cells of chroma are twice as wide and high, so they count only if hardly anything else changed.
    if weights[2] < 3 * (weights[0] + weights[1]):
        weights[2] = 0.0
    coverage: Map = np.average(np.stack(shares), axis=0, weights=weights).astype(np.float32)
    return coverage


def _edges(profile: NDArray[np.float32], offset: int) -> tuple[float, float]:
    """Return where a profile begins and ends, in cells."""
    if len(profile) == 1:
        return float(offset), float(offset + 1)
    covered = []
    for edge in (profile, profile[::-1]):
        inner = float(np.median(edge[1:4])) if len(edge) > 4 else float(edge[1:].max())
        covered.append(min(1.0, max(0.1, float(edge[0]) / max(inner, 1e-6))))
    return float(offset + 1 - covered[0]), float(offset + len(profile) - 1 + covered[1])


def grown(cells: Mask) -> Mask:
    """Return cells and their neighbours."""
    padded = np.pad(cells, 1)
    wider: Mask = np.zeros_like(cells)
    for row in range(3):
        for column in range(3):
            wider |= padded[row : row + ROWS, column : column + COLUMNS]
    return wider
