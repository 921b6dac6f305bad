"""Waiting for conditions."""

import asyncio
from collections.abc import Callable


async def until_turned(condition: Callable[[], object], *, timeout_s: float = 5) -> None:
    """Return when a condition holds that depends on other tasks of this event loop.

    Raises:
        TimeoutError: It does not hold in time.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - fakes do not signal everything
            await asyncio.sleep(0)


async def until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Return when a condition holds that depends on another process.

    Raises:
        TimeoutError: It does not hold in time.
    """
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - no event signals it
            await asyncio.sleep(0.05)
