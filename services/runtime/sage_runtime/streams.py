"""The server interceptor that ends a stream's generator with its call."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from sage_runtime.interceptor import Context, MaybeHandler


class StreamInterceptor(grpc.aio.ServerInterceptor):
    """Closes the async generators of servicers as soon as their call is cancelled.

    When a caller goes away while an answer is being sent, grpcio drops the generator where it stands. Its `finally`
    then runs at some later collection, with a context whose call is freed: a use of it there ends the process. Here
    answers are written one by one, and the generator is closed at once. It has to stand before every other interceptor.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """Return the handler with its generator, where it is one, turned into writes."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler.response_streaming:
            return handler
        behaviour: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
        if not inspect.isasyncgenfunction(behaviour):
            return handler
        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )

        async def write_all(request: Any, context: Context) -> None:
            answers: AsyncIterator[Any]
            async with contextlib.aclosing(behaviour(request, context)) as answers:
                async for answer in answers:
                    await context.write(answer)

        # The stubs know generators only; grpcio takes coroutines as well.
        untyped: Any = make
        wrapped: MaybeHandler = untyped(
            write_all,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped
