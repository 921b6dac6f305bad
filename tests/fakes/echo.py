"""A small real gRPC service with all four call shapes, and calls to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from sage_runtime.client import to_sage_error
from sage_runtime.context import current_request_id, time_left_s
from sage_runtime.errors import Reason, SageError, invalid_field
from sage_runtime.server import ServiceRegistration

SERVICE = "test.v1.EchoService"
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@dataclass
class Echo:
    """Returns the request's text, or ends the call in the way that the text names.

    Attributes:
        sibling: The channel that `ask` uses.
        healthy: Whether its health check passes.
        entered: Set when a waiting call has started.
        release: Lets waiting calls continue.
        cancelled: Set when a waiting call or a stream has ended or was cancelled.
        cleaned_up_in_place: Whether a stream cleaned up in the task that served it.
    """

    sibling: grpc.aio.Channel | None = None
    healthy: bool = True
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    cleaned_up_in_place: bool = False

    async def check(self) -> None:
        if not self.healthy:
            raise ConnectionError("the store is gone")

    async def _respond(self, text: str, context) -> StringValue:
        match text:
            case "missing":
                raise SageError(Reason.VIDEO_NOT_FOUND, video_id="video_7", detail="row is gone")
            case "invalid":
                raise invalid_field("threshold", "must be 0 to 2.")
            case "broken":
                raise RuntimeError("password=hunter2")
            case "group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._respond("missing", context))
            case "mixed group":
                raise ExceptionGroup("two", [SageError(Reason.VIDEO_NOT_FOUND), RuntimeError("password=hunter2")])
            case "abort":
                await context.abort(grpc.StatusCode.DATA_LOSS, "own words")
            case "wait":
                self.entered.set()
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            case "wait badly":
                self.entered.set()
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise RuntimeError("lost the connection") from None
            case "request id":
                return StringValue(value=current_request_id())
            case "time left":
                left = time_left_s()
                return StringValue(value="none" if left is None else f"{left:.3f}")
            case _ if text.startswith("ask "):
                try:
                    return await method(self.sibling, "unary_unary")(StringValue(value=text.removeprefix("ask ")))
                except grpc.aio.AioRpcError as error:
                    raise to_sage_error(error, service="echo") from error
        return StringValue(value=text)

    async def unary_unary(self, request, context):
        return await self._respond(request.value, context)

    async def unary_stream(self, request, context):
        task = asyncio.current_task()
        try:
            while request.value == "endless":
                yield StringValue(value="more " * 20_000)
        finally:
            self.cleaned_up_in_place = asyncio.current_task() is task
            self.cancelled.set()
        yield StringValue(value="first")
        yield await self._respond(request.value, context)

    async def stream_unary(self, requests, context):
        texts = [request.value async for request in requests]
        return await self._respond(texts[-1], context)

    async def stream_stream(self, requests, context):
        async for request in requests:
            yield await self._respond(request.value, context)

    def add(self, server: grpc.aio.Server) -> None:
        handlers = {
            shape: getattr(grpc, f"{shape}_rpc_method_handler")(
                getattr(self, shape),
                request_deserializer=StringValue.FromString,
                response_serializer=StringValue.SerializeToString,
            )
            for shape in SHAPES
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    @property
    def registration(self) -> ServiceRegistration:
        return ServiceRegistration(SERVICE, self.add, self.check)


def method(channel: grpc.aio.Channel, shape: str) -> Callable:
    """Return the stub of one of the four methods."""
    return getattr(channel, shape)(
        f"/{SERVICE}/{shape}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )


def start(channel: grpc.aio.Channel, shape: str, text: str, **options) -> grpc.aio.Call:
    """Start a call of any shape that carries one text."""
    request = StringValue(value=text)
    return method(channel, shape)(iter([request]) if shape.startswith("stream") else request, **options)


async def responses(call: grpc.aio.Call) -> list[str]:
    """Return all responses of a call of any shape, or raise its error."""
    if hasattr(call, "__aiter__"):
        return [response.value async for response in call]
    return [(await call).value]
