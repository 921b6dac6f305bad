"""The edit script of the sound, from that of the picture."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import SOUND_RATE, Bytes, Fingerprint

from sage_compare.aligned.inputs import Film
from sage_compare.aligned.script import (
    Change,
    ChangeKind,
    ChangeSide,
    Edit,
    EditKind,
    EditScript,
    Frames,
    Noise,
    Normalization,
    NormalizationKind,
)
from sage_compare.aligned.sound_runs import Run, cuts_of, with_runs
from sage_compare.aligned.sound_windows import WINDOW, Steps, Windows, compare_windows, signals

# Distances in decibels from which the sound is another. Re-encoded sound has 0.5 to 2, other sound 5 and more.
_OTHER: Final = 4.0
_OTHER_AT_MOST: Final = 6.0
# Decibels of gain, beyond that of the pair, and seconds of delay that are reported. Encoders delay by up to 0.05.
_LOUDER: Final = 3.0
_LATE: Final = 0.06
# Decibels of gain of the pair that are told.
_GAIN: Final = 0.5
# Decibels between the loudest sound of a film and its silence, and between silence and what counts as missing.
_SILENT: Final = 55.0
_HARDLY: Final = 15.0
_MISSING: Final = 20.0
# Windows of a run, so that one odd window is no change.
_LEAST_WINDOWS: Final = 2
# Windows between two runs with the same delay that fit it and others alike.
_STEADY_WINDOWS: Final = 10
# Steps at the ends of a range that a delay is extended over.
_UNHEARD: Final = 60
# Windows from which a delay is believed.
_DELAY_WINDOWS: Final = 6


def compare_sound(a: Film, b: Film, script: EditScript) -> EditScript:
    """Return the script of the track `audio`.

    What was cut in the picture was cut in the sound. Where both films have the same frames, the sound is compared along
    the map, after the gain of the whole pair was removed.

    Args:
        a: One film.
        b: The other film.
        script: Script of the picture.
    """
    edits = cuts_of(script.edits)
    sound_a, sound_b = a.fingerprint.sound, b.fingerprint.sound
    if sound_a is None and sound_b is None:
        return _script(edits)
    if sound_a is None or sound_b is None:
        side = ChangeSide.B if sound_a is None else ChangeSide.A
        return _script([_missing(edit, side) if edit.a and edit.b else edit for edit in edits])
    steps = _steps(a.fingerprint, b.fingerprint, edits)
    windows = compare_windows(sound_a, sound_b, steps, good=_OTHER)
    if not len(windows):
        return _script(edits)
    silent_a, silent_b = windows.level_a < _silence(windows.level_a), windows.level_b < _silence(windows.level_b)
    heard = ~silent_a & ~silent_b
    same = heard & (windows.lag_distance < _OTHER)
    gain = float(np.median(windows.gain[same])) if same.any() else 0.0
    other = _OTHER
    if same.any():
        other = min(_OTHER_AT_MOST, max(_OTHER, 2.5 * float(np.median(windows.lag_distance[same]))))
    states = _states(windows, silent_a, silent_b, gain, other)
    refined = [
        _refined(sound_a, sound_b, steps, windows, run, gain)
        for run in _runs(sound_a, sound_b, steps, windows, states, other)
    ]
    runs = [run for run in refined if run is not None]
    compared = list[Edit]()
    number = 0
    for edit in edits:
        if edit.a is None or edit.b is None:
            compared.append(edit)
            continue
        low, high = int(steps.starts[number]), int(steps.starts[number + 1])
        number += 1
        own = [run for run in runs if low <= run.first < high]
        compared += with_runs(a.fingerprint, b.fingerprint, edit, own, steps)
    loudness = list[Normalization]()
    if abs(gain) >= _GAIN:
        loudness.append(Normalization(NormalizationKind.LOUDNESS, "", f"{gain:+.1f}"))
    quiet = windows.distance[states == 0] / other
    noise = Noise(*(float(np.quantile(quiet, share)) for share in (0.5, 0.95, 0.99))) if len(quiet) else Noise()
    return EditScript(tuple(compared), tuple(loudness), noise, _residuals(b.fingerprint, steps, windows, other))


def _script(edits: Sequence[Edit]) -> EditScript:
    return EditScript(tuple(edits))


def _missing(edit: Edit, side: ChangeSide) -> Edit:
    if edit.a is None or edit.b is None:
        return edit
    change = Change(ChangeKind.SOUND_MISSING, edit.a, edit.b, strength=10.0, side=side)
    kind = EditKind.CHANGED if edit.kind is EditKind.MATCHED else edit.kind
    return replace(edit, kind=kind, changes=(change,))


def _steps(a: Fingerprint, b: Fingerprint, edits: Sequence[Edit]) -> Steps:
    """Return the steps of sound of all ranges that both films have."""
    of_a, of_b, starts = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [0]
    for edit in edits:
        if edit.a is None or edit.b is None:
            continue
        start_a, end_a = _seconds(a, edit.a)
        start_b, end_b = _seconds(b, edit.b)
        steps = np.arange(round(start_b * SOUND_RATE), max(round(start_b * SOUND_RATE), round(end_b * SOUND_RATE)))
        rate = (end_a - start_a) / max(end_b - start_b, 1e-9)
        at = start_a * SOUND_RATE + (steps - start_b * SOUND_RATE) * rate
        of_a.append(np.floor(at + 0.5).astype(np.int64))
        of_b.append(steps.astype(np.int64))
        starts.append(starts[-1] + len(steps))
    return Steps(np.concatenate(of_a), np.concatenate(of_b), np.array(starts, np.int64))


def _seconds(film: Fingerprint, frames: Frames) -> tuple[float, float]:
    end = film.duration_seconds if frames.end >= len(film) else float(film.frame_seconds[frames.end])
    return float(film.frame_seconds[frames.first]), end


def _silence(levels: NDArray[np.float64]) -> float:
    """Return the level below which a film is silent."""
    return max(1.0, float(np.quantile(levels, 0.9)) - _SILENT)


_LEVEL, _SHIFTED, _REPLACED, _MISSED = 1, 2, 3, 4
_STATES: Final = (
    None,
    ChangeKind.SOUND_LEVEL,
    ChangeKind.SOUND_SHIFTED,
    ChangeKind.SOUND_REPLACED,
    ChangeKind.SOUND_MISSING,
)


def _states(
    windows: Windows, silent_a: NDArray[np.bool_], silent_b: NDArray[np.bool_], gain: float, other: float
) -> NDArray[np.int64]:
    """Return the index in `_STATES` of each window."""
    quiet_a, quiet_b = _silence(windows.level_a) + _HARDLY, _silence(windows.level_b) + _HARDLY
    states = np.zeros(len(windows), np.int64)
    # What is hardly heard in either film is mostly noise of the encoders.
    heard = (windows.level_a >= quiet_a) | (windows.level_b >= quiet_b)
    heard &= ~silent_a & ~silent_b
    states[heard & (windows.distance < other) & (np.abs(windows.gain - gain) >= _LOUDER)] = _LEVEL
    fits = windows.lag_distance < np.minimum(other, 0.7 * windows.distance)
    late = np.abs(windows.lag) >= _LATE * SOUND_RATE
    states[heard & fits & late] = _SHIFTED
    states[heard & (windows.distance >= other) & ~fits] = _REPLACED
    apart = np.abs(windows.level_b - gain - windows.level_a) >= _MISSING
    states[(silent_a != silent_b) & apart] = _MISSED
    return states


def _runs(
    a: Bytes, b: Bytes, steps: Steps, windows: Windows, states: NDArray[np.int64], other: float
) -> list[tuple[int, int, int]]:
    """Return the state, the first window and the window after the last one of each run."""
    edges = np.flatnonzero((np.diff(states) != 0) | (np.diff(windows.owner) != 0)) + 1
    counts = np.bincount(windows.owner)
    runs = list[tuple[int, int, int]]()
    for first, end in zip([0, *edges.tolist()], [*edges.tolist(), len(states)], strict=True):
        state, owner = int(states[first]), windows.owner[first]
        if not state or end - first < min(_LEAST_WINDOWS, counts[owner]):
            continue
        # Windows at the ends of a change hear both sides, and steady sound fits any delay.
        gap = _STEADY_WINDOWS if state == _SHIFTED else 1
        if state == _SHIFTED and len(runs) > 1 and _interrupts(windows, runs[-2], runs[-1], first, end):
            runs.pop()
        last = runs[-1] if runs else None
        if last and last[0] == state and windows.owner[last[1]] == owner and first - last[2] <= gap:
            runs[-1] = (state, last[1], end)
        else:
            runs.append((state, first, end))
    parts = list[tuple[int, int, int]]()
    for run in runs:
        if run[0] == _SHIFTED and run[2] - run[1] < min(_DELAY_WINDOWS, counts[windows.owner[run[1]]]):
            continue
        if run[0] != _SHIFTED or _fits(a, b, steps, windows, run, other):
            parts.append(run)
        else:
            parts += _delays(windows, run)
    return parts


def _interrupts(
    windows: Windows, before: tuple[int, int, int], run: tuple[int, int, int], first: int, end: int
) -> bool:
    """Return whether a run is a short one between two with the same delay."""
    return (
        before[0] == _SHIFTED
        and windows.owner[before[1]] == windows.owner[first]
        and run[2] - run[1] < _DELAY_WINDOWS
        and abs(_usual(windows.lag[before[1] : before[2]]) - _usual(windows.lag[first:end])) <= 1
    )


def _fits(a: Bytes, b: Bytes, steps: Steps, windows: Windows, run: tuple[int, int, int], other: float) -> bool:
    """Return whether all of a run fits its most usual delay: rhythms fit others by chance."""
    _, first, end = run
    lag = _usual(windows.lag[first:end])
    distance, *_ = signals(a, b, steps, int(windows.first[first]), int(windows.end[end - 1]), lag)
    by_second = [part.mean() for part in np.array_split(distance, max(1, len(distance) // WINDOW))]
    return float(np.quantile(by_second, 0.8)) < other


def _usual(lags: NDArray[np.int64]) -> int:
    """Return the lag of most windows."""
    values, counts = np.unique(lags, return_counts=True)
    return int(values[np.argmax(counts)])


def _delays(windows: Windows, run: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Return a run in parts of one delay each."""
    state, first, end = run
    edges = first + 1 + np.flatnonzero(np.abs(np.diff(windows.lag[first:end])) > 1)
    bounds = [first, *edges.tolist(), end]
    parts = [part for part in itertools.pairwise(bounds) if part[1] - part[0] >= _DELAY_WINDOWS]
    if len(parts) < 2:
        return [run]
    joined = [parts[0]]
    for part in parts[1:]:
        last = joined[-1]
        if abs(np.median(windows.lag[slice(*last)]) - np.median(windows.lag[slice(*part)])) <= 1:
            joined[-1] = last[0], part[1]
        else:
            joined.append(part)
    # What lies between two delays belongs to the first.
    starts = [first, *(part[0] for part in joined[1:])]
    return [(state, start, stop) for start, stop in itertools.pairwise([*starts, end])]


