"""Fades and dissolves where two pieces of the chain meet, and at the ends of the film.

A fade shows the frames that the line of the neighbouring piece would show next, mixed with one colour in shares that
run to 0. A dissolve mixes the frames that the lines of both pieces show. One film has it, the other has a plain cut.
"""

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.alterations import PLAIN
from sage_compare.aligned.chain import LEAST_MOVED, Matched, Order
from sage_compare.aligned.explain import ALIKE, GRADED, fit
from sage_compare.aligned.fading import (
    INSIDE,
    LATE,
    LONGEST,
    MARGIN,
    ROUNDED,
    SHORTEST,
    UNEXPLAINED,
    Mask,
    Numbers,
    Values,
    best_fade,
    best_run,
    best_step,
)
from sage_compare.aligned.gaps import without
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import ChangeKind, ChangeSide, Frames

MOST = 0.75
"""Share of a short piece from which it is part of a fade."""
STEP = 4.0
"""Least mean difference of luma across a cut."""


@dataclass(frozen=True)
class _View:
    """The pair as seen from x, the film that fades; y shows the pictures as they are.

    Attributes:
        grades: What `_grade` has returned.
    """

    pair: kernels.Pair
    x: Fingerprint
    y: Fingerprint
    side: ChangeSide
    grades: dict[Matched, tuple[float, float, float]] = field(default_factory=dict)

    def x_of(self, piece: Matched) -> Frames:
        """Return the range of a piece in x."""
        return piece.b if self.side is ChangeSide.B else piece.a

    def y_of(self, piece: Matched) -> Frames:
        """Return the range of a piece in y."""
        return piece.a if self.side is ChangeSide.B else piece.b

    def numbers(self, line: Line, first: int, end: int) -> Numbers:
        """Return the frame of y for each frame ``[first, end)`` of x on a line; -1 outside y."""
        if self.side is ChangeSide.B:
            end_b = min(end, len(self.x))
            found = kernels.frames_along(self.pair, line.rate, line.start, first, end_b).astype(np.int64)
            return np.append(found, np.full(end - end_b, -1))
        frames = np.arange(first, end)
        positions = frames - 0.5
        if self.pair.shown.size:
            positions = (np.searchsorted(self.pair.shown, frames) - 0.5) / kernels.LUT_STEPS
        wanted = (positions - line.start) / line.rate
        found = np.searchsorted(self.pair.u, wanted - 1e-9)
        return np.where((found >= len(self.y)) | (wanted < self.pair.u[0] - 1.0), -1, found)

    def part(self, piece: Matched, first: int, end: int, change: ChangeKind | None = None) -> Matched | None:
        """Return the frames ``[first, end)`` of x on the line of a piece; `None` if there are none in y."""
        own = self.x_of(piece)
        if end <= first:
            return None
        if first == own.first and end == own.end:
            y = self.y_of(piece)
        else:
            numbers = self.numbers(piece.line, first, end + 1)
            inside = numbers[:-1][numbers[:-1] >= 0]
            if not inside.size:
                return None
            after = int(numbers[-1]) if numbers[-1] >= 0 else int(inside[-1]) + 1
            y_first, y_end = int(inside[0]), max(after, int(inside[-1]) + (self.side is ChangeSide.B))
            # An end that stays keeps the frames of y that it had.
            y_first = self.y_of(piece).first if first == own.first else y_first
            y_end = self.y_of(piece).end if end == own.end else y_end
            y = Frames(y_first, y_end)
        if not len(y):
            return None
        x = Frames(first, end)
        a, b = (y, x) if self.side is ChangeSide.B else (x, y)
        return Matched(a, b, piece.line, change, self.side if change else None)


@dataclass(frozen=True)
class _Run:
    """Frames ``[first, end)`` of x whose shares run from 1 to 0, and what that saves.

    Attributes:
        first: First frame whose share is below 1.
        end: End of the frames that the run explains.
        at: Frame of x that `losses` begin with.
        losses: Loss of each frame of the window along the run.
    """

    first: int
    end: int
    at: int
    losses: Values

    def upto(self, first: int, end: int) -> Values:
        """Return the sums of the losses of the frames from `first` up to each one, as many as ``end - first + 1``."""
        return np.concatenate([[0.0], np.cumsum(self.losses[first - self.at : end - self.at])])


