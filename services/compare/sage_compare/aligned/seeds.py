"""Seeds: places of a that look like a frame of b, found by comparing small vectors."""

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned import kernels

WAVES_ACROSS, WAVES_DOWN = 8, 5
"""Waves of the cosine transform that make a vector: the coarse picture."""
RIVALS = 4
"""Places returned for each frame."""
BLOCK = 256
"""Queries compared at a time: 256 with 28,800 places (2 h) are 29 MB."""

Vectors = NDArray[np.float32]


class Places:
    """Every `step`-th frame of a as vectors to search."""

    def __init__(self, pair: kernels.Pair, step: int) -> None:
        self.frames: NDArray[np.int64] = np.arange(step // 2 if len(pair.a) > step else 0, len(pair.a), step)
        self._flat_b = pair.flat_b
        self._b = pair.b
        samples = pair.a[self.frames]
        usable = np.flatnonzero(pair.flat_a[self.frames] < 0.9)
        self.frames, samples = self.frames[usable], samples[usable].astype(np.float32)
        self._axes = _axes()
        vectors = samples @ self._axes
        self._vectors_t = np.ascontiguousarray(vectors.T)
        self._squares = (vectors * vectors).sum(1) * np.float32(0.5)
        self._apart = max(20 // step, 1)

    def search(
        self, frames: NDArray[np.int64], altered: NDArray[np.int16] | None = None
    ) -> list[tuple[int, list[int]]]:
        """Return for each frame of b the frames of a that look most like it, best first.

        Frames of one colour give none.

        Args:
            frames: Frame numbers in b.
            altered: Pictures to search for instead of those of b, one per frame number.
        """
        if not len(self.frames):
            return []
        found: list[tuple[int, list[int]]] = []
        keep = self._flat_b[frames] < 0.9
        frames = frames[keep]
        rows = self._b[frames] if altered is None else altered[keep]
        for first in range(0, len(frames), BLOCK):
            block = frames[first : first + BLOCK]
            scores = (rows[first : first + BLOCK].astype(np.float32) @ self._axes) @ self._vectors_t
            scores -= self._squares
            places = kernels.best_places(scores, RIVALS, self._apart)
            found.extend(
                (int(frame), [int(self.frames[place]) for place in row if place >= 0])
                for frame, row in zip(block, places, strict=True)
            )
        return found


def _axes() -> Vectors:
    """Return the axes of the vectors, shape ``(CELLS, dimensions)``: the slowest waves, without the mean."""
    across = np.cos(np.pi * np.outer(np.arange(WAVES_ACROSS), np.arange(16) + 0.5) / 16)
    down = np.cos(np.pi * np.outer(np.arange(WAVES_DOWN), np.arange(9) + 0.5) / 9)
    waves = np.einsum("ux,vy->vuyx", across, down).reshape(WAVES_ACROSS * WAVES_DOWN, kernels.CELLS)[1:]
    waves /= np.sqrt((waves * waves).sum(1, keepdims=True))
    return np.ascontiguousarray(waves.T, np.float32)
