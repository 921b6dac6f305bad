"""Compiles the kernels before the first comparison."""

from fractions import Fraction

import numpy as np
from sage_fingerprint.model import CHROMA_COLUMNS, CHROMA_ROWS, COLUMNS, ROWS, Fingerprint

from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options

FRAMES = 200


def warm_up() -> None:
    """Compile every kernel, or load what an earlier process compiled, by aligning two tiny films.

    That takes 20 to 60 s of CPU the first time and about a second later: numba keeps the code in `__pycache__` beside
    the module. If that folder is read-only it uses the user's cache folder, and if that is read-only too it raises
    `RuntimeError: cannot cache function`, unless the environment variable `NUMBA_CACHE_DIR` names a folder to write
    to. The code depends on the processor: a cache made on another model is not used, but made again.
    """
    random = np.random.default_rng(0)
    shots = random.integers(40, 200, (5, ROWS, COLUMNS))
    drift = random.integers(-3, 4, (FRAMES, ROWS, COLUMNS)).cumsum(0) / 4
    luma = np.clip(np.repeat(shots, FRAMES // 5, 0) + drift, 16, 235).astype(np.uint8)
    old = _film(luma)
    # A cut, another speed, a held picture and a part of one reach every kernel.
    held, part = np.repeat(luma[120:121], 12, 0), np.kron(luma[150:162, 4:13, 8:24], np.ones((1, 2, 2), np.uint8))
    new = _film(np.concatenate([luma[10:50], luma[50:110:2], luma[110:120], held, luma[132:150], part, luma[162:]]))
    align(old, new, Options())
    align(old, Film(new.fingerprint, Fraction(30)), Options())


def _film(luma: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Film:
    frames = len(luma)
    fingerprint = Fingerprint(
        luma,
        np.full_like(luma, 4),
        np.full((frames, 2, CHROMA_ROWS, CHROMA_COLUMNS), 128, np.uint8),
        np.arange(frames) / 24,
        frames / 24,
    )
    return Film(fingerprint, Fraction(24))