def find(pair: kernels.Pair, a: Fingerprint, b: Fingerprint, order: Order, known: Collection[Matched] = ()) -> Order:
    """Return the order with a piece in its chain for each fade and each half of a dissolve, cut off its neighbours.

    Args:
        pair: The films.
        a: One film.
        b: The other film.
        order: The pieces.
        known: Pieces that were looked at before. Nothing is looked for between two of them.
    """
    order = replace(order, repeats=_left_over(pair, order.repeats, order.chain))
    for view in (_View(pair, b, a, ChangeSide.B), _View(pair, a, b, ChangeSide.A)):
        chain: list[Matched] = []
        for after in [*_not_faded(view, order.chain, known), None]:
            before = chain.pop() if chain else None
            if all(piece is None or piece in known for piece in (before, after)):
                chain.extend(piece for piece in (before, after) if piece)
            else:
                chain.extend(_meet(view, before, after, order))
        moved = [one for one in order.moved if not any(_meets(one.a, other.a) for other in chain)]
        order = replace(order, chain=chain, moved=moved, repeats=_left_over(pair, order.repeats, chain))
    return order


def _not_faded(view: _View, chain: list[Matched], known: Collection[Matched]) -> list[Matched]:
    """Return a chain without the short pieces that are part of a fade beside them.

    In a film that fades of itself, a second fade makes frames look like earlier or later ones.
    """
    kept: list[Matched] = []
    for k, piece in enumerate(chain):
        before, after = kept[-1] if kept else None, chain[k + 1] if k + 1 < len(chain) else None
        own = view.x_of(piece)
        if not piece.change and len(own) <= INSIDE and piece not in known:
            rising = after and not after.change and _rise(view, piece, after, own.end)
            falling = before and not before.change and _fall(view, before, piece, own.first)
            faded = max(own.end - rising.first if rising else 0, falling.end - own.first if falling else 0)
            if faded >= MOST * len(own):
                continue
        kept.append(piece)
    return kept


def _left_over(pair: kernels.Pair, repeats: list[Matched], chain: list[Matched]) -> list[Matched]:
    """Return repeats without the frames that fade: a shot that stands still also looks like a repeat of itself."""
    return [
        piece if left == piece.b else piece.part(pair, left.first, left.end)
        for piece in repeats
        for left in without(piece.b, [one.b for one in chain])
        if len(left) >= LEAST_MOVED
    ]


def _meet(view: _View, before: Matched | None, after: Matched | None, order: Order) -> list[Matched]:
    """Return two pieces that follow each other, or one at an end of the film, with what was found between them."""
    plain = [piece for piece in (before, after) if piece]
    if all(piece.change for piece in plain):
        return plain
    gap = Frames(view.x_of(before).end if before else 0, view.x_of(after).first if after else len(view.x))
    # A few frames that seem moved may belong to a piece that begins late.
    moved = [one for one in order.moved if len(one.b) > LATE]
    moved += order.frozen
    others = [view.x_of(one) for one in moved]
    # What b repeats is explained; what a shows twice is free.
    others += [one.b for one in order.repeats if view.side is ChangeSide.B]
    inside = [one for one in others if _meets(one, gap)]
    # A piece that has a change already is only a limit.
    left = None if before and before.change else before
    right = None if after and after.change else after
    falling = _fall(view, left, right, min([gap.end, *(one.first for one in inside)])) if left else None
    rising = _rise(view, left, right, max([gap.first, *(one.end for one in inside)])) if right else None
    found: list[Matched | None] = []
    if left and right and not inside and len(gap) <= LONGEST:
        found = _dissolve(view, left, right, falling, rising)
    if not found and (falling or rising):
        found = _faded(view, left, right, falling, rising)
        if before and not left:
            found.insert(0, before)
        if after and not right:
            found.append(after)
    pieces = [piece for piece in found if piece]
    if not pieces or None in found or not _in_order(view, pieces, others, [view.y_of(one) for one in moved]):
        return plain
    return pieces


def _meets(one: Frames, other: Frames) -> bool:
    return one.first < other.end and one.end > other.first


def _in_order(view: _View, pieces: list[Matched], others_x: list[Frames], others_y: list[Frames]) -> bool:
    """Return whether no piece uses frames of another one."""
    for get, others in ((view.x_of, others_x), (view.y_of, others_y)):
        ranges = [get(piece) for piece in pieces]
        if any(one.end > following.first for one, following in itertools.pairwise(ranges)):
            return False
        if any(_meets(one, other) for one in ranges for other in others):
            return False
    return True


