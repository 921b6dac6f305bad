"""Streams from clients, which may stop sending without ending."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from sage_ingest import errors


async def without_long_pauses(chunks: AsyncIterator[bytes], *, idle_s: float) -> AsyncGenerator[bytes, None]:
    """Yield the chunks as they come.

    Raises:
        SageError: LIMIT_EXCEEDED where the next one does not come within `idle_s`.
    """
    iterator = aiter(chunks)
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise errors.upload_idle(idle_s) from None
        yield chunk
