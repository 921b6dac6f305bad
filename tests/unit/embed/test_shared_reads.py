"""Reads that are shared by those who ask at one moment."""

import asyncio
import gc

import pytest
from fakes.embed import DIMENSIONS, InMemoryEmbeddingStore
from sage_embed.model import Plan, Progress, Video
from sage_embed.shared_reads import SharedReads
from sage_runtime.context import current_request_id, enter_call
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id

PLAN = Plan(Video(new_id("video"), 9.5, 0.0), "scripted", "1", "tests", DIMENSIONS, 2.0, ("visual",))


class CountingStore(InMemoryEmbeddingStore):
    """Counts reads; each notes what it sees when it begins, and hands it out once `gate` is open."""

    def __init__(self):
        super().__init__()
        self.reads = 0
        self.request_ids = []
        self.breaks = False
        self.begun = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, embedding_id):
        self.reads += 1
        self.begun.release()
        self.request_ids.append(current_request_id())
        seen = await super().get(embedding_id)
        await self.gate.wait()
        if self.breaks:
            raise SageError(Reason.STORE_UNAVAILABLE)
        return seen


@pytest.fixture
async def store():
    """Return a store with two embeddings that workers have claimed."""
    store = CountingStore()
    for _ in range(2):
        embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
        await store.claim(embedding.id, store.job_of(embedding.id))
    return store


async def test_all_who_ask_at_once_share_a_read(store):
    """A thousand callers in one turn of the loop cost one read for each embedding."""
    reads, ids = SharedReads(store), list(store.records)
    found = await asyncio.gather(*(reads.get(ids[n % 2]) for n in range(1000)))
    assert {embedding.id for embedding in found} == set(ids)
    assert store.reads == 2


async def test_a_read_that_had_begun_is_not_shared(store):
    """Who asks after a change gets a read that began after it, though an older one is still under way."""
    reads, embedding_id = SharedReads(store), next(iter(store.records))
    store.gate.clear()
    before = asyncio.ensure_future(reads.get(embedding_id))
    await store.begun.acquire()
    await store.save_progress(embedding_id, store.job_of(embedding_id), Progress(0.5, "Half."))
    after = asyncio.gather(*(reads.get(embedding_id) for _ in range(3)))
    await store.begun.acquire()
    store.gate.set()
    assert (await before).progress.fraction == 0.0
    assert {embedding.progress.fraction for embedding in await after} == {0.5}
    assert store.reads == 2


async def test_who_goes_away_leaves_the_read_to_the_others(store):
    """The caller that began a read may be cancelled; the others get what it finds."""
    reads, embedding_id = SharedReads(store), next(iter(store.records))
    store.gate.clear()
    first, second = (asyncio.ensure_future(reads.get(embedding_id)) for _ in range(2))
    await store.begun.acquire()
    first.cancel()
    store.gate.set()
    assert (await second).id == embedding_id
    assert first.cancelled()


async def test_failure_is_everybodys_and_not_kept(store):
    """All who share a read that fails are told; the next read is a new one."""
    reads, embedding_id = SharedReads(store), next(iter(store.records))
    store.away = 1
    failures = await asyncio.gather(*(reads.get(embedding_id) for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [SageError] * 3
    assert {failure.reason for failure in failures} == {Reason.STORE_UNAVAILABLE}
    assert (await reads.get(embedding_id)).id == embedding_id


async def test_failure_that_nobody_waits_for_is_quiet(store):
    """Where all callers have gone, a read that fails leaves no complaint of the loop behind."""
    reads, embedding_id = SharedReads(store), next(iter(store.records))
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        store.gate.clear()
        alone = asyncio.ensure_future(reads.get(embedding_id))
        await store.begun.acquire()
        alone.cancel()
        await asyncio.wait([alone])
        store.breaks = True
        (read,) = reads._under_way
        store.gate.set()
        await asyncio.wait([read])
        # What is left of the read complains when nobody holds it any more.
        del alone, read
        await asyncio.sleep(0)
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []


async def test_a_read_belongs_to_no_call(store):
    """A read that many calls share has the deadline and the request id of none of them."""
    reads, embedding_id = SharedReads(store), next(iter(store.records))

    async def call():
        enter_call("request-1", timeout_s=0.0)
        return await reads.get(embedding_id)

    assert (await asyncio.create_task(call())).id == embedding_id
    assert store.request_ids == [""]


async def test_nothing_is_kept_of_what_was_read(store):
    """However many embeddings were read, nothing grows."""
    reads = SharedReads(store)
    for embedding_id in store.records:
        await reads.get(embedding_id)
    await asyncio.sleep(0)
    assert (reads._waiting, reads._under_way) == ({}, set())
