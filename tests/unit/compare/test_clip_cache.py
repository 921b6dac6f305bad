"""The cache of clips: bounded, and one read for calls that come at once."""

import asyncio

import numpy as np
import pytest
from fakes.compare import InMemoryEmbeddingReader, stored
from sage_compare.clip_cache import ClipCache
from sage_runtime.errors import Reason, SageError
from support.waiting import until_turned

MANY = 1 << 30


def embeddings(count: int):
    """Return embeddings of the same size."""
    return [stored(np.ones((4, 8)) + n) for n in range(count)]


async def test_clips_are_read_once():
    """A second call takes the clips from the cache."""
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = ClipCache(reader, max_bytes=MANY, max_reads=1)
    embedding = await reader.get(one.id)
    assert await cache.clips(embedding, "visual") is await cache.clips(embedding, "visual")
    assert reader.reads == {(one.id, "visual"): 1}


async def test_another_revision_is_read_anew():
    """Clips of an earlier revision are not handed out for a later one."""
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = ClipCache(reader, max_bytes=MANY, max_reads=1)
    await cache.clips(await reader.get(one.id), "visual")
    reader.stored[one.id] = later = one.but(id=one.id, revision=8)
    await cache.clips(await reader.get(later.id), "visual")
    assert reader.reads == {(one.id, "visual"): 2}


async def test_calls_at_once_read_once():
    """Calls that want the same clips while they are read wait for that read."""
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = ClipCache(reader, max_bytes=MANY, max_reads=4)
    embedding = await reader.get(one.id)
    reader.gate.clear()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(cache.clips(embedding, "visual")) for _ in range(5)]
        await until_turned(lambda: reader.waiting)
        reader.gate.set()
    assert len({id(call.result()) for call in calls}) == 1
    assert reader.reads == {(one.id, "visual"): 1}


async def test_cancelled_reader_leaves_the_read_to_the_next():
    """The call that reads may be cancelled; the one that waits for it gets its clips all the same."""
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = ClipCache(reader, max_bytes=MANY, max_reads=1)
    embedding = await reader.get(one.id)
    reader.gate.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(cache.clips(embedding, "visual"))
        await until_turned(lambda: reader.waiting)
        second = group.create_task(cache.clips(embedding, "visual"))
        first.cancel()
        reader.gate.set()
    assert len(second.result()) == 4
    assert reader.reads == {(one.id, "visual"): 2}


async def test_failed_read_is_not_remembered():
    """A read that fails fails its own call; the next call reads again."""
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    reader.failure = SageError(Reason.SERVICE_UNAVAILABLE, service="embed")
    cache = ClipCache(reader, max_bytes=MANY, max_reads=1)
    embedding = await reader.get(one.id)
    with pytest.raises(SageError):
        await cache.clips(embedding, "visual")
    assert len(await cache.clips(embedding, "visual")) == 4


async def test_least_recently_used_goes_first():
    """Over its bound the cache drops what was used longest ago, and stays under the bound."""
    a, b, c = embeddings(3)
    reader = InMemoryEmbeddingReader(a, b, c)
    size = (await reader.read_clips(await reader.get(a.id), "visual")).nbytes
    reader.reads.clear()
    cache = ClipCache(reader, max_bytes=2 * size, max_reads=1)
    for one in (a, b, a, c, a, b):
        await cache.clips(await reader.get(one.id), "visual")
        assert cache.nbytes <= 2 * size
    assert reader.reads == {(a.id, "visual"): 1, (b.id, "visual"): 2, (c.id, "visual"): 1}


async def test_clips_larger_than_the_cache_are_handed_out_and_not_kept():
    """What does not fit is still compared, and drops nothing else."""
    small, large = stored(np.ones((1, 4))), stored(np.ones((64, 64)))
    reader = InMemoryEmbeddingReader(small, large)
    cache = ClipCache(reader, max_bytes=1000, max_reads=1)
    for one in (small, large, large, small):
        await cache.clips(await reader.get(one.id), "visual")
    assert reader.reads == {(small.id, "visual"): 1, (large.id, "visual"): 2}


async def test_reads_at_once_are_bounded():
    """No more tracks are read at once than allowed."""
    many = embeddings(5)
    reader = InMemoryEmbeddingReader(*many)
    cache = ClipCache(reader, max_bytes=MANY, max_reads=2)
    found = [await reader.get(one.id) for one in many]
    reader.gate.clear()
    async with asyncio.TaskGroup() as group:
        for embedding in found:
            group.create_task(cache.clips(embedding, "visual"))
        await until_turned(lambda: reader.waiting == 2)
        for _ in range(10):
            await asyncio.sleep(0)
        assert reader.waiting == 2
        reader.gate.set()
    assert sum(reader.reads.values()) == 5
