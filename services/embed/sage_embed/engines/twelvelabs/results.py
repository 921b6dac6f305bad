"""The result of a task, checked against what was requested and split into tracks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sage_embed.embeddings.model import SOUND_TRACKS
from sage_embed.engines.engine import EngineRequest, Vectors
from sage_embed.engines.twelvelabs.models import WHOLE_VIDEO, Model
from sage_embed.engines.twelvelabs.responses import TaskResponse, Vector

Times = NDArray[np.float64]

# The scope of the whole video in v1 and in v2.
_WHOLE = ("video", "asset")
# Times are rounded, and two probes of the same file may report slightly different lengths.
_ROUNDING_SECONDS = 0.25
_EXACT_SECONDS = 1e-3


class BadResultError(Exception):
    """The result is not what was requested. The text says why, for users, without a full stop."""


@dataclass(frozen=True)
class TrackResult:
    """A complete track.

    Attributes:
        start_seconds: Start of each segment, increasing.
        end_seconds: End of each, no later than the start of the next one and the end of the video.
        vectors: One row for each, float32, finite and not zero.
    """

    start_seconds: tuple[float, ...]
    end_seconds: tuple[float, ...]
    vectors: Vectors = field(repr=False)


def tracks_of(
    response: TaskResponse, *, model: Model, request: EngineRequest, tracks: tuple[str, ...]
) -> dict[str, TrackResult]:
    """Return the tracks of a result, checked.

    Every clip has the requested length; only the last one may be shorter. The clips of the picture cover as much of
    the video as TwelveLabs measured, except for a remainder at its end that is shorter than a clip. If TwelveLabs saw
    less of the video than there is, the tracks end where it stopped. Sound may end before the picture, and silence has
    no transcription, so for those tracks any clips are accepted; without clips the track is empty.

    Raises:
        BadResultError: Vectors are missing, of the wrong size, not finite or zero; clips have another length than
            requested; or their times are inconsistent.
    """
    if response.clip_seconds and abs(response.clip_seconds - request.clip_seconds) > _EXACT_SECONDS:
        raise _other_length(response.clip_seconds, request)
    return {
        track: _whole_video(response, model, request)
        if track == WHOLE_VIDEO
        else _clips(track, response, model, request)
        for track in tracks
    }


def _whole_video(response: TaskResponse, model: Model, request: EngineRequest) -> TrackResult:
    whole = [vector for vector in response.vectors if vector.scope in _WHOLE]
    seen = response.duration_seconds
    # A difference of less than a clip is one of measuring.
    end = seen if 0 < seen <= request.duration_seconds - request.clip_seconds else request.duration_seconds
    # The options are in the order of the tracks, the picture first.
    for option in (name for names in model.options.values() for name in names):
        if found := [vector for vector in whole if vector.option == option]:
            return TrackResult((0.0,), (end,), _rows(WHOLE_VIDEO, found[:1], model))
    raise BadResultError("it has no vector for the whole video")


def _clips(track: str, response: TaskResponse, model: Model, request: EngineRequest) -> TrackResult:
    clips = _of_option(response.vectors, model.options[track])
    rows = _rows(track, clips, model)
    times = np.array([(clip.start_seconds, clip.end_seconds) for clip in clips], dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(times).all():
        raise BadResultError(f"a clip of its {track} track has no time")
    order = np.argsort(times[:, 0], kind="stable")
    times, rows = _on_timeline(times[order], request), rows[order]
    within = times[:, 0] < request.duration_seconds
    if (times[~within, 0] > request.duration_seconds + request.clip_seconds).any():
        raise BadResultError(f"its {track} track has clips after the end of the video")
    times, rows = times[within], rows[within]
    _check_order(track, times)
    _check_lengths(track, times, request)
    if track != "transcription":
        _check_gaps(track, times, response, request)
    times = np.clip(times, 0.0, request.duration_seconds)
    return TrackResult(tuple(times[:, 0].tolist()), tuple(times[:, 1].tolist()), rows)


def _of_option(vectors: Sequence[Vector], options: tuple[str, ...]) -> list[Vector]:
    clips = [vector for vector in vectors if vector.scope == "clip"]
    for option in options:
        if found := [clip for clip in clips if clip.option == option]:
            return found
    return []


def _rows(track: str, clips: list[Vector], model: Model) -> Vectors:
    dimensions = model.info.dimensions
    for clip in clips:
        if clip.numbers.shape != (dimensions,):
            size = clip.numbers.size
            raise BadResultError(f"a vector of its {track} track has {size} numbers instead of {dimensions}")
    rows = np.array([clip.numbers for clip in clips], dtype=np.float32).reshape(-1, dimensions)
    # A vector of zeros has no direction, so it would differ from every other vector.
    for bad, problem in ((~np.isfinite(rows).all(axis=1), "is not finite"), (~rows.any(axis=1), "has only zeros")):
        if bad.any():
            raise BadResultError(f"the vector {_place(clips[int(np.argmax(bad))])} of its {track} track {problem}")
    return rows


def _place(clip: Vector) -> str:
    if not np.isfinite([clip.start_seconds, clip.end_seconds]).all():
        return "without a time"
    return f"from {clip.start_seconds:.2f} to {clip.end_seconds:.2f} s"


def _on_timeline(times: Times, request: EngineRequest) -> Times:
    """Return times counted from the first frame, in case TwelveLabs uses the container's timestamps."""
    offset = request.start_offset_seconds
    if len(times) and abs(times[0, 0] - offset) < abs(times[0, 0]):
        return times - offset
    return times


