"""Waiting for what another process brings about."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Return when a condition holds.

    Raises:
        TimeoutError: It does not hold in time.
    """
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it is brought about by another process
            await asyncio.sleep(0.05)
