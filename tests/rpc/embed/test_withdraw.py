"""Withdrawing a request for an embedding that others wait for, through two replicas."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable

import grpc
import psycopg
import pytest
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_embed.config import SCHEMA
from sage_embed.embeddings.postgres import PostgresEmbeddingRepository
from sage_local.ports import free_port

CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED
COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
PENDING = embed_pb2.EMBEDDING_STATE_PENDING


@pytest.fixture
async def other(start_api) -> AsyncIterator:
    """Return a stub of a second replica."""
    async with start_api() as stub:
        yield stub


@pytest.fixture
def request_for(video) -> Callable:
    """Return a function that requests the embedding of the video from a replica and returns its ID."""

    async def call(replica, request_id: str) -> str:
        request = embed_pb2.CreateEmbeddingRequest(video_id=video, request_id=request_id)
        return (await replica.CreateEmbedding(request)).embedding.id

    return call


async def withdraw(replica, embedding_id: str, request_id: str) -> embed_pb2.Embedding:
    """Withdraw a request and return the embedding."""
    request = embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id, request_id=request_id)
    return (await replica.CancelEmbedding(request)).embedding


async def test_the_last_request_that_is_withdrawn_cancels(embed, other, request_for):
    embedding_id = await request_for(embed, "mine")
    assert await request_for(other, "yours") == embedding_id
    assert (await withdraw(embed, embedding_id, "mine")).state == PENDING
    # Again, as after a lost response.
    assert (await withdraw(other, embedding_id, "mine")).state == PENDING
    assert (await withdraw(other, embedding_id, "yours")).state == CANCELLED
    assert (await withdraw(embed, embedding_id, "yours")).state == CANCELLED


@pytest.mark.parametrize("first", ["", "named"])
async def test_a_request_without_an_id_is_never_withdrawn(embed, other, request_for, first):
    embedding_id = await request_for(embed, first)
    assert await request_for(other, "" if first else "named") == embedding_id
    assert (await withdraw(embed, embedding_id, "named")).state == PENDING


async def test_cancelling_without_a_request_id_cancels_for_everyone(embed, other, request_for):
    embedding_id = await request_for(embed, "mine")
    assert await request_for(other, "yours") == embedding_id
    assert (await withdraw(embed, embedding_id, "")).state == CANCELLED


async def test_withdrawing_changes_nothing_once_it_has_completed(embed, worker, request_for, finish):
    embedding_id = await request_for(embed, "mine")
    assert (await finish(embedding_id)).state == COMPLETED
    assert (await withdraw(embed, embedding_id, "mine")).state == COMPLETED


async def test_no_request_receives_an_embedding_that_is_being_withdrawn(embed, other, request_for):
    """A reuse at the same moment keeps it alive, or makes a new one."""
    for turn in range(15):
        embedding_id = await request_for(embed, f"mine {turn}")
        withdrawn, received = await asyncio.gather(
            withdraw(embed, embedding_id, f"mine {turn}"), request_for(other, f"yours {turn}")
        )
        get = embed_pb2.GetEmbeddingRequest(embedding_id=received)
        assert (await other.GetEmbedding(get)).embedding.state == PENDING
        assert (withdrawn.state == CANCELLED) == (received != embedding_id)
        assert (await withdraw(embed, received, f"yours {turn}")).state == CANCELLED


@pytest.fixture
def watching() -> Callable:
    """Return a function that opens a watch through a replica and returns its call once it has sent the state."""

    async def call(replica, embedding_id: str, *, request_id: str = ""):
        request = embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id, request_id=request_id)
        watch = replica.WatchEmbedding(request, timeout=60)
        assert (await watch.read()).embedding.state == PENDING
        return watch

    return call


@pytest.fixture
def leases(database_url) -> Callable[[], int]:
    """Return a function that counts the replicas that serve watches, for each embedding."""

    def count() -> int:
        with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
            row = connection.execute("SELECT count(*) FROM embedding_watches").fetchone()
        return row[0] if row else 0

    return count


@pytest.mark.parametrize("replicas", ["same", "two"])
async def test_an_embedding_that_is_watched_is_not_cancelled(embed, other, request_for, watching, replicas):
    embedding_id = await request_for(embed, "mine")
    watch = await watching(embed if replicas == "same" else other, embedding_id)
    assert (await withdraw(embed, embedding_id, "mine")).state == PENDING
    assert (await withdraw(embed, embedding_id, "")).state == CANCELLED
    assert (await watch.read()).embedding.state == CANCELLED


async def test_a_watch_that_has_ended_keeps_nothing_alive(embed, other, request_for, watching, leases, until):
    embedding_id = await request_for(embed, "mine")
    calls = [await watching(replica, embedding_id) for replica in (embed, other, other)]
    assert leases() == 2
    for call in calls[:2]:
        call.cancel()
    await until(lambda: leases() == 1)
    assert (await withdraw(embed, embedding_id, "mine")).state == PENDING
    calls[2].cancel()
    await until(lambda: leases() == 0)
    assert (await withdraw(embed, embedding_id, "mine")).state == CANCELLED


async def test_the_watch_of_a_request_does_not_outlive_it(embed, other, request_for, watching):
    embedding_id = await request_for(embed, "mine")
    watch = await watching(other, embedding_id, request_id="mine")
    assert (await withdraw(embed, embedding_id, "mine")).state == CANCELLED
    assert (await watch.read()).embedding.state == CANCELLED


async def test_a_watch_counts_for_as_long_as_it_is_open(embed, start_api, request_for, watching):
    embedding_id = await request_for(embed, "mine")
    async with start_api(watch_lease_s=0.6, heartbeat_s=0.5) as other:
        watch = await watching(other, embedding_id)
        for _ in range(4):
            assert (await watch.read()).WhichOneof("event") == "heartbeat"
        assert (await withdraw(embed, embedding_id, "mine")).state == PENDING


async def test_the_watches_of_a_killed_replica_expire(embed, spawn, request_for, watching, until, serving):
    embedding_id = await request_for(embed, "mine")
    address = f"127.0.0.1:{free_port()}"
    process = spawn(
        [sys.executable, "-m", "sage_embed", "serve"],
        SAGE_EMBED_LISTEN=address,
        SAGE_EMBED_WATCH_LEASE_SECONDS="6",
    )
    async with grpc.aio.insecure_channel(address) as channel:
        await serving(channel)
        watch = await watching(embed_pb2_grpc.EmbedServiceStub(channel), embedding_id)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await watch.read()
    assert (await withdraw(embed, embedding_id, "mine")).state == PENDING

    async def cancelled() -> bool:
        return (await withdraw(embed, embedding_id, "mine")).state == CANCELLED

    await until(cancelled)


async def test_a_watch_that_starts_during_a_withdrawal_sees_what_became_of_it(embed, other, request_for):
    """It keeps the embedding alive, or its first message says that it was cancelled."""
    states = set()
    for turn in range(15):
        embedding_id = await request_for(embed, f"mine {turn}")
        watch = other.WatchEmbedding(embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id), timeout=60)
        withdrawn, first = await asyncio.gather(withdraw(embed, embedding_id, f"mine {turn}"), watch.read())
        assert withdrawn.state == first.embedding.state
        states.add(withdrawn.state)
        await withdraw(embed, embedding_id, "")
    assert states <= {PENDING, CANCELLED}


async def test_a_hundred_watches_of_an_embedding_share_one_lease(embed, request_for, watching, monkeypatch):
    kept = []
    keep = PostgresEmbeddingRepository.keep_watches

    async def counting(repository, replica, embedding_ids, **rest):
        kept.append(list(embedding_ids))
        await keep(repository, replica, embedding_ids, **rest)

    monkeypatch.setattr(PostgresEmbeddingRepository, "keep_watches", counting)
    embedding_id = await request_for(embed, "mine")
    calls = await asyncio.gather(*(watching(embed, embedding_id) for _ in range(100)))
    await withdraw(embed, embedding_id, "")
    for call in calls:
        assert (await call.read()).last
    assert kept == [[embedding_id]]
