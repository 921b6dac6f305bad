"""Pictures that one film holds: where the other moves on they are a freeze, where it waits they are an insertion."""

import bisect
import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.chain import Matched, Order
from sage_compare.aligned.lines import NONE_COST, Line, runs_of
from sage_compare.aligned.pictures import STILL, stands_still
from sage_compare.aligned.script import ChangeKind, ChangeSide, Frames

LEAST = 4
"""Frames of the shortest freeze, and those of the other film that must differ from the held picture."""
NEAR = 3
"""Pieces on each side that may be the one that the freeze interrupts: short ones look alike by chance."""
MOVES = 1.5, 0.5
"""A film moves against a held picture where it differs by this factor and this many steps of luma more."""
DETOUR = 12
"""Frames of a piece on another line beside a held picture that may be there by chance."""
NOISE = 6.0
"""Mean difference of luma up to which two pictures may be one."""
SAME = 0.03
"""Steps of luma by which one of two frames must fit better."""

Luma = NDArray[np.float32]


@dataclass(frozen=True)
class _Side:
    """One of the films as the one that may hold a picture.

    Attributes:
        side: Which one it is.
        held: Its luma.
        moves: Luma of the other one.
        steps: How much each of its frames differs from the next, in parts of `kernels.SCALE`.
        path: The sum of those of the other film up to each frame.
        flat: 1 for each of its frames that is of one colour.
    """

    side: ChangeSide
    held: NDArray[np.uint8]
    moves: NDArray[np.uint8]
    steps: NDArray[np.float32]
    path: NDArray[np.float64]
    flat: NDArray[np.float32]

    def moves_on(self, own: NDArray[np.signedinteger], frames: NDArray[np.signedinteger]) -> bool:
        """Return whether the other film moves in these frames clearly more than this one in the frames `own`."""
        still = float(self.steps[own[0] : own[-2]].sum())
        return bool(self.path[frames[-1]] - self.path[frames[0]] > 2 * still + STILL * LEAST)

    def frames(self, piece: Matched) -> Frames:
        """Return the frames of a piece in this film."""
        return piece.b if self.side is ChangeSide.B else piece.a


def holds(a: Fingerprint, b: Fingerprint, pair: kernels.Pair, order: Order) -> Order:
    """Return the order with its freezes, and with nothing inside a picture that b only holds longer.

    P-frames make slow shots stand still in one encode: a picture is held only if the other film moves against it.
    """
    steps_a, steps_b = kernels.steps(pair.a), kernels.steps(pair.b)
    path_a, path_b = (np.concatenate([[0.0], np.cumsum(steps, dtype=np.float64)]) for steps in (steps_a, steps_b))
    sides = (
        _Side(ChangeSide.B, b.luma, a.luma, steps_b, path_a, pair.flat_b),
        _Side(ChangeSide.A, a.luma, b.luma, steps_a, path_b, pair.flat_a),
    )
    # The noise of a dark picture, whose contrast is low, is more; of a slow shot, that would be too long a run.
    seen = set[tuple[ChangeSide, Frames]]()
    for limit, side in itertools.product((STILL, 2 * STILL), sides):
        for first, last in runs_of(stands_still(side.steps, limit)):
            run = Frames(first, last + 1)
            if len(run) > LEAST and side.flat[first] <= 0.5 and (side.side, run) not in seen:
                seen.add((side.side, run))
                order = _with_hold(pair, order, side, run)
    return order


def _with_hold(pair: kernels.Pair, order: Order, side: _Side, run: Frames) -> Order:
    """Return the order with what was done at the frames `run` of one film, if it holds a picture there."""
    begun = bisect.bisect_right(order.chain, run.first, key=lambda piece: side.frames(piece).first)
    ended = bisect.bisect_left(order.chain, run.end, key=lambda piece: side.frames(piece).end)
    before, after = order.chain[max(begun - NEAR, 0) : begun][::-1], order.chain[ended : ended + NEAR]
    for one, other in itertools.product(before, after):
        if (one.line.rate, one.line.start) == (other.line.rate, other.line.start):
            return _frozen(pair, order, side, run, one, other)
    if before and after and side.side is ChangeSide.B:
        return _longer(side, pair, order, run, before[0], after[0])
    return order


def _longer(side: _Side, pair: kernels.Pair, order: Order, run: Frames, before: Matched, after: Matched) -> Order:
    """Return the order in which a picture that b holds is matched where it is first shown, if a continues after it."""
    shown = kernels.frame_at(pair, after.line.rate, after.line.start, run.end) - 1 if run.end < len(pair.b) else -1
    numbers = kernels.frames_along(pair, before.line.rate, before.line.start, run.first, run.end)
    if shown < 0 or after.b.first <= before.b.first or not (numbers[0] <= shown < numbers[-1]):
        return order
    first = run.first + int(np.searchsorted(numbers, shown)) + 1
    # In a slow shot the jump may be at many places, and the path has found the best one.
    if run.end - first < LEAST or abs(first - before.b.end) >= LEAST:
        return order
    # All are that picture, as exactly as the frame in which it is first shown, and a moves on from it.
    held = _luma(side.held, np.arange(first - 1, run.end))
    own = np.abs(held - _luma(side.moves, np.array([shown]))).mean(1)
    later = np.where(numbers < 0, len(pair.a) - 1, numbers)[first - 1 - run.first :]
    line = np.abs(held - _luma(side.moves, later)).mean(1)
    factor, more = MOVES
    if own.max() > own[0] + 2 * SAME or (line > factor * own + more).sum() < LEAST:
        return order
    return _cleared(pair, order, Frames(shown + 1, shown + 1), Frames(first, run.end), before, after)


