"""The choice of a line for each frame of b, by one Viterbi pass over the lines that are near."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.lines import NONE_COST, Line

REACH = 48
"""Frames beyond both ends of a line in which it still competes."""
BRIDGE = 240
"""Lines of one rate and start that are at most this far apart are one line."""
GRAIN = 8
"""Frames for which a slot is taken at a time."""
SLOTS = 24
"""Lines that compete at one frame."""
OTHER_RATE = 1.5
"""Added to the cost of a change to a line at another rate: a still shot fits any rate."""
DOUBT = 0.8
"""Most that is added to the cost of a change to a line that explains little of b."""
FORWARD, BACKWARD, TO_NONE, TO_BLACK = 1.7, 3.2, 1.8, 1.2
"""Cost of a change of line: forward in a, backward, to or from no line, to or from black. `BACKWARD` is less than twice
`TO_NONE`: otherwise a hole of one frame would open at each backward jump."""


@dataclass(frozen=True)
class Piece:
    """Frames ``[first, end)`` of b on one line; `line` is None if no line explains them.

    Attributes:
        first: First frame of b.
        end: End in b.
        line: The line.
        black: Whether the frames are black and have no line.
    """

    first: int
    end: int
    line: Line | None
    black: bool = False


def merge_lines(lines: list[Line]) -> list[Line]:
    """Join lines of one rate and start that are close to each other."""
    groups: dict[tuple[float, float], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.rate, line.start].append(line)
    merged = []
    for group in groups.values():
        group.sort(key=lambda line: (line.first, line.end))
        current = group[0]
        for line in group[1:]:
            if line.first <= current.end + BRIDGE:
                longer = max(current, line, key=lambda one: one.score)
                apart = max(line.end - max(line.first, current.end), 0) / (line.end - line.first)
                current = replace(
                    longer,
                    first=min(current.first, line.first),
                    end=max(current.end, line.end),
                    score=current.score + apart * line.score,
                )
            else:
                merged.append(current)
                current = line
        merged.append(current)
    return sorted(merged, key=lambda line: (line.first, line.end, line.rate, line.start))


def choose(pair: kernels.Pair, lines: list[Line], black: NDArray[np.bool_]) -> list[Piece]:
    """Return the pieces that explain b at the lowest cost, in the order of b and without gaps.

    Args:
        pair: The films.
        lines: Lines that may be used.
        black: Which frames of b are black.
    """
    frames_b = len(pair.b)
    lines = merge_lines(lines)
    rows = np.array([line.row(len(pair.a)) for line in lines], np.float64).reshape(-1, kernels.LINE_FIELDS)
    rows[:, kernels.B_FIRST] = np.maximum(rows[:, kernels.B_FIRST] - REACH, 0)
    rows[:, kernels.B_END] = np.minimum(rows[:, kernels.B_END] + REACH, frames_b)
    rows[:, kernels.ENTRY] = _entries(rows, lines)
    slots = _slots(rows, lines)
    usable = slots >= 0
    rows, lines, slots = rows[usable], [line for line, keep in zip(lines, usable, strict=True) if keep], slots[usable]
    order = np.argsort(rows[:, kernels.B_FIRST], kind="stable")
    path = kernels.viterbi(
        pair, rows[order], slots[order], black, SLOTS, NONE_COST, FORWARD, BACKWARD, TO_NONE, TO_BLACK
    )
    ordered = [lines[k] for k in order]
    edges = np.flatnonzero(np.diff(path)) + 1
    pieces = []
    for first, end in zip([0, *edges.tolist()], [*edges.tolist(), frames_b], strict=True):
        number = int(path[first])
        pieces.append(Piece(first, end, ordered[number] if number >= 0 else None, number == kernels.BLACK))
    return pieces


def _entries(rows: NDArray[np.float64], lines: list[Line]) -> NDArray[np.float64]:
    """Return the entry cost of each line: up to `DOUBT` more if a line that explains more of b is near.

    In a shot that stands still every offset fits: the one that the shots around it have is the likely one.
    """
    scores = np.array([line.score for line in lines], np.float64)
    first, end = rows[:, kernels.B_FIRST], rows[:, kernels.B_END]
    entries = np.zeros(len(lines))
    for k in range(len(lines)):
        near = (first < end[k]) & (end > first[k])
        entries[k] = DOUBT * (1.0 - max(scores[k], 0.0) / max(float(scores[near].max()), 1e-9))
        if lines[k].rate not in (0.0, 1.0):
            entries[k] += OTHER_RATE
    return entries


def _slots(rows: NDArray[np.float64], lines: list[Line]) -> NDArray[np.int64]:
    """Give each line a slot that no other line uses at the same time, the best lines first; -1 if all are taken."""
    slots = np.full(len(lines), -1, np.int64)
    frames = int(rows[:, kernels.B_END].max()) if len(rows) else 0
    taken = np.zeros((SLOTS, frames // GRAIN + 1), np.bool_)
    for k in sorted(range(len(lines)), key=lambda k: (-lines[k].score, k)):
        first, end = int(rows[k, kernels.B_FIRST]) // GRAIN, int(rows[k, kernels.B_END] - 1) // GRAIN + 1
        free = ~taken[:, first:end].any(1)
        if free.any():
            slots[k] = int(np.argmax(free))
            taken[slots[k], first:end] = True
    return slots
