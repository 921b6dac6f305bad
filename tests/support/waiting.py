"""Waiting for conditions."""

import asyncio
import itertools
from collections.abc import Callable

# Turns after which the processor is left to threads that a task may wait for.
_TURNS = 100


async def until_turned(condition: Callable[[], object], *, timeout_s: float = 30) -> None:
    """Return when a condition holds that depends on other tasks of this event loop.

    Raises:
        TimeoutError: It does not hold in time.
    """
    async with asyncio.timeout(timeout_s):
        turns = itertools.count()
        while not condition():  # noqa: ASYNC110 - fakes do not signal everything
            await asyncio.sleep(0 if next(turns) < _TURNS else 0.001)


async def until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Return when a condition holds that depends on another process.

    Raises:
        TimeoutError: It does not hold in time.
    """
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - no event signals it
            await asyncio.sleep(0.05)
