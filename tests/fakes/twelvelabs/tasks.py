"""Tasks, and their representation in both APIs."""

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fakes.twelvelabs.facts import MODELS, Api
from fakes.twelvelabs.orders import Order
from fakes.twelvelabs.studio import Footage
from fakes.twelvelabs.vectors import Piece

Document = dict[str, object]


@dataclass
class Task:
    """A task that was created, and would be billed.

    Attributes:
        order: The request.
        polls_left: How often it still reports that it is not done.
        footage: The video, once it has been analysed.
        pieces: The result, once it is ready.
        failure: Why it failed.
        looking: The running analysis.
    """

    order: Order
    polls_left: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:24])
    created_at: str = field(default_factory=lambda: _now())
    footage: Footage | None = None
    pieces: list[Piece] = field(default_factory=list)
    failure: str = ""
    looking: asyncio.Task[None] | None = None

    @property
    def status(self) -> str:
        """One of the documented statuses."""
        if self.polls_left > 0 or not (self.footage or self.failure):
            return "processing"
        return "failed" if self.failure else "ready"


def created(task: Task) -> Document:
    """Return the response to a create request."""
    if task.order.api is Api.V1:
        return {"_id": task.id}
    return {"_id": task.id, "status": "processing", "data": None}


def status_v1(task: Task) -> Document:
    """Return the response of `GET /embed/tasks/{id}/status`."""
    document = _head(task) | {"video_embedding": {"metadata": _metadata(task)}}
    return document | ({"error": {"message": task.failure}} if task.status == "failed" else {})


def result_v1(task: Task, options: Iterable[str]) -> Document:
    """Return the response of `GET /embed/tasks/{id}`. Without options it contains all of them."""
    # Later models call visual-text of 2.7 visual.
    requested = {"visual-text" if option == "visual" else option for option in options} | set(options)
    segments = [
        {
            "start_offset_sec": piece.start_seconds,
            "end_offset_sec": piece.end_seconds,
            "embedding_scope": piece.scope,
            "embedding_option": piece.option,
            "float": piece.vector,
        }
        for piece in task.pieces
        if not requested or piece.option in requested
    ]
    ready = task.status == "ready"
    return _head(task) | {"video_embedding": {"metadata": _metadata(task), "segments": segments if ready else None}}


def retrieve_v2(task: Task) -> Document:
    """Return the response of `GET /embed-v2/tasks/{id}`, which has both status and result."""
    document: Document = {
        "_id": task.id,
        "status": task.status,
        "created_at": task.created_at,
        "updated_at": _now(),
        "data": None,
    }
    if task.status == "failed":
        document["error"] = {"message": task.failure}
    if task.status == "ready":
        document["data"] = [
            {
                "embedding": piece.vector,
                "embedding_option": piece.option,
                "embedding_scope": piece.scope,
                "start_sec": piece.start_seconds,
                "end_sec": piece.end_seconds,
            }
            for piece in task.pieces
        ]
        document["metadata"] = {
            "input_type": "video",
            "input_url": task.order.url,
            "clip_length": task.order.clip_seconds,
            "embedding_scopes": list(task.order.scopes),
            "embedding_options": list(task.order.options),
            "duration": task.footage.duration_seconds if task.footage else 0.0,
        } | ({"embedding_dimension": 512} if MODELS[task.order.model].nested_segmentation else {})
    return document


def listed(tasks: list[Task], *, page: int, limit: int) -> Document:
    """Return one page of a list, newest first, in the format of both APIs."""
    newest = tasks[::-1]
    return {
        "data": [
            _head(task) | {"updated_at": task.created_at, "video_embedding": {"metadata": _metadata(task)}}
            for task in newest[(page - 1) * limit : page * limit]
        ],
        "page_info": {
            "limit_per_page": limit,
            "page": page,
            "total_page": -(-len(tasks) // limit),
            "total_results": len(tasks),
        },
    }


def _head(task: Task) -> Document:
    return {
        "_id": task.id,
        "model_name": task.order.model,
        "status": task.status,
        "created_at": task.created_at,
    }


def _metadata(task: Task) -> Document:
    return {
        "input_url": task.order.url,
        "video_clip_length": task.order.clip_seconds,
        "video_embedding_scope": list(task.order.scopes),
        "video_embedding_option": list(task.order.options),
        "duration": task.footage.duration_seconds if task.footage else None,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
