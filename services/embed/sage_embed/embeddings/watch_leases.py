"""Leases on the embeddings that this replica serves watches of, so that they are not cancelled meanwhile."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NoReturn

import structlog
from sage_runtime.api import new_id
from sage_runtime.errors import SageError, task_group

from sage_embed.embeddings.ports import EmbeddingRepository

log = structlog.get_logger()


class WatchLeases:
    """Records which embeddings this replica serves watches of, so that no withdrawn request cancels them.

    All watches of an embedding share one lease, and one statement renews all leases. If this process is killed, its
    leases expire.

    Args:
        repository: The embeddings.
        lease_s: Seconds until a lease expires. It is renewed three times as often.
    """

    def __init__(self, repository: EmbeddingRepository, *, lease_s: float) -> None:
        self._repository = repository
        self._valid_for = timedelta(seconds=lease_s)
        self._renew_s = lease_s / 3
        self._replica = new_id("replica")
        self._watches: Counter[str] = Counter()
        # Set once the lease is stored, or could not be.
        self._stored: dict[str, asyncio.Future[None]] = {}
        self._ended: set[str] = set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, embedding_id: str) -> AsyncIterator[None]:
        """Hold the lease of an embedding while the block runs, which starts when the lease is stored.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        if embedding_id not in self._stored:
            self._stored[embedding_id] = asyncio.get_running_loop().create_future()
            self._changed.set()
        self._watches[embedding_id] += 1
        try:
            # A watch that is cancelled must not cancel the future of the others.
            await asyncio.shield(self._stored[embedding_id])
            yield
        finally:
            self._watches[embedding_id] -= 1
            if not self._watches[embedding_id]:
                del self._watches[embedding_id], self._stored[embedding_id]
                self._ended.add(embedding_id)
                self._changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store, renew and drop leases while the block runs."""
        async with task_group() as tasks:
            storing = tasks.create_task(self._store_forever())
            try:
                yield
            finally:
                storing.cancel()

    async def _store_forever(self) -> NoReturn:
        now = asyncio.get_running_loop().time
        renew_at = now() + self._renew_s
        while True:
            try:
                async with asyncio.timeout_at(renew_at):
                    await self._changed.wait()
            except TimeoutError:
                renew_at = now() + self._renew_s
                await self._keep(self._stored.copy())
            self._changed.clear()
            await self._keep({id_: stored for id_, stored in self._stored.items() if not stored.done()})
            await self._drop()

    async def _keep(self, leases: dict[str, asyncio.Future[None]]) -> None:
        if not leases:
            return
        try:
            await self._repository.keep_watches(self._replica, leases.keys(), valid_for=self._valid_for)
        except SageError as error:
            # What is stored is renewed again before it expires. What is not ends its watches.
            log.warning("watch_leases_not_stored", error=str(error), count=len(leases))
            for stored in leases.values():
                if not stored.done():
                    stored.set_exception(error)
                    # Without this, asyncio reports the exception as never retrieved if every watch is gone.
                    stored.exception()
        else:
            for stored in leases.values():
                if not stored.done():
                    stored.set_result(None)

    async def _drop(self) -> None:
        # An embedding may be watched again since.
        ended = self._ended - self._stored.keys()
        self._ended.clear()
        if not ended:
            return
        try:
            await self._repository.drop_watches(self._replica, ended)
        except SageError as error:
            log.warning("watch_leases_not_dropped", error=str(error), count=len(ended))