def _same_line(before: Matched | None, after: Matched | None) -> bool:
    return bool(before and after and before.line.rate == after.line.rate and before.line.start == after.line.start)


def _fall(view: _View, before: Matched, after: Matched | None, limit: int) -> _Run | None:
    """Return the fade at the end of a piece."""
    own = view.x_of(before)
    if after and limit == view.x_of(after).first:
        limit = min(limit + INSIDE, view.x_of(after).end)
    first, end = max(own.end - INSIDE, own.first), min(limit, own.end + LONGEST)
    if end - first < SHORTEST:
        return None
    x, y, known, noise = _pictures(view, before, first, end)
    run = best_fade(x, y, known, own.end - first, lambda: _left_by(view, after, first, end), noise)
    return run and _Run(first + run[0], first + run[1], first, run[2])


def _rise(view: _View, before: Matched | None, after: Matched, limit: int) -> _Run | None:
    """Return the fade at the start of a piece."""
    own = view.x_of(after)
    if before and limit == view.x_of(before).end:
        limit = max(limit - INSIDE, view.x_of(before).first)
    first, end = max(limit, own.first - LONGEST), min(own.first + INSIDE, own.end)
    if end - first < SHORTEST:
        return None
    x, y, known, noise = _pictures(view, after, first, end)
    edge = end - own.first
    run = best_fade(x[::-1], y[::-1], known[::-1], edge, lambda: _left_by(view, before, first, end)[::-1], noise)
    return run and _Run(end - run[1], end - run[0], first, run[2][::-1])


def _pictures(view: _View, piece: Matched, first: int, end: int) -> tuple[Values, Values, Mask, float]:
    """Return the pictures of x, those of y on the line of a piece with its grade, which there are, and the noise."""
    if piece not in view.grades:
        view.grades[piece] = _grade(view, piece)
    gain, offset, noise = view.grades[piece]
    numbers = view.numbers(piece.line, first, end)
    known = numbers >= 0
    y = gain * _luma(view.y, np.maximum(numbers, 0)) + offset
    return _luma(view.x, np.arange(first, end)), y, known, noise


def _grade(view: _View, piece: Matched) -> tuple[float, float, float]:
    """Return the gain and the offset that make the pictures of y in a piece those of x, and the noise that is left."""
    own = view.x_of(piece)
    sample = np.linspace(own.first, own.end - 1, min(len(own), 24)).astype(int)
    numbers = view.numbers(piece.line, own.first, own.end)[sample - own.first]
    x, y = _luma(view.x, sample[numbers >= 0]), _luma(view.y, numbers[numbers >= 0])
    # Frames of one colour have no contrast that tells the gain, and a few others may be the ones that fade.
    some = y.std(1) >= PLAIN
    if some.sum() <= len(some) / 2:
        return 1.0, 0.0, 1.0
    x, y = x[some], y[some]
    gains, _ = fit(y, x)
    gain = float(np.clip(np.median(gains), 0.5, 2.0))
    offset = float(np.median((x - gain * y).mean(1)))
    return gain, offset, max(float(np.median(((x - gain * y - offset) ** 2).mean(1))), 0.5)


def _left_by(view: _View, piece: Matched | None, first: int, end: int) -> Values:
    """Return the mean square of what a piece leaves of the frames ``[first, end)`` of x; infinite outside it."""
    left = np.full(end - first, np.inf)
    if piece is None:
        return left
    own = view.x_of(piece)
    inside = slice(max(own.first - first, 0), max(min(own.end, end) - first, 0))
    if inside.stop > inside.start:
        x, y, known, _ = _pictures(view, piece, first + inside.start, first + inside.stop)
        left[inside] = np.where(known, ((x - y) ** 2).mean(1), np.inf)
    return left


def _luma(film: Fingerprint, numbers: Numbers) -> Values:
    pictures: Values = film.luma[numbers].reshape(len(numbers), -1).astype(np.float32)
    return pictures


def _apart_from_grade(x: Values, y: Values) -> Values:
    """Return for each frame the mean square of what no gain and offset explain."""
    _, alike = fit(y, x)
    left: Values = x.var(1) * (1.0 - alike**2)
    return left


