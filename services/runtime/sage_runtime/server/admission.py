"""Limits what callers can keep open: calls being served, health calls, and calls that do not send their message.

A call that has not sent its first message does not count as being served. Otherwise nine connections with silent calls
would keep everyone else out, and health calls need no token.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from sage_runtime.auth.sign_in import needs_token
from sage_runtime.errors import Reason, SageError, invalid_field
from sage_runtime.process.settings import ServerSettings

Context = grpc.aio.ServicerContext[Any, Any]


class Admission:
    """Admits calls within the limits of a server's settings.

    Args:
        settings: The server's settings.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._first_message_s = settings.first_message_s
        self._max_calls = settings.max_concurrent_calls
        self._max_health_calls = settings.max_health_calls
        self._calls = 0
        self._health_calls: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def admitted(self, method: str, peer: str, context: Context) -> AsyncIterator[Any]:
        """Yield a call's first message, or `grpc.aio.EOF` if the caller sends none, and count the call until the end.

        Args:
            method: `/package.Service/Method`.
            peer: The connection that the call came over.
            context: The call's context, from which the message is read.

        Raises:
            SageError: LIMIT_EXCEEDED, or FIELD_INVALID if the message does not arrive in time.
        """
        if needs_token(method):
            first = await self._first_message(context)
            with self._counted():
                yield first
        else:
            with self._health_counted(peer):
                yield await self._first_message(context)

    async def _first_message(self, context: Context) -> Any:
        # Not `wait_for`: cancelling a read frees memory that gRPC still writes to. The read ends with the call.
        reading = asyncio.ensure_future(context.read())
        reading.add_done_callback(_retrieve)
        await asyncio.wait((reading,), timeout=self._first_message_s)
        if not reading.done():
            raise invalid_field("request", f"did not arrive within {self._first_message_s:g} s.")
        return reading.result()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._calls >= self._max_calls:
            raise SageError(
                Reason.LIMIT_EXCEEDED,
                limit="concurrent calls of this server",
                max=self._max_calls,
                what_to_do="Try again in a moment.",
            )
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    @contextlib.contextmanager
    def _health_counted(self, peer: str) -> Iterator[None]:
        if self._health_calls[peer] >= self._max_health_calls:
            raise SageError(
                Reason.LIMIT_EXCEEDED,
                limit="concurrent health calls of one connection",
                max=self._max_health_calls,
                what_to_do="End some of them.",
            )
        self._health_calls[peer] += 1
        try:
            yield
        finally:
            self._health_calls[peer] -= 1
            if not self._health_calls[peer]:
                del self._health_calls[peer]


def _retrieve(reading: "asyncio.Future[Any]") -> None:
    """Keep asyncio from logging the error of a read that nothing waits for any more."""
    if not reading.cancelled():
        reading.exception()
