"""A task's result: sorted, checked, and taken apart into tracks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sage_embed.adapters.twelvelabs.answers import TaskAnswer, Vector
from sage_embed.adapters.twelvelabs.models import WHOLE_VIDEO, Model
from sage_embed.engine import EngineRequest, Vectors
from sage_embed.model import SOUND_TRACKS

Times = NDArray[np.float64]

# What v1 calls the scope, and v2.
_WHOLE = ("video", "asset")
# Times are rounded, and two probes of one file need not find the same length.
_ROUNDING_SECONDS = 0.25


class BadResultError(Exception):
    """The result is not what was asked for. The text says in what, for people, with no full stop."""


@dataclass(frozen=True)
class TrackResult:
    """All of a track.

    Attributes:
        start_seconds: Where each segment starts, increasing.
        end_seconds: Where each ends, no later than the next one starts and the video ends.
        vectors: One row for each, float32, finite.
    """

    start_seconds: tuple[float, ...]
    end_seconds: tuple[float, ...]
    vectors: Vectors = field(repr=False)


def tracks_of(
    answer: TaskAnswer, *, model: Model, request: EngineRequest, tracks: tuple[str, ...]
) -> dict[str, TrackResult]:
    """Return the tracks of a result, checked.

    The picture's clips cover the video but for a rest at its end that is shorter than a clip: that is known as not
    covered. Sound may end before the picture does, and where nobody speaks there is no transcription, so of these the
    clips that there are will do; a track without any is empty.

    Raises:
        BadResultError: Vectors are missing, of another size or not finite, or their times do not fit.
    """
    return {
        track: _whole_video(answer.vectors, model, request)
        if track == WHOLE_VIDEO
        else _clips(track, answer, model, request)
        for track in tracks
    }


def _of_option(vectors: Sequence[Vector], options: tuple[str, ...]) -> list[Vector]:
    clips = [one for one in vectors if one.scope == "clip"]
    for option in options:
        if found := [one for one in clips if one.option == option]:
            return found
    return []


def _clips(track: str, answer: TaskAnswer, model: Model, request: EngineRequest) -> TrackResult:
    clips = _of_option(answer.vectors, model.options[track])
    rows = _rows(track, clips, model)
    times = np.array([(one.start_seconds, one.end_seconds) for one in clips], dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(times).all():
        raise BadResultError(f"a clip of its {track} vectors has no time")
    order = np.argsort(times[:, 0], kind="stable")
    times, rows = _on_timeline(times[order], request), rows[order]
    within = times[:, 0] < request.duration_seconds
    if (times[~within, 0] > request.duration_seconds + request.clip_seconds).any():
        raise BadResultError(f"its {track} vectors have clips after the video's end")
    times, rows = times[within], rows[within]
    _check_order(track, times)
    if track != "transcription":
        _check_gaps(track, times, answer, request)
    times = np.clip(times, 0.0, request.duration_seconds)
    return TrackResult(tuple(times[:, 0].tolist()), tuple(times[:, 1].tolist()), rows)


def _whole_video(vectors: Sequence[Vector], model: Model, request: EngineRequest) -> TrackResult:
    whole = [one for one in vectors if one.scope in _WHOLE]
    # The options are in the order of the tracks, the picture's first.
    for option in (name for names in model.options.values() for name in names):
        if found := [one for one in whole if one.option == option]:
            return TrackResult((0.0,), (request.duration_seconds,), _rows(WHOLE_VIDEO, found[:1], model))
    raise BadResultError("it has no vector for the whole video")


def _rows(track: str, clips: list[Vector], model: Model) -> Vectors:
    dimensions = model.info.dimensions
    for one in clips:
        if one.numbers.shape != (dimensions,):
            raise BadResultError(f"a vector of its {track} track has {one.numbers.size} numbers, not {dimensions}")
    rows = np.array([one.numbers for one in clips], dtype=np.float32).reshape(-1, dimensions)
    if not np.isfinite(rows).all():
        raise BadResultError(f"its {track} vectors have numbers that are not finite")
    return rows


def _on_timeline(times: Times, request: EngineRequest) -> Times:
    """Return times that count from the first frame, where TwelveLabs counts with the container's clock."""
    offset = request.start_offset_seconds
    if len(times) and abs(times[0, 0] - offset) < abs(times[0, 0]):
        return times - offset
    return times


def _check_order(track: str, times: Times) -> None:
    starts, ends = times[:, 0], times[:, 1]
    if (starts < -_ROUNDING_SECONDS).any() or (ends <= starts).any():
        raise BadResultError(f"a clip of its {track} track has times that cannot be")
    overlaps = np.flatnonzero(starts[1:] < ends[:-1] - 1e-3)
    if overlaps.size:
        raise BadResultError(f"two clips of its {track} track overlap at {starts[overlaps[0] + 1]:.2f} s")


def _check_gaps(track: str, times: Times, answer: TaskAnswer, request: EngineRequest) -> None:
    clip, sound = request.clip_seconds, track in SOUND_TRACKS
    if not len(times) and not sound:
        raise BadResultError(f"it has no {track} vectors")
    covered = 0.0
    for start, end in times.tolist():
        if start > covered + _ROUNDING_SECONDS:
            raise _missing(track, covered, start, clip)
        covered = end
    # The length by which TwelveLabs cut the video into clips decides whether another one had room.
    length = min(request.duration_seconds, answer.duration_seconds or request.duration_seconds - _ROUNDING_SECONDS)
    if not sound and length - covered > clip - 1e-3:
        raise _missing(track, covered, request.duration_seconds, clip)


def _missing(track: str, since: float, until: float, clip_seconds: float) -> BadResultError:
    number = round(since / clip_seconds) + 1
    return BadResultError(f"clip {number} of its {track} track is missing: nothing from {since:.2f} to {until:.2f} s")
