"""Keeps the clips that were read last, so that comparing again moves no vectors."""

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from sage_compare.model import Clips, Embedding
from sage_compare.ports import EmbeddingReader

_Key = tuple[str, str, int]


class ClipCache:
    """Clips by embedding, track and revision, up to a number of bytes; the least recently used go first.

    A completed embedding never changes, so nothing goes stale; one that was deleted is never asked for again, because
    `sage_compare.compare` asks the embed service for the embedding each time, and its clips fall out in their turn.

    Calls that want the same clips at once read them once: the first reads while the others wait. Where it fails or is
    cancelled, the next one reads for itself.

    Args:
        reader: Where clips come from.
        max_bytes: What the cached arrays may take. Clips that are larger are handed out and not kept.
        max_reads: How many tracks may be read at once; each has its vectors in memory while it is read.
    """

    def __init__(self, reader: EmbeddingReader, *, max_bytes: int, max_reads: int) -> None:
        self._reader = reader
        self._max_bytes = max_bytes
        self._reads = asyncio.Semaphore(max_reads)
        self._clips: OrderedDict[_Key, Clips] = OrderedDict()
        self._nbytes = 0
        # A lock lives as long as a call holds it or waits for it.
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    @property
    def nbytes(self) -> int:
        """The memory that the cached arrays take."""
        return self._nbytes

    async def clips(self, embedding: Embedding, track: str) -> Clips:
        """Return the clips of a track, from the cache where they are there.

        Raises:
            SageError: As `EmbeddingReader.read_clips`.
        """
        key = (embedding.id, track, embedding.revision)
        if (clips := self._cached(key)) is not None:
            return clips
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            if (clips := self._cached(key)) is not None:
                return clips
            async with self._reads:
                clips = await self._reader.read_clips(embedding, track)
            self._keep(key, clips)
            return clips

    def _cached(self, key: _Key) -> Clips | None:
        clips = self._clips.get(key)
        if clips is not None:
            self._clips.move_to_end(key)
        return clips

    def _keep(self, key: _Key, clips: Clips) -> None:
        if clips.nbytes > self._max_bytes:
            return
        self._clips[key] = clips
        self._nbytes += clips.nbytes
        while self._nbytes > self._max_bytes:
            _, dropped = self._clips.popitem(last=False)
            self._nbytes -= dropped.nbytes
