"""The loops that numpy cannot do in blocks, compiled by numba.

A *line* is a row of `LINE_FIELDS` numbers: frame ``j`` of b, at position ``u[j]``, shows what a shows at position
``rate * u[j] + start``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned.compiled import kernel

RATE, START, B_FIRST, B_END, A_FIRST, A_END, PENALTY, ENTRY, LINE_FIELDS = range(9)
"""Fields of a line. It may be used for the frames ``[B_FIRST, B_END)`` of b and ``[A_FIRST, A_END)`` of a. `PENALTY`
is added to the cost of each frame, `ENTRY` to that of a change to the line."""

CELLS = 144
"""Cells of luma that are compared in each frame: 16x9, from the fingerprint's 32x18."""
SCALE = 256
"""One standard deviation of a frame's luma in the numbers of `Pair.a`."""
LUT_STEPS = 4
"""Entries of `Pair.shown` per position."""

NO_LINE, BLACK = -1, -2
"""Values in the path for a frame that no line explains, and for a black one."""


class Pair(NamedTuple):
    """The two films as the kernels read them.

    Attributes:
        a: Normalised luma, int16, shape ``(frames, CELLS)``; 0 where a cell is not compared.
        b: The same of the other film.
        level_a: Mean luma of each frame, float32.
        level_b: The same of b.
        flat_a: 1 for a frame of one colour, 0 for one with a picture, float32.
        flat_b: The same of b.
        u: Position of each frame of b, in frames of a, float64.
        shown: The frame of a that is shown at each position, `LUT_STEPS` per frame, int32. Empty: position and frame
            are the same.
        cap: Difference in a cell that counts in full, on the scale of `SCALE`. A whole number.
        cells: Number of cells that are compared.
    """

    a: NDArray[np.int16]
    b: NDArray[np.int16]
    level_a: NDArray[np.float32]
    level_b: NDArray[np.float32]
    flat_a: NDArray[np.float32]
    flat_b: NDArray[np.float32]
    u: NDArray[np.float64]
    shown: NDArray[np.int32]
    cap: float
    cells: float


