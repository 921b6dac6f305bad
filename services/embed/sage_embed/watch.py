"""Watching an embedding until it comes to its end."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sage_runtime.errors import invalid_field
from sage_runtime.ids import check_id

from sage_embed.errors import embedding_not_found
from sage_embed.model import Embedding
from sage_embed.ports import ChangeFeed, EmbeddingStore


@dataclass(frozen=True)
class WatchTimes:
    """How long a watch waits.

    Attributes:
        heartbeat_s: After so much quiet a heartbeat is sent.
        poll_s: After so long the store is asked though the feed told of nothing, so that a lost notification costs
            this much time and never the final state.
    """

    heartbeat_s: float
    poll_s: float


async def watch(
    embedding_id: str, *, after_revision: int, store: EmbeddingStore, feed: ChangeFeed, times: WatchTimes
) -> AsyncGenerator[Embedding | None, None]:
    """Yield the embedding as it is now, then after each change, ending with its final state; None is a heartbeat.

    Args:
        embedding_id: The embedding.
        after_revision: Revisions up to this one are not yielded, but the final state always is.
        store: Where embeddings are kept.
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
            embedding = await store.get(embedding_id)
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
            await subscription.wait(min(until_heartbeat_s, times.poll_s))