def _refined(
    a: Bytes, b: Bytes, steps: Steps, windows: Windows, run: tuple[int, int, int], pair_gain: float
) -> Run | None:
    """Return a run with its ends to the step; `None` if it is only a gain that drifts, as loudness is normalised."""
    state, first, end = run
    kind = _STATES[state]
    assert kind is not None  # noqa: S101
    owner = int(windows.owner[first])
    low, high = int(steps.starts[owner]), int(steps.starts[owner + 1])
    start, stop = int(windows.first[first]), int(windows.end[end - 1])
    lags = windows.lag[first:end]
    lag = _usual(lags)
    gains = windows.gain[first:end] - pair_gain
    around = max(low, start - WINDOW), min(high, stop + WINDOW)
    distance, gain, level_a, level_b = signals(a, b, steps, *around)
    side, amount = None, None
    if kind is ChangeKind.SOUND_LEVEL:
        amount = float(np.median(gains))
        signal, strength = (gain - pair_gain) * np.sign(amount), abs(amount) / _LOUDER
    elif kind is ChangeKind.SOUND_SHIFTED:
        # Delays of half a step fit two lags.
        amount = float(lags[np.abs(lags - lag) <= 1].mean()) / SOUND_RATE
        shifted, *_ = signals(a, b, steps, *around, lag)
        signal, strength = distance - shifted, float(np.mean(windows.distance[first:end])) / _OTHER + 1
    elif kind is ChangeKind.SOUND_MISSING:
        louder = float(np.mean(windows.level_b[first:end] - windows.level_a[first:end]))
        side = ChangeSide.B if louder > 0 else ChangeSide.A
        signal, strength = (level_b - level_a) * np.sign(louder), abs(louder) / _MISSING
    else:
        signal, strength = distance, float(np.mean(windows.distance[first:end])) / _OTHER
    begin, finish = _steps_of(signal, start - around[0], stop - around[0])
    if kind is ChangeKind.SOUND_LEVEL and not _is_abrupt(signal, begin, finish, abs(amount or 0.0)):
        return None
    begin, finish = begin + around[0], finish + around[0]
    if kind is ChangeKind.SOUND_SHIFTED:
        # Late sound cannot be compared at the ends of a range, where it belongs to what lies beside.
        begin = low if begin - low <= _UNHEARD else begin
        finish = high if high - finish <= _UNHEARD else finish
    return Run(kind, begin, finish, strength, amount, side)