def _frozen(pair: kernels.Pair, order: Order, side: _Side, run: Frames, before: Matched, after: Matched) -> Order:
    """Return the order with a freeze of one film, between two pieces of one line, if the other film moves."""
    line = before.line
    low, high = _around(pair, line, side, run)
    numbers = kernels.frames_along(pair, line.rate, line.start, low, high)
    own = np.arange(low, high) if side.side is ChangeSide.B else numbers
    # With the frame after the run, in which both films show the same again.
    inside = np.flatnonzero((numbers >= 0) & (own >= run.first) & (own <= run.end))
    if len(inside) <= LEAST or own[inside[-1]] != run.end:
        return order
    frames_a, frames_b = numbers[inside], low + inside
    held, moves = (frames_b, frames_a) if side.side is ChangeSide.B else (frames_a, frames_b)
    if not side.moves_on(held, moves):
        return order
    first = _freezes_at(_luma(side.held, held), _luma(side.moves, moves)) if _jumps(side, held, moves) else None
    if first is None:
        return order
    a = Frames(int(frames_a[first]), int(frames_a[-2]) + 1)
    b = Frames(int(frames_b[first]), int(frames_b[-2]) + 1)
    cleared = _cleared(pair, order, a, b, before, after)
    if cleared is order:
        return order
    return replace(cleared, frozen=[*order.frozen, Matched(a, b, line, ChangeKind.FROZEN, side.side)])


def _around(pair: kernels.Pair, line: Line, side: _Side, run: Frames) -> tuple[int, int]:
    """Return frames of b in which those are that a line shows at a run, and hardly more."""
    if side.side is ChangeSide.B:
        return run.first, min(run.end + 1, len(pair.b))
    low, high = np.searchsorted(pair.u, ((run.first - line.start) / line.rate, (run.end - line.start) / line.rate))
    return max(int(low) - LEAST, 0), min(int(high) + LEAST, len(pair.b))


def _jumps(side: _Side, held: NDArray[np.signedinteger], moves: NDArray[np.signedinteger]) -> bool:
    """Return whether the last picture held is further from what the other shows then than from what it showed before.

    It is the first condition of `_freezes_at`, which few runs meet.
    """
    apart = kernels.apart_from(side.moves, moves[:-1], side.held[held[-2]])
    factor, more = MOVES
    return bool(apart[-1] > factor * apart.min() + more)


def _freezes_at(held: Luma, moves: Luma) -> int | None:
    """Return the first frame in which one film holds a picture that the other moves on from; `None` if it does not.

    The last frame of each is the one after the held picture. There the one that held it jumps to where the other is,
    which does not jump. If it does, or if both show the held picture to the end, then one film shows something else
    for some frames while the other stands still as before.
    """
    picture = np.median(held[len(held) // 4 : -1], axis=0)
    apart = np.abs(moves - picture).mean(1)
    near = float(apart[:-1].min())
    own, line = np.abs(held - moves[int(np.argmin(apart[:-1]))]).mean(1), np.abs(held - moves).mean(1)
    factor, more = MOVES
    differs = line[:-1] > factor * own[:-1] + more
    if int(differs.sum()) < LEAST or not differs[-1] or near > NOISE or line[-1] > factor * near + more:
        return None
    if float(np.abs(moves[-1] - moves[-2]).mean()) * factor > apart[-2]:
        return None
    # The first frames of the run may still move, so slowly that they count as still.
    middle = int(np.argmax(differs))
    moving = np.flatnonzero(own[:middle] > line[:middle] + SAME)
    first = int(moving[-1]) + 1 if len(moving) else 0
    if line[first] <= own[first] + SAME:
        first += 1
    return first if len(held) - 1 - first >= LEAST else None


def _cleared(pair: kernels.Pair, order: Order, a: Frames, b: Frames, before: Matched, after: Matched) -> Order:
    """Return the order with nothing matched in two ranges, and the pieces around them reaching up to them.

    A piece reaches no further than it explains every frame. Nothing is cleared that was moved, or is on another line
    for longer than `DETOUR`.
    """
    low, high = before.b.first, after.b.end
    if not low < b.first or not b.end < high:
        return order
    left, right = before.part(pair, low, b.first), after.part(pair, b.end, high)
    if not _explains(pair, left, before.b.end, left.b.end):
        left = before
    if not _explains(pair, right, right.b.first, after.b.first):
        right = after
    whole_a, whole_b = Frames(left.a.first, right.a.end), Frames(low, high)
    if any(_shared(one.a, whole_a) or _shared(one.b, whole_b) for one in (*order.moved, *order.frozen)):
        return order
    others = [piece for piece in order.chain if piece not in (before, after)]
    earlier = [piece for piece in others if piece.b.end <= low]
    later = [piece for piece in others if piece.b.first >= high]
    between = others[len(earlier) : len(others) - len(later)]
    if any(len(piece.b) - _shared(piece.b, b) > DETOUR for piece in between):
        return order
    repeats = [piece for piece in order.repeats if not _shared(piece.b, whole_b)]
    return replace(order, chain=[*earlier, left, right, *later], repeats=repeats)


def _explains(pair: kernels.Pair, piece: Matched, first: int, end: int) -> bool:
    return bool((kernels.costs_along(pair, piece.line.row(len(pair.a)), first, end) <= NONE_COST).all())


def _luma(luma: NDArray[np.uint8], frames: NDArray[np.signedinteger]) -> Luma:
    pictures: Luma = luma[frames].reshape(len(frames), -1).astype(np.float32)
    return pictures


def _shared(one: Frames, other: Frames) -> int:
    return max(min(one.end, other.end) - max(one.first, other.first), 0)
