"""The choice of a line for each frame of b, by one Viterbi pass over the lines that are near."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.kernels import (
    B_END,
    B_FIRST,
    BLACK,
    ENTRY,
    LUT_STEPS,
    NO_LINE,
    RATE,
    START,
    Pair,
    line_cost,
)
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
    path = _path(pair, rows[order], slots[order], black, SLOTS, NONE_COST, FORWARD, BACKWARD, TO_NONE, TO_BLACK)
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


@kernel
def _path(
    pair: Pair,
    lines: NDArray[np.float64],
    slots: NDArray[np.int64],
    black: NDArray[np.bool_],
    slot_count: int,
    none_cost: float,
    forward: float,
    backward: float,
    to_none: float,
    to_black: float,
) -> NDArray[np.int32]:
    """Return the number of the line that each frame of b is on, `NO_LINE` or `BLACK`, for the lowest cost in all.

    Args:
        pair: The films.
        lines: The lines, sorted by `B_FIRST`.
        slots: A slot for each line; lines that overlap have different ones.
        black: Which frames of b are black.
        slot_count: Number of slots.
        none_cost: Cost of a frame without a line.
        forward: Cost of a jump to a later place in a.
        backward: Cost of a jump to an earlier place in a.
        to_none: Cost of a change from a line to no line, and back.
        to_black: Cost of a change to black, and back.
    """
    frames = pair.b.shape[0]
    none, dark = slot_count, slot_count + 1
    states = slot_count + 2
    current = np.full(states, 1e30)
    following = np.full(states, 1e30)
    came = np.full((frames, states), -1, np.int8)
    holder = np.full((frames, slot_count), -1, np.int32)
    active = np.full(slot_count, -1, np.int64)
    at = np.full(slot_count, -1.0)
    entered = 0
    for j in range(frames):
        for s in range(slot_count):
            if active[s] >= 0 and lines[active[s], B_END] <= j:
                active[s] = -1
        fresh = np.zeros(slot_count, np.bool_)
        while entered < lines.shape[0] and lines[entered, B_FIRST] <= j:
            active[slots[entered]] = entered
            fresh[slots[entered]] = True
            entered += 1
        # The best state to come from, in general.
        best_line = -1
        for s in range(slot_count):
            if j and holder[j - 1, s] >= 0 and (best_line < 0 or current[s] < current[best_line]):
                best_line = s
        for s in range(slot_count):
            following[s] = 1e30
            if active[s] < 0:
                continue
            holder[j, s] = active[s]
            line = lines[active[s]]
            cost = line_cost(pair, line, j)
            position = line[RATE] * pair.u[j] + line[START]
            if j == 0:
                # What a has before is left out, which is a jump as well.
                following[s] = cost + (forward if position > 0.5 else 0.0)
                continue
            best, source = 1e30, -1
            entry = line[ENTRY]
            if not fresh[s] and holder[j - 1, s] == active[s]:
                best, source = current[s], s
            if current[none] + to_none + entry < best:
                best, source = current[none] + to_none + entry, none
            if current[dark] + to_black + entry < best:
                best, source = current[dark] + to_black + entry, dark
            if best_line >= 0 and current[best_line] + forward + entry < best:
                for p in range(slot_count):
                    if holder[j - 1, p] < 0 or (p == s and not fresh[s]):
                        continue
                    jump = current[p] + entry + (forward if position > at[p] else backward)
                    if jump < best:
                        best, source = jump, p
            following[s] = best + cost
            came[j, s] = source
        # A frame outside all lines, and a black one.
        stay, via_line, via_dark = current[none], 1e30, current[dark] + to_none
        if j == 0:
            following[none] = none_cost
            following[dark] = 0.1 if black[0] else 1e30
        else:
            if best_line >= 0:
                via_line = current[best_line] + to_none
            if stay <= via_line and stay <= via_dark:
                following[none], came[j, none] = stay + none_cost, none
            elif via_line <= via_dark:
                following[none], came[j, none] = via_line + none_cost, best_line
            else:
                following[none], came[j, none] = via_dark + none_cost, dark
            following[dark] = 1e30
            if black[j]:
                best, source = current[dark], dark
                if best_line >= 0 and current[best_line] + to_black < best:
                    best, source = current[best_line] + to_black, best_line
                if current[none] + to_none < best:
                    best, source = current[none] + to_none, none
                following[dark], came[j, dark] = best + 0.1, source
        for s in range(slot_count):
            if active[s] >= 0:
                at[s] = lines[active[s], RATE] * pair.u[j] + lines[active[s], START]
        current, following = following, current
    path = np.empty(frames, np.int32)
    last_position = float(pair.a.shape[0] - 1)
    if pair.shown.size:
        last_position = np.searchsorted(pair.shown, pair.a.shape[0] - 1) / LUT_STEPS
    for s in range(slot_count):
        # So is what a has after the last frame.
        if frames and holder[frames - 1, s] >= 0 and at[s] < last_position - 0.5:
            current[s] += forward
    state = 0
    for s in range(states):
        if current[s] < current[state]:
            state = s
    for j in range(frames - 1, -1, -1):
        path[j] = BLACK if state == dark else NO_LINE if state == none else holder[j, state]
        state = came[j, state]
    return path
