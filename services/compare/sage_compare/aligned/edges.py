"""Where a piece begins and ends, to the frame."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.lines import DROP, LONGEST, NONE_COST, Line, runs_of
from sage_compare.aligned.viterbi import Piece

WINDOW = 12
"""Frames on each side of an edge that decide where it is."""
OUTLIER = 0.45
"""Cost from which a frame on a line is not the frame of a, however few there are."""
DETOURS = 8
"""Pieces between two of one line that may be a detour."""
JUMP, MARGIN = 1.8, 4.0
"""Cost of a change of line, and what a detour must save."""
BLOCK = 120
"""Frames that are tested for a better offset at a time."""
NUDGE = 16
"""Frames by which a piece is moved to see whether it fits better."""


def refine(pair: kernels.Pair, pieces: list[Piece]) -> list[Piece]:
    """Return the pieces without the frames that differ, and with each edge to no line where the line's cost steps."""
    split: list[Piece] = []
    for piece in pieces:
        split.extend(_without_outliers(pair, piece))
    for k in range(1, len(split)):
        before, after = split[k - 1], split[k]
        if (before.line is None) == (after.line is None):
            continue
        if before.line is not None:
            edge = before.end
            low, high = max(before.first + 1, edge - WINDOW), min(after.end, edge + WINDOW)
            costs = kernels.costs_along(pair, before.line.row(len(pair.a)), low - 1, high)
            at = low - 1 + _step(costs[::-1], len(costs))
        elif after.line is not None:
            edge = after.first
            low, high = max(before.first, edge - WINDOW), min(after.end, edge + WINDOW)
            costs = kernels.costs_along(pair, after.line.row(len(pair.a)), low, high)
            at = low + _step(costs, 0)
        at = min(max(at, before.first), after.end)
        split[k - 1], split[k] = replace(before, end=at), replace(after, first=at)
    return [piece for piece in split if piece.end > piece.first]


def straighten(pair: kernels.Pair, pieces: list[Piece]) -> list[Piece]:
    """Return the pieces with detours removed: others between two pieces of one line that explain hardly more than it.

    In a shot that stands still another offset may save a few frames at its ends, for instance in a dissolve.
    """
    straight: list[Piece] = []
    for piece in pieces:
        straight.append(piece)
        if piece.line is None:
            continue
        for back in range(2, min(len(straight), DETOURS) + 1):
            start = straight[-back]
            if start.line is None or (start.line.rate, start.line.start) != (piece.line.rate, piece.line.start):
                continue
            between = straight[1 - back : -1]
            along = np.concatenate([_costs(pair, one) for one in between])
            detour = float(along.sum()) + JUMP * len(between)
            costs = kernels.costs_along(pair, piece.line.row(len(pair.a)), start.end, piece.first)
            away = costs > NONE_COST
            direct = float(np.minimum(costs, NONE_COST).sum()) + 2 * JUMP * len(runs_of(away))
            # In a still shot the line explains nearly all that the detour does.
            still = (costs <= along + 0.02)[along < NONE_COST]
            alike = still.size > 0 and float(still.mean()) > 0.7
            if (direct <= detour + MARGIN or alike) and not away.all() and any(one.line for one in between):
                joined = replace(start, end=piece.end)
                straight[-back:] = _without_outliers(pair, joined, NONE_COST)
            break
    return straight


def _costs(pair: kernels.Pair, piece: Piece) -> NDArray[np.float32]:
    if piece.line is None:
        return np.full(piece.end - piece.first, NONE_COST, np.float32)
    return kernels.costs_along(pair, piece.line.row(len(pair.a)), piece.first, piece.end)


def _step(costs: NDArray[np.float32], mirrored: int) -> int:
    """Return where the costs fall from a high to a low level: the split whose two means explain them best.

    `mirrored` is their number if they were reversed; then the index counts from the other end.
    """
    count = len(costs)
    if count < 2:
        return mirrored
    sums = np.concatenate([[0.0], np.cumsum(costs, dtype=np.float64)])
    best, gain = 0, -1.0
    splits = np.arange(1, count)
    left, right = sums[splits] / splits, (sums[-1] - sums[splits]) / (count - splits)
    gains = np.where(left > right, (left - right) ** 2 * splits * (count - splits) / count, -1.0)
    best = int(np.argmax(gains))
    gain = float(gains[best])
    at = int(splits[best]) if gain > 0 else 0
    return mirrored - at if mirrored else at


def _without_outliers(pair: kernels.Pair, piece: Piece, limit: float = OUTLIER) -> list[Piece]:
    """Cut out of a piece the frames that are not those of its line."""
    if piece.line is None:
        return [piece]
    costs = kernels.costs_along(pair, piece.line.row(len(pair.a)), piece.first, piece.end)
    away = costs > limit
    if not away.any():
        return [piece]
    parts, at = [], piece.first
    for first, end in runs_of(away):
        if piece.first + first > at:
            parts.append(Piece(at, piece.first + first, piece.line))
        at = piece.first + end
        parts.append(Piece(piece.first + first, at, None))
    if at < piece.end:
        parts.append(Piece(at, piece.end, piece.line))
    return parts


def nudged(pair: kernels.Pair, pieces: list[Piece], step: float) -> list[Line]:
    """Return the lines of pieces that fit better when moved by a few frames of a."""
    found: list[Line] = []
    for piece in pieces:
        if piece.line is None or piece.line.rate == 0.0:
            continue
        blocks = max(round((piece.end - piece.first) / BLOCK), 1)
        edges = np.linspace(piece.first, piece.end, blocks + 1).astype(int)
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            middle = (first + end) // 2
            at = piece.line.rate * float(pair.u[middle]) + piece.line.start
            half = max((end - first) // 2, 1)
            start, cost = kernels.best_start(pair, piece.line.rate, middle, at, float(NUDGE), step, half, 2.0)
            known = any(one.start == start and one.first <= middle < one.end for one in found)
            if abs(start - piece.line.start) > step / 2 and not known:
                found.append(_longest(pair, Line(piece.line.rate, start, first, end, 0.0, cost), middle))
    return found


def _longest(pair: kernels.Pair, line: Line, middle: int) -> Line:
    """Return a line with all frames around the middle that it explains: a short one is not tried beside longer ones."""
    low, high = max(middle - LONGEST, 0), min(middle + LONGEST, len(pair.b))
    first, end, score, cost = kernels.extend(pair, line.rate, line.start, middle, NONE_COST, DROP, low, high)
    own = (NONE_COST - line.cost) * (line.end - line.first)
    return Line(line.rate, line.start, first, end, score, cost) if score > own else replace(line, score=own)
