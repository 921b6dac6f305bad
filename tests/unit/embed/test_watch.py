"""Watching an embedding."""

import asyncio
from contextlib import aclosing

import pytest
from fakes.embed import DIMENSIONS
from fakes.embedding_repository import FakeEmbeddingRepository, FlagFeed
from sage_embed.embeddings.model import Plan, Progress, State, Video
from sage_embed.embeddings.watch import SharedReads, WatchTimes, watch
from sage_embed.errors import embedding_not_found
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError

PLAN = Plan(Video(new_id("video"), 9.5, 0.0), "scripted", "1", "tests", DIMENSIONS, 2.0, ("visual",))
NEVER = WatchTimes(heartbeat_s=60, poll_s=60)


def watching(embedding_id, repository, feed, *, times):
    """Return a watch from the first revision on."""
    reads = SharedReads(repository)
    return watch(embedding_id, after_revision=0, reads=reads, feed=feed, times=times, not_found=embedding_not_found)


@pytest.fixture
def feed() -> FlagFeed:
    """Return a feed that the test controls."""
    return FlagFeed()


@pytest.fixture
async def repository(feed) -> FakeEmbeddingRepository:
    """Return a repository with one embedding, which a worker has claimed."""
    repository = FakeEmbeddingRepository()
    embedding = await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    await repository.claim(embedding.id, repository.job_of(embedding.id))
    repository.changed = feed.tell
    return repository


@pytest.fixture
def embedding_id(repository) -> str:
    """Return the ID of the one embedding."""
    return next(iter(repository.records))


async def test_closing_a_watch_ends_its_subscription(repository, feed, embedding_id):
    async with aclosing(
        watch(
            embedding_id,
            after_revision=0,
            reads=SharedReads(repository),
            feed=feed,
            times=NEVER,
            not_found=embedding_not_found,
        )
    ) as changes:
        await anext(changes)
        assert feed.subscribed == 1
    assert feed.subscribed == 0


async def test_cancelling_a_watch_ends_its_subscription(repository, feed, embedding_id):
    changes = watch(
        embedding_id,
        after_revision=0,
        reads=SharedReads(repository),
        feed=feed,
        times=NEVER,
        not_found=embedding_not_found,
    )
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert feed.subscribed == 0


async def test_a_change_between_subscription_and_first_read_is_seen(repository, feed, embedding_id):
    read = repository.get

    async def change_then_read(requested_id: str):
        repository.get = read
        await repository.save_progress(requested_id, repository.job_of(requested_id), Progress(0.5, "Half."))
        return await read(requested_id)

    repository.get = change_then_read
    async with aclosing(
        watch(
            embedding_id,
            after_revision=0,
            reads=SharedReads(repository),
            feed=feed,
            times=NEVER,
            not_found=embedding_not_found,
        )
    ) as changes:
        assert (await anext(changes)).progress.fraction == 0.5


async def test_a_slow_reader_may_miss_states_but_not_the_final_one(repository, feed, embedding_id):
    job_id = repository.job_of(embedding_id)
    async with aclosing(
        watch(
            embedding_id,
            after_revision=0,
            reads=SharedReads(repository),
            feed=feed,
            times=NEVER,
            not_found=embedding_not_found,
        )
    ) as changes:
        await anext(changes)
        for step in range(10):
            await repository.save_progress(embedding_id, job_id, Progress(step / 10, "On."))
        await repository.complete(embedding_id, job_id, "Done.")
        rest = [embedding async for embedding in changes]
    assert [embedding.state for embedding in rest] == [State.COMPLETED]


async def test_spurious_wakes_yield_nothing_and_do_not_delay_heartbeats(repository, feed, embedding_id):
    times = WatchTimes(heartbeat_s=0.1, poll_s=0.01)
    async with aclosing(
        watch(
            embedding_id,
            after_revision=0,
            reads=SharedReads(repository),
            feed=feed,
            times=times,
            not_found=embedding_not_found,
        )
    ) as changes:
        await anext(changes)
        started = asyncio.get_running_loop().time()
        assert await anext(changes) is None
        assert 0.08 < asyncio.get_running_loop().time() - started < 1


async def test_heartbeats_read_nothing(repository, feed, embedding_id):
    async with aclosing(
        watch(
            embedding_id,
            after_revision=0,
            reads=SharedReads(repository),
            feed=feed,
            times=WatchTimes(heartbeat_s=0.01, poll_s=60),
            not_found=embedding_not_found,
        )
    ) as changes:
        await anext(changes)
        repository.away = 1
        assert [await anext(changes) for _ in range(3)] == [None, None, None]


async def test_an_unavailable_store_ends_the_watch(repository, feed, embedding_id):
    changes = watch(
        embedding_id,
        after_revision=0,
        reads=SharedReads(repository),
        feed=feed,
        times=NEVER,
        not_found=embedding_not_found,
    )
    await anext(changes)
    repository.away = 1
    feed.tell()
    with pytest.raises(SageError) as caught:
        await anext(changes)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert feed.subscribed == 0
