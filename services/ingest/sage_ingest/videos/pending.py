"""Pending objects: keeping their leases, and removing them from the object store."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

import structlog
from sage_runtime.errors import SageError, task_group

from sage_ingest import errors
from sage_ingest.videos.ports import LeaseLostError, VideoObjects, VideoRepository

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@contextlib.asynccontextmanager
async def lease_kept(renew: Callable[[], Awaitable[None]], *, lease_s: float) -> AsyncIterator[None]:
    """Renew a lease every third of its length while the block runs.

    Args:
        renew: Renews it.
        lease_s: Length of the lease in seconds.

    Raises:
        SageError: STORE_UNAVAILABLE if the lease was lost; it interrupts the block.
    """
    async with task_group() as tasks:
        renewing = tasks.create_task(_keep_renewing(renew, lease_s=lease_s))
        yield
        renewing.cancel()


async def _keep_renewing(renew: Callable[[], Awaitable[None]], *, lease_s: float) -> NoReturn:
    while True:
        await asyncio.sleep(lease_s / 3)
        try:
            await renew()
        except LeaseLostError as error:
            raise errors.store_unavailable("database", detail="the upload was swept as abandoned") from error
        except SageError as error:
            # A short outage of the database does not fail an upload; the commit decides.
            log.warning("lease_not_renewed", detail=error.detail)


class PendingObjects:
    """Objects that may exist in the store without belonging to a video (see `videos.ports`).

    Args:
        repository: Stores which objects are pending.
        objects: The object store.
        lease_s: Seconds after which an object whose process died is swept.
    """

    def __init__(self, repository: VideoRepository, objects: VideoObjects, *, lease_s: float) -> None:
        self._repository = repository
        self._objects = objects
        self.lease_s = lease_s

    @staticmethod
    def new_holder() -> str:
        """Return a name for one holder of leases."""
        return uuid.uuid4().hex

    async def add(self, key: str, *, holder: str) -> None:
        """Add an object before its key is sent to the store: if the process is killed, a sweep finds it."""
        await self._repository.add_pending(key, holder=holder, lease_s=self.lease_s)

    def kept(self, key: str, *, holder: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Keep the lease on an object while the block runs (`lease_kept`)."""
        return lease_kept(
            lambda: self._repository.renew_pending(key, holder=holder, lease_s=self.lease_s), lease_s=self.lease_s
        )

    async def discard(self, key: str, *, holder: str, remove: bool = True) -> None:
        """Remove an object completely, at the latest in a sweep. Raises no `SageError`.

        Args:
            key: The object.
            holder: Holder of its lease.
            remove: Whether to remove the row too. Pass false if a request to the store may still take effect later:
                the row stays, its lease expires, and the sweep checks the key once more.
        """
        try:
            await self._objects.discard(key)
            if remove:
                await self._repository.remove_pending(key, holder=holder)
        except SageError as error:
            log.warning("pending_object_left_to_sweep", key=key, detail=error.detail)


T = TypeVar("T")


class ShieldedTasks:
    """Runs work that must finish even if the call that started it is cancelled, such as cleaning up.

    Close it before the stores that the work uses: closing cancels the calls that still run and waits until everything
    that they started has finished.
    """

    def __init__(self) -> None:
        # The event loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def cancelled_on_close(self) -> Iterator[None]:
        """Let `close` cancel the current task and wait for it, for the length of the block.

        A gRPC server that stops does not wait for its calls to clean up after themselves.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be cancelled on close")
        self._calls.add(task)
        try:
            yield
        finally:
            self._calls.discard(task)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of the work, which continues if the caller is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the calls, then wait until nothing is running."""
        for call in self._calls:
            call.cancel()
        while running := self._calls | self._tasks:
            await asyncio.wait(running)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # The caller gets the error. It is retrieved here too, because asyncio logs a warning if the caller is gone.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("shielded_task_failed", error=type(error).__name__)
