"""TwelveLabs' responses about tasks: read as they arrive, then checked and split into tracks.

The readers accept the JSON of both APIs and check nothing but its shape. `tracks_of` checks everything else.
"""

import codecs
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from sage_embed.embeddings.model import SOUND_TRACKS
from sage_embed.engines.engine import EngineRequest, Vectors
from sage_embed.engines.twelvelabs.client import Document, JsonStream, JsonStreamError
from sage_embed.engines.twelvelabs.models import WHOLE_VIDEO, Model

Times = NDArray[np.float64]

# The scope of the whole video in v1 and in v2.
_WHOLE = ("video", "asset")
# Times are rounded, and two probes of the same file may report slightly different lengths.
_ROUNDING_SECONDS = 0.25


@dataclass(frozen=True)
class Vector:
    """One vector of a result, unchecked.

    Attributes:
        scope: `clip`, or the API's name for the whole video.
        option: What it was made of.
        start_seconds: Start of its clip; NaN if missing.
        end_seconds: End of its clip; NaN if missing.
        numbers: The vector, of any shape. Values that are not numbers are NaN.
    """

    scope: str
    option: str
    start_seconds: float
    end_seconds: float
    numbers: Vectors = field(repr=False)


@dataclass(frozen=True)
class TaskResponse:
    """A task as TwelveLabs describes it.

    Attributes:
        status: A documented status or any other text, in lower case.
        code: The error code, if the task failed and has one.
        message: The error message, if the task failed and has one.
        duration_seconds: Length of the video as measured by TwelveLabs; 0 if missing.
        vectors: The requested vectors, if the response includes the result.
    """

    status: str
    code: str = ""
    message: str = ""
    duration_seconds: float = 0.0
    vectors: tuple[Vector, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class ListedTask:
    """A task in a list.

    Attributes:
        id: Its ID.
        url: URL of its video; None if missing.
        model: Its model's name; None if missing.
        created_at: When it was created; None if missing.
    """

    id: str
    url: str | None = field(repr=False)
    model: str | None
    created_at: datetime | None


@dataclass(frozen=True)
class TaskPage:
    """A page of a list.

    Attributes:
        tasks: Its tasks, newest first.
        last: Whether this is the last page, as far as the response shows.
    """

    tasks: tuple[ListedTask, ...]
    last: bool


class TaskReader:
    """Reads a task, with or without its result.

    Args:
        options: The options whose vectors to keep.
    """

    def __init__(self, options: Container[str]) -> None:
        self._options = options
        self._vectors: list[Vector] = []
        keep = self._keep
        self._text = _Text(JsonStream({("data",): keep, ("video_embedding", "segments"): keep}))

    def feed(self, chunk: bytes) -> None:
        """Read the next chunk. Raises `ValueError` if it is not JSON."""
        self._text.feed(chunk)

    def finish(self) -> TaskResponse:
        """Return what was read. Raises `ValueError` if it is not a task."""
        document = self._text.finish()
        status = document.get("status")
        if not isinstance(status, str):
            raise JsonStreamError("a task without a status")
        code, message = error_of(document)
        return TaskResponse(status.lower(), code, message, _duration(document), tuple(self._vectors))

    def _keep(self, element: object) -> None:
        if not isinstance(element, dict):
            raise JsonStreamError("a vector is not an object")
        option = element.get("embedding_option")
        if isinstance(option, str) and option in self._options:
            self._vectors.append(
                Vector(
                    scope=str(element.get("embedding_scope")),
                    option=option,
                    start_seconds=_seconds(element.get("start_sec", element.get("start_offset_sec"))),
                    end_seconds=_seconds(element.get("end_sec", element.get("end_offset_sec"))),
                    numbers=_numbers(element.get("embedding", element.get("float"))),
                )
            )


class ListReader:
    """Reads a page of a list of tasks."""

    def __init__(self) -> None:
        self._tasks: list[ListedTask] = []
        self._text = _Text(JsonStream({("data",): self._keep}))

    def feed(self, chunk: bytes) -> None:
        """Read the next chunk. Raises `ValueError` if it is not JSON."""
        self._text.feed(chunk)

    def finish(self) -> TaskPage:
        """Return what was read. Raises `ValueError` if it is not a list."""
        document = self._text.finish()
        if "data" not in document:
            raise JsonStreamError("a list without tasks")
        info = document.get("page_info")
        page, pages = (info.get("page"), info.get("total_page")) if isinstance(info, dict) else (None, None)
        last = not self._tasks or (isinstance(page, int) and isinstance(pages, int) and page >= pages)
        return TaskPage(tuple(self._tasks), last)

    def _keep(self, element: object) -> None:
        task_id = element.get("_id") if isinstance(element, dict) else None
        if isinstance(element, dict) and isinstance(task_id, str) and task_id:
            model, url = element.get("model_name"), _metadata(element).get("input_url")
            self._tasks.append(
                ListedTask(
                    id=task_id,
                    url=url if isinstance(url, str) and url else None,
                    model=model if isinstance(model, str) and model else None,
                    created_at=_time(element.get("created_at")),
                )
            )


def error_of(body: object) -> tuple[str, str]:
    """Return code and message of an error's body, in either of its two shapes; empty texts if missing."""
    if isinstance(body, dict):
        inner = body.get("error")
        if isinstance(inner, dict):
            return error_of(inner)
        code, message = body.get("code"), body.get("message", inner)
        return code if isinstance(code, str) else "", message.strip() if isinstance(message, str) else ""
    return "", ""


class BadResultError(Exception):
    """The result is not what was requested. The text says why, for users, without a full stop."""


@dataclass(frozen=True)
class TrackResult:
    """A complete track.

    Attributes:
        start_seconds: Start of each segment, increasing.
        end_seconds: End of each, no later than the start of the next one and the end of the video.
        vectors: One row for each, float32, finite.
    """

    start_seconds: tuple[float, ...]
    end_seconds: tuple[float, ...]
    vectors: Vectors = field(repr=False)


def tracks_of(
    response: TaskResponse, *, model: Model, request: EngineRequest, tracks: tuple[str, ...]
) -> dict[str, TrackResult]:
    """Return the tracks of a result, checked.

    The clips of the picture cover the video except for a remainder at its end that is shorter than a clip. Sound may
    end before the picture, and silence has no transcription, so for those tracks any clips are accepted; without clips
    the track is empty.

    Raises:
        BadResultError: Vectors are missing, of the wrong size or not finite, or their times are inconsistent.
    """
    return {
        track: _whole_video(response.vectors, model, request)
        if track == WHOLE_VIDEO
        else _clips(track, response, model, request)
        for track in tracks
    }


def _whole_video(vectors: Sequence[Vector], model: Model, request: EngineRequest) -> TrackResult:
    whole = [vector for vector in vectors if vector.scope in _WHOLE]
    # The options are in the order of the tracks, the picture first.
    for option in (name for names in model.options.values() for name in names):
        if found := [vector for vector in whole if vector.option == option]:
            return TrackResult((0.0,), (request.duration_seconds,), _rows(WHOLE_VIDEO, found[:1], model))
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
    if not np.isfinite(rows).all():
        raise BadResultError(f"vectors of its {track} track are not finite")
    return rows


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
    overlaps = np.flatnonzero(starts[1:] < ends[:-1] - 1e-3)
    if overlaps.size:
        raise BadResultError(f"two clips of its {track} track overlap at {starts[overlaps[0] + 1]:.2f} s")


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
    if not is_sound and length - covered > clip_seconds - 1e-3:
        raise _missing(track, covered, request.duration_seconds, clip_seconds)


def _missing(track: str, since: float, until: float, clip_seconds: float) -> BadResultError:
    number = round(since / clip_seconds) + 1
    return BadResultError(f"clip {number} of its {track} track is missing: nothing from {since:.2f} to {until:.2f} s")


class _Text:
    """Decodes chunks of bytes for a stream. A chunk may end within a character."""

    def __init__(self, stream: JsonStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, chunk: bytes) -> None:
        self._stream.feed(self._decoder.decode(chunk))

    def finish(self) -> Document:
        self._stream.feed(self._decoder.decode(b"", final=True))
        return self._stream.finish()


def _seconds(value: object) -> float:
    # In Python a bool is an int, and float() fails for an int with a thousand digits.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        return math.nan
    return float(value)


def _numbers(value: object) -> Vectors:
    try:
        # Values too large for float32 become infinite, and null becomes NaN: `tracks_of` refuses both.
        with np.errstate(over="ignore"):
            return np.asarray(value if isinstance(value, list) else [], dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return np.full(1, np.nan, dtype=np.float32)


def _metadata(task: Document) -> Document:
    """Return the metadata of the video. In v1, and in the lists of both APIs, it is one level deeper."""
    for holder in (task.get("video_embedding"), task):
        metadata = holder.get("metadata") if isinstance(holder, dict) else None
        if isinstance(metadata, dict):
            return metadata
    return {}


def _duration(task: Document) -> float:
    seconds = _seconds(_metadata(task).get("duration"))
    return seconds if seconds > 0 else 0.0


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
