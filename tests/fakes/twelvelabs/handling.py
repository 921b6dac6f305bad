"""Handling one request, from its key to its last byte, including its faults."""

import asyncio
import json
from typing import TYPE_CHECKING

from aiohttp import web
from fakes.twelvelabs.endpoints import Endpoint
from fakes.twelvelabs.facts import RefusedError
from fakes.twelvelabs.faults import Answers, Changes, Delays, Drops, Fault, Holds, Moment
from fakes.twelvelabs.orders import Order

if TYPE_CHECKING:
    from fakes.twelvelabs.server import Seen, StandIn

# A gate is opened by another thread, so there is no asyncio event to wait for.
_POLL_S = 0.005


class _DroppedError(Exception):
    """The connection must be closed."""


class Handling:
    """Handles the requests of one endpoint."""

    def __init__(self, stand_in: "StandIn", endpoint: Endpoint) -> None:
        self._stand_in = stand_in
        self._endpoint = endpoint

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Respond to a request."""
        seen = self._stand_in.record(request, self._endpoint.step(request))
        try:
            answer, faults = await self._answer(request, seen)
            seen.status = answer.status
            return await _send(request, answer, faults)
        except _DroppedError:
            seen.status = 0
            if request.transport is not None:
                request.transport.abort()
            # Not sent, because the connection is closed.
            return web.Response()

    async def _answer(self, request: web.Request, seen: "Seen") -> tuple[Answers, list[Fault]]:
        if seen.key not in self._stand_in.keys:
            return _refused(RefusedError(401, "api_key_invalid")), []
        limit = self._stand_in.rate_limit
        if limit is not None and (refusal := limit.refusal()) is not None:
            return refusal, []
        faults: list[Fault] = []
        book = self._stand_in.faults
        try:
            order = await self._endpoint.read(request)
            seen.url = self._url(request, order)
            faults += book.take(seen.step, seen.url)
            if (instead := await _meet(faults, Moment.BEFORE)) is not None:
                return instead, faults
            if self._stand_in.faults is not book:
                # It was delayed beyond the end of its test, and must not affect the next one.
                raise _DroppedError
            status, document = self._endpoint.work(request, order)
        except RefusedError as refusal:
            return _refused(refusal), faults
        for fault in faults:
            if isinstance(fault, Changes):
                fault.change(document)
        instead = await _meet(faults, Moment.AFTER)
        return instead or Answers(status, document), faults

    def _url(self, request: web.Request, order: Order | None) -> str:
        """Return the URL of the video that a request concerns, if any."""
        task = self._stand_in.find(request.match_info.get("id", ""))
        order = task.order if task else order
        return order.url if order else ""


async def _meet(faults: list[Fault], moment: Moment) -> Answers | None:
    """Apply the faults of a point, and return the response that replaces the correct one, if any."""
    instead: Answers | None = None
    for fault in faults:
        match fault:
            case Delays(seconds, at) if at is moment:
                await asyncio.sleep(seconds)
            case Holds(gate, at) if at is moment:
                gate.reached.set()
                while not gate.opened.is_set():  # noqa: ASYNC110 - see _POLL_S
                    await asyncio.sleep(_POLL_S)
                if gate.dropped:
                    raise _DroppedError
            case Drops(at) if at is moment:
                raise _DroppedError
            case Answers(at=at) if at is moment:
                instead = fault
    return instead


async def _send(request: web.Request, answer: Answers, faults: list[Fault]) -> web.StreamResponse:
    headers = {"Content-Type": "application/json", **answer.headers}
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    half = len(body) // 2
    await response.write(body[:half])
    await _meet(faults, Moment.HALF)
    await response.write(body[half:])
    await response.write_eof()
    return response


def _refused(refusal: RefusedError) -> Answers:
    return Answers(refusal.status, refusal.body())
