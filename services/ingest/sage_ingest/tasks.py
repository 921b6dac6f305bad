"""Structured concurrency: errors of task groups as themselves, and work that ends even where its caller is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@contextlib.asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open an `asyncio.TaskGroup` whose first error is raised itself instead of in an exception group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise _first_error(group) from group


def _first_error(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Unabandoned:
    """Runs what must come to its end although the call that began it may be cancelled, such as cleaning up.

    Closing it waits for whatever still runs; the process must not end before.
    """

    def __init__(self) -> None:
        # Tasks are held here, as the event loop itself keeps only weak references.
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of the work, which goes on where the caller is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what still runs."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Whoever waits for the task gets its error; looked at here, it is no "never retrieved" where nobody does.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("unabandoned work failed", error=type(error).__name__)
