"""Cancelling an embedding with a task at TwelveLabs."""

import pytest
from fakes.twelvelabs.faults import Moment, Step
from sage.embed.v1 import embed_pb2

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED

pytestmark = pytest.mark.usefixtures("worker")


async def test_cancel_takes_effect_at_once_and_frees_the_worker(create, finish, embed, twelvelabs, until):
    """The message says that the task may still be billed, and the task is not polled again."""
    twelvelabs.polls_before_ready = 10_000
    embedding_id = (await create()).id
    await until(lambda: twelvelabs.count(Step.POLL) > 1)
    response = await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id))
    assert response.embedding.state == CANCELLED
    assert "bill" in response.embedding.progress.message
    twelvelabs.polls_before_ready = 1
    cancelled = twelvelabs.tasks[0].id
    assert (await finish((await create()).id)).state == COMPLETED
    polls = sum(cancelled in seen.path for seen in twelvelabs.seen)
    assert (await finish((await create()).id)).state == COMPLETED
    assert sum(cancelled in seen.path for seen in twelvelabs.seen) == polls


async def test_cancel_during_the_submission_says_that_it_may_be_billed(create, embed, twelvelabs, until):
    gate = twelvelabs.hold(Step.CREATE, Moment.AFTER)
    embedding_id = (await create()).id
    await until(gate.reached.is_set)
    response = await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id))
    gate.open()
    assert response.embedding.state == CANCELLED
    assert "bill" in response.embedding.progress.message
