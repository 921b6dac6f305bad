"""Reads shared by the watches of an embedding."""

import asyncio
import gc

import pytest
from fakes.embed import DIMENSIONS
from fakes.embedding_repository import FakeEmbeddingRepository
from sage_embed.embeddings.model import Plan, Progress, Video
from sage_embed.embeddings.watch import SharedReads
from sage_runtime.api import new_id
from sage_runtime.context import current_request_id, enter_call
from sage_runtime.errors import Reason, SageError


class CountingRepository(FakeEmbeddingRepository):
    """Counts reads. Each reads at once and returns when `gate` is open."""

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
async def repository():
    """Return a repository with two embeddings that workers have claimed."""
    repository = CountingRepository()
    for _ in range(2):
        plan = Plan(Video(new_id("video"), 9.5, 0.0), "scripted", "1", "tests", DIMENSIONS, 2.0, ("visual",))
        embedding = await repository.create(new_id("embed"), plan, request_id="", fingerprint="")
        await repository.claim(embedding.id, repository.job_of(embedding.id))
    return repository


async def test_concurrent_callers_share_a_read(repository):
    reads, ids = SharedReads(repository), list(repository.records)
    found = await asyncio.gather(*(reads.get(ids[n % 2]) for n in range(1000)))
    assert {embedding.id for embedding in found} == set(ids)
    assert repository.reads == 2


async def test_a_read_that_has_started_is_not_joined(repository):
    reads, embedding_id = SharedReads(repository), next(iter(repository.records))
    repository.gate.clear()
    before = asyncio.ensure_future(reads.get(embedding_id))
    await repository.begun.acquire()
    await repository.save_progress(embedding_id, repository.job_of(embedding_id), Progress(0.5, "Half."))
    after = asyncio.gather(*(reads.get(embedding_id) for _ in range(3)))
    await repository.begun.acquire()
    repository.gate.set()
    assert (await before).progress.fraction == 0.0
    assert {embedding.progress.fraction for embedding in await after} == {0.5}
    assert repository.reads == 2


async def test_a_cancelled_caller_does_not_cancel_the_read_of_others(repository):
    reads, embedding_id = SharedReads(repository), next(iter(repository.records))
    repository.gate.clear()
    first, second = (asyncio.ensure_future(reads.get(embedding_id)) for _ in range(2))
    await repository.begun.acquire()
    first.cancel()
    repository.gate.set()
    assert (await second).id == embedding_id
    assert first.cancelled()


async def test_a_failure_reaches_every_caller_and_is_not_kept(repository):
    reads, embedding_id = SharedReads(repository), next(iter(repository.records))
    repository.away = 1
    failures = await asyncio.gather(*(reads.get(embedding_id) for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [SageError] * 3
    assert {failure.reason for failure in failures} == {Reason.STORE_UNAVAILABLE}
    assert (await reads.get(embedding_id)).id == embedding_id


async def test_a_failure_without_callers_is_not_reported(repository):
    reads, embedding_id = SharedReads(repository), next(iter(repository.records))
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        repository.gate.clear()
        alone = asyncio.ensure_future(reads.get(embedding_id))
        await repository.begun.acquire()
        alone.cancel()
        await asyncio.wait([alone])
        repository.breaks = True
        (read,) = reads._running
        repository.gate.set()
        await asyncio.wait([read])
        # The task reports its exception when it is collected.
        del alone, read
        await asyncio.sleep(0)
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []


async def test_a_read_has_the_deadline_and_request_id_of_no_call(repository):
    reads, embedding_id = SharedReads(repository), next(iter(repository.records))

    async def call():
        enter_call("request-1", timeout_s=0.0)
        return await reads.get(embedding_id)

    assert (await asyncio.create_task(call())).id == embedding_id
    assert repository.request_ids == [""]


async def test_nothing_is_kept_after_a_read(repository):
    reads = SharedReads(repository)
    for embedding_id in repository.records:
        await reads.get(embedding_id)
    await asyncio.sleep(0)
    assert (reads._waiting, reads._running) == ({}, set())