def _faded(
    view: _View, before: Matched | None, after: Matched | None, falling: _Run | None, rising: _Run | None
) -> list[Matched | None]:
    """Return the pieces with fades between them."""
    if falling and rising and falling.end > rising.first:
        # Both explain some frames: the cut is where the sum is least.
        first, end = max(rising.first, falling.first + 1), min(falling.end, rising.end - 1)
        if first > end:
            return []
        sums = falling.upto(first, end) + (rising.upto(first, end)[-1] - rising.upto(first, end))
        cut = first + int(np.argmin(sums))
        falling, rising = replace(falling, end=cut), replace(rising, first=cut)
    found: list[Matched | None] = []
    if before:
        own = view.x_of(before)
        end = min(own.end, rising.first) if rising else own.end
        if falling:
            found.append(view.part(before, own.first, falling.first))
            found.append(view.part(before, falling.first, falling.end, ChangeKind.FADE))
        else:
            found.append(view.part(before, own.first, end))
    if after:
        own = view.x_of(after)
        first = max(own.first, falling.end) if falling else own.first
        if rising:
            found.append(view.part(after, rising.first, rising.end, ChangeKind.FADE))
            found.append(view.part(after, rising.end, own.end))
        else:
            found.append(view.part(after, first, own.end))
    return found


def _dissolve(
    view: _View, before: Matched, after: Matched, falling: _Run | None, rising: _Run | None
) -> list[Matched | None]:
    """Return the pieces with a dissolve between them; nothing if fades or a cut explain the frames as well."""
    left, right = view.x_of(before), view.x_of(after)
    first, end = max(left.end - INSIDE, left.first), min(right.first + INSIDE, right.end)
    x, y, known, noise = _pictures(view, before, first, end)
    _, other, known_other, noise_other = _pictures(view, after, first, end)
    same = _same_line(before, after)
    shots = y, other
    least = 0.03
    if same:
        between = slice(left.end - first, right.first - first)
        if len(x[between]) and float(np.median(fit(y[between], x[between])[1])) > GRADED:
            return []
        # The frames after the cut of the one shot and before it of the other are not there: the nearest are held.
        around = slice(max(left.end - first - 2, 1), right.first - first + 2)
        steps = np.abs(np.diff(y, axis=0)).mean(1)[around.start - 1 : around.stop]
        if not steps.size or steps.max() < STEP:
            return []
        cut = around.start + int(np.argmax(steps))
        y, other = np.concatenate([y[:cut], np.repeat(y[cut - 1 : cut], len(y) - cut, 0)]), other.copy()
        other[:cut] = other[cut]
        least = 0.2
    known = known & known_other
    known[: left.end - first] = known[right.first - first :] = True
    apart = y - other
    squares = ((x - other) ** 2).mean(1), ((x - other) * apart).mean(1), (apart**2).mean(1)
    cap = np.minimum(np.maximum(9.0 * max(noise, noise_other), least * squares[2]), 0.2 * squares[2]) + ROUNDED
    step = best_step(squares, cap, known, np.arange(1, len(x)), None)
    if step <= MARGIN:
        return []
    # Held frames explain much: on one line, the dissolve begins where the piece ends.
    starts = np.arange(1, min(left.end - first + (2 if same else LATE), len(x) - 1) + 1)
    best = best_run(squares, cap, known, starts, None)
    if best is None:
        return []
    total, start, stop, _ = best
    if np.median(x[start:stop].std(1)) < PLAIN:
        # A card of one colour is as far from both pictures as a mix of them.
        return []
    jump = abs(before.line.start - after.line.start) if before.line.rate == after.line.rate else np.inf
    alike = float(np.median(fit(y[start:stop], other[start:stop])[1])) > ALIKE
    if alike or 0.0 < jump < stop - start:
        # The same shot with another grade, or a few frames later.
        return []
    graded = [_apart_from_grade(x, one) for one in shots]
    without = np.full(len(x), UNEXPLAINED)
    own = np.arange(first, end)
    without[own < left.end] = np.minimum(graded[0] / cap, 1.0)[own < left.end]
    without[own >= right.first] = np.minimum(graded[1] / cap, 1.0)[own >= right.first]
    for run in (falling, rising):
        if run:
            within = slice(max(run.first, first) - first, min(run.end, end) - first)
            along = run.losses[within.start + first - run.at : within.stop + first - run.at]
            without[within] = np.minimum(without[within], along)
    if total > min(step, float(without.sum())) - MARGIN:
        return []
    start, stop = first + start, first + stop
    middle = stop if same else (start + stop) // 2
    found = [view.part(before, left.first, start), view.part(before, start, middle, ChangeKind.DISSOLVE)]
    if middle < stop:
        found.append(view.part(after, middle, stop, ChangeKind.DISSOLVE))
    return [*found, view.part(after, stop, right.end)]
