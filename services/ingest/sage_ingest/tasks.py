"""Structured concurrency: errors of task groups as themselves, and work that ends even where its caller is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
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

    Closing it ends the calls that still run and waits for whatever they have begun; the process must not end before.
    """

    def __init__(self) -> None:
        # Tasks are held here, as the event loop itself keeps only weak references.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Count the current task, for the length of the block, among the calls that `close` ends.

        A server that stops does not wait for its calls to clean up after themselves.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be a call")
        self._calls.add(task)
        try:
            yield
        finally:
            self._calls.discard(task)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of the work, which goes on where the caller is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the calls and wait for what still runs."""
        for call in self._calls:
            call.cancel()
        while running := self._calls | self._tasks:
            await asyncio.wait(running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Whoever waits for the task gets its error; looked at here, it is no "never retrieved" where nobody does.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("unabandoned work failed", error=type(error).__name__)
