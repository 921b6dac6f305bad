"""Waiting for a part to be ready: a condition asked again and again, never a sleep of a guessed length."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from sage_local.errors import StackError
from sage_local.process import Process

_PAUSE_S = 0.05


async def until_ready(process: Process, probe: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
    """Return when `probe` says yes.

    Args:
        process: What is being waited for.
        probe: Says whether it is ready; an answer of no is asked again.
        timeout_s: How long it may take.

    Raises:
        StackError: The process ended, or the time is up; with the last lines that it wrote.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if not process.running:
            raise StackError(
                f"{process.name} ended while it started (exit code {process.exit_code}).\n{process.last_lines()}",
                next_step=f"Its whole log: {process.log}",
            )
        if await probe():
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"{process.name} was not ready after {timeout_s:.0f} seconds.\n{process.last_lines()}",
                next_step=f"Its whole log: {process.log}",
            )
        await asyncio.sleep(_PAUSE_S)
