"""The cache of segments: bounded, with one read for concurrent calls."""

import asyncio

import numpy as np
import pytest
from fakes.compare import InMemoryEmbeddingReader, stored
from sage_compare.inputs.segments import SegmentCache
from sage_runtime.errors import Reason, SageError
from support.waiting import until_turned

MANY = 1 << 30


def embeddings(count: int):
    """Return embeddings of the same size."""
    return [stored(np.ones((4, 8)) + n) for n in range(count)]


async def test_second_call_reads_nothing():
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = SegmentCache(reader, max_bytes=MANY, max_reads=1)
    embedding = await reader.get(one.id)
    assert await cache.segments(embedding, "visual") is await cache.segments(embedding, "visual")
    assert reader.reads == {(one.id, "visual"): 1}


async def test_new_revision_is_read_again():
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = SegmentCache(reader, max_bytes=MANY, max_reads=1)
    await cache.segments(await reader.get(one.id), "visual")
    reader.stored[one.id] = later = one.but(id=one.id, revision=8)
    await cache.segments(await reader.get(later.id), "visual")
    assert reader.reads == {(one.id, "visual"): 2}


async def test_concurrent_calls_read_once():
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = SegmentCache(reader, max_bytes=MANY, max_reads=4)
    embedding = await reader.get(one.id)
    reader.gate.clear()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(cache.segments(embedding, "visual")) for _ in range(5)]
        await until_turned(lambda: reader.waiting)
        reader.gate.set()
    assert len({id(call.result()) for call in calls}) == 1
    assert reader.reads == {(one.id, "visual"): 1}


async def test_waiting_call_reads_if_the_reading_call_is_cancelled():
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    cache = SegmentCache(reader, max_bytes=MANY, max_reads=1)
    embedding = await reader.get(one.id)
    reader.gate.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(cache.segments(embedding, "visual"))
        await until_turned(lambda: reader.waiting)
        second = group.create_task(cache.segments(embedding, "visual"))
        first.cancel()
        reader.gate.set()
    assert len(second.result()) == 4
    assert reader.reads == {(one.id, "visual"): 2}


async def test_failed_read_is_not_cached():
    one = stored(np.eye(4))
    reader = InMemoryEmbeddingReader(one)
    reader.failure = SageError(Reason.SERVICE_UNAVAILABLE, service="embed")
    cache = SegmentCache(reader, max_bytes=MANY, max_reads=1)
    embedding = await reader.get(one.id)
    with pytest.raises(SageError):
        await cache.segments(embedding, "visual")
    assert len(await cache.segments(embedding, "visual")) == 4


async def test_least_recently_used_is_evicted_first_and_the_bound_is_kept():
    a, b, c = embeddings(3)
    reader = InMemoryEmbeddingReader(a, b, c)
    size = (await reader.read_segments(await reader.get(a.id), "visual")).nbytes
    reader.reads.clear()
    cache = SegmentCache(reader, max_bytes=2 * size, max_reads=1)
    for one in (a, b, a, c, a, b):
        await cache.segments(await reader.get(one.id), "visual")
        assert cache.nbytes <= 2 * size
    assert reader.reads == {(a.id, "visual"): 1, (b.id, "visual"): 2, (c.id, "visual"): 1}


async def test_segments_larger_than_the_cache_are_returned_but_not_kept():
    small, large = stored(np.ones((1, 4))), stored(np.ones((64, 64)))
    reader = InMemoryEmbeddingReader(small, large)
    cache = SegmentCache(reader, max_bytes=1000, max_reads=1)
    for one in (small, large, large, small):
        await cache.segments(await reader.get(one.id), "visual")
    assert reader.reads == {(small.id, "visual"): 1, (large.id, "visual"): 2}


async def test_concurrent_reads_are_bounded():
    many = embeddings(5)
    reader = InMemoryEmbeddingReader(*many)
    cache = SegmentCache(reader, max_bytes=MANY, max_reads=2)
    found = [await reader.get(one.id) for one in many]
    reader.gate.clear()
    async with asyncio.TaskGroup() as group:
        for embedding in found:
            group.create_task(cache.segments(embedding, "visual"))
        await until_turned(lambda: reader.waiting == 2)
        for _ in range(10):
            await asyncio.sleep(0)
        assert reader.waiting == 2
        reader.gate.set()
    assert sum(reader.reads.values()) == 5
