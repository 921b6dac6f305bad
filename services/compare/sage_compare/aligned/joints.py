"""Where a retimed part begins and ends: it continues the part before and leads into the part after without a jump."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.lines import NONE_COST, Line
from sage_compare.aligned.viterbi import FORWARD, Piece

REACH = 64
"""Frames of b by which an end may be off."""
SIMILAR = 0.06
"""Relative difference of the rates of pieces that are one retime."""
SLIVER = 12
"""Frames of b of other pieces that may lie between the parts of a retime."""
PHASES = (-0.5, 0.0, 0.5)
"""A retime shows the frame that has begun, the nearest or the next: at 4%, half a frame moves both ends by twelve."""
FARTHEST = 150
"""Frames of b between a retime and a part that it joins."""
LONGEST = 20_000
"""Frames of b of the longest retime whose ends are looked for."""
WELL = 0.24
"""Most that the frames of a retime may cost on average: more in a speed ramp, which has no one rate."""
LEAST = 6
"""Frames of b of the shortest retime."""


def jointed(pair: kernels.Pair, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with each retime between two parts at full speed put where it joins them without a jump.

    A part at another rate through ``a = b + s`` at t0 and ``a = b + t`` at t1 has the rate ``1 + (t - s) / (t1 - t0)``:
    the two frames say it all. Between still frames any rate fits, so the costs alone leave the ends open.
    """
    found = list(pieces)
    k = 0
    while k < len(found):
        last = _retime_from(found, k)
        if last is None:
            k += 1
            continue
        joints = [
            (joint, before, after)
            for before in _at_full_speed(found, k, -1)
            for after in _at_full_speed(found, last, 1)
            if (joint := _join(pair, found[before : after + 1]))
        ]
        if joints:
            joint, before, after = max(joints, key=lambda one: one[0].saved)
            found[before : after + 1] = joint.pieces
            k = before + len(joint.pieces) - 1
        else:
            k = last + 1
    return found


def _retime_from(pieces: Sequence[Piece], k: int) -> int | None:
    """Return the last piece of the retime that begins with piece `k`; `None` if it is none."""
    rate = _rate(pieces[k])
    if rate in (None, 0.0, 1.0):
        return None
    last, slivers = k, 0
    for number in range(k + 1, len(pieces)):
        other = _rate(pieces[number])
        if other not in (None, 0.0, 1.0) and abs(float(other or 0) / float(rate or 1) - 1.0) < SIMILAR:
            last, slivers = number, 0
            continue
        slivers += pieces[number].end - pieces[number].first
        if slivers > SLIVER:
            break
    return last


def _rate(piece: Piece) -> float | None:
    return piece.line.rate if piece.line else None


def _at_full_speed(pieces: Sequence[Piece], k: int, direction: int) -> list[int]:
    """Return pieces at rate 1 before or after piece `k`, which a retime may join: the nearest ones."""
    found: list[int] = []
    at = pieces[k].first if direction < 0 else pieces[k].end
    k += direction
    while 0 <= k < len(pieces) and len(found) < 3:
        piece = pieces[k]
        if piece.black or min(abs(piece.first - at), abs(piece.end - at)) > FARTHEST:
            break
        if _rate(piece) == 1.0:
            found.append(k)
        k += direction
    return found


@dataclass(frozen=True)
class _Joint:
    """A retime between two parts at full speed, and what it saves against the pieces that it replaces."""

    pieces: list[Piece]
    saved: float


def _join(pair: kernels.Pair, pieces: Sequence[Piece]) -> _Joint | None:
    """Return the parts before, in and after a retime that joins the first and the last piece; `None` if none fits."""
    before, after = pieces[0], pieces[-1]
    if before.line is None or after.line is None:
        return None
    jump = after.line.start - before.line.start
    retimes = [piece for piece in pieces[1:-1] if _rate(piece) not in (None, 0.0, 1.0)]
    rate = np.average([piece.line.rate for piece in retimes if piece.line], weights=[p.end - p.first for p in retimes])
    if abs(jump) < 1.0 or (rate > 1.0) != (jump > 0.0):
        return None
    low, high = max(before.first + 1, before.end - REACH), min(after.end - 1, after.first + REACH)
    if high - low > LONGEST:
        return None
    along = [np.minimum(_along(pair, one.line, low, high), NONE_COST) for one in (before, after) if one.line]
    upto = np.concatenate([[0.0], np.cumsum(along[0], dtype=np.float64)])
    since = np.concatenate([np.cumsum(along[1][::-1], dtype=np.float64)[::-1], [0.0]])

    def cost(t0: int, t1: int, phase: float) -> float:
        if not low <= t0 <= t1 - LEAST <= high - LEAST:
            return np.inf
        line = _between(pair, before.line, after.line, t0, t1, phase)
        if abs(line.rate / rate - 1.0) > SIMILAR:
            return np.inf
        own = np.minimum(_along(pair, line, t0, t1), NONE_COST)
        return float(upto[t0 - low] + own.sum() + since[t1 - low])

    # The length that the rate asks for, then any.
    length = round(jump / (rate - 1.0))
    starts = [(t0, t0 + length, phase) for phase in PHASES for t0 in range(low, high, 4)]
    total, best = min((cost(*start), start) for start in starts)
    if not np.isfinite(total):
        return None
    for step in (8, 4, 2, 1):
        improved = True
        while improved:
            improved = False
            for d0, d1 in ((-step, 0), (step, 0), (0, -step), (0, step), (-step, -step), (step, step)):
                tried = best[0] + d0, best[1] + d1, best[2]
                now = cost(*tried)
                if now < total - 1e-9:
                    total, best, improved = now, tried, True
    t0, t1, phase = best
    saved = _spent(pair, pieces, low, high) - total
    if saved < -FORWARD:
        return None
    line = _between(pair, before.line, after.line, t0, t1, phase)
    if float(np.minimum(_along(pair, line, t0, t1), NONE_COST).mean()) > WELL:
        return None
    return _Joint([replace(before, end=t0), Piece(t0, t1, line), replace(after, first=t1)], saved)


def _between(pair: kernels.Pair, before: Line | None, after: Line | None, t0: int, t1: int, phase: float) -> Line:
    """Return the line from frame `t0` of b on one line to frame `t1` on another."""
    s, t = before.start if before else 0.0, after.start if after else 0.0
    u0, u1 = float(pair.u[t0]), float(pair.u[t1])
    rate = 1.0 + (t - s) / (u1 - u0)
    return Line(rate, u0 + s - rate * u0 + phase, t0, t1, 0.0, 0.0)


def _along(pair: kernels.Pair, line: Line | None, first: int, end: int) -> NDArray[np.float32]:
    if line is None:
        return np.full(end - first, NONE_COST, np.float32)
    return kernels.costs_along(pair, line.row(len(pair.a)), first, end)


def _spent(pair: kernels.Pair, pieces: Sequence[Piece], low: int, high: int) -> float:
    """Return what the pieces cost between two frames of b, with the changes of line beyond two."""
    costs = 0.0
    for piece in pieces:
        first, end = max(piece.first, low), min(piece.end, high)
        if end > first:
            costs += float(np.minimum(_along(pair, piece.line, first, end), NONE_COST).sum())
    return costs + FORWARD * (len(pieces) - 3)