def _is_abrupt(signal: NDArray[np.float64], begin: int, finish: int, amount: float) -> bool:
    """Return whether the gain jumps at both ends, which are edges of the signal or inside it."""
    half = WINDOW // 2
    for at, inward in ((begin, 1), (finish, -1)):
        inside, outside = (signal[at : at + half], signal[max(0, at - half) : at])[::inward]
        if at in (0, len(signal)):
            continue
        if len(inside) and len(outside) and float(np.median(inside) - np.median(outside)) < 0.6 * amount:
            return False
    return True


def _steps_of(signal: NDArray[np.float64], start: int, stop: int) -> tuple[int, int]:
    """Return where a signal steps up near `start` and down near `stop`."""
    middle = (start + stop) // 2
    typical = float(np.median(signal[start:stop]))
    clipped = np.clip(signal, 0, typical)
    rise = clipped[: min(len(signal), max(middle, start + 1))]
    fall = clipped[max(middle, 0) :][::-1]
    rise = rise[: start + 2 * WINDOW]
    fall = fall[: len(signal) - stop + 2 * WINDOW]
    begin, finish = _step(rise, typical), len(signal) - _step(fall, typical)
    return (begin, finish) if finish > begin else (start, stop)


def _step(values: NDArray[np.float64], typical: float) -> int:
    """Return the number of values before the step; 0 if there is none."""
    below = np.concatenate([[0.0], np.cumsum(values**2)])
    above = np.concatenate([np.cumsum(((values - typical) ** 2)[::-1])[::-1], [0.0]])
    return int(np.argmin(below + above))


def _residuals(b: Fingerprint, steps: Steps, windows: Windows, other: float) -> NDArray[np.float32]:
    """Return how much the sound differs at each frame of b; -1 if nothing was compared there."""
    count = int(steps.b.max()) + 1 if len(steps.b) else 0
    by_step = np.full(count + 1, -1, np.float32)
    for first, end, distance in zip(windows.first, windows.end, windows.distance, strict=True):
        by_step[steps.b[first:end]] = distance / other
    at = np.minimum((b.frame_seconds * SOUND_RATE).astype(np.int64), count)
    residuals: NDArray[np.float32] = by_step[at]
    return residuals
