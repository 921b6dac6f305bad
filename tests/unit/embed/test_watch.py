"""Watching, on its own."""

import asyncio
from contextlib import aclosing

import pytest
from fakes.embed import DIMENSIONS, FlagFeed, InMemoryEmbeddingStore
from sage_embed.model import Plan, Progress, State, Video
from sage_embed.shared_reads import SharedReads
from sage_embed.watch import WatchTimes, watch
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id

PLAN = Plan(Video(new_id("video"), 9.5, 0.0), "scripted", "1", "tests", DIMENSIONS, 2.0, ("visual",))
NEVER = WatchTimes(heartbeat_s=60, poll_s=60)


@pytest.fixture
def feed() -> FlagFeed:
    """Return a feed that the test tells of changes."""
    return FlagFeed()


@pytest.fixture
async def store(feed) -> InMemoryEmbeddingStore:
    """Return a store with one embedding, which a worker has claimed."""
    store = InMemoryEmbeddingStore()
    embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    await store.claim(embedding.id, store.job_of(embedding.id))
    store.changed = feed.tell
    return store


@pytest.fixture
def embedding_id(store) -> str:
    """Return the id of the one embedding."""
    return next(iter(store.records))


async def test_a_watch_that_is_closed_leaves_no_subscription(store, feed, embedding_id):
    """However a watch ends, its subscription goes with it."""
    async with aclosing(
        watch(embedding_id, after_revision=0, reads=SharedReads(store), feed=feed, times=NEVER)
    ) as changes:
        await anext(changes)
        assert feed.subscribed == 1
    assert feed.subscribed == 0


async def test_a_watch_that_is_cancelled_leaves_no_subscription(store, feed, embedding_id):
    """A caller that goes while the watch waits takes its subscription along."""
    changes = watch(embedding_id, after_revision=0, reads=SharedReads(store), feed=feed, times=NEVER)
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert feed.subscribed == 0


async def test_a_change_between_the_subscription_and_the_read_is_seen(store, feed, embedding_id):
    """What changes while the watch begins is part of what it yields first."""
    read = store.get

    async def change_then_read(wanted: str):
        store.get = read
        await store.save_progress(wanted, store.job_of(wanted), Progress(0.5, "Half."))
        return await read(wanted)

    store.get = change_then_read
    async with aclosing(
        watch(embedding_id, after_revision=0, reads=SharedReads(store), feed=feed, times=NEVER)
    ) as changes:
        assert (await anext(changes)).progress.fraction == 0.5


async def test_changes_that_follow_fast_may_be_one_but_the_last_is_there(store, feed, embedding_id):
    """A slow reader misses states in between, never the final one."""
    job_id = store.job_of(embedding_id)
    async with aclosing(
        watch(embedding_id, after_revision=0, reads=SharedReads(store), feed=feed, times=NEVER)
    ) as changes:
        await anext(changes)
        for step in range(10):
            await store.save_progress(embedding_id, job_id, Progress(step / 10, "On."))
        await store.complete(embedding_id, job_id, "Done.")
        rest = [embedding async for embedding in changes]
    assert [embedding.state for embedding in rest] == [State.COMPLETED]


async def test_wakes_without_a_change_yield_nothing(store, feed, embedding_id):
    """The same revision is not sent twice, and waking for nothing does not put off a heartbeat."""
    times = WatchTimes(heartbeat_s=0.1, poll_s=0.01)
    async with aclosing(
        watch(embedding_id, after_revision=0, reads=SharedReads(store), feed=feed, times=times)
    ) as changes:
        await anext(changes)
        started = asyncio.get_running_loop().time()
        assert await anext(changes) is None
        assert 0.08 < asyncio.get_running_loop().time() - started < 1


async def test_a_store_that_goes_away_ends_the_watch(store, feed, embedding_id):
    """The caller is told that it may try again, and the subscription is gone."""
    changes = watch(embedding_id, after_revision=0, reads=SharedReads(store), feed=feed, times=NEVER)
    await anext(changes)
    store.away = 1
    feed.tell()
    with pytest.raises(SageError) as caught:
        await anext(changes)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert feed.subscribed == 0
