"""Watching an embedding until it comes to its end."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sage_runtime.errors import invalid_field
from sage_runtime.ids import check_id

from sage_embed.errors import embedding_not_found
from sage_embed.model import Embedding
from sage_embed.ports import ChangeFeed
from sage_embed.shared_reads import SharedReads


@dataclass(frozen=True)
class WatchTimes:
    """How long a watch waits.

    Attributes:
        heartbeat_s: After so much quiet a heartbeat is sent.
        poll_s: The store is asked so often though the feed told of nothing, so that a lost notification costs this much
            time and never the final state.
    """

    heartbeat_s: float
    poll_s: float


async def watch(
    embedding_id: str, *, after_revision: int, reads: SharedReads, feed: ChangeFeed, times: WatchTimes
) -> AsyncGenerator[Embedding | None, None]:
    """Yield the embedding as it is now, then after each change, ending with its final state; None is a heartbeat.

    Args:
        embedding_id: The embedding.
        after_revision: Revisions up to this one are not yielded, but the final state always is.
        reads: Reads the embedding, together with whoever else watches it.
        feed: Tells of changes.
        times: How long to wait.

    Raises:
        SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND (at once or later), LIMIT_EXCEEDED, STORE_UNAVAILABLE,
            SERVICE_UNAVAILABLE.
    """
    check_id(embedding_id, prefix="embed", field="embedding_id")
    if after_revision < 0:
        raise invalid_field("after_revision", "must be the revision that was seen last, or 0.")
    now = asyncio.get_running_loop().time
    seen = after_revision
    # Subscribed before the first read: a change between the two is heard.
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
    """Return the seconds until the embedding is asked for though nothing was heard.

    All who watch one embedding ask at the same moment, and share a read; a thousand of them would else ask at a
    thousand moments. Embeddings have moments of their own, or everything would be read at once.
    """
    own_moment = zlib.crc32(embedding_id.encode()) / 2**32 * every_s
    return every_s - (now - own_moment) % every_s
