"""Ends of pieces that show another moment of the same view: a camera that does not move, and something that passes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS, Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.chain import Matched, Order
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import Frames

LONGEST = 96
"""Frames at the end of a piece that are looked at."""
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
SAMPLES = 24
"""Frames of a part that are compared at each place."""


@dataclass(frozen=True)
class Gap:
    """Frames of a and of b that lie between two pieces."""

    a: Frames
    b: Frames


def settled(pair: kernels.Pair, a: Fingerprint, b: Fingerprint, order: Order) -> Order:
    """Return the order with those ends of pieces moved into the gap beside them that fit there and not where they are.

    Repeats that do not fit are left out.

    The alignment compares 144 cells, of which a small thing that passes covers two or three: too few to pay for another
    jump. The cells that differ most tell which moment it is.
    """
    if pair.shown.size or not order.chain:
        return order
    limit = max(LEAST, NOISE * _usual(a, b, order.chain))
    order = replace(order, repeats=[one for one in order.repeats if not _is_misfit(a, b, one, limit)])
    others = [*order.moved, *order.repeats, *order.frozen]
    chain, left, moved = list[Matched](), list(order.chain), list[Matched]()
    while True:
        before, after = chain[-1] if chain else None, left[0] if left else None
        gap = _gap(before, after, len(a), len(b))
        if not any(_meet(one.a, gap.a) or _meet(one.b, gap.b) for one in others):
            found = None
            if before and (found := _moved(a, b, before, gap, limit, late=True)):
                chain[-1:] = [found] if len(found.b) == len(before.b) else [_without(before, found, late=True), found]
            elif after and (found := _moved(a, b, after, gap, limit, late=False)):
                chain.append(found)
                left[:1] = [] if len(found.b) == len(after.b) else [_without(after, found, late=False)]
            moved += [found] if found else []
        if not left:
            break
        chain.append(left.pop(0))
    for k, piece in enumerate(chain):
        if piece in moved:
            after = chain[k + 1] if k + 1 < len(chain) else None
            room = _gap(chain[k - 1] if k else None, after, len(a), len(b))
            chain[k] = _grown(a, b, piece, room, limit)
    return replace(order, chain=chain)


def _is_misfit(a: Fingerprint, b: Fingerprint, piece: Matched, limit: float) -> bool:
    """Return whether a piece shows another moment of the same view."""
    if piece.line.rate != 1.0 or len(piece.a) != len(piece.b):
        return False
    place = piece.a.first, piece.b.first, len(piece.b)
    return bool(np.median(_typical(a, b, *place)) <= REST and np.median(_apart(a, b, *place)) > limit)


def _gap(before: Matched | None, after: Matched | None, frames_a: int, frames_b: int) -> Gap:
    """Return the frames between two pieces, or before the first or after the last one."""
    first_a, first_b = (before.a.end, before.b.end) if before else (0, 0)
    end_a, end_b = (after.a.first, after.b.first) if after else (frames_a, frames_b)
    return Gap(Frames(first_a, max(first_a, end_a)), Frames(first_b, max(first_b, end_b)))


def _meet(one: Frames, other: Frames) -> bool:
    return one.first < other.end and other.first < one.end


def _moved(a: Fingerprint, b: Fingerprint, piece: Matched, gap: Gap, limit: float, *, late: bool) -> Matched | None:
    """Return the end of a piece where it fits, with its frames of one film in the gap; `None` if it is best as it is.

    Args:
        a: One film.
        b: The other film.
        piece: The piece.
        gap: The frames between it and the next piece.
        limit: Levels from which a frame does not fit.
        late: Whether the gap lies behind the piece, not before it.
    """
    count = min(len(piece.b), LONGEST)
    if piece.line.rate != 1.0 or len(piece.a) != len(piece.b) or not len(gap.a) + len(gap.b):
        return None
    from_a, from_b = (piece.a.end - count, piece.b.end - count) if late else (piece.a.first, piece.b.first)
    apart = _apart(a, b, from_a, from_b, count)
    # What fades differs everywhere.
    apart[_typical(a, b, from_a, from_b, count) > REST] = 0
    outwards = apart[::-1] if late else apart
    length = int(np.argmax(np.cumsum(np.minimum(outwards, 2 * limit) - limit))) + 1
    here = float(outwards[:length].mean())
    if here < limit:
        return None
    if late:
        from_a, from_b = piece.a.end - length, piece.b.end - length
    way = 1 if late else -1
    places = [(from_a + way * step, from_b) for step in range(1, min(len(gap.a), FARTHEST) + 1)]
    places += [(from_a, from_b + way * step) for step in range(1, min(len(gap.b), FARTHEST) + 1)]
    there = [float(_apart(a, b, *place, length, -(-length // SAMPLES)).mean()) for place in places]
    best = places[int(np.argmin(there))]
    if float(_apart(a, b, *best, length).mean()) > min(limit, here / 2):
        return None
    return _at(*best, length, piece.line)


def _at(first_a: int, first_b: int, count: int, line: Line) -> Matched:
    in_a, in_b = Frames(first_a, first_a + count), Frames(first_b, first_b + count)
    return Matched(in_a, in_b, replace(line, start=float(first_a - first_b), first=first_b, end=in_b.end))


def _without(piece: Matched, moved: Matched, *, late: bool) -> Matched:
    """Return what stays of a piece."""
    count = len(piece.b) - len(moved.b)
    a, b = (
        Frames(one.first, one.first + count) if late else Frames(one.end - count, one.end) for one in (piece.a, piece.b)
    )
    return replace(piece, a=a, b=b)


def _grown(a: Fingerprint, b: Fingerprint, piece: Matched, room: Gap, limit: float) -> Matched:
    """Return a piece with the frames beside it that belong together too."""
    back = max(0, min(piece.a.first - room.a.first, piece.b.first - room.b.first))
    on = max(0, min(room.a.end - piece.a.end, room.b.end - piece.b.end))
    before = _apart(a, b, piece.a.first - back, piece.b.first - back, back)[::-1] > limit
    after = _apart(a, b, piece.a.end, piece.b.end, on) > limit
    back, on = (int(np.argmax(one)) if one.any() else len(one) for one in (before, after))
    return _at(piece.a.first - back, piece.b.first - back, back + len(piece.b) + on, piece.line)


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
    cells = _cells(a, b, first_a, first_b, count, step)
    apart: NDArray[np.float64] = np.partition(cells, -CELLS, axis=1)[:, -CELLS:].mean(axis=1, dtype=np.float64)
    return apart


def _typical(a: Fingerprint, b: Fingerprint, first_a: int, first_b: int, count: int) -> NDArray[np.float64]:
    """Return the median difference of luma of all cells, for each of `count` frames."""
    return np.asarray(np.median(_cells(a, b, first_a, first_b, count), axis=1), np.float64)


def _cells(a: Fingerprint, b: Fingerprint, first_a: int, first_b: int, count: int, step: int = 1) -> NDArray[np.int16]:
    of_a, of_b = a.luma[first_a : first_a + count : step], b.luma[first_b : first_b + count : step]
    cells: NDArray[np.int16] = np.abs(of_a.astype(np.int16) - of_b).reshape(len(of_a), ROWS * COLUMNS)
    return cells
