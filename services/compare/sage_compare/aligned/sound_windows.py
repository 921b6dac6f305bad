"""Compares the sound of two films in windows of a second along the map."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import SOUND_RATE, Bytes

from sage_compare.aligned.compiled import kernel

WINDOW: Final = SOUND_RATE
HOP: Final = 12
"""Steps from one window to the next."""

_STEPS_PER_DECIBEL: Final = 2.0
# Bands this far below the loudest one of a window are not heard, and encoders drop them: 30 dB.
_HEARD: Final = 60
# A band that differs by more than this differs entirely: 12 dB.
_MOST: Final = 24
# Lags that are tried everywhere, and where the sound does not fit otherwise.
_NEAR: Final = 4
# Sound that differs by less at no lag is not late: 1.2 dB.
_ALIKE: Final = 2.4
_FAR: Final = 2 * SOUND_RATE + 2


@dataclass(frozen=True)
class Steps:
    """Steps of both sounds that belong together.

    Attributes:
        a: Steps of a's sound, which may be outside of it.
        b: Steps of b's sound, consecutive within a range.
        starts: First entry of each range, and the number of entries.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    starts: NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """What the windows sound like.

    Attributes:
        first: First entry of `Steps` of each window.
        end: Entry after the last one.
        owner: Range that each lies in.
        distance: Mean difference of the bands in decibels, after the gain, at no lag.
        gain: Decibels of b above a, where it fits best.
        lag: Steps by which b is late, where it fits best.
        lag_distance: Distance at that lag.
        level_a: Loudness of the loudest band of a in decibels; 0 or less is silence.
        level_b: The same of b.
    """

    first: NDArray[np.int64]
    end: NDArray[np.int64]
    owner: NDArray[np.int64]
    distance: NDArray[np.float64]
    gain: NDArray[np.float64]
    lag: NDArray[np.int64]
    lag_distance: NDArray[np.float64]
    level_a: NDArray[np.float64]
    level_b: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def compare_windows(a: Bytes, b: Bytes, steps: Steps, *, good: float) -> Windows:
    """Return how the windows of two sounds differ.

    Args:
        a: Sound of a.
        b: Sound of b.
        steps: Steps that belong together.
        good: Distance from which other lags are tried.
    """
    first, end, owner = list[int](), list[int](), list[int]()
    for number, (low, high) in enumerate(zip(steps.starts[:-1].tolist(), steps.starts[1:].tolist(), strict=True)):
        for start in range(low, max(low + 1, high - WINDOW + HOP), HOP):
            stop = min(start + WINDOW, high)
            if stop - start >= WINDOW // 3:
                first.append(start)
                end.append(stop)
                owner.append(number)
    firsts, ends = np.array(first, np.int64), np.array(end, np.int64)
    numbers = np.zeros((len(firsts), 6))
    _windows(a, b, steps.a, steps.b, firsts, ends, good * _STEPS_PER_DECIBEL, numbers)
    decibels = numbers / _STEPS_PER_DECIBEL
    return Windows(
        firsts,
        ends,
        np.array(owner, np.int64),
        distance=decibels[:, 0],
        gain=decibels[:, 1],
        lag=numbers[:, 2].astype(np.int64),
        lag_distance=decibels[:, 3],
        level_a=decibels[:, 4],
        level_b=decibels[:, 5],
    )


