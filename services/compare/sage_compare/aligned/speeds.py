"""Stretches at another speed, even or changing evenly, from where the film leaves its own speed to where it returns."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.chain import Matched, Order
from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.lines import NONE_COST, Line
from sage_compare.aligned.script import Frames

ANCHOR = 10
"""Frames of the shortest piece at the film's own speed at which another speed may begin or end."""
NEAR = 3
"""Such pieces that are tried on each side."""
LONG = 120
"""Frames of a piece at the film's own speed that is not a part of a stretch at another."""
OVER, UNDER = 120, 24
"""Frames by which a piece at the film's own speed may reach into another one, and may be too short."""
SLOWEST, FASTEST = 0.4, 2.5
"""Frames of a per frame of b at any moment."""
COARSE = 8
"""Frames from one end to the next in the first search."""
COARSE_LOSS = 12.0
"""What the first search may cost too much."""
BOWS = np.array([k / 10 for k in range(-8, 9) if k])
"""Differences of the rate from the middle of a stretch to its ends that are tried."""
PHASES = (0.0, -0.45, 0.45, -0.25, 0.25)
"""Where in the time of a frame its picture may be from: cutting programs differ."""
AROUND = 1
"""Frames by which a frame that is shown may differ from the one that the rate says."""
JUMP = 1.7
"""Cost of a change of line."""
MARGIN = 2.0
"""What a stretch must save against the pieces that are there."""
BOWED = 4.0
"""What a speed that changes must save against an even one."""
SHORTEST = 6
"""Frames of b in the shortest piece of a speed that changes."""
APART = 0.5
"""Frames of a by which such a piece may differ from it."""

Costs = NDArray[np.float64]


@dataclass(frozen=True)
class _Stretch:
    """Frames ``[first, end)`` of b at other speeds.

    Attributes:
        first: First frame of b.
        end: End in b.
        bow: Difference of the rate from the middle to the end; 0 if the speed is even.
        a_is_even: Whether it is the rate of b in the time of a that changes evenly, not that of a in the time of b.
        phase: Added to each position in a.
        cost: What the frames of `within` cost, with those on both sides at the film's own speed.
        within: The frames of b in which it was looked for.
    """

    first: int
    end: int
    bow: float
    a_is_even: bool
    phase: float
    cost: float
    within: Frames


def joined(pair: kernels.Pair, order: Order) -> Order:
    """Return the order in which other speeds lead from one piece at the film's own to the next without a gap."""
    chain, number = order.chain, 0
    costs, changes = _spent(pair, order)
    while number < len(chain):
        best: tuple[float, int, int, _Stretch] | None = None
        for low, high in _anchors(chain, number):
            left, right = chain[low], chain[high]
            if any(_between(one, left, right) for one in (*order.moved, *order.frozen)):
                continue
            within = _within(left, right)
            spent = float(costs[within.first : within.end].sum() + JUMP * changes[within.first : within.end].sum())
            found = _fitted(pair, chain[low : high + 1], spent - (best[0] if best else MARGIN))
            if found is not None:
                best = spent - found.cost, low, high, found
        number += 1
        if best is not None:
            _, low, high, found = best
            pieces = _pieces(pair, chain[low], chain[high], found)
            chain = [*chain[:low], *pieces, *chain[high + 1 :]]
            number = low + len(pieces) - 1
    used = [piece.b for piece in chain]
    repeats = [one for one in order.repeats if all(one.b.end <= b.first or b.end <= one.b.first for b in used)]
    return replace(order, chain=chain, repeats=repeats)


def _between(one: Matched, left: Matched, right: Matched) -> bool:
    return (one.a.first < right.a.end and left.a.first < one.a.end) or (
        one.b.first < right.b.end and left.b.first < one.b.end
    )


