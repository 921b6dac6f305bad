"""Reads of embeddings that are shared by all who want the same one at the same moment."""

import asyncio
from contextvars import Context

from sage_embed.model import Embedding
from sage_embed.ports import EmbeddingStore


class SharedReads:
    """Reads embeddings from a store; who asks for one before a read of it has begun shares that read.

    A change wakes every watcher of an embedding at once, and all of them share one read. No caller ever gets a read
    that had begun before it asked: such a read may have seen the row as it was before the change that the caller heard
    of, and the caller would wait for another one that never comes.

    Args:
        store: Where embeddings are kept.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Task[Embedding | None]] = {}
        # The loop itself holds tasks weakly only.
        self._under_way: set[asyncio.Task[Embedding | None]] = set()

    async def get(self, embedding_id: str) -> Embedding | None:
        """Return an embedding as it is now.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        read = self._waiting.get(embedding_id)
        if read is None:
            # It belongs to no one call: it has nobody's deadline, and nobody's request id in what it logs.
            read = asyncio.create_task(self._read(embedding_id), context=Context())
            self._waiting[embedding_id] = read
            self._under_way.add(read)
            read.add_done_callback(self._forget)
        # Whoever goes away leaves the read to the others.
        return await asyncio.shield(read)

    async def _read(self, embedding_id: str) -> Embedding | None:
        # A task begins after all that is due now, such as the other watchers that the same change has woken.
        del self._waiting[embedding_id]
        return await self._store.get(embedding_id)

    def _forget(self, read: asyncio.Task[Embedding | None]) -> None:
        self._under_way.discard(read)
        if not read.cancelled():
            # Where all who waited have gone, nobody else takes note of a failure.
            read.exception()
