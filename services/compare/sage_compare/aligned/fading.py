"""How well a run of shares explains the frames of a fade or a dissolve.

The share of the picture runs straight from 1 to 0, and the run that leaves least unexplained says to the frame where it
begins.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned.explain import fit

LONGEST = 72
"""Frames of the longest fade or dissolve on one side of a cut."""
INSIDE = 40
"""Frames of a piece that may belong to a fade: the first of them differ so little that they match."""
LATE = 16
"""Frames beside a piece that it may show too, in a film that is badly coded beside its cuts."""
SHORTEST = 3
"""Frames of the shortest run from 1 to 0."""
UNEXPLAINED = 0.5
"""Loss of a frame that is neither matched nor faded; 1 if it shows something else than expected."""
DEEPEST = 0.5
"""A fade reaches at most this share; what changes less is a grade."""
MARGIN = 1.0
"""Loss that a fade or dissolve must save against a plain cut."""
ROUNDED = 1.0
"""Mean square of the difference between two frames of one colour that are the same."""
STEP_MARGIN = 0.5
"""Loss that a fade must save against a change of brightness at once."""
NEUTRAL = 0.05
"""Loss by which a frame may fit a fade less well than what is beside it."""
BLACK_LEVEL = 16.0

Mask = NDArray[np.bool_]
Values = NDArray[np.floating]
Numbers = NDArray[np.int64]


def best_fade(
    x: Values, y: Values, known: Mask, edge: int, left: Callable[[], Values], noise: float
) -> tuple[int, int, Values] | None:
    """Return the first frame, the end and the losses of the fade that explains a window best.

    Args:
        x: Pictures, from within a piece outwards.
        y: What they would be without a fade.
        known: Which of `y` there are.
        edge: Index of the first frame outside the piece.
        left: Returns the mean square of what the next piece leaves of each frame; infinite if it does not have it.
        noise: Mean square of the difference between matched pictures.
    """
    color = _color(x, y, known, edge)
    from_color = y - color
    squares = ((x - color) ** 2).mean(1), ((x - color) * from_color).mean(1), (from_color**2).mean(1)
    cap = np.minimum(np.maximum(9.0 * noise, 0.03 * squares[2]), 0.2 * squares[2]) + ROUNDED
    # What two lines explain is told apart by less than what none does.
    shared = np.minimum(cap, 9.0 * noise + ROUNDED)
    shares = np.clip(squares[1] / (squares[2] + 0.01), 0.0, 1.0)
    near = slice(max(edge - 4, 0), edge + LATE)

    def is_better(cap: Values) -> bool:
        plain, some = (_losses(squares, cap, known, of) for of in (np.ones(len(x)), shares))
        return bool((some[near] < plain[near] - 0.2).any())

    # Most cuts are none of both, whatever the next piece explains.
    if not is_better(cap) and not is_better(shared):
        return None
    beside = left()
    cap = np.where(np.isfinite(beside), shared, cap)
    if not is_better(cap):
        return None
    plain = _losses(squares, cap, known, np.ones(len(x)))
    # Beyond the gap, the next piece explains frames already.
    rest = np.minimum(beside / cap, UNEXPLAINED)
    unchanged = float(plain[:edge].sum() + rest[edge:].sum())
    if unchanged <= MARGIN:
        return None
    starts = np.arange(max(edge - INSIDE, 1), min(edge + LATE, len(x) - 1) + 1)
    best = best_run(squares, cap, known, starts, rest)
    step = best_step(squares, cap, known, starts, rest)
    if best is None or best[0] > min(unchanged - MARGIN, step - STEP_MARGIN):
        return None
    return best[1:]


def best_run(
    squares: tuple[Values, Values, Values], cap: Values, known: Mask, starts: Numbers, rest: Values | None
) -> tuple[float, int, int, Values] | None:
    """Return the loss of the best run, its first frame, its end, and the loss of each frame along it.

    A run begins at one of `starts`, the first frame with a share below 1. The frames after it have the losses `rest`;
    if that is `None`, it explains all of them.
    """
    count = len(cap)
    lengths = np.arange(SHORTEST, min(LONGEST, count + 1) + 1)
    frames = np.arange(count)
    best: tuple[float, int, int, Values] | None = None
    for start in starts.tolist():
        shares = np.clip((start - 1 + lengths[:, None] - frames) / lengths[:, None], 0.0, 1.0)
        losses = _losses(squares, cap, known, shares)
        if rest is None:
            totals = losses.sum(1)
            row = int(np.argmin(totals))
            total, end = float(totals[row]), min(start - 1 + int(lengths[row]), count)
        else:
            upto = np.cumsum(losses - rest, axis=1)
            allowed = (frames >= start) & (frames < start - 1 + lengths[:, None]) & (shares <= DEEPEST)
            upto = np.where(allowed, upto, np.inf)
            row, last = divmod(int(np.argmin(upto)), count)
            total, end = float(upto[row, last] + rest.sum()), last + 1
            # Frames of one colour look the same in a fade: it runs on through them.
            while end < count and allowed[row, end] and losses[row, end] <= rest[end] + NEUTRAL:
                end += 1
        if np.isfinite(total) and (best is None or total < best[0] - 1e-9):
            best = total, start, end, losses[row]
    return best


def best_step(
    squares: tuple[Values, Values, Values], cap: Values, known: Mask, starts: Numbers, rest: Values | None
) -> float:
    """Return the loss of a window if the share changes at once and stays, as with another grade, black or a cut."""
    plain = np.concatenate([[0.0], np.cumsum(_losses(squares, cap, known, np.ones(len(cap))))])
    if rest is None:
        changed = np.concatenate([[0.0], np.cumsum(_losses(squares, cap, known, np.zeros(len(cap))))])
        return float((plain[starts] + changed[-1] - changed[starts]).min(initial=np.inf))
    best = np.inf
    for share in np.linspace(0.0, 1.0, 11):
        losses = _losses(squares, cap, known, np.full(len(cap), share))
        for start in starts.tolist():
            after = float(np.cumsum(losses[start:] - rest[start:]).min(initial=0.0) + rest[start:].sum())
            best = min(best, float(plain[start]) + after)
    return best


def _losses(squares: tuple[Values, Values, Values], cap: Values, known: Mask, shares: Values) -> Values:
    """Return the loss of each frame for a share of its picture: the square of what is left, at most 1."""
    left = squares[0] - 2.0 * shares * squares[1] + shares**2 * squares[2]
    return np.where(known, np.minimum(left / cap, 1.0), 1.0)


def _color(x: Values, y: Values, known: Mask, edge: int) -> float:
    """Return the colour that a window fades to: where the pictures of x lie on a line through those of y."""
    gains, alike = fit(y, x)
    dim = known & (alike > 0.9) & (gains < 0.8) & (np.arange(len(x)) >= edge - 4)
    if not dim.any():
        return BLACK_LEVEL
    color = (x.mean(1) - gains * y.mean(1))[dim] / (1.0 - gains[dim])
    return float(np.clip(np.median(color), 0.0, 255.0))