def _anchors(chain: list[Matched], number: int) -> list[tuple[int, int]]:
    """Return the pieces at the film's own speed that may be the two ends of the stretch around a piece at another."""
    if chain[number].line.rate == 1.0:
        return []
    sides: list[list[int]] = []
    for numbers in (range(number - 1, -1, -1), range(number + 1, len(chain))):
        side: list[int] = []
        for k in numbers:
            if _is_anchor(chain[k]):
                side.append(k)
                if len(side) == NEAR or len(chain[k].b) >= LONG:
                    break
        sides.append(side)
    return [(low, high) for low in sides[0] for high in sides[1]]


def _is_anchor(piece: Matched) -> bool:
    return piece.line.rate == 1.0 and len(piece.b) >= ANCHOR


def _within(left: Matched, right: Matched) -> Frames:
    """Return the frames of b in which the stretch between two pieces may be."""
    return Frames(max(left.b.end - OVER, left.b.first + 1), min(right.b.first + OVER, right.b.end - 1))


def _spent(pair: kernels.Pair, order: Order) -> tuple[Costs, Costs]:
    """Return what each frame of b costs now, and 1 for each at which the line changes."""
    costs, owner = np.full(len(pair.b), NONE_COST), np.full(len(pair.b), -1)
    for k, piece in enumerate([*order.chain, *order.moved, *order.repeats]):
        owner[piece.b.first : piece.b.end] = k
        row = piece.line.row(len(pair.a))
        found = kernels.costs_along(pair, row, piece.b.first, piece.b.end)
        costs[piece.b.first : piece.b.end] = np.minimum(found, NONE_COST)
    return costs, np.concatenate([[0.0], (np.diff(owner) != 0).astype(np.float64)])


def _fitted(pair: kernels.Pair, pieces: list[Matched], limit: float) -> _Stretch | None:
    """Return the best stretch that leads from the first of some pieces to the last one and costs less than `limit`."""
    left, right = pieces[0], pieces[-1]
    within = _within(left, right)
    low, high = within.first, within.end
    last_first, first_end = min(left.b.end + UNDER, high), max(right.b.first - UNDER, low)
    before = kernels.costs_along(pair, left.line.row(len(pair.a)), low, last_first)
    after = kernels.costs_along(pair, right.line.row(len(pair.a)), first_end, high)
    upto = np.concatenate([[0.0], np.cumsum(np.minimum(before, NONE_COST), dtype=np.float64)])
    since = np.concatenate([np.cumsum(np.minimum(after, NONE_COST)[::-1], dtype=np.float64)[::-1], [0.0]])

    guesses = np.array(list(_guesses(pair, pieces)), np.int64).reshape(-1, 2)

    def best(bows: Costs, a_is_even: bool, limit: float) -> _Stretch | None:
        found = best_stretch(
            pair, left.line.start, right.line.start, low, upto, first_end, since, guesses, bows, a_is_even, limit
        )
        return _Stretch(*found[:3], a_is_even, found[3], found[4], within) if found[4] < limit else None

    one = best(np.zeros(1), False, limit)
    for a_is_even in (False, True):
        one = best(BOWS, a_is_even, min(limit, one.cost - (0.0 if one.bow else BOWED)) if one else limit) or one
    return one


def _guesses(pair: kernels.Pair, pieces: list[Matched]) -> Iterator[tuple[int, int]]:
    """Return where lines through the pieces between the first and the last one meet those two."""
    left, right = pieces[0].line.start, pieces[-1].line.start
    lines = {(one.line.rate, one.line.start) for one in pieces[1:-1] if one.line.rate != 1.0}
    for rate, start in sorted(lines):
        if abs(rate - 1.0) > 1e-3:
            ends = np.searchsorted(pair.u, ((left - start) / (rate - 1.0), (right - start) / (rate - 1.0)))
            yield int(ends[0]), int(ends[1])


@kernel
def progress(x: float, length: float, distance: float, bow: float, a_is_even: bool) -> float:
    """Return how far a stretch of `length` positions of b has come in a after `x`, of `distance` in all.

    Its rate changes evenly, by `bow` from the middle to each end, as it does in the time of b; if `a_is_even`, the rate
    of b per position of a does, in the time of a.
    """
    if a_is_even:
        if bow == 0.0:
            return x * distance / length
        square, linear = bow / distance, length / distance - bow
        return float((np.sqrt(max(linear * linear + 4.0 * square * x, 0.0)) - linear) / (2.0 * square))
    return x * distance / length + bow * x * (x / length - 1.0)


