"""Streams from clients, which may stop sending without ending."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from sage_ingest import errors

_Message = TypeVar("_Message")


async def next_in_time(messages: AsyncIterator[_Message], *, idle_s: float) -> _Message | None:
    """Return what comes next; None where the stream has ended.

    Raises:
        SageError: LIMIT_EXCEEDED where nothing comes within `idle_s`.
    """
    try:
        async with asyncio.timeout(idle_s):
            return await anext(messages, None)
    except TimeoutError:
        raise errors.upload_idle(idle_s) from None


async def without_long_pauses(chunks: AsyncIterator[bytes], *, idle_s: float) -> AsyncGenerator[bytes, None]:
    """Yield the chunks as they come.

    Raises:
        SageError: LIMIT_EXCEEDED where the next one does not come within `idle_s`.
    """
    while (chunk := await next_in_time(chunks, idle_s=idle_s)) is not None:
        yield chunk
