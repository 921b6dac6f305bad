"""Cancelling an embedding that TwelveLabs works on."""

import pytest
from fakes.twelvelabs.faults import Moment, Step
from sage.embed.v1 import embed_pb2

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED

pytestmark = pytest.mark.usefixtures("worker")


async def test_cancel_takes_effect_at_once_and_frees_the_worker(create, finish, embed, twelvelabs, until):
    """The user reads that TwelveLabs may bill all the same; nobody asks for the task again; others get their turn."""
    twelvelabs.polls_before_ready = 10_000
    embedding_id = (await create()).id
    await until(lambda: twelvelabs.count(Step.POLL) > 1)
    answer = await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id))
    assert answer.embedding.state == CANCELLED
    assert "bill" in answer.embedding.progress.message
    twelvelabs.polls_before_ready = 1
    cancelled = twelvelabs.tasks[0].id
    assert (await finish((await create()).id)).state == COMPLETED
    polls = sum(cancelled in seen.path for seen in twelvelabs.seen)
    assert (await finish((await create()).id)).state == COMPLETED
    assert sum(cancelled in seen.path for seen in twelvelabs.seen) == polls


async def test_cancel_while_the_task_is_being_made_says_that_it_may_be_billed(create, embed, twelvelabs, until):
    """A create that was sent may have taken effect, heard of or not."""
    gate = twelvelabs.hold(Step.CREATE, Moment.AFTER)
    embedding_id = (await create()).id
    await until(gate.reached.is_set)
    answer = await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id))
    gate.open()
    assert answer.embedding.state == CANCELLED
    assert "bill" in answer.embedding.progress.message
