"""A bounded cache that reads what it lacks."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar
from weakref import WeakValueDictionary


class Sized(Protocol):
    """Something that takes memory."""

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Sized)


class ReadCache(Generic[K, V]):
    """Keeps recently used values, up to a number of bytes.

    Concurrent calls for the same value read it once: the first call reads while the others wait. If it fails or is
    cancelled, the next one reads. A value that some call still uses is shared, even if it is too large to be kept.

    Args:
        max_bytes: Memory for the kept values. Larger ones are returned but not kept.
        max_reads: How many values may be read at once; each is held in memory while it is read.
    """

    def __init__(self, *, max_bytes: int, max_reads: int) -> None:
        self._max_bytes = max_bytes
        self._reads = asyncio.Semaphore(max_reads)
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._in_use: WeakValueDictionary[K, V] = WeakValueDictionary()
        self._nbytes = 0
        # A lock lives as long as a call holds it or waits for it.
        self._locks: WeakValueDictionary[K, asyncio.Lock] = WeakValueDictionary()

    @property
    def nbytes(self) -> int:
        """Memory of the kept values in bytes."""
        return self._nbytes

    async def get(self, key: K, read: Callable[[], Awaitable[V]]) -> V:
        """Return the value for a key, read with `read` unless it is known. Errors of `read` are raised."""
        if (value := self._known(key)) is not None:
            return value
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            if (value := self._known(key)) is not None:
                return value
            async with self._reads:
                value = await read()
            self._in_use[key] = value
            self._keep(key, value)
            return value

    def _known(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
            return value
        return self._in_use.get(key)

    def _keep(self, key: K, value: V) -> None:
        if value.nbytes > self._max_bytes:
            return
        self._entries[key] = value
        self._nbytes += value.nbytes
        while self._nbytes > self._max_bytes:
            _, evicted = self._entries.popitem(last=False)
            self._nbytes -= evicted.nbytes
