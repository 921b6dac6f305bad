"""Watching an embedding or a fingerprint until it is finished. All watches of one share their reads."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sage_runtime.errors import SageError

from sage_embed.embeddings.ports import ChangeFeed


class Watched(Protocol):
    """What can be watched."""

    @property
    def revision(self) -> int:
        """Grows with every change."""
        ...

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        ...


WatchedT = TypeVar("WatchedT", bound=Watched)
_Found = TypeVar("_Found", bound=Watched, covariant=True)


class WatchedRepository(Protocol[_Found]):
    """Where the watched ones are stored."""

    async def get(self, watched_id: str, /) -> _Found | None:
        """Return one in its current state, or `None`."""
        ...


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


class SharedReads(Generic[WatchedT]):
    """Reads what is watched; concurrent callers share one read of each.

    A change wakes every watch of one at once, and all of them share one read. A caller never joins a read that
    started before its request: such a read may return the row as it was before the change that woke the caller, and no
    further change might follow.

    Args:
        repository: Where they are stored.
    """

    def __init__(self, repository: WatchedRepository[WatchedT]) -> None:
        self._repository = repository
        self._waiting: dict[str, asyncio.Task[WatchedT | None]] = {}
        # The event loop holds only weak references to tasks.
        self._running: set[asyncio.Task[WatchedT | None]] = set()

    async def get(self, watched_id: str) -> WatchedT | None:
        """Return the current state, or `None`.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        read = self._waiting.get(watched_id)
        if read is None:
            # An empty context: the read has no single call's deadline, and no call's request ID in its log entries.
            read = asyncio.create_task(self._read(watched_id), context=Context())
            self._waiting[watched_id] = read
            self._running.add(read)
            read.add_done_callback(self._forget)
        # A caller that is cancelled must not cancel the read of the others.
        return await asyncio.shield(read)

    async def _read(self, watched_id: str) -> WatchedT | None:
        # This task starts after everything that is ready now, such as the other watches woken by the same change.
        del self._waiting[watched_id]
        return await self._repository.get(watched_id)

    def _forget(self, read: asyncio.Task[WatchedT | None]) -> None:
        self._running.discard(read)
        if not read.cancelled():
            # Without this, asyncio reports the exception as never retrieved if every caller is gone.
            read.exception()


async def watch(
    watched_id: str,
    *,
    after_revision: int,
    reads: SharedReads[WatchedT],
    feed: ChangeFeed,
    times: WatchTimes,
    not_found: Callable[[str], SageError],
) -> AsyncGenerator[WatchedT | None, None]:
    """Yield the current state, then the state after each change, up to the final one; `None` is a heartbeat.

    Args:
        watched_id: ID of the embedding, or of the fingerprint's video.
        after_revision: Revisions up to this one are skipped, except the final state.
        reads: Reads it, shared with its other watches.
        feed: Reports changes.
        times: How long to wait.
        not_found: Makes the error for an ID that does not exist.

    Raises:
        SageError: That error (immediately or later), LIMIT_EXCEEDED, STORE_UNAVAILABLE, SERVICE_UNAVAILABLE.
    """
    now = asyncio.get_running_loop().time
    seen = after_revision
    # Subscribed before the first read, so that a change between the two is not missed.
    with feed.subscribe(watched_id) as subscription:
        quiet_since = now()
        while True:
            current = await reads.get(watched_id)
            if current is None:
                raise not_found(watched_id)
            if current.finished or current.revision > seen:
                seen = current.revision
                yield current
                quiet_since = now()
            if current.finished:
                return
            poll_at = now() + _until_poll_s(watched_id, now(), every_s=times.poll_s)
            # Nothing is read for a heartbeat: the heartbeats of watches that began at different times share no read.
            changed = False
            while not changed and now() < poll_at:
                if now() >= quiet_since + times.heartbeat_s:
                    yield None
                    quiet_since = now()
                changed = await subscription.wait(min(quiet_since + times.heartbeat_s, poll_at) - now())


def _until_poll_s(watched_id: str, now: float, *, every_s: float) -> float:
    """Return the seconds until it is read again even if no change was reported.

    All watches of one poll at the same time and share the read; otherwise a thousand watches would poll at a
    thousand different times. The polls of different ones are spread over the interval.
    """
    offset_s = zlib.crc32(watched_id.encode()) / 2**32 * every_s
    return every_s - (now - offset_s) % every_s