def signals(
    a: Bytes, b: Bytes, steps: Steps, first: int, end: int, lag: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return for each of some steps the distance, the gain, and the loudness of both, in decibels."""
    numbers = np.zeros((end - first, 4))
    _steps(a, b, steps.a[first:end], steps.b[first:end], lag, numbers)
    numbers /= _STEPS_PER_DECIBEL
    return numbers[:, 0], numbers[:, 1], numbers[:, 2], numbers[:, 3]


@kernel
def _windows(
    a: Bytes,
    b: Bytes,
    ka: NDArray[np.int64],
    kb: NDArray[np.int64],
    firsts: NDArray[np.int64],
    ends: NDArray[np.int64],
    good: float,
    numbers: NDArray[np.float64],
) -> None:
    for window in range(len(firsts)):
        first, end = firsts[window], ends[window]
        level_a, level_b = np.int64(0), np.int64(0)
        for step in range(first, end):
            if 0 <= ka[step] < len(a) and 0 <= kb[step] < len(b):
                for band in range(a.shape[1]):
                    level_a = np.int64(max(level_a, np.int64(a[ka[step], band])))
                    level_b = np.int64(max(level_b, np.int64(b[kb[step], band])))
        distance, gain = _compare(a, b, ka, kb, first, end, 0)
        best_lag, best = 0, distance
        reach = _NEAR
        if level_a and level_b and distance > _ALIKE:
            for way in range(2):
                for lag in range(-reach, reach + 1):
                    if way and abs(lag) <= _NEAR:
                        continue
                    other, level = _compare(a, b, ka, kb, first, end, lag)
                    if other < best:
                        best_lag, best, gain = lag, other, level
                if best <= good:
                    break
                reach = _FAR
        numbers[window, 0] = distance
        numbers[window, 1] = gain
        numbers[window, 2] = best_lag
        numbers[window, 3] = best
        numbers[window, 4] = level_a
        numbers[window, 5] = level_b


@kernel
def _compare(
    a: Bytes, b: Bytes, ka: NDArray[np.int64], kb: NDArray[np.int64], first: int, end: int, lag: int
) -> tuple[float, float]:
    """Return distance and gain of a window in half decibels."""
    loudest_a, loudest_b = np.int64(0), np.int64(0)
    for step in range(first, end):
        at_a, at_b = ka[step], kb[step] + lag
        if 0 <= at_a < len(a) and 0 <= at_b < len(b):
            for band in range(a.shape[1]):
                loudest_a = np.int64(max(loudest_a, np.int64(a[at_a, band])))
                loudest_b = np.int64(max(loudest_b, np.int64(b[at_b, band])))
    least_a, least_b = max(np.int64(1), loudest_a - _HEARD), max(np.int64(1), loudest_b - _HEARD)
    total, count, compared = np.int64(0), 0, 0
    for step in range(first, end):
        at_a, at_b = ka[step], kb[step] + lag
        if 0 <= at_a < len(a) and 0 <= at_b < len(b):
            compared += 1
            for band in range(a.shape[1]):
                va, vb = np.int64(a[at_a, band]), np.int64(b[at_b, band])
                if va >= least_a and vb >= least_b:
                    total += vb - va
                    count += 1
    if 2 * compared < end - first:
        return float(_MOST), 0.0
    if count == 0:
        return (float(_MOST), 0.0) if loudest_a or loudest_b else (0.0, 0.0)
    gain = total / count
    away, heard = 0.0, 0
    for step in range(first, end):
        at_a, at_b = ka[step], kb[step] + lag
        if 0 <= at_a < len(a) and 0 <= at_b < len(b):
            for band in range(a.shape[1]):
                va, vb = np.int64(a[at_a, band]), np.int64(b[at_b, band])
                if va >= least_a or vb >= least_b:
                    away += min(float(_MOST), abs(vb - va - gain))
                    heard += 1
    # Bands that only one film has count less: low bit rates cut them off.
    return away / heard, gain


@kernel
def _steps(
    a: Bytes, b: Bytes, ka: NDArray[np.int64], kb: NDArray[np.int64], lag: int, numbers: NDArray[np.float64]
) -> None:
    for step in range(len(ka)):
        at_a, at_b = ka[step], kb[step] + lag
        if not (0 <= at_a < len(a) and 0 <= at_b < len(b)):
            continue
        loudest_a, loudest_b = np.int64(0), np.int64(0)
        for band in range(a.shape[1]):
            loudest_a = np.int64(max(loudest_a, np.int64(a[at_a, band])))
            loudest_b = np.int64(max(loudest_b, np.int64(b[at_b, band])))
        least_a, least_b = max(np.int64(1), loudest_a - _HEARD), max(np.int64(1), loudest_b - _HEARD)
        total, count, away, heard = 0.0, 0, 0.0, 0
        for band in range(a.shape[1]):
            va, vb = np.int64(a[at_a, band]), np.int64(b[at_b, band])
            if va >= least_a and vb >= least_b:
                total += vb - va
                count += 1
        gain = total / count if count else 0.0
        for band in range(a.shape[1]):
            va, vb = np.int64(a[at_a, band]), np.int64(b[at_b, band])
            if va >= least_a or vb >= least_b:
                away += min(float(_MOST), abs(vb - va - gain))
                heard += 1
        numbers[step, 0] = away / heard if heard else 0.0
        numbers[step, 1] = gain
        numbers[step, 2] = loudest_a
        numbers[step, 3] = loudest_b
