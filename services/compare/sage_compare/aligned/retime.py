"""Lines at other speeds, and held pictures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.lines import DROP, NONE_COST, Line, LineFinder, runs_of
from sage_compare.aligned.pictures import STILL
from sage_compare.aligned.viterbi import Piece

SLOWEST, FASTEST = 0.47, 2.15
"""Frames of a per frame of b that are considered."""
NEIGHBOURS = 4
"""Pieces after a piece that may lie on one line with it."""
LONG = 240
"""A piece at rate 1 with this many frames needs no other rate."""
JUMP, MARGIN = 1.7, 4.0
"""Cost of a change of line, and what another rate must save against the path without it: still shots fit any rate."""
SHORT = 48
"""A piece with fewer frames may be a part of a line that is much faster or slower."""
LEAST_SCORE = 4.0
"""What a line at another rate must save against `NONE_COST`."""
MOST_PROBES = 40
"""Frames of a stretch without a line by which its rate is looked for."""
RATES = [2.0 ** (k / 6) for k in range(-6, 7) if k]
HALF = 10
"""Frames on each side of a seed by which its rate is found."""
LEAST_HELD = 4
HELD_GAIN = 0.0
"""What a held picture must save in each frame against the path without it."""


def retimed(finder: LineFinder, pieces: Sequence[Piece]) -> list[Line]:
    """Return lines at other rates than 1 through the pieces of a path that look like one."""
    tried: set[tuple[int, int]] = set()
    found: list[Line] = []
    spent = _spent(finder.pair, pieces)
    for rate, start, frame in _guesses(finder, pieces):
        if any(line.first <= frame < line.end and abs(line.rate - rate) < 0.02 * rate for line in found):
            continue
        key = (round(rate * 200), round(start + rate * float(finder.pair.u[frame])))
        if key in tried:
            continue
        tried.add(key)
        line = _fitted(finder.pair, rate, start, frame)
        if line is None:
            continue
        line = _better_part(finder.pair, line, *spent)
        if line is None or line.cost > finder.well:
            continue
        same = [k for k, other in enumerate(found) if _same(finder.pair, line, other)]
        if not same:
            found.append(line)
        elif line.score > found[same[0]].score:
            found[same[0]] = line
    return found


def _spent(pair: kernels.Pair, pieces: Sequence[Piece]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what each frame of b costs on a path, and 1 for each frame at which the line changes."""
    costs = np.full(len(pair.b), NONE_COST)
    for piece in pieces:
        if piece.line is not None:
            row = piece.line.row(len(pair.a))
            costs[piece.first : piece.end] = kernels.costs_along(pair, row, piece.first, piece.end)
        elif piece.black:
            costs[piece.first : piece.end] = 0.0
    changes = np.zeros(len(pair.b))
    changes[[piece.first for piece in pieces[1:]]] = 1.0
    return costs, changes


def _better_part(
    pair: kernels.Pair, line: Line, costs: NDArray[np.float64], changes: NDArray[np.float64]
) -> Line | None:
    """Return the part of a line at another rate that is better than the path; `None` if there is no such part."""
    for _ in range(2):
        row = line.row(len(pair.a))
        own = kernels.costs_along(pair, row, line.first, line.end)
        saved = costs[line.first : line.end] - own
        gains = saved + JUMP * changes[line.first : line.end]
        sums = np.concatenate([[0.0], np.cumsum(gains)])
        lowest = np.minimum.accumulate(sums)
        end = int(np.argmax(sums - lowest))
        first = int(np.argmin(sums[: end + 1]))
        # Several short cuts look like another rate, but on their own lines the frames fit better.
        if sums[end] - sums[first] < MARGIN or saved[first:end].sum() < -0.002 * (end - first):
            return None
        cost = float(own[first:end].mean())
        part = replace(line, first=line.first + first, end=line.first + end, cost=cost)
        rate, start = kernels.fit_rate(pair, line.rate, line.start, part.first, part.end)
        line = replace(part, rate=rate, start=start, score=(NONE_COST - cost) * (end - first))
    return line


def _same(pair: kernels.Pair, line: Line, other: Line) -> bool:
    """Return whether two lines lead to the same frames, to within one, wherever both are."""
    first, end = max(line.first, other.first), min(line.end, other.end)
    if end - first < min(line.end - line.first, other.end - other.first) / 2:
        return False
    apart = [
        abs((line.rate - other.rate) * float(pair.u[frame]) + line.start - other.start) for frame in (first, end - 1)
    ]
    return max(apart) <= 1.0


