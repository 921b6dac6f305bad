"""Pending objects: keeping their leases, and dropping what they have in the store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

import structlog
from sage_runtime.errors import SageError

from sage_ingest import errors
from sage_ingest.ports import LeaseLostError, VideoObjects, VideoRecords
from sage_ingest.tasks import task_group

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@contextlib.asynccontextmanager
async def lease_kept(renew: Callable[[], Awaitable[None]], *, lease_s: float) -> AsyncIterator[None]:
    """Renew a lease in good time, again and again, for the length of the block.

    Args:
        renew: Renews it.
        lease_s: How long it then holds, in seconds.

    Raises:
        SageError: STORE_UNAVAILABLE where the lease was lost, in the middle of the block.
    """
    async with task_group() as tasks:
        renewing = tasks.create_task(_keep_lease(renew, lease_s=lease_s))
        yield
        renewing.cancel()


async def _keep_lease(renew: Callable[[], Awaitable[None]], *, lease_s: float) -> NoReturn:
    while True:
        await asyncio.sleep(lease_s / 3)
        try:
            await renew()
        except LeaseLostError as error:
            raise errors.store_unavailable("database", detail="the upload was swept as abandoned") from error
        except SageError as error:
            # A database that is away for a moment costs no upload; the commit is what counts.
            log.warning("lease not renewed", detail=error.detail)


async def drop_pending(
    records: VideoRecords, objects: VideoObjects, key: str, *, holder: str, forget: bool = True
) -> None:
    """Leave nothing of a pending object, now or at the latest after a sweep. Raises no `SageError`.

    Args:
        records: Where the entry is.
        objects: Where the bytes are.
        key: The object.
        holder: Who has the entry.
        forget: Whether the entry goes too. False where a call to the store may still take effect later: the entry
            stays, its lease runs out, and the sweep looks at the key once more.
    """
    try:
        await objects.discard(key)
        if forget:
            await records.forget(key, holder=holder)
    except SageError as error:
        log.warning("pending object left to the sweep", key=key, detail=error.detail)
