"""Watching an embedding until it is finished. All watches of an embedding share their reads."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextvars import Context
from dataclasses import dataclass

from sage_embed.embeddings.model import Embedding
from sage_embed.embeddings.ports import ChangeFeed, EmbeddingRepository
from sage_embed.errors import embedding_not_found


@dataclass(frozen=True)
class WatchTimes:
    """How long a watch waits.

    Attributes:
        heartbeat_s: Seconds without a change after which a heartbeat is sent.
        poll_s: Seconds between two reads if no change is reported, so that a lost notification costs at most this
            delay, and never the final state.
    """

    heartbeat_s: float
    poll_s: float


class SharedReads:
    """Reads embeddings; concurrent callers share one read per embedding.

    A change wakes every watch of an embedding at once, and all of them share one read. A caller never joins a read that
    started before its request: such a read may return the row as it was before the change that woke the caller, and no
    further change might follow.

    Args:
        repository: The embeddings.
    """

    def __init__(self, repository: EmbeddingRepository) -> None:
        self._repository = repository
        self._waiting: dict[str, asyncio.Task[Embedding | None]] = {}
        # The event loop holds only weak references to tasks.
        self._running: set[asyncio.Task[Embedding | None]] = set()

    async def get(self, embedding_id: str) -> Embedding | None:
        """Return the current state of an embedding, or `None`.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        read = self._waiting.get(embedding_id)
        if read is None:
            # An empty context: the read has no single call's deadline, and no call's request ID in its log entries.
            read = asyncio.create_task(self._read(embedding_id), context=Context())
            self._waiting[embedding_id] = read
            self._running.add(read)
            read.add_done_callback(self._forget)
        # A caller that is cancelled must not cancel the read of the others.
        return await asyncio.shield(read)

    async def _read(self, embedding_id: str) -> Embedding | None:
        # This task starts after everything that is ready now, such as the other watches woken by the same change.
        del self._waiting[embedding_id]
        return await self._repository.get(embedding_id)

    def _forget(self, read: asyncio.Task[Embedding | None]) -> None:
        self._running.discard(read)
        if not read.cancelled():
            # Without this, asyncio reports the exception as never retrieved if every caller is gone.
            read.exception()


async def watch(
    embedding_id: str, *, after_revision: int, reads: SharedReads, feed: ChangeFeed, times: WatchTimes
) -> AsyncGenerator[Embedding | None, None]:
    """Yield the current state, then the state after each change, up to the final one; `None` is a heartbeat.

    Args:
        embedding_id: The embedding.
        after_revision: Revisions up to this one are skipped, except the final state.
        reads: Reads the embedding, shared with its other watches.
        feed: Reports changes.
        times: How long to wait.

    Raises:
        SageError: EMBEDDING_NOT_FOUND (immediately or later), LIMIT_EXCEEDED, STORE_UNAVAILABLE, SERVICE_UNAVAILABLE.
    """
    now = asyncio.get_running_loop().time
    seen = after_revision
    # Subscribed before the first read, so that a change between the two is not missed.
    with feed.subscribe(embedding_id) as subscription:
        quiet_since = now()
        while True:
            embedding = await reads.get(embedding_id)
            if embedding is None:
                raise embedding_not_found(embedding_id)
            if embedding.finished or embedding.revision > seen:
                seen = embedding.revision
                yield embedding
                quiet_since = now()
            if embedding.finished:
                return
            until_heartbeat_s = quiet_since + times.heartbeat_s - now()
            if until_heartbeat_s <= 0:
                yield None
                quiet_since = now()
                until_heartbeat_s = times.heartbeat_s
            await subscription.wait(min(until_heartbeat_s, _until_poll_s(embedding_id, now(), every_s=times.poll_s)))


def _until_poll_s(embedding_id: str, now: float, *, every_s: float) -> float:
    """Return the seconds until the embedding is read again even if no change was reported.

    All watches of an embedding poll at the same time and share the read; otherwise a thousand watches would poll at a
    thousand different times. The polls of different embeddings are spread over the interval.
    """
    offset_s = zlib.crc32(embedding_id.encode()) / 2**32 * every_s
    return every_s - (now - offset_s) % every_s
