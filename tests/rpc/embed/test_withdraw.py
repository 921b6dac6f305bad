"""Withdrawing a request for an embedding that others wait for, through two replicas."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sage.embed.v1 import embed_pb2

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
