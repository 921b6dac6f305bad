"""Ends of pieces that show another moment of the same view: a camera that does not move, and something that passes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS, Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.chain import Matched, Order
from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import Frames

LONGEST = 96
"""Frames at the end of a piece that are looked at."""
NEAREST = 3
"""Frames by which they are moved at least: a small change of speed is off by fewer."""
FARTHEST = 600
"""Frames by which they are moved at most."""
CELLS = 8
"""Cells that a small thing fills: those that differ most are compared."""
NOISE = 2.0
"""Times that frames which belong together differ on the average from which a frame does not fit."""
LEAST = 10.0
"""Levels that it must differ by at least."""
REST = 3.0
"""Levels that the cells which show what does not move may differ by."""
SHORTEST = 8
"""Frames of the shortest run inside a piece that is matched again."""
ENOUGH = 0.34
"""Share of the frames that must fit then."""
MOST_OF = 0.7
"""The same share for a piece at another speed, which may be right but for a few frames."""
RETIMED = 3.0
"""Times the limit that most frames of such a piece must differ by."""
FEWEST = 2
"""Frames of the shortest end that is moved: encoders leave a trace of the next shot in one."""
BETTER = 0.25
"""Share of the difference that may be left then."""
MOST = 400
"""Frames of the longest gap that is searched at every offset."""
MOVING = 64
"""Cells that change most in it, which are compared."""
SAMPLES = 24
"""Frames of a part that are compared at each place."""


@dataclass(frozen=True)
class Gap:
    """Frames of a and of b that lie between two pieces."""

    a: Frames
    b: Frames


def settled(pair: kernels.Pair, a: Fingerprint, b: Fingerprint, order: Order) -> Order:
    """Return the order with those ends of pieces moved into the gap beside them that fit there and do not fit now.

    Repeats that do not fit are left out.

    The alignment compares 144 cells, of which a small thing that passes covers two or three: too few to pay for another
    jump. The cells that differ most tell which moment it is.
    """
    if pair.shown.size or not order.chain:
        return order
    limit = max(LEAST, NOISE * _usual(a, b, order.chain))
    order = replace(order, repeats=[one for one in order.repeats if not _is_misfit(a, b, one, limit)])
    others = [*order.moved, *order.frozen]
    chain, moved = list[Matched](), list[Matched]()
    for after in (*order.chain, None):
        before = chain.pop() if chain else None
        gap = _gap(before, after, len(a), len(b))
        free = not any(_meet(one.a, gap.a) or _meet(one.b, gap.b) for one in others)
        stays, found, rest = _settle(a, b, before, after, gap, limit) if free else (before, [], after)
        chain += [one for one in (stays, *found, rest) if one]
        moved += found
    chain, filled = _refilled(a, b, chain, others, limit)
    moved += filled
    for k, piece in enumerate(chain):
        if piece in moved:
            after = chain[k + 1] if k + 1 < len(chain) else None
            room = _gap(chain[k - 1] if k else None, after, len(a), len(b))
            chain[k] = _grown(a, b, piece, room, limit)
            order = replace(order, repeats=[one for one in order.repeats if not _meet(one.b, chain[k].b)])
    return replace(order, chain=chain)


def _refilled(
    a: Fingerprint, b: Fingerprint, chain: list[Matched], others: list[Matched], limit: float
) -> tuple[list[Matched], list[Matched]]:
    """Return the chain with runs that do not fit matched again, if that explains enough of them, and the new pieces.

    Where as much was put in as was left out, one piece runs on over both; what passes is elsewhere in between. A piece
    at another speed may follow what passes for a while.
    """
    refilled, new = list[Matched](), list[Matched]()
    for k, piece in enumerate(chain):
        if piece.line.rate == 1.0:
            at = 0
            for first, end in _misfit_runs(a, b, piece, limit):
                run = _part(piece, first, end)
                found = [one for one in _fill(a, b, Gap(run.a, run.b), limit) if _is_better(a, b, one, piece)]
                if sum(len(one.b) for one in found) < ENOUGH * (end - first):
                    continue
                refilled += [_part(piece, at, first), *found] if first > at else found
                new += found
                at = end
            if at < len(piece.b):
                refilled.append(_part(piece, at, len(piece.b)))
            continue
        gap = _gap(chain[k - 1] if k else None, chain[k + 1] if k + 1 < len(chain) else None, len(a), len(b))
        found = []
        # Frames of a piece at another speed are often the one beside the right one.
        if _is_misfit(a, b, piece, RETIMED * limit) and not any(
            _meet(one.a, gap.a) or _meet(one.b, gap.b) for one in others
        ):
            found = _fill(a, b, gap, limit)
        if sum(len(one.b) for one in found) < MOST_OF * len(piece.b):
            found = []
        refilled += found or [piece]
        new += found
    return refilled, new


def _is_better(a: Fingerprint, b: Fingerprint, new: Matched, old: Matched) -> bool:
    """Return whether frames fit far better in a new place."""
    before = _apart(a, b, old.a.first + new.b.first - old.b.first, new.b.first, len(new.b))
    return float(_apart(a, b, new.a.first, new.b.first, len(new.b)).mean()) < BETTER * float(before.mean())


def _part(piece: Matched, first: int, end: int) -> Matched:
    a, b = (Frames(one.first + first, one.first + end) for one in (piece.a, piece.b))
    return piece if end - first == len(piece.b) else replace(piece, a=a, b=b)


def _misfit_runs(a: Fingerprint, b: Fingerprint, piece: Matched, limit: float) -> list[tuple[int, int]]:
    """Return the runs of frames of a piece that show another moment of the same view."""
    if len(piece.a) != len(piece.b):
        return []
    bad = np.flatnonzero(_misfit(a.luma, b.luma, piece.a.first, piece.b.first, len(piece.b), limit))
    runs = np.split(bad, np.flatnonzero(np.diff(bad) > SHORTEST) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run) >= SHORTEST]


def _fill(a: Fingerprint, b: Fingerprint, gap: Gap, limit: float) -> list[Matched]:
    """Return the longest run of frames in a gap that fit, and those on both sides of it."""
    if min(len(gap.a), len(gap.b)) < SHORTEST or max(len(gap.a), len(gap.b)) > MOST:
        return []
    of_a, of_b = (
        film.luma[frames.first : frames.end].reshape(len(frames), -1).astype(np.int16)
        for film, frames in ((a, gap.a), (b, gap.b))
    )
    moving = np.argsort(np.maximum(np.ptp(of_a, axis=0), np.ptp(of_b, axis=0)))[-MOVING:]
    of_b = of_b[:, moving]
    fits = np.stack([np.partition(np.abs(one - of_b), -CELLS)[:, -CELLS:].mean(1) <= limit for one in of_a[:, moving]])

    def runs(low_a: int, low_b: int, high_a: int, high_b: int) -> list[Matched]:
        length = np.zeros((high_a - low_a + 1, high_b - low_b + 1), np.int64)
        for row in range(high_a - low_a):
            length[row + 1, 1:] = (length[row, :-1] + 1) * fits[low_a + row, low_b:high_b]
        count = int(length.max(initial=0))
        if count < SHORTEST:
            return []
        end_a, end_b = (int(at) for at in np.unravel_index(int(np.argmax(length)), length.shape))
        first_a, first_b = low_a + end_a - count, low_b + end_b - count
        own = _at(gap.a.first + first_a, gap.b.first + first_b, count)
        before, after = (low_a, low_b, first_a, first_b), (first_a + count, first_b + count, high_a, high_b)
        return [*runs(*before), own, *runs(*after)]

    return runs(0, 0, len(gap.a), len(gap.b))


def _is_misfit(a: Fingerprint, b: Fingerprint, piece: Matched, limit: float) -> bool:
    """Return whether a piece shows another moment of the same view."""
    along = np.arange(len(piece.b)) * piece.line.rate
    numbers = np.minimum(piece.a.first + along.astype(np.int64), piece.a.end - 1)
    cells = np.abs(a.luma[numbers].astype(np.int16) - b.luma[piece.b.first : piece.b.end]).reshape(len(numbers), -1)
    most = np.partition(cells, -CELLS, axis=1)[:, -CELLS:].mean(axis=1)
    return bool(np.quantile(np.median(cells, axis=1), 0.9) <= REST and np.quantile(most, 0.6) > limit)


def _gap(before: Matched | None, after: Matched | None, frames_a: int, frames_b: int) -> Gap:
    """Return the frames between two pieces, or before the first or after the last one."""
    first_a, first_b = (before.a.end, before.b.end) if before else (0, 0)
    end_a, end_b = (after.a.first, after.b.first) if after else (frames_a, frames_b)
    return Gap(Frames(first_a, max(first_a, end_a)), Frames(first_b, max(first_b, end_b)))


def _meet(one: Frames, other: Frames) -> bool:
    return one.first < other.end and other.first < one.end


def _settle(
    a: Fingerprint, b: Fingerprint, before: Matched | None, after: Matched | None, gap: Gap, limit: float
) -> tuple[Matched | None, list[Matched], Matched | None]:
    """Return what stays of the pieces on both sides of a gap, and between them what was moved into the gap."""
    tail = _misfit_length(a, b, before, limit, late=True) if before else 0
    head = _misfit_length(a, b, after, limit, late=False) if after else 0
    if before and after and tail and head:
        stays, rest = _trimmed(before, tail, late=True), _trimmed(after, head, late=False)
        room = Gap(Frames(before.a.end - tail, after.a.first + head), Frames(before.b.end - tail, after.b.first + head))
        found = [
            one
            for one in _fill(a, b, room, limit)
            if _apart(a, b, one.a.first, one.b.first, len(one.b)).mean() < BETTER * 2 * limit
        ]
        if sum(len(one.b) for one in found) >= ENOUGH * (tail + head):
            return stays, found, rest
    if before and (moved := _moved(a, b, before, tail, gap, limit, late=True)):
        return _trimmed(before, tail, late=True), [moved], after
    if after and (moved := _moved(a, b, after, head, gap, limit, late=False)):
        return before, [moved], _trimmed(after, head, late=False)
    return before, [], after


def _moved(
    a: Fingerprint, b: Fingerprint, piece: Matched, length: int, gap: Gap, limit: float, *, late: bool
) -> Matched | None:
    """Return the end of a piece where it fits, with its frames of one film in the gap; `None` if it is best as it is.

    Args:
        a: One film.
        b: The other film.
        piece: The piece.
        length: How many of its frames do not fit.
        gap: The frames between it and the next piece.
        limit: Levels from which a frame does not fit.
        late: Whether the gap lies behind the piece, not before it.
    """
    if not length or not len(gap.a) + len(gap.b):
        return None
    from_a, from_b = piece.a.first, piece.b.first
    if late:
        from_a, from_b = piece.a.end - length, piece.b.end - length
    way = 1 if late else -1
    places = [(from_a + way * step, from_b) for step in range(NEAREST, min(len(gap.a), FARTHEST) + 1)]
    places += [(from_a, from_b + way * step) for step in range(NEAREST, min(len(gap.b), FARTHEST) + 1)]
    if not places:
        return None
    there = [float(_apart(a, b, *place, length, -(-length // SAMPLES)).mean()) for place in places]
    here = float(_apart(a, b, from_a, from_b, length).mean())
    best = places[int(np.argmin(there))]
    if float(_apart(a, b, *best, length).mean()) > min(limit, here / 2):
        return None
    return _at(*best, length)


def _misfit_length(a: Fingerprint, b: Fingerprint, piece: Matched, limit: float, *, late: bool) -> int:
    """Return how many frames at the end of a piece, or at its start, show another moment of the same view."""
    count = min(len(piece.b), LONGEST)
    if piece.line.rate != 1.0 or len(piece.a) != len(piece.b):
        return 0
    from_a, from_b = (piece.a.end - count, piece.b.end - count) if late else (piece.a.first, piece.b.first)
    apart = _apart(a, b, from_a, from_b, count)
    # What fades differs everywhere.
    apart[_typical(a, b, from_a, from_b, count) > REST] = 0
    outwards = apart[::-1] if late else apart
    length = int(np.argmax(np.cumsum(np.minimum(outwards, 2 * limit) - limit))) + 1
    return length if length >= FEWEST and outwards[:length].mean() >= limit else 0


def _at(first_a: int, first_b: int, count: int) -> Matched:
    in_a, in_b = Frames(first_a, first_a + count), Frames(first_b, first_b + count)
    return Matched(in_a, in_b, Line(1.0, float(first_a - first_b), first_b, in_b.end, score=0.0, cost=0.0))


def _trimmed(piece: Matched, count: int, *, late: bool) -> Matched | None:
    """Return a piece without frames at its end, or at its start; `None` if nothing is left."""
    if count == len(piece.b):
        return None
    return _part(piece, 0, len(piece.b) - count) if late else _part(piece, count, len(piece.b))


def _grown(a: Fingerprint, b: Fingerprint, piece: Matched, room: Gap, limit: float) -> Matched:
    """Return a piece with the frames beside it that belong together too."""
    back = max(0, min(piece.a.first - room.a.first, piece.b.first - room.b.first))
    on = max(0, min(room.a.end - piece.a.end, room.b.end - piece.b.end))
    before = _apart(a, b, piece.a.first - back, piece.b.first - back, back)[::-1] > limit
    after = _apart(a, b, piece.a.end, piece.b.end, on) > limit
    back, on = (int(np.argmax(one)) if one.any() else len(one) for one in (before, after))
    return _at(piece.a.first - back, piece.b.first - back, back + len(piece.b) + on)


def _usual(a: Fingerprint, b: Fingerprint, chain: list[Matched]) -> float:
    """Return how much frames that belong together differ on the average."""
    apart = [
        _apart(a, b, piece.a.first, piece.b.first, len(piece.b), max(1, len(piece.b) // SAMPLES))
        for piece in chain
        if piece.line.rate == 1.0 and len(piece.a) == len(piece.b)
    ]
    return float(np.median(np.concatenate(apart))) if apart else 0.0


def _apart(
    a: Fingerprint, b: Fingerprint, first_a: int, first_b: int, count: int, step: int = 1
) -> NDArray[np.float64]:
    """Return the mean difference of luma in the cells that differ most, for every `step`th of `count` frames."""
    return _differences(a.luma, b.luma, first_a, first_b, count, step)[0]


def _typical(a: Fingerprint, b: Fingerprint, first_a: int, first_b: int, count: int) -> NDArray[np.float64]:
    """Return the median difference of luma of all cells, for each of `count` frames."""
    return _differences(a.luma, b.luma, first_a, first_b, count, 1)[1]


@kernel
def _misfit(
    a: NDArray[np.uint8], b: NDArray[np.uint8], first_a: int, first_b: int, count: int, limit: float
) -> NDArray[np.bool_]:
    """Return which frames differ by more than `limit` in the cells that differ most, but by little on the whole."""
    misfit = np.zeros(count, np.bool_)
    for number in range(count):
        of_a, of_b = a[first_a + number].ravel(), b[first_b + number].ravel()
        most = np.uint8(0)
        for cell in range(of_a.size):
            one, other = of_a[cell], of_b[cell]
            most = max(most, max(one, other) - min(one, other))
        # That of most frames is less already.
        if most > limit:
            apart, typical = _differences(a, b, first_a + number, first_b + number, 1, 1)
            misfit[number] = apart[0] > limit and typical[0] <= REST
    return misfit


@kernel
def _differences(
    a: NDArray[np.uint8], b: NDArray[np.uint8], first_a: int, first_b: int, count: int, step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of the `CELLS` greatest differences of luma, and the median, for every `step`th frame."""
    frames = (count + step - 1) // step
    most, typical = np.empty(frames), np.empty(frames)
    histogram = np.empty(256, np.int64)
    for number in range(frames):
        histogram[:] = 0
        of_a, of_b = a[first_a + number * step], b[first_b + number * step]
        for y in range(ROWS):
            for x in range(COLUMNS):
                histogram[abs(np.int64(of_a[y, x]) - np.int64(of_b[y, x]))] += 1
        total, left, value = 0, CELLS, 255
        while left:
            taken = min(left, histogram[value])
            total += taken * value
            left -= taken
            value -= 1
        most[number] = total / CELLS
        # The two in the middle.
        below, value = histogram[0], 0
        while below < ROWS * COLUMNS // 2:
            value += 1
            below += histogram[value]
        upper = value
        while below <= ROWS * COLUMNS // 2:
            upper += 1
            below += histogram[upper]
        typical[number] = (value + upper) / 2
    return most, typical
