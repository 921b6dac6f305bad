"""The fingerprint in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Version of the measurements and of their encoding. Only fingerprints of one version are comparable."""

COLUMNS, ROWS = 32, 18
"""Cells of luma and texture."""
CHROMA_COLUMNS, CHROMA_ROWS = 16, 9
"""Cells of chroma."""
SOUND_BANDS = 16
SOUND_RATE = 25
"""Measurements of the sound per second."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Fingerprint:
    """What a film shows and sounds like.

    The picture is the displayed one, upright, with its black bars, stretched over the grid of cells.

    Attributes:
        luma: Mean luma of each cell, 0 (black) to 255 (white), shape ``(frames, ROWS, COLUMNS)``.
        texture: Root mean square of the gradient of luma in each cell, same shape.
        chroma: Mean Cb and Cr of each cell, 128 for grey, shape ``(frames, 2, CHROMA_ROWS, CHROMA_COLUMNS)``.
        frame_seconds: When each frame is shown first, from 0, ascending, shape ``(frames,)``, float64.
        duration_seconds: End of the last frame.
        sound: Loudness of each band in steps of half a decibel, 0 for silence, shape ``(steps, SOUND_BANDS)``,
            `SOUND_RATE` steps per second from the first frame on. `None` if the film has no sound.
    """

    luma: Bytes
    texture: Bytes
    chroma: Bytes
    frame_seconds: NDArray[np.float64]
    duration_seconds: float
    sound: Bytes | None = None

    def __len__(self) -> int:
        return len(self.frame_seconds)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        arrays = (self.luma, self.texture, self.chroma, self.frame_seconds)
        return sum(array.nbytes for array in arrays) + (0 if self.sound is None else self.sound.nbytes)
