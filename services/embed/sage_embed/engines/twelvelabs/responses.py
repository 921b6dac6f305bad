"""TwelveLabs' responses about tasks, read as they arrive.

The readers accept the JSON of both APIs and check nothing but its shape.
"""

import codecs
import math
import re
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from sage_embed.engines.engine import Vectors
from sage_embed.engines.twelvelabs.client import Document, JsonStream, JsonStreamError


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
        clip_seconds: Length of a clip according to TwelveLabs; 0 if missing.
        url: URL of its video; None if missing.
        vectors: The requested vectors, if the response includes the result.
    """

    status: str
    code: str = ""
    message: str = ""
    duration_seconds: float = 0.0
    clip_seconds: float = 0.0
    url: str | None = field(default=None, repr=False)
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


# TwelveLabs' IDs are 24 hexadecimal digits. They become part of URLs, so nothing that has a meaning there is accepted.
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def is_task_id(text: str) -> bool:
    """Return whether a text may be the ID of a task."""
    return _TASK_ID.fullmatch(text) is not None


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
        metadata = _metadata(document)
        return TaskResponse(
            status=status.lower(),
            code=code,
            message=message,
            duration_seconds=_positive(metadata.get("duration")),
            clip_seconds=_positive(metadata.get("clip_length", metadata.get("video_clip_length"))),
            url=_text(metadata.get("input_url")),
            vectors=tuple(self._vectors),
        )

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
            self._tasks.append(
                ListedTask(
                    id=task_id,
                    url=_text(_metadata(element).get("input_url")),
                    model=_text(element.get("model_name")),
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


def _positive(value: object) -> float:
    seconds = _seconds(value)
    return seconds if seconds > 0 else 0.0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
