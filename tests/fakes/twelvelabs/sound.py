"""Vectors of sound, computed from the samples of each clip."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_RATE = 8000
_BANDS = 24
_SLOTS = 4
_FLOOR = 1e-5
_WINDOW = 512

SIZE = _BANDS * _SLOTS + 1


def sound_vectors(path: Path, *, clip_seconds: float, duration_seconds: float, start_seconds: float) -> NDArray | None:
    """Return a vector for each clip, shape ``(n, SIZE)``, or None if the film has no sound.

    A vector is the coarse, logarithmic spectrogram of a clip without its mean: loudness and encoding matter little, a
    different sound matters much. A constant at the end gives silence a direction.
    """
    samples = _samples(path, duration_seconds, start_seconds)
    if samples is None:
        return None
    edges = np.geomspace(2, _WINDOW // 2, _BANDS + 1).astype(int)
    edges = np.maximum.accumulate(np.maximum(edges, np.arange(_BANDS + 1) + 2))
    length = int(clip_seconds * _RATE)
    rows = []
    for start in range(0, len(samples), length):
        clip = np.zeros(length, dtype=np.float32)
        piece = samples[start : start + length]
        clip[: len(piece)] = piece
        frames = clip[: length // _WINDOW * _WINDOW].reshape(-1, _WINDOW) * np.hanning(_WINDOW)
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        bands = np.add.reduceat(power, edges[:-1], axis=1)
        level = np.log([slot.mean(axis=0) + _FLOOR for slot in np.array_split(bands, _SLOTS)])
        centred = (level - level.mean()).ravel()
        rows.append(np.append(centred / max(1.0, float(np.linalg.norm(centred))), 0.2))
    return np.array(rows, dtype=np.float32)


def _samples(path: Path, duration_seconds: float, start_seconds: float) -> NDArray | None:
    with av.open(path) as film:
        if not film.streams.audio:
            return None
        samples = np.zeros(int(duration_seconds * _RATE), dtype=np.float32)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=_RATE)
        offset: int | None = None
        for frame in film.decode(film.streams.audio[0]):
            if offset is None:
                offset = round(((frame.time or 0.0) - start_seconds) * _RATE)
            for piece in resampler.resample(frame):
                sound = piece.to_ndarray().ravel()
                first, last = max(0, offset), min(len(samples), offset + len(sound))
                if first < last:
                    samples[first:last] = sound[first - offset : last - offset]
                offset += len(sound)
    return samples
