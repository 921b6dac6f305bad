"""The offset of a piece, where the shot hardly moves and many offsets cost the same."""

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.chain import Matched, Order
from sage_compare.aligned.script import Frames

REACH = 16
"""Frames by which a piece is moved at most."""
COMPARED = 64
"""Frames of a piece that are compared."""
FEWEST = 8
"""Frames of the shortest piece that is moved."""
BETTER = 0.02
"""Share by which the difference must fall for a piece to be moved."""


def settled(pair: kernels.Pair, a: Fingerprint, b: Fingerprint, order: Order) -> Order:
    """Return the order with pieces moved in one film to where the whole fingerprints differ least.

    What tells two offsets of a still shot apart is less than the 144 cells of the alignment resolve. A piece moves in
    the film that has room for it, if no other piece of the chain has the same line.
    """
    if pair.shown.size:
        return order
    lines = Counter((piece.line.rate, piece.line.start) for piece in order.chain)
    chain: list[Matched] = []
    for k, one in enumerate(order.chain):
        piece = one
        before, after = chain[-1] if chain else None, order.chain[k + 1] if k + 1 < len(order.chain) else None
        alone = lines[piece.line.rate, piece.line.start] == 1
        if alone and piece.line.rate == 1.0 and len(piece.a) == len(piece.b) >= FEWEST:
            piece = _moved(a, b, piece, before, after, order.moved)
        chain.append(piece)
    return replace(order, chain=chain)


def _moved(
    a: Fingerprint, b: Fingerprint, piece: Matched, before: Matched | None, after: Matched | None, others: list[Matched]
) -> Matched:
    """Return a piece at the best place that its neighbours leave for it."""
    in_a, in_b = [piece], [piece]
    for shift in [*range(-REACH, 0), *range(1, REACH + 1)]:
        line = replace(piece.line, start=piece.line.start + shift)
        of_a = Frames(piece.a.first + shift, piece.a.end + shift)
        of_b = Frames(piece.b.first - shift, piece.b.end - shift)
        if _free(of_a, before.a if before else None, after.a if after else None, len(a), [one.a for one in others]):
            in_a.append(Matched(of_a, piece.b, line))
        if _free(of_b, before.b if before else None, after.b if after else None, len(b), [one.b for one in others]):
            in_b.append(Matched(piece.a, of_b, line))
    found = [one for one in (_better(a, b, places) for places in (in_a, in_b)) if one]
    return min(found, key=lambda one: one[0])[1] if found else piece


def _better(a: Fingerprint, b: Fingerprint, places: list[Matched]) -> tuple[float, Matched] | None:
    """Return the best place if it is better than the first one, and by what factor the difference falls there."""
    piece = places[0]
    if len(places) == 1:
        return None
    chosen = np.unique(np.linspace(0, len(piece.b) - 1, COMPARED).astype(int))
    apart = np.array([_differences(a, b, place.a.first + chosen, place.b.first + chosen) for place in places])
    # What fades or has a title differs at every offset.
    least = apart.min(0)
    apart = apart[:, least <= 1.5 * np.quantile(least, 0.25)]
    means = apart.mean(1)
    best = int(np.argmin(means))
    gains = apart[0] - apart[best]
    certain = float(gains.mean()) > 3.0 * float(gains.std()) / np.sqrt(len(gains))
    at_limit = abs(places[best].line.start - piece.line.start) >= REACH
    if at_limit or not certain or float(means[best]) > (1.0 - BETTER) * float(means[0]):
        return None
    return float(means[best] / means[0]), places[best]


def _free(frames: Frames, before: Frames | None, after: Frames | None, count: int, others: list[Frames]) -> bool:
    if frames.first < (before.end if before else 0) or frames.end > (after.first if after else count):
        return False
    return all(frames.end <= one.first or one.end <= frames.first for one in others)


def _differences(
    a: Fingerprint, b: Fingerprint, frames_a: NDArray[np.int64], frames_b: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean difference of luma and texture between frames."""
    luma = np.abs(a.luma[frames_a].astype(np.int16) - b.luma[frames_b]).mean((1, 2))
    texture = np.abs(a.texture[frames_a].astype(np.int16) - b.texture[frames_b]).mean((1, 2))
    differences: NDArray[np.float64] = luma + texture
    return differences
