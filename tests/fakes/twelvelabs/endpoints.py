"""The normal behaviour of each endpoint."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import BodyPartReader, web
from fakes.twelvelabs.facts import MAX_PAGE, MODELS, Api, RefusedError, invalid
from fakes.twelvelabs.faults import Step
from fakes.twelvelabs.orders import Order, read_v1, read_v2
from fakes.twelvelabs.studio import UnfetchableError
from fakes.twelvelabs.tasks import Document, Task, created, listed, result_v1, retrieve_v2, status_v1
from fakes.twelvelabs.vectors import pieces

if TYPE_CHECKING:
    from fakes.twelvelabs.server import StandIn

# The words of the real service if it cannot use a URL.
UNFETCHABLE = "failed to fetch or materialize source media"


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Attributes:
        step: Returns the step of a request.
        work: Carries out a request whose body has been read. Returns status and document, or raises `RefusedError`.
        read: Reads and checks the body. Nothing has an effect before `work`.
    """

    step: Callable[[web.Request], Step]
    work: Callable[[web.Request, Order | None], tuple[int, Document]]
    read: Callable[[web.Request], Awaitable[Order | None]]


class Endpoints:
    """The endpoints of a stand-in."""

    def __init__(self, stand_in: "StandIn") -> None:
        self._stand_in = stand_in

    def of(self, api: Api) -> Iterator[tuple[str, str, Endpoint]]:
        """Return method, path below the API's prefix, and endpoint, for all endpoints of an API."""
        read = _read_form if api is Api.V1 else _read_json
        status = 200 if api is Api.V1 else 202
        yield "POST", "", Endpoint(lambda _: Step.CREATE, lambda _, order: (status, self._create(order)), read)
        yield "GET", "", Endpoint(lambda _: Step.LIST, lambda request, _: (200, self._list(request, api)), _no_body)
        if api is Api.V1:
            yield "GET", "/{id}/status", Endpoint(lambda _: Step.POLL, self._status, _no_body)
            yield "GET", "/{id}", Endpoint(lambda _: Step.FETCH, self._result, _no_body)
        else:
            yield "GET", "/{id}", Endpoint(self._step_v2, self._retrieve, _no_body)

    def _create(self, order: Order | None) -> Document:
        assert order is not None
        task = Task(order, polls_left=self._stand_in.polls_before_ready)
        self._stand_in.tasks.append(task)
        task.looking = asyncio.get_running_loop().create_task(self._look(task))
        return created(task)

    async def _look(self, task: Task) -> None:
        try:
            footage = await self._stand_in.studio.look(task.order.url, task.order.clip_seconds)
        except UnfetchableError:
            task.failure = UNFETCHABLE
            return
        task.pieces = pieces(task.order, footage, speech=self._stand_in.speech)
        task.footage = footage

    def _status(self, request: web.Request, _: Order | None) -> tuple[int, Document]:
        task = self._find(request, Api.V1)
        document = status_v1(task)
        task.polls_left -= 1
        return 200, document

    def _result(self, request: web.Request, _: Order | None) -> tuple[int, Document]:
        task = self._find(request, Api.V1)
        options = request.query.getall("embedding_option", [])
        if not set(options) <= {"visual", *MODELS[task.order.model].options}:
            raise invalid("The embedding_option parameter is invalid.")
        return 200, result_v1(task, options)

    def _retrieve(self, request: web.Request, _: Order | None) -> tuple[int, Document]:
        task = self._find(request, Api.V2)
        document = retrieve_v2(task)
        task.polls_left -= 1
        return 200, document

    def _step_v2(self, request: web.Request) -> Step:
        task = self._stand_in.find(request.match_info["id"])
        return Step.FETCH if task is not None and task.status == "ready" else Step.POLL

    def _list(self, request: web.Request, api: Api) -> Document:
        try:
            page, limit = int(request.query.get("page", "1")), int(request.query.get("page_limit", "10"))
        except ValueError as error:
            raise invalid("The page parameter is invalid.") from error
        if page < 1 or not 1 <= limit <= MAX_PAGE:
            raise invalid("The page_limit parameter is invalid.")
        return listed([task for task in self._stand_in.tasks if task.order.api is api], page=page, limit=limit)

    def _find(self, request: web.Request, api: Api) -> Task:
        task = self._stand_in.find(request.match_info["id"])
        if task is not None and task.order.api is api:
            return task
        if api is Api.V1:
            raise invalid("The task_id parameter is invalid.")
        raise RefusedError(404, "resource_not_exists", "The resource does not exist.")


async def _no_body(_: web.Request) -> None:
    return None


async def _read_json(request: web.Request) -> Order:
    return read_v2(await request.read())


async def _read_form(request: web.Request) -> Order:
    fields: dict[str, list[str]] = {}
    if request.content_type == "multipart/form-data":
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            fields.setdefault(part.name or "", []).append(await part.text())
    return read_v1(request.content_type, fields)
