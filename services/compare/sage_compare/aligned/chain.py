"""The order of the pieces: which ones both films have in the same order, which moved, and which b repeats."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import ChangeKind, ChangeSide, Frames
from sage_compare.aligned.viterbi import Piece

LEAST_MOVED = 6
"""Frames of the shortest piece that is reported as moved or repeated: shorter ones look alike by chance."""


@dataclass(frozen=True)
class Matched:
    """Frames of b and the frames of a that they show.

    Attributes:
        a: Range in a.
        b: Range in b.
        line: The line that joins them.
        change: How the pictures were altered, if they were.
        side: The film that has the change.
    """

    a: Frames
    b: Frames
    line: Line
    change: ChangeKind | None = None
    side: ChangeSide | None = None

    def part(self, pair: kernels.Pair, first: int, end: int) -> "Matched":
        """Return the part at the frames ``[first, end)`` of b."""
        return matched(pair, self.line, first, end)


def matched(pair: kernels.Pair, line: Line, first: int, end: int) -> Matched:
    """Return the frames ``[first, end)`` of b on a line, and their range in a."""
    frames_a = len(pair.a)
    a_first = max(kernels.frame_at(pair, line.rate, line.start, first), 0)
    a_last = kernels.frame_at(pair, line.rate, line.start, end - 1)
    if a_last < 0:
        a_last = frames_a - 1
    after = kernels.frame_at(pair, line.rate, line.start, end) if end < len(pair.b) else -1
    # A line that skips frames of a has those before its next frame too.
    a_end = max(a_last + 1, after if after >= 0 and line.rate > 0 else 0)
    return Matched(Frames(a_first, min(a_end, frames_a)), Frames(first, end), line)


def heaviest_chain(pieces: list[Matched], weights: NDArray[np.float64]) -> list[int]:
    """Return the numbers of the pieces that are in the same order in both films and weigh most together.

    Pieces may overlap in a; the part that both have counts once.

    Args:
        pieces: In the order of b.
        weights: Weight of each piece, as for instance its frames.
    """
    count = len(pieces)
    first = np.array([piece.a.first for piece in pieces], np.float64)
    end = np.array([piece.a.end for piece in pieces], np.float64)
    best, before = weights.copy(), np.full(count, -1)
    for k in range(1, count):
        overlap = np.maximum(end[:k] - first[k], 0.0)
        # Three frames must be left after the overlap.
        usable = (end[:k] + 3 <= end[k]) & (first[:k] < first[k])
        if not usable.any():
            continue
        sums = np.where(usable, best[:k] - overlap / max(end[k] - first[k], 1.0) * weights[k], -1.0)
        top = int(np.argmax(sums))
        if sums[top] > 0.0:
            best[k] += sums[top]
            before[k] = top
    chain: list[int] = []
    k = int(np.argmax(best)) if count else -1
    while k >= 0:
        chain.append(k)
        k = int(before[k])
    return chain[::-1]


@dataclass(frozen=True)
class Order:
    """The pieces by the part that they play.

    Attributes:
        chain: Pieces in the same order in both films; they overlap neither in a nor in b.
        moved: Pieces at another place, with frames of a that nothing else uses.
        repeats: Pieces that show frames of a which another piece shows too.
        frozen: Frames at which one film holds a picture and the other moves on.
    """

    chain: list[Matched]
    moved: list[Matched]
    repeats: list[Matched]
    frozen: list[Matched] = field(default_factory=list)


def order_of(pair: kernels.Pair, pieces: list[Piece]) -> Order:
    """Divide pieces into those in order, moved and repeated ones."""
    found = [
        matched(pair, piece.line, piece.first, piece.end) for piece in pieces if piece.line and piece.line.rate > 0
    ]
    # Frames of one colour look alike everywhere: they weigh little.
    weights = np.array(
        [len(piece.b) - 0.9 * float(pair.flat_b[piece.b.first : piece.b.end].sum()) for piece in found], np.float64
    )
    numbers = heaviest_chain(found, weights)
    chain: list[Matched] = []
    moved: list[Matched] = []
    repeats: list[Matched] = []
    for k in numbers:
        piece = found[k]
        if chain:
            chain[-1], piece = _met(chain[-1], piece)
        if chain and piece.a.first < chain[-1].a.end:
            before, piece, again = _parted(pair, chain[-1], piece)
            chain[-1] = before
            repeats.extend(again)
        if len(piece.b):
            chain.append(piece)
    used = np.zeros(len(pair.a), np.bool_)
    for piece in chain:
        used[piece.a.first : piece.a.end] = True
    chosen = set(numbers)
    rest = [piece for k, piece in enumerate(found) if k not in chosen and len(piece.b) >= LEAST_MOVED]
    for piece in sorted(rest, key=lambda one: (-len(one.b), one.b.first)):
        for first, end, free in _parts(pair, piece, used):
            part = piece.part(pair, first, end)
            if free and not used[part.a.first : part.a.end].any():
                moved.append(part)
                used[part.a.first : part.a.end] = True
            else:
                repeats.append(part)
    return Order(chain, moved, repeats)


def _met(before: Matched, after: Matched) -> tuple[Matched, Matched]:
    """Return two pieces, one of them at another speed, so that they touch in a too if they nearly do."""
    apart = after.a.first - before.a.end
    retimed_after = before.line.rate == 1.0
    if not apart or before.b.end != after.b.first or retimed_after == (after.line.rate == 1.0):
        return before, after
    if abs(apart) > max(1.0, before.line.rate, after.line.rate):
        return before, after
    if retimed_after:
        return before, replace(after, a=Frames(before.a.end, max(after.a.end, before.a.end + 1)))
    return replace(before, a=Frames(min(before.a.first, after.a.first - 1), after.a.first)), after


def _parted(pair: kernels.Pair, before: Matched, after: Matched) -> tuple[Matched, Matched, list[Matched]]:
    """Divide the frames of a that two pieces in order both show, where their costs together are lowest.

    Returns:
        Both pieces, and the frames of b that are left over, which show frames of a again. If it makes no difference,
        what is left over is the second showing.
    """
    first, end = after.a.first, before.a.end
    ends = [_reaching(pair, before, frame) for frame in range(first, end + 1)]
    starts = [_reaching(pair, after, frame) for frame in range(first, end + 1)]
    costs_before = kernels.costs_along(pair, before.line.row(len(pair.a)), ends[0], ends[-1])
    costs_after = kernels.costs_along(pair, after.line.row(len(pair.a)), starts[0], starts[-1])
    upto = np.concatenate([[0.0], np.cumsum(costs_before, dtype=np.float64)])
    since = np.concatenate([np.cumsum(costs_after[::-1], dtype=np.float64)[::-1], [0.0]])
    sums = np.array([upto[one - ends[0]] + since[other - starts[0]] for one, other in zip(ends, starts, strict=True)])
    best = int(np.argmin(sums))
    if sums[-1] <= sums[best] + 0.02 * (end - first) + 0.1:
        best = len(sums) - 1
    cut_before = max(ends[best], before.b.first + 1)
    cut_after = min(starts[best], after.b.end - 1)
    left_over = [before.part(pair, cut_before, before.b.end)] if cut_before < before.b.end else []
    left_over += [after.part(pair, after.b.first, cut_after)] if cut_after > after.b.first else []
    kept = before.part(pair, before.b.first, cut_before)
    kept = replace(kept, a=Frames(before.a.first, max(kept.a.end, before.a.first + 1)))
    rest = after.part(pair, cut_after, after.b.end)
    if rest.a.first < kept.a.end:
        rest = replace(rest, a=Frames(min(kept.a.end, rest.a.end - 1), rest.a.end))
    return kept, rest, left_over


def _reaching(pair: kernels.Pair, piece: Matched, frame: int) -> int:
    """Return the first frame of b in a piece that shows `frame` of a or a later one."""
    numbers = kernels.frames_along(pair, piece.line.rate, piece.line.start, piece.b.first, piece.b.end)
    return piece.b.first + int(np.searchsorted(numbers, frame))


def _parts(pair: kernels.Pair, piece: Matched, used: NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """Split a piece where its frames of a begin or end to be used by others; short parts join their neighbour."""
    frames = [kernels.frame_at(pair, piece.line.rate, piece.line.start, j) for j in range(piece.b.first, piece.b.end)]
    free = ~used[np.maximum(frames, 0)]
    edges = np.flatnonzero(np.diff(free.astype(np.int8))) + 1
    parts: list[tuple[int, int, bool]] = []
    for first, end in zip([0, *edges.tolist()], [*edges.tolist(), len(frames)], strict=True):
        state = bool(free[first])
        if end - first < LEAST_MOVED and len(frames) >= LEAST_MOVED:
            state = False
        if parts and parts[-1][2] == state:
            parts[-1] = (parts[-1][0], piece.b.first + end, state)
        else:
            parts.append((piece.b.first + first, piece.b.first + end, state))
    return parts
