"""What TwelveLabs answers to questions, read from either API's JSON."""

import codecs
import math
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from sage_embed.adapters.twelvelabs.json_stream import Document, JsonStream, JsonStreamError
from sage_embed.engine import Vectors


@dataclass(frozen=True)
class Vector:
    """One vector of a result, as it came: nothing of it is checked.

    Attributes:
        scope: `clip`, or what either API calls the whole video.
        option: What it was made of.
        start_seconds: Where its clip starts; NaN where that is not said.
        end_seconds: Where it ends; NaN where that is not said.
        numbers: The vector, of any shape; numbers that are none are NaN.
    """

    scope: str
    option: str
    start_seconds: float
    end_seconds: float
    numbers: Vectors = field(repr=False)


@dataclass(frozen=True)
class TaskAnswer:
    """A task as TwelveLabs describes it.

    Attributes:
        status: One of the documented statuses, or any other; in small letters.
        code: The error's code where it failed and has one.
        message: The error's message where it failed and has one.
        duration_seconds: How long the video is by TwelveLabs' own account; 0 where it does not say.
        vectors: Those of the result that were wanted, where it came with the answer.
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
        id: Its id.
        url: The URL of its video; None where the list does not say.
        model: Its model's name; None where the list does not say.
        created_at: When it was made; None where the list does not say.
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
        last: Whether no page follows, as far as the answer says.
    """

    tasks: tuple[ListedTask, ...]
    last: bool


class TaskReader:
    """Reads a task, with or without its result, while it arrives.

    Args:
        options: The vectors that are wanted, by their option.
    """

    def __init__(self, options: Container[str]) -> None:
        self._options = options
        self._vectors: list[Vector] = []
        take = self._take
        self._text = _Text(JsonStream({("data",): take, ("video_embedding", "segments"): take}))

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises `ValueError` where it is no JSON."""
        self._text.feed(chunk)

    def finish(self) -> TaskAnswer:
        """Return what was read. Raises `ValueError` where it is no task."""
        document = self._text.finish()
        status = document.get("status")
        if not isinstance(status, str):
            raise JsonStreamError("a task without a status")
        code, message = error_of(document)
        return TaskAnswer(status.lower(), code, message, _duration(document), tuple(self._vectors))

    def _take(self, element: object) -> None:
        if not isinstance(element, dict):
            raise JsonStreamError("a vector is no object")
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
    """Reads a page of a list while it arrives."""

    def __init__(self) -> None:
        self._tasks: list[ListedTask] = []
        self._text = _Text(JsonStream({("data",): self._take}))

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises `ValueError` where it is no JSON."""
        self._text.feed(chunk)

    def finish(self) -> TaskPage:
        """Return what was read. Raises `ValueError` where it is no list."""
        document = self._text.finish()
        if "data" not in document:
            raise JsonStreamError("a list without tasks")
        info = document.get("page_info")
        page, pages = (info.get("page"), info.get("total_page")) if isinstance(info, dict) else (None, None)
        last = not self._tasks or (isinstance(page, int) and isinstance(pages, int) and page >= pages)
        return TaskPage(tuple(self._tasks), last)

    def _take(self, element: object) -> None:
        task_id = element.get("_id") if isinstance(element, dict) else None
        if isinstance(element, dict) and isinstance(task_id, str) and task_id:
            model = element.get("model_name")
            self._tasks.append(
                ListedTask(
                    id=task_id,
                    url=_url(element),
                    model=model if isinstance(model, str) and model else None,
                    created_at=_time(element.get("created_at")),
                )
            )


class _Text:
    """Turns bytes into the text of a stream: a character may be cut in two."""

    def __init__(self, stream: JsonStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, chunk: bytes) -> None:
        self._stream.feed(self._decoder.decode(chunk))

    def finish(self) -> Document:
        self._stream.feed(self._decoder.decode(b"", final=True))
        return self._stream.finish()


def error_of(body: object) -> tuple[str, str]:
    """Return code and message of an error's body, in either of its two shapes; empty where it has none."""
    if isinstance(body, dict):
        inner = body.get("error")
        if isinstance(inner, dict):
            return error_of(inner)
        code, message = body.get("code"), body.get("message", inner)
        return code if isinstance(code, str) else "", message.strip() if isinstance(message, str) else ""
    return "", ""


def _seconds(value: object) -> float:
    # A bool is an int to Python, and a number with a thousand digits is one that float does not take.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        return math.nan
    return float(value)


def _numbers(value: object) -> Vectors:
    try:
        # What is too large for float32 becomes infinite, and null NaN: both are found when the result is checked.
        with np.errstate(over="ignore"):
            return np.asarray(value if isinstance(value, list) else [], dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return np.full(1, np.nan, dtype=np.float32)


def _metadata(task: Document) -> Document:
    """Return what is said about the video, wherever it is: v1 and the lists of both have it one level deeper."""
    for holder in (task.get("video_embedding"), task):
        metadata = holder.get("metadata") if isinstance(holder, dict) else None
        if isinstance(metadata, dict):
            return metadata
    return {}


def _url(task: Document) -> str | None:
    url = _metadata(task).get("input_url")
    return url if isinstance(url, str) and url else None


def _duration(task: Document) -> float:
    seconds = _seconds(_metadata(task).get("duration"))
    return seconds if seconds > 0 else 0.0


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
