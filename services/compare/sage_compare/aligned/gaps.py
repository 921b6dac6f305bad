"""A second look at what lies between two pieces of the chain: frames of a that fit there at any offset."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.chain import Matched, Order, matched
from sage_compare.aligned.lines import NONE_COST, Line
from sage_compare.aligned.script import Frames
from sage_compare.aligned.tiling import holes

LEAST = 3
"""Frames of the shortest piece that is put into a gap, unless it fills it."""
FITS = 0.6
"""Share of `NONE_COST` that the frames of such a piece may cost on average."""
JUMP = 0.5
"""What another offset than that of the pieces beside the gap must save: in a still shot all cost nearly the same."""
MOST_OFFSETS = 600
"""Offsets tried in a gap; in longer ones only those where it begins and where it ends."""


def fill(pair: kernels.Pair, order: Order, step: float) -> Order:
    """Return the order with pieces put into the gaps of its chain."""
    taken = [one.b for one in (*order.moved, *order.repeats, *order.frozen)]
    used = [one.a for one in (*order.moved, *order.frozen)]
    chain: list[Matched] = []
    a = b = 0
    for piece in [*order.chain, None]:
        gap_a = Frames(a, piece.a.first if piece else len(pair.a))
        gap_b = Frames(b, piece.b.first if piece else len(pair.b))
        before, after = chain[-1].line if chain else None, piece.line if piece else None
        for hole_b in without(gap_b, taken):
            for hole_a in without(gap_a, used):
                a_now = max(hole_a.first, chain[-1].a.end if chain else 0)
                b_now = max(hole_b.first, chain[-1].b.end if chain else 0)
                if a_now < hole_a.end and b_now < hole_b.end:
                    chain.extend(
                        _fill_gap(pair, Frames(a_now, hole_a.end), Frames(b_now, hole_b.end), before, after, step)
                    )
        if piece:
            chain.append(piece)
            a, b = piece.a.end, piece.b.end
    return replace(order, chain=chain)


def without(gap: Frames, ranges: list[Frames]) -> list[Frames]:
    """Return what is left of a gap without ranges."""
    inside = [Frames(max(one.first, gap.first), min(one.end, gap.end)) for one in ranges]
    shifted = [Frames(one.first - gap.first, one.end - gap.first) for one in inside if one.end > one.first]
    return [Frames(one.first + gap.first, one.end + gap.first) for one in holes(shifted, len(gap))]


def _fill_gap(
    pair: kernels.Pair, gap_a: Frames, gap_b: Frames, before: Line | None, after: Line | None, step: float
) -> list[Matched]:
    """Return the pieces that fit into a gap, in order."""
    if not len(gap_a) or not len(gap_b):
        return []
    starts = _starts(pair, gap_a, gap_b, before, after, step)
    beside = {line.start for line in (before, after) if line and line.rate == 1.0}
    best: tuple[float, Line] | None = None
    for start in starts:
        line = Line(1.0, start, gap_b.first, gap_b.end, 0.0, 0.0)
        row = line.row(gap_a.end)
        row[kernels.A_FIRST] = gap_a.first
        saved = NONE_COST - kernels.costs_along(pair, row, gap_b.first, gap_b.end)
        first, end, total = _best_run(saved)
        # A few frames look like others by chance, unless they continue a piece.
        whole = end - first == min(len(gap_a), len(gap_b)) and any(
            one and one.start == start for one in (before, after)
        )
        if (end - first < LEAST and not whole) or total < (1.0 - FITS) * NONE_COST * (end - first):
            continue
        saved_all = total - (0.0 if start in beside else JUMP)
        if best is None or saved_all > best[0] + 1e-6:
            best = (
                saved_all,
                Line(1.0, start, gap_b.first + first, gap_b.first + end, total, NONE_COST - total / (end - first)),
            )
    if best is None:
        return []
    line = best[1]
    piece = matched(pair, line, line.first, line.end)
    left = _fill_gap(pair, Frames(gap_a.first, piece.a.first), Frames(gap_b.first, piece.b.first), before, line, step)
    right = _fill_gap(pair, Frames(piece.a.end, gap_a.end), Frames(piece.b.end, gap_b.end), line, after, step)
    return [*left, piece, *right]


def _starts(
    pair: kernels.Pair, gap_a: Frames, gap_b: Frames, before: Line | None, after: Line | None, step: float
) -> list[float]:
    """Return the starts to try: where the gap begins, where it ends, then all others if they are few."""
    u_first, u_last = float(pair.u[gap_b.first]), float(pair.u[gap_b.end - 1])
    starts = [line.start for line in (before, after) if line and line.rate == 1.0]
    if pair.shown.size == 0:
        starts += [gap_a.first - u_first, gap_a.end - 1 - u_last]
        low, high = gap_a.first - u_last, gap_a.end - 1 - u_first
        if (high - low) / step <= MOST_OFFSETS and len(gap_b) <= MOST_OFFSETS:
            starts += np.arange(low, high + step / 2, step).tolist()
    return list(dict.fromkeys(starts))


def _best_run(saved: NDArray[np.float32]) -> tuple[int, int, float]:
    """Return the run with the highest sum: its first index, its end and the sum."""
    sums = np.concatenate([[0.0], np.cumsum(saved, dtype=np.float64)])
    lowest = np.minimum.accumulate(sums)
    end = int(np.argmax(sums - lowest))
    first = int(np.argmin(sums[: end + 1]))
    return first, end, float(sums[end] - sums[first])
