"""Changes to embeddings through PostgreSQL's LISTEN and NOTIFY: one connection for all watchers of a process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sage_runtime.errors import Reason, SageError

from sage_embed.errors import limit_exceeded
from sage_embed.ports import ChangeFeed, Subscription

log = structlog.get_logger()

# What the trigger in migrations/ notifies.
_CHANNEL = "sage_embedding_changed"
# A connection whose other end has gone without a word is noticed when it is asked for something.
_CHECK_EVERY_S = 15.0
_RECONNECT_AFTER_S = (0.1, 0.5, 1.0, 2.0, 5.0)


class _Subscription(Subscription):
    """A flag: however many changes there are, the watcher reads the row once and has the latest."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._closed = False

    async def wait(self, timeout_s: float) -> None:
        """See `Subscription`."""
        # Waking for nothing is allowed, so the timer may do it: a timeout of asyncio costs three times as much, and a
        # change wakes a thousand watchers one after the other.
        timer = asyncio.get_running_loop().call_later(timeout_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
        if self._closed:
            raise SageError(Reason.SERVICE_UNAVAILABLE, detail="the server ends", service="embed")
        self._changed.clear()

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    def wake(self) -> None:
        self._changed.set()


class PostgresChangeFeed(ChangeFeed):
    """Listens on one connection of its own and wakes the subscriptions.

    While the connection is lost nothing is heard; when it is back every subscription is woken, so that each watcher
    reads what it may have missed.

    Args:
        dsn: The database.
        max_subscriptions: Subscriptions at once; more are refused.
    """

    def __init__(self, dsn: str, *, max_subscriptions: int) -> None:
        self._conninfo = make_conninfo(
            dsn, connect_timeout=5, keepalives_idle=10, keepalives_interval=5, keepalives_count=3
        )
        self._max = max_subscriptions
        self._subscriptions: dict[str, set[_Subscription]] = {}
        self._count = 0
        self._closed = False

    @contextmanager
    def subscribe(self, embedding_id: str) -> Iterator[Subscription]:
        """See `ChangeFeed`."""
        if self._count >= self._max:
            raise limit_exceeded(
                limit="watches at once", maximum=self._max, what_to_do="End some, or ask with GetEmbedding."
            )
        subscription = _Subscription()
        if self._closed:
            subscription.close()
        self._subscriptions.setdefault(embedding_id, set()).add(subscription)
        self._count += 1
        try:
            yield subscription
        finally:
            self._count -= 1
            others = self._subscriptions[embedding_id]
            others.discard(subscription)
            if not others:
                del self._subscriptions[embedding_id]

    def close(self) -> None:
        """End every watch: what waits, and what is about to, raises SERVICE_UNAVAILABLE."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    @property
    def subscription_count(self) -> int:
        """How many subscriptions there are."""
        return self._count

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen for the length of the block."""
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen_forever())
            try:
                yield
            finally:
                listening.cancel()

    async def _listen_forever(self) -> None:
        failures = 0
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    failures = 0
                    self._wake_all()
                    await self._listen(connection)
            except psycopg.Error as error:
                wait_s = _RECONNECT_AFTER_S[min(failures, len(_RECONNECT_AFTER_S) - 1)]
                failures += 1
                log.warning("change_feed_lost", error=str(error), retry_in_s=wait_s)
                await asyncio.sleep(wait_s)

    async def _listen(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for notification in connection.notifies(timeout=_CHECK_EVERY_S):
                for subscription in self._subscriptions.get(notification.payload, ()):
                    subscription.wake()
            await connection.execute("SELECT 1")

    def _wake_all(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.wake()