def _check_order(track: str, times: Times) -> None:
    starts, ends = times[:, 0], times[:, 1]
    if (starts < -_ROUNDING_SECONDS).any() or (ends <= starts).any():
        raise BadResultError(f"a clip of its {track} track has impossible times")
    overlaps = np.flatnonzero(starts[1:] < ends[:-1] - _EXACT_SECONDS)
    if overlaps.size:
        raise BadResultError(f"two clips of its {track} track overlap at {starts[overlaps[0] + 1]:.2f} s")


def _check_lengths(track: str, times: Times, request: EngineRequest) -> None:
    lengths = times[:, 1] - times[:, 0]
    wrong = lengths > request.clip_seconds + _ROUNDING_SECONDS
    # Speech begins and ends within clips.
    if track != "transcription":
        wrong[:-1] |= lengths[:-1] < request.clip_seconds - _ROUNDING_SECONDS
    if wrong.any():
        raise _other_length(float(lengths[int(np.argmax(wrong))]), request)


def _other_length(seconds: float, request: EngineRequest) -> BadResultError:
    return BadResultError(f"it has clips of {seconds:.2f} s instead of {request.clip_seconds:g} s")


def _check_gaps(track: str, times: Times, response: TaskResponse, request: EngineRequest) -> None:
    clip_seconds, is_sound = request.clip_seconds, track in SOUND_TRACKS
    if not len(times) and not is_sound:
        raise BadResultError(f"it has no {track} vectors")
    covered = 0.0
    for start, end in times.tolist():
        if start > covered + _ROUNDING_SECONDS:
            raise _missing(track, covered, start, clip_seconds)
        covered = end
    # Whether another clip fits depends on the length that TwelveLabs measured.
    length = min(request.duration_seconds, response.duration_seconds or request.duration_seconds - _ROUNDING_SECONDS)
    if not is_sound and length - covered > clip_seconds - _EXACT_SECONDS:
        raise _missing(track, covered, request.duration_seconds, clip_seconds)


def _missing(track: str, since: float, until: float, clip_seconds: float) -> BadResultError:
    number = round(since / clip_seconds) + 1
    return BadResultError(f"clip {number} of its {track} track is missing: nothing from {since:.2f} to {until:.2f} s")
