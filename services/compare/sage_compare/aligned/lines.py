"""Lines: runs of frames of b that follow frames of a at one rate and one offset, found from seeds."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels
from sage_compare.aligned.seeds import Places

NONE_COST = 0.4
"""Cost of a frame that no line explains: matched frames cost 0.05 to 0.2, unrelated ones 0.5 to 1."""
DROP = 4.0
"""How far a line may run through frames that it does not explain, in frames that cost `NONE_COST` too much."""
LEAST_SCORE = 1.0
"""A line must save at least this against `NONE_COST`: three frames that match well."""
LONGEST = 20_000
"""Frames that a line is followed on each side of a seed; the next seed continues it."""
SEED_STEP = 6
"""Every sixth frame of a is searched."""
SPACING = (48, 12, 4)
"""Frames of b from one query to the next: everywhere, then where no line was found, then in short gaps."""
MOST_QUERIES = 1_000
SHORT_GAP = 240


@dataclass(frozen=True)
class Line:
    """A run of frames: frame ``j`` of b is at ``rate * u[j] + start`` in a, for ``first <= j < end``.

    Attributes:
        rate: Frames of a per frame of b, in the positions of `kernels.Pair.u`.
        start: Position in a at position 0 of b.
        first: First frame of b that it explains.
        end: End of the frames of b that it explains.
        score: What it saves against frames without a counterpart.
        cost: Mean cost of its frames.
    """

    rate: float
    start: float
    first: int
    end: int
    score: float
    cost: float

    def row(self, frames_a: int) -> NDArray[np.float64]:
        """Return the line for the kernels."""
        penalty = 0.0 if self.rate == 1.0 or self.rate == 0.0 else 0.01
        return np.array(
            [self.rate, self.start, self.first, self.end, 0, frames_a, penalty, 0],
            np.float64,
        )


class LineFinder:
    """Collects the lines of a pair."""

    def __init__(self, pair: kernels.Pair, step: float) -> None:
        """Args: `step`: grid of `Line.start`: 1 if both films have the same frames, else a part of a frame."""
        self.pair = pair
        self.step = step
        self.frames_b = len(pair.b)
        self.lines: list[Line] = []
        self._by_start: dict[tuple[float, int], list[Line]] = defaultdict(list)
        self._cover = np.full(self.frames_b, 2.0, np.float32)
        self._owner = np.full(self.frames_b, -1, np.int32)
        self.well = NONE_COST / 2
        self._places = Places(pair, SEED_STEP)

    def search(self) -> list[Line]:
        """Find the lines of the pair by queries that are denser in the gaps between the lines found."""
        spacing = max(SPACING[0], self.frames_b // MOST_QUERIES)
        self.query(range(min(spacing, self.frames_b) // 2, self.frames_b, spacing))
        self._follow_ends()
        if self.lines:
            self._set_cap()
        for spacing in SPACING[1:]:
            self.query(self._uncovered(spacing))
        return self.lines

    def _follow_ends(self) -> None:
        """Follow the lines on which the films begin together and end together: in a still shot seeds miss them."""
        last = self.frames_b - 1
        length_a = len(self.pair.a) if not self.pair.shown.size else self.pair.shown.size / kernels.LUT_STEPS
        for frame, position in ((0, 0.0), (last, length_a - 1.0)):
            start = round((position - float(self.pair.u[frame])) / self.step) * self.step
            if kernels.frame_at(self.pair, 1.0, start, frame) >= 0 and not self._known(1.0, start, frame):
                self.follow(1.0, start, frame)

    def explained(self) -> float:
        """Return what the lines save against frames without a counterpart, over all frames of b."""
        return float(np.maximum(NONE_COST - self._cover, 0.0).sum(dtype=np.float64))

    def _set_cap(self) -> None:
        """Judge by the noise of the pair from now on."""
        self.pair = self.pair._replace(cap=self._noise_cap())
        lines, self.lines = self.lines, []
        self._by_start.clear()
        self._cover[:] = 2.0
        for line in lines:
            self.add(line)
        explained = self._cover[(self._cover < NONE_COST / 2) & (self.pair.flat_b < 0.5)]
        if explained.size:
            self.well = float(np.clip(2.5 * np.median(explained), 0.06, NONE_COST / 2))

    def _noise_cap(self) -> float:
        """Return `Pair.cap`: five times the difference that 10% of the matched cells exceed."""
        frames_b = np.flatnonzero((self._cover < NONE_COST / 2) & (self.pair.flat_b < 0.5))
        frames_b = frames_b[:: max(len(frames_b) // 4096, 1)]
        frames_a = np.array(
            [
                kernels.frame_at(self.pair, self.lines[owner].rate, self.lines[owner].start, int(frame))
                for frame, owner in zip(frames_b, self._owner[frames_b], strict=True)
            ],
            np.int64,
        )
        if not frames_b.size:
            return float(self.pair.cap)
        apart = np.abs(self.pair.a[frames_a].astype(np.float32) - self.pair.b[frames_b])
        return float(np.rint(np.clip(5.0 * np.percentile(apart, 90), 24.0, 120.0)))

    def _uncovered(self, spacing: int) -> list[int]:
        """Return frames in the gaps: all gaps at 12 frames; at the finest spacing only the ends of long gaps."""
        frames: list[int] = []
        for first, end in runs_of(self._cover > self.well):
            inner = np.arange(first + min(spacing, end - first) // 2, end, spacing)
            if spacing == SPACING[-1]:
                inner = inner[(inner < first + SHORT_GAP) | (inner >= end - SHORT_GAP)]
            frames.extend(int(frame) for frame in inner)
        return frames

    def query(self, frames: Iterable[int], altered: NDArray[np.int16] | None = None) -> None:
        """Search for frames of b and follow what is found."""
        wanted = np.fromiter(frames, np.int64)
        for first in range(0, len(wanted), 256):
            block = wanted[first : first + 256]
            for frame, places in self._places.search(block, altered):
                self._follow(frame, places)

    def places_of(self, frames: Iterable[int]) -> list[tuple[int, list[int]]]:
        """Return the frames of a that look most like each frame of b."""
        return self._places.search(np.fromiter(frames, np.int64))

    def _follow(self, frame: int, places: list[int]) -> None:
        known = float(self._cover[frame])
        # Dearer than this is followed by no one.
        limit = min(NONE_COST + 0.2, known + 0.02) + 1e-9
        refined = []
        for place in places:
            start, cost = kernels.best_start(self.pair, 1.0, frame, float(place), float(SEED_STEP), self.step, 6, limit)
            if cost < limit and not self._known(1.0, start, frame):
                refined.append((cost, start))
        refined.sort()
        for _, start in refined:
            self.follow(1.0, start, frame)

    def _known(self, rate: float, start: float, frame: int) -> bool:
        return any(line.first <= frame < line.end for line in self._by_start[_place(rate, start)])

    def follow(self, rate: float, start: float, frame: int) -> Line | None:
        """Follow a line from a frame of b and keep it if it explains enough."""
        low, high = max(frame - LONGEST, 0), min(frame + LONGEST, self.frames_b)
        first, end, score, cost = kernels.extend(self.pair, rate, start, frame, NONE_COST, DROP, low, high)
        if score < LEAST_SCORE:
            return None
        line = Line(rate, start, first, end, score, cost)
        self.add(line)
        return line

    def add(self, line: Line) -> None:
        """Keep a line."""
        self._by_start[_place(line.rate, line.start)].append(line)
        self.lines.append(line)
        costs = kernels.costs_along(self.pair, line.row(len(self.pair.a)), line.first, line.end)
        part = self._cover[line.first : line.end]
        self._owner[line.first : line.end][costs < part] = len(self.lines) - 1
        np.minimum(part, costs, out=part)


def _place(rate: float, start: float) -> tuple[float, int]:
    """Return what lines have in common that lead to the same frames."""
    return rate, round(start * kernels.LUT_STEPS)


def runs_of(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs of true values as ``(first, end)``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]