def _guesses(finder: LineFinder, pieces: Sequence[Piece]) -> list[tuple[float, float, int]]:
    """Return rates and starts to try, each with a frame of b to begin at."""
    pair = finder.pair
    guesses: list[tuple[float, float, int]] = []
    on_lines = [piece for piece in pieces if piece.line is not None and piece.line.rate == 1.0]
    for k, piece in enumerate(on_lines):
        for other in on_lines[k + 1 : k + 1 + NEIGHBOURS]:
            if piece.line is None or other.line is None or other.first - piece.end > LONG:
                break
            if min(piece.end - piece.first, other.end - other.first) > LONG:
                continue
            here, there = _middle(piece), _middle(other)
            u_here, u_there = float(pair.u[here]), float(pair.u[there])
            a_here, a_there = u_here + piece.line.start, u_there + other.line.start
            rate = (a_there - a_here) / (u_there - u_here)
            if SLOWEST <= rate <= FASTEST and abs(rate - 1.0) > 0.01:
                guesses.append((rate, a_here - rate * u_here, here))
    frames = [
        frame
        for piece in pieces
        if piece.line is None or piece.end - piece.first < SHORT
        for frame in range(
            piece.first + min(6, _half(piece)), piece.end, max(12, (piece.end - piece.first) // MOST_PROBES)
        )
    ]
    for frame, places in finder.places_of(frames):
        best = min(
            (
                (*kernels.best_start(pair, rate, frame, float(place), 4.0, 1.0, HALF, 2.0)[::-1], rate)
                for place in places[:2]
                for rate in RATES
            ),
            default=None,
        )
        if best is not None and best[0] < NONE_COST / 2:
            guesses.append((best[2], best[1], frame))
    return guesses


def _half(piece: Piece) -> int:
    return (piece.end - piece.first) // 2


def _middle(piece: Piece) -> int:
    # The ends of a short piece at rate 1 on a line at another rate are off by as much in either direction.
    return (piece.first + piece.end - 1) // 2


def _fitted(pair: kernels.Pair, rate: float, start: float, frame: int) -> Line | None:
    """Fit a line at about this rate and start, as far as it explains b."""
    frames_b = len(pair.b)
    line: Line | None = None
    for _ in range(3):
        first, end, score, cost = kernels.extend(pair, rate, start, frame, NONE_COST, DROP / 2, 0, frames_b)
        if score < LEAST_SCORE / 2:
            return line
        if line is not None and score <= line.score + 1e-9:
            break
        line = Line(rate, start, first, end, score, cost)
        rate, start = kernels.fit_rate(pair, rate, start, first, end)
    if line is None or line.score < LEAST_SCORE or not SLOWEST <= line.rate <= FASTEST or abs(line.rate - 1) < 0.01:
        return None
    return line


def _cost_at(pair: kernels.Pair, line: Line, frame: int) -> float:
    return float(kernels.costs_along(pair, line.row(len(pair.a)), frame, frame + 1)[0])


def held(pair: kernels.Pair, pieces: Sequence[Piece]) -> list[Line]:
    """Return lines of rate 0 for the stretches of b that stand still: each holds the frame of a that fits best."""
    still = kernels.steps(pair.b) < STILL
    spent, _ = _spent(pair, pieces)
    found = []
    owner = np.full(len(pair.b), -1, np.int64)
    for k, piece in enumerate(pieces):
        owner[piece.first : piece.end] = k if piece.line is not None and piece.line.rate > 0 else -1
    for first, end in runs_of(still):
        stop = end + 1
        if stop - first < LEAST_HELD or pair.flat_b[first] > 0.5:
            continue
        numbers = {int(owner[j]) for j in (max(first - 1, 0), first, min(stop, len(owner) - 1)) if owner[j] >= 0}
        places: set[int] = set()
        for number in sorted(numbers):
            line = pieces[number].line
            if line is None:
                continue
            for j in (first, stop - 1):
                at = kernels.frame_at(pair, line.rate, line.start, j)
                places.update(i for i in range(at - 3, at + 4) if 0 <= i < len(pair.a))
        middle = (first + stop) // 2
        candidates = [Line(0.0, float(i), first, stop, 0.0, 0.0) for i in sorted(places)]
        costs = [_cost_at(pair, one, middle) for one in candidates]
        if costs and min(costs) < NONE_COST / 2:
            best = candidates[costs.index(min(costs))]
            own = kernels.costs_along(pair, best.row(len(pair.a)), first, stop)
            cost = float(own.mean())
            # In a still shot a has the same frames: the picture is held only if a moves against it.
            if float(spent[first:stop].mean()) < cost + HELD_GAIN:
                continue
            found.append(replace(best, score=(NONE_COST - cost) * (stop - first), cost=cost))
    return found
