"""Films at different frame rates: a frame of b may show what a shows just before or after its time, or a mix of both.

The lines that follow such a film exactly are short and lie a frame apart. Together they are one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.chain import Order
from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.inputs import Stretch
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import Frames
from sage_compare.aligned.viterbi import Piece

REACH = 2
"""Frames of a before and after the time of a frame of b that it may show or mix."""
SLACK = 1.5
"""How far apart the starts of two lines may be that are one, in frames of a; more where frames of b last longer."""
LONGEST_GAP = 8
"""Frames of b between two pieces of one line that mixtures may explain."""
UNEXPLAINED = 3.0
"""Mean difference of luma that a mix may leave; more between two frames that differ much."""
NEIGHBOURS = 3
"""Frames of b on each side that a frame is judged by."""
LEAN = 0.01
"""Cost of showing another frame than the one at the same time, for each frame of distance."""


def resampled(pair: kernels.Pair) -> bool:
    """Return whether the films are compared by time, because their frames do not correspond one to one."""
    return pair.shown.size > 0


def slack_of(pair: kernels.Pair) -> float:
    """Return how far apart the starts of two lines may be that are one."""
    if not resampled(pair):
        return 0.0
    return max(SLACK, float(np.median(np.diff(pair.u))) + 0.5) if len(pair.u) > 1 else SLACK


@dataclass
class _Run:
    """Pieces that follow one line to within a frame: the line of the longest of them."""

    first: int
    end: int
    line: Line
    longest: int


def joined(pair: kernels.Pair, a: Fingerprint, b: Fingerprint, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with those as one that follow one line to within a frame."""
    slack = slack_of(pair)
    found: list[Piece] = []
    run: _Run | None = None
    between: list[Piece] = []
    for piece in pieces:
        if piece.line is None:
            between.append(piece)
            continue
        length = piece.end - piece.first
        if (
            run is not None
            and run.line.rate == piece.line.rate
            and abs(run.line.start - piece.line.start) <= slack
            and not any(one.black for one in between)
            and _between_frames(pair, a, b, run.end, piece.first, piece.line)
        ):
            run.end = piece.end
            if length > run.longest:
                run.line, run.longest = piece.line, length
        else:
            found += [*_pieces(run), *between]
            run = _Run(piece.first, piece.end, piece.line, length)
        between = []
    return [*found, *_pieces(run), *between]


def _pieces(run: _Run | None) -> list[Piece]:
    return [] if run is None else [Piece(run.first, run.end, run.line)]


def _between_frames(pair: kernels.Pair, a: Fingerprint, b: Fingerprint, first: int, end: int, line: Line) -> bool:
    """Return whether each of the frames ``[first, end)`` of b lies between two frames of a, or is a mix of two."""
    if end - first > LONGEST_GAP:
        return False
    numbers = kernels.frames_along(pair, line.rate, line.start, first - 1, end + 1)
    for j in range(first, end):
        at = int(numbers[j - first + 1])
        # A frame of a that the next frame of b outside the gap shows too, as it lasts longer than one of b.
        if at in (numbers[0], numbers[-1]):
            continue
        if at < 0 or not _is_mix(a.luma, b.luma[j], at):
            return False
    return True


def _is_mix(luma: NDArray[np.uint8], seen: NDArray[np.uint8], at: int) -> bool:
    """Return whether a picture is one of the frames around `at`, or a mix of two neighbours."""
    near = luma[max(at - REACH, 0) : at + REACH + 1].reshape(-1, seen.size).astype(np.float32)
    if len(near) < 2:
        return False
    wanted = np.broadcast_to(seen.reshape(1, -1).astype(np.float32), (len(near) - 1, seen.size))
    apart = near[:-1] - near[1:]
    share = np.clip(((wanted - near[1:]) * apart).mean(1) / ((apart * apart).mean(1) + 1.0), 0.0, 1.0)
    left = np.abs(wanted - near[1:] - share[:, None] * apart).mean(1)
    return bool((left < np.maximum(UNEXPLAINED, 0.3 * np.abs(apart).mean(1))).any())


def closed(pair: kernels.Pair, order: Order) -> Order:
    """Return the order with its chain extended over single frames of a that no frame of b shows.

    At a cut, a frame of b may be a mix of two shots, and at a lower rate not all frames of a are shown.
    """
    taken = np.zeros(len(pair.a) + 1, np.bool_)
    for piece in (*order.chain, *order.moved):
        taken[piece.a.first : piece.a.end] = True
    most = max(1, round(float(np.median(np.diff(pair.u))))) if len(pair.u) > 1 else 1
    chain = []
    for piece in order.chain:
        first, end = piece.a.first, piece.a.end
        while end < len(pair.a) and not taken[end] and end - piece.a.end < most:
            end += 1
        if end < len(pair.a) and not taken[end]:
            end = piece.a.end
        taken[piece.a.end : end] = True
        while first > 0 and not taken[first - 1] and piece.a.first - first < most:
            first -= 1
        if first > 0 and not taken[first - 1]:
            first = piece.a.first
        taken[first : piece.a.first] = True
        chain.append(replace(piece, a=Frames(first, end)))
    return replace(order, chain=chain)


def of_one_moment(a: Fingerprint, b: Fingerprint, stretch: Stretch) -> Stretch:
    """Return the pairs of a stretch without those that differ more than their neighbours: mixes, and other moments.

    What was changed differs in all of them.
    """
    apart = np.concatenate(
        [
            np.abs(a.luma[stretch.a[k : k + 4096]].astype(np.int16) - b.luma[stretch.b[k : k + 4096]]).mean((1, 2))
            for k in range(0, len(stretch.b), 4096)
        ]
    )
    around = np.pad(apart, NEIGHBOURS, constant_values=np.inf)
    least = np.lib.stride_tricks.sliding_window_view(around, 2 * NEIGHBOURS + 1).min(1)
    kept = apart <= 1.5 * least + 0.5
    return Stretch(stretch.a[kept], stretch.b[kept])


@kernel
def frames_near(pair: kernels.Pair, rate: float, start: float, first: int, end: int) -> NDArray[np.int32]:
    """Return the frames of a that ``[first, end)`` of b show best: at most `REACH` from a line, never descending."""
    count, states = end - first, 2 * REACH + 1
    costs = np.full((count, states), 1e9)
    came = np.zeros((count, states), np.int8)
    numbers = np.full((count, states), -1, np.int32)
    for y in range(count):
        at = kernels.frame_at(pair, rate, start, first + y)
        at = min(max(at, 0), pair.a.shape[0] - 1) if at >= 0 or y == 0 else numbers[y - 1, REACH]
        for s in range(states):
            i = at + s - REACH
            numbers[y, s] = i
            if not 0 <= i < pair.a.shape[0]:
                continue
            best = 0.0 if y == 0 else 1e9
            for p in range(states):
                if y and numbers[y - 1, p] <= i and costs[y - 1, p] < best:
                    best = costs[y - 1, p]
                    came[y, s] = p
            costs[y, s] = best + kernels.pair_cost(pair, i, first + y) + LEAN * abs(s - REACH)
    shows = np.empty(count, np.int32)
    state = int(np.argmin(costs[count - 1])) if count else 0
    for y in range(count - 1, -1, -1):
        shows[y] = numbers[y, state]
        state = came[y, state]
    return shows