@kernel
def stretch_cost(
    pair: kernels.Pair,
    left: float,
    right: float,
    first: int,
    end: int,
    bow: float,
    a_is_even: bool,
    phase: float,
    stride: int,
    limit: float,
) -> float:
    """Return what the frames ``[first, end)`` of b cost at a speed that leads from one line of rate 1 to another.

    Args:
        pair: The films.
        left: Start of the line before.
        right: Start of the line after.
        first: First frame of b.
        end: End in b.
        bow: Difference of the rate from the middle to the end.
        a_is_even: Whether it is the rate of b in the time of a that changes evenly.
        phase: Added to each position in a.
        stride: Every how many frames of b are looked at.
        limit: Cost from which the rest does not matter.
    """
    u_first, length = pair.u[first], pair.u[end] - pair.u[first]
    if end - first < SHORTEST or length <= 0.0:
        return 1e9
    distance = length + right - left
    if distance <= 0.0:
        return 1e9
    rate = length / distance if a_is_even else distance / length
    if rate - abs(bow) < SLOWEST or rate + abs(bow) > FASTEST:
        return 1e9
    total = 0.0
    for j in range(first, end, stride):
        position = u_first + left + progress(pair.u[j] - u_first, length, distance, bow, a_is_even) + phase
        i = kernels.frame_at(pair, 0.0, position, j)
        total += stride * (NONE_COST if i < 0 else min(kernels.pair_cost(pair, i, j), NONE_COST))
        if total > limit:
            break
    return total


@kernel
def best_stretch(
    pair: kernels.Pair,
    left: float,
    right: float,
    low: int,
    upto: Costs,
    first_end: int,
    since: Costs,
    guesses: NDArray[np.int64],
    bows: Costs,
    a_is_even: bool,
    limit: float,
) -> tuple[int, int, float, float, float]:
    """Return the first frame, the end, the bow, the phase and the cost of the best stretch between two lines of rate 1.

    Args:
        pair: The films.
        left: Start of the line before.
        right: Start of the line after.
        low: Least first frame.
        upto: Cost of the line before from `low` to each first frame that is possible.
        first_end: Least end.
        since: Cost of the line after from each possible end, from `first_end` on.
        guesses: First frames and ends to try beside those of the grid.
        bows: Bows to try.
        a_is_even: Whether it is the rate of b in the time of a that changes evenly.
        limit: Cost from which a stretch does not matter.
    """
    first, end, bow, phase, best = low, first_end, 0.0, 0.0, limit + COARSE_LOSS
    for g in range(guesses.shape[0]):
        i, m = guesses[g, 0] - low, guesses[g, 1] - first_end
        if i < 0 or m < 0 or i >= upto.size or m >= since.size or bows[0] != 0.0:
            continue
        for other in PHASES:
            known = upto[i] + since[m]
            cost = stretch_cost(pair, left, right, low + i, first_end + m, 0.0, a_is_even, other, 1, best - known)
            if known + cost < best:
                best, first, end, phase = known + cost, low + i, first_end + m, other
    for k in range(bows.size):
        for i in range(0, upto.size, COARSE):
            for m in range(0, since.size, COARSE):
                known = upto[i] + since[m]
                if known >= best or first_end + m <= low + i:
                    continue
                cost = stretch_cost(
                    pair, left, right, low + i, first_end + m, bows[k], a_is_even, phase, 2, best - known
                )
                if known + cost < best:
                    best, first, end, bow = known + cost, low + i, first_end + m, bows[k]
    if best >= limit + COARSE_LOSS:
        return first, end, bow, phase, best
    best = upto[first - low] + since[end - first_end]
    best += stretch_cost(pair, left, right, first, end, bow, a_is_even, phase, 1, 1e9)
    bow_step, step = 0.05, COARSE // 2
    while step:
        improved = True
        while improved:
            improved = False
            from_first, from_end, from_bow = first, end, bow
            for df in range(-1, 2):
                for de in range(-1, 2):
                    for db in range(-1, 2):
                        i, m = from_first + df * step - low, from_end + de * step - first_end
                        if i < 0 or m < 0 or i >= upto.size or m >= since.size or (db and from_bow == 0.0):
                            continue
                        one = from_bow + db * bow_step
                        known = upto[i] + since[m]
                        if known >= best or first_end + m <= low + i:
                            continue
                        cost = stretch_cost(
                            pair, left, right, low + i, first_end + m, one, a_is_even, phase, 1, best - known
                        )
                        if known + cost < best - 1e-6:
                            best, first, end, bow, improved = known + cost, low + i, first_end + m, one, True
        known = upto[first - low] + since[end - first_end]
        for other in PHASES:
            cost = stretch_cost(pair, left, right, first, end, bow, a_is_even, other, 1, best - known)
            if known + cost < best - 1e-6:
                best, phase = known + cost, other
        step //= 2
        bow_step /= 2.0
    return first, end, bow, phase, best


