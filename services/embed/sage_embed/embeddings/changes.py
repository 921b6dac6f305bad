"""Changes to embeddings and fingerprints through LISTEN and NOTIFY: one connection for all watches of a process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sage_runtime.errors import Reason, SageError, task_group

from sage_embed.embeddings.ports import ChangeFeed, Subscription
from sage_embed.errors import limit_exceeded

log = structlog.get_logger()

# The channel of the triggers in migrations/.
_CHANNEL = "sage_embedding_changed"
# A connection whose other end has vanished is detected only when something is sent over it.
_CHECK_EVERY_S = 15.0
_RECONNECT_AFTER_S = (0.1, 0.5, 1.0, 2.0, 5.0)


class _EventSubscription(Subscription):
    """A flag: after any number of changes the watch reads the row once and has the latest state."""

    def __init__(self) -> None:
        self._awake = asyncio.Event()
        self._changed = False
        self._closed = False

    async def wait(self, timeout_s: float) -> bool:
        # The timer sets the event: asyncio.timeout costs three times as much, and one change may wake a thousand
        # watches.
        timer = asyncio.get_running_loop().call_later(timeout_s, self._awake.set)
        try:
            await self._awake.wait()
        finally:
            timer.cancel()
        if self._closed:
            raise SageError(Reason.SERVICE_UNAVAILABLE, detail="the server is stopping", service="embed")
        self._awake.clear()
        changed, self._changed = self._changed, False
        return changed

    def close(self) -> None:
        self._closed = True
        self._awake.set()

    def wake(self) -> None:
        self._changed = True
        self._awake.set()


class PostgresChangeFeed(ChangeFeed):
    """Listens on a dedicated connection and wakes subscriptions.

    Notifications sent while the connection is lost are not received, so every subscription is woken after a reconnect
    and each watch reads what it may have missed.

    Args:
        dsn: The database.
        max_subscriptions: Concurrent subscriptions; more are refused.
    """

    def __init__(self, dsn: str, *, max_subscriptions: int) -> None:
        self._conninfo = make_conninfo(
            dsn, connect_timeout=5, keepalives_idle=10, keepalives_interval=5, keepalives_count=3
        )
        self._max = max_subscriptions
        self._subscriptions: dict[str, set[_EventSubscription]] = {}
        self._count = 0
        self._closed = False

    @contextmanager
    def subscribe(self, watched_id: str) -> Iterator[Subscription]:
        if self._count >= self._max:
            raise limit_exceeded(
                limit="concurrent watches",
                maximum=self._max,
                what_to_do="End some, or poll with GetEmbedding or GetFingerprint.",
            )
        subscription = _EventSubscription()
        if self._closed:
            subscription.close()
        self._subscriptions.setdefault(watched_id, set()).add(subscription)
        self._count += 1
        try:
            yield subscription
        finally:
            self._count -= 1
            others = self._subscriptions[watched_id]
            others.discard(subscription)
            if not others:
                del self._subscriptions[watched_id]

    def close(self) -> None:
        """End every watch: present and future waits raise SERVICE_UNAVAILABLE."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    @property
    def subscription_count(self) -> int:
        """Number of subscriptions."""
        return self._count

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen while the block runs."""
        async with task_group() as tasks:
            listening = tasks.create_task(self._listen_forever())
            try:
                yield
            finally:
                listening.cancel()

    async def _listen_forever(self) -> NoReturn:
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

    async def _listen(self, connection: psycopg.AsyncConnection) -> NoReturn:
        while True:
            async for notification in connection.notifies(timeout=_CHECK_EVERY_S):
                for subscription in self._subscriptions.get(notification.payload, ()):
                    subscription.wake()
            await connection.execute("SELECT 1")

    def _wake_all(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.wake()
