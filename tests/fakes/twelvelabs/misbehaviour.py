"""Named faults of the stand-in."""

import math
from typing import Any

from fakes.twelvelabs.facts import RefusedError
from fakes.twelvelabs.faults import Answers, Changes, Moment
from fakes.twelvelabs.tasks import Document

_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def refuses(status: int, code: str, message: str = "", *, nested: bool = False) -> Answers:
    """Respond with an error, in the nested or the flat format."""
    body = RefusedError(status, code, message).body()
    return Answers(status, {"error": body | {"details": {}}} if nested else body)


def limits(*, retry_after: str | None = None, json: bool = True) -> Answers:
    """Respond with 429, with or without `Retry-After`, with a body of JSON or plain text."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Answers(429, RefusedError(429, "too_many_requests").body() if json else b"Too Many Requests", headers)


def empty(status: int, *, at: Moment = Moment.AFTER) -> Answers:
    """Respond with a status and no body."""
    return Answers(status, at=at)


def not_json(status: int, *, at: Moment = Moment.AFTER) -> Answers:
    """Respond with a status and a page of HTML."""
    return Answers(status, _HTML, {"Content-Type": "text/html"}, at=at)


def says(status: str) -> Changes:
    """Report this status of the task, without a result."""

    def change(document: Document) -> None:
        document["status"] = status
        if "data" in document:
            document["data"] = None

    return Changes(change)


def fails(message: str) -> Changes:
    """Report that the task failed."""

    def change(document: Document) -> None:
        says("failed").change(document)
        document["error"] = {"message": message}

    return Changes(change)


def reversed_order() -> Changes:
    """Return the vectors in reverse order."""
    return Changes(lambda document: _vectors(document).reverse())


def without_clip(index: int) -> Changes:
    """Leave out the clip at an index, for every option."""

    def change(document: Document) -> None:
        vectors = _vectors(document)
        starts = sorted({_start(one) for one in vectors if one["embedding_scope"] == "clip"})
        vectors[:] = [one for one in vectors if one["embedding_scope"] != "clip" or _start(one) != starts[index]]

    return Changes(change)


def without_vectors() -> Changes:
    """Return an empty result."""
    return Changes(lambda document: _vectors(document).clear())


def with_dimensions(dimensions: int) -> Changes:
    """Return vectors of another size."""

    def change(document: Document) -> None:
        for one in _vectors(document):
            name = _field(one)
            one[name] = (one[name] * 2)[:dimensions]

    return Changes(change)


def with_number(value: float | None) -> Changes:
    """Replace a number in one vector with NaN, infinity or null."""

    def change(document: Document) -> None:
        one = _vectors(document)[0]
        one[_field(one)] = [value, *one[_field(one)][1:]]

    return Changes(change)


def with_nan() -> Changes:
    """Replace a number in one vector with NaN."""
    return with_number(math.nan)


def with_zeros(option: str) -> Changes:
    """Replace the last vector of an option with zeros."""

    def change(document: Document) -> None:
        last = [one for one in _vectors(document) if one["embedding_option"] == option][-1]
        last[_field(last)] = [0.0] * len(last[_field(last)])

    return Changes(change)


def with_clips_of(seconds: float) -> Changes:
    """Return clips of another length than requested."""

    def change(document: Document) -> None:
        clips = [one for one in _vectors(document) if one["embedding_scope"] == "clip"]
        for number, one in enumerate(clips):
            start, end = ("start_offset_sec", "end_offset_sec") if "float" in one else ("start_sec", "end_sec")
            one[start], one[end] = number * seconds, (number + 1) * seconds

    return Changes(change)


def ends_at(seconds: float) -> Changes:
    """Return a result as if the video ended early."""

    def change(document: Document) -> None:
        vectors = _vectors(document)
        vectors[:] = [one for one in vectors if _start(one) < seconds]
        for one in vectors:
            end = "end_offset_sec" if "float" in one else "end_sec"
            one[end] = min(one[end], seconds)
        embedding = document.get("video_embedding")
        holder = embedding if isinstance(embedding, dict) else document
        metadata = holder["metadata"]
        assert isinstance(metadata, dict)
        metadata["duration"] = seconds

    return Changes(change)


def names_task(task_id: str) -> Changes:
    """Name another task in the response to a create request."""
    return Changes(lambda document: document.update(_id=task_id))


def lists_nothing() -> Changes:
    """Return an empty list, like one that lags."""

    def change(document: Document) -> None:
        document["data"] = []

    return Changes(change)


def lists_without_urls() -> Changes:
    """Return a list without the URLs of its tasks."""

    def change(document: Document) -> None:
        for one in _dicts(document["data"]):
            del one["video_embedding"]["metadata"]["input_url"]

    return Changes(change)


def _vectors(document: Document) -> list[dict[str, Any]]:
    """Return the vectors of a result of either API, to be changed in place."""
    embedding = document.get("video_embedding")
    return _dicts(embedding["segments"] if isinstance(embedding, dict) else document["data"])


def _dicts(value: object) -> list[dict[str, Any]]:
    assert isinstance(value, list)
    return value


def _field(vector: dict[str, Any]) -> str:
    return "float" if "float" in vector else "embedding"


def _start(vector: dict[str, Any]) -> float:
    return float(vector["start_offset_sec"] if "start_offset_sec" in vector else vector["start_sec"])