@kernel
def shown_along(pair: kernels.Pair, numbers: NDArray[np.int32], first: int) -> NDArray[np.int32]:
    """Return the frames of a that the frames of b from `first` on show, each at most `AROUND` from those of `numbers`.

    Each program that changes the speed chooses frames by another rule: among the neighbours of what the rate says, the
    path through the frames that look most alike is taken; it never goes back.
    """
    count, states = numbers.size, 2 * AROUND + 1
    costs = np.full((count, states), 1e9)
    came = np.zeros((count, states), np.int64)
    for k in range(count):
        for s in range(states):
            i = numbers[k] + s - AROUND
            if i < 0 or i >= pair.a.shape[0]:
                continue
            before = 0.0 if k == 0 else 1e9
            for p in range(states if k else 0):
                if numbers[k - 1] + p <= numbers[k] + s and costs[k - 1, p] < before:
                    before, came[k, s] = costs[k - 1, p], p
            costs[k, s] = before + kernels.pair_cost(pair, i, first + k) + 0.002 * abs(s - AROUND)
    found = np.empty(count, np.int32)
    state = int(np.argmin(costs[count - 1])) if count else 0
    for k in range(count - 1, -1, -1):
        found[k] = numbers[k] + state - AROUND
        state = came[k, state]
    return found


def _pieces(pair: kernels.Pair, left: Matched, right: Matched, found: _Stretch) -> list[Matched]:
    """Return the piece before a stretch, its pieces at one rate each, and the piece after it."""
    before, after = left.part(pair, left.b.first, found.first), right.part(pair, found.end, right.b.end)
    length = found.end - found.first
    count = 1
    if abs(found.bow) * length / 4 > APART:
        count = max(int(np.ceil(np.sqrt(abs(found.bow) * length / (4 * APART)))), 2)
        count = max(min(count, length // SHORTEST), 1)
    knots = np.linspace(found.first, found.end, count + 1).round().astype(int)
    u = pair.u[knots]
    u_length = float(u[-1] - u[0])
    distance = u_length + right.line.start - left.line.start
    positions = [
        float(u[0]) + left.line.start + progress(float(x), u_length, distance, found.bow, found.a_is_even)
        for x in u - u[0]
    ]
    ends = [kernels.frame_at(pair, 0.0, at, 0) for at in positions]
    ends[0], ends[-1] = before.a.end, after.a.first
    pieces = [before]
    for k in range(count):
        piece_rate = float((positions[k + 1] - positions[k]) / (u[k + 1] - u[k]))
        # A rate of exactly 1 would be a match.
        piece_rate = piece_rate if piece_rate != 1.0 else 1.0 + 1e-9
        start = float(positions[k] - piece_rate * u[k] + found.phase)
        first, end = int(knots[k]), int(knots[k + 1])
        line = Line(piece_rate, start, first, end, (end - first) * NONE_COST, found.cost / len(found.within))
        pieces.append(Matched(Frames(ends[k], ends[k + 1]), Frames(first, end), line))
    return [*pieces, after]