@kernel
def normalise(
    luma: NDArray[np.uint8],
    weight: NDArray[np.float32],
    rows: NDArray[np.int16],
    level: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> None:
    """Reduce frames to `CELLS` cells with mean 0 and deviation 1, in `SCALE`.

    `weight` is 1 for cells that count, else 0.
    """
    counts = weight.astype(np.int32)
    cells = counts.sum()
    # Four times the mean of each cell.
    pooled = np.empty(CELLS, np.int32)
    for i in range(luma.shape[0]):
        for y in range(9):
            for x in range(16):
                pooled[16 * y + x] = (
                    np.int32(luma[i, 2 * y, 2 * x])
                    + np.int32(luma[i, 2 * y, 2 * x + 1])
                    + np.int32(luma[i, 2 * y + 1, 2 * x])
                    + np.int32(luma[i, 2 * y + 1, 2 * x + 1])
                )
        total, square = np.int32(0), np.int32(0)
        for k in range(CELLS):
            total = np.int32(total + counts[k] * pooled[k])
            square = np.int32(square + counts[k] * pooled[k] * pooled[k])
        mean = np.float32(total / cells / 4)
        spread = np.float32(np.sqrt((cells * square - np.int64(total) * total) / (16.0 * cells * cells)))
        # Dark pictures have little contrast: without the 9, coding noise would become a difference.
        factor = np.float32(SCALE) / (spread + np.float32(9.0))
        for k in range(CELLS):
            value = (np.float32(pooled[k]) * np.float32(0.25) - mean) * factor * weight[k]
            rows[i, k] = np.int16(np.rint(min(max(value, np.float32(-2000.0)), np.float32(2000.0))))
        level[i] = mean
        deviation[i] = spread


@kernel
def distance(a: NDArray[np.int16], i: int, b: NDArray[np.int16], j: int, cap: float) -> float:
    """Return the sum over the cells of the difference, at most `cap` each."""
    most = np.int16(cap)
    total = np.int32(0)
    for k in range(CELLS):
        one, other = a[i, k], b[j, k]
        apart = min(np.int16(max(one, other) - min(one, other)), most)
        # Narrow types, because the compiler then adds many cells at once.
        total = np.int32(total + np.int32(apart))
    return float(total)


@kernel
def apart_from(luma: NDArray[np.uint8], frames: NDArray[np.int64], picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean difference of luma between some frames and a picture."""
    apart = np.empty(len(frames), np.float32)
    for number in range(len(frames)):
        total = np.int32(0)
        for y in range(picture.shape[0]):
            for x in range(picture.shape[1]):
                total = np.int32(total + abs(np.int32(luma[frames[number], y, x]) - np.int32(picture[y, x])))
        apart[number] = total / picture.size
    return apart


@kernel
def frame_at(pair: Pair, rate: float, start: float, j: int) -> int:
    """Return the frame of a that a line shows in frame `j` of b; -1 if it is outside a."""
    position = rate * pair.u[j] + start
    if pair.shown.size == 0:
        frame = int(np.floor(position + 0.5))
        return frame if 0 <= frame < pair.a.shape[0] else -1
    entry = int(np.floor(position * LUT_STEPS + 0.5))
    return int(pair.shown[entry]) if 0 <= entry < pair.shown.size else -1


@kernel
def pair_cost(pair: Pair, i: int, j: int) -> float:
    """Return how much frame `j` of b differs from frame `i` of a, 0 to 1."""
    cost = distance(pair.a, i, pair.b, j, pair.cap) / (pair.cap * pair.cells)
    # Two frames of one colour have no picture to compare, only their brightness.
    both_flat = pair.flat_a[i] * pair.flat_b[j]
    if both_flat > 0.0:
        cost += both_flat * min(abs(pair.level_a[i] - pair.level_b[j]) / 48.0, 1.0)
    return min(cost, 1.0)


@kernel
def line_cost(pair: Pair, line: NDArray[np.float64], j: int) -> float:
    """Return the cost of frame `j` of b on a line, 1 if it leads outside a."""
    i = frame_at(pair, line[RATE], line[START], j)
    if i < 0 or i < line[A_FIRST] or i >= line[A_END]:
        return 1.0
    return min(pair_cost(pair, i, j) + float(line[PENALTY]), 1.0)


@kernel
def costs_along(pair: Pair, line: NDArray[np.float64], first: int, end: int) -> NDArray[np.float32]:
    """Return the cost of each frame ``[first, end)`` of b on a line."""
    costs = np.empty(max(end - first, 0), np.float32)
    for j in range(first, end):
        costs[j - first] = line_cost(pair, line, j)
    return costs


@kernel
def best_start(
    pair: Pair, rate: float, j: int, i: float, reach: float, step: float, half: int, limit: float
) -> tuple[float, float]:
    """Find the start, within `reach` positions of one that maps `j` to `i`, whose frames around `j` cost least.

    Returns:
        The start, and the mean cost over the `half` frames on each side of `j`; `limit` if none costs less.
    """
    first, end = max(j - half, 0), min(j + half + 1, pair.b.shape[0])
    best, best_cost = 0.0, limit
    frames = max(end - first, 1)
    for k in range(2 * int(reach / step) + 1):
        # From the middle outwards: the first are usually the best, and the rest is given up early.
        shift = (k + 1) // 2 * (1 if k % 2 else -1) * step
        start = i + shift - rate * pair.u[j]
        total = 1e-6 * k * frames
        for jj in range(first, end):
            ii = frame_at(pair, rate, start, jj)
            total += 1.0 if ii < 0 else pair_cost(pair, ii, jj)
            if total >= best_cost * frames:
                break
        else:
            best, best_cost = start, total / frames
    return best, best_cost


@kernel
def extend(
    pair: Pair, rate: float, start: float, j: int, none_cost: float, drop: float, low: int, high: int
) -> tuple[int, int, float, float]:
    """Extend a line from frame `j` of b in both directions for as long as it explains the frames.

    It stops where the sum of ``none_cost - cost`` has fallen by `drop` below its maximum. Frames of one colour earn
    little.

    Returns:
        The first frame and the end of the stretch with the highest sum, that sum, and the mean cost there.
    """
    best_end, best_first = j, j
    total, cost = 0.0, 0.0
    for direction in range(2):
        score, best, spent, best_spent = 0.0, 0.0, 0.0, 0.0
        jj = j if direction == 0 else j - 1
        while low <= jj < high:
            i = frame_at(pair, rate, start, jj)
            if i < 0:
                break
            frame_cost = pair_cost(pair, i, jj)
            spent += frame_cost
            earned = none_cost - frame_cost
            if earned > 0.0:
                earned *= 1.0 - 0.98 * pair.flat_b[jj]
            score += earned
            if score > best:
                best, best_spent = score, spent
                if direction == 0:
                    best_end = jj + 1
                else:
                    best_first = jj
            if score < best - drop:
                break
            jj += 1 if direction == 0 else -1
        total += best
        cost += best_spent
    return best_first, best_end, total, cost / max(best_end - best_first, 1)


@kernel
def best_places(scores: NDArray[np.float32], count: int, apart: int) -> NDArray[np.int64]:
    """Return the `count` best columns of each row, best first, at least `apart` from each other; -1 for none."""
    rows, columns = scores.shape
    places = np.full((rows, count), -1, np.int64)
    # The best columns of runs of `apart` columns, best first. Each place rules out one on each side at most.
    tops = np.empty(3 * count, np.int64)
    for y in range(rows):
        row = scores[y]
        kept = 0
        least = np.float32(-np.inf)
        for start in range(0, columns, apart):
            top, score = start, row[start]
            for x in range(start + 1, min(start + apart, columns)):
                if row[x] > score:
                    top, score = x, row[x]
            if kept == tops.size and score <= least:
                continue
            at = min(kept, tops.size - 1)
            while at and row[tops[at - 1]] < score:
                tops[at] = tops[at - 1]
                at -= 1
            tops[at] = top
            kept = min(kept + 1, tops.size)
            least = row[tops[kept - 1]]
        found = 0
        for k in range(kept):
            near = False
            for other in range(found):
                near = near or abs(places[y, other] - tops[k]) < apart
            if not near:
                places[y, found] = tops[k]
                found += 1
                if found == count:
                    break
    return places


@kernel
def steps(rows: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the mean difference of each frame from the next."""
    found = np.empty(max(rows.shape[0] - 1, 0), np.float32)
    for j in range(found.size):
        found[j] = distance(rows, j, rows, j + 1, 1000.0) / CELLS
    return found


@kernel
def fit_rate(pair: Pair, rate: float, start: float, first: int, end: int) -> tuple[float, float]:
    """Return the rate and start near these with the lowest cost over the frames ``[first, end)`` of b."""
    left, right = pair.u[first], pair.u[max(end - 1, first + 1) if end < pair.u.size else end - 1]
    if right <= left:
        return rate, start
    a_left, a_right = rate * left + start, rate * right + start
    stride = max((end - first) // 100, 1)
    best = 1e30
    step = 2.0
    while step > 0.1:
        improved = True
        while improved:
            improved = False
            best_left, best_right = a_left, a_right
            for dl in range(-1, 2):
                for dr in range(-1, 2):
                    new_left, new_right = a_left + dl * step, a_right + dr * step
                    new_rate = (new_right - new_left) / (right - left)
                    new_start = new_left - new_rate * left
                    total = 0.0
                    for j in range(first, end, stride):
                        i = frame_at(pair, new_rate, new_start, j)
                        total += 1.0 if i < 0 else pair_cost(pair, i, j)
                        if total >= best:
                            break
                    if total < best - 1e-9:
                        best, best_left, best_right = total, new_left, new_right
                        improved = True
            a_left, a_right = best_left, best_right
        step /= 2.0
    rate = (a_right - a_left) / (right - left)
    return rate, a_left - rate * left


@kernel
def frames_along(pair: Pair, rate: float, start: float, first: int, end: int) -> NDArray[np.int32]:
    """Return the frame of a that each frame ``[first, end)`` of b shows on a line; -1 if it is outside a."""
    numbers = np.empty(end - first, np.int32)
    for j in range(first, end):
        numbers[j - first] = frame_at(pair, rate, start, j)
    return numbers
