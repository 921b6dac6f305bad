"""A key that is refused or removed while a task exists, and a task that a new embedding adopts."""

import asyncio
import base64
import os
from datetime import UTC, datetime

import pytest
from fakes.twelvelabs.faults import Step
from fakes.twelvelabs.misbehaviour import fails
from fakes.twelvelabs.server import KEY
from sage.embed.v1 import embed_pb2
from sage_embed.config import SCHEMA, DatabaseSettings
from sage_embed.keys.model import PROVIDER, KeyFacts, KeyStatus
from sage_embed.keys.postgres import open_keys
from sage_runtime.postgres import open_pool

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
PROCESSING = embed_pb2.EMBEDDING_STATE_PROCESSING
OTHER_KEY = "tlk_ANOTHER0SECRET0KEY0ABCD"


@pytest.fixture
async def stored_keys(database_url, monkeypatch):
    """Return the repository of keys, which has one. The environment has none."""
    monkeypatch.delenv("TWELVELABS_API_KEY")
    monkeypatch.setenv("SAGE_KEY_ENCRYPTION_KEYS", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    async with await open_pool(database_url, schema=SCHEMA, max_size=1) as pool:
        repository, _ = open_keys(pool, DatabaseSettings(database_url=database_url))
        await repository.put(PROVIDER, KEY, FACTS)
        yield repository


FACTS = KeyFacts("WXYZ", KeyStatus.VALID, datetime.now(UTC))


@pytest.fixture
def message(embed):
    """Return a function that returns the message of an embedding, which must not have ended."""

    async def call(embedding_id: str) -> str:
        request = embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id)
        embedding = (await embed.GetEmbedding(request)).embedding
        assert embedding.state == PROCESSING, embedding.failure
        return embedding.progress.message

    return call


async def test_a_refused_key_stops_the_polls_until_another_one_is_set(
    stored_keys, start_worker, create, finish, message, twelvelabs, until
):
    twelvelabs.polls_before_ready = 10_000
    async with start_worker():
        embedding_id = (await create()).id
        await until(lambda: twelvelabs.count(Step.POLL) > 1)
        twelvelabs.keys = {OTHER_KEY}

        async def told() -> bool:
            return "TwelveLabs refused the API key (HTTP 401" in await message(embedding_id)

        await until(told)
        refused = [seen for seen in twelvelabs.seen if seen.status == 401]
        # One refusal alone is no verdict.
        assert len(refused) == 3
        twelvelabs.tasks[0].polls_left = 1
        await stored_keys.put(PROVIDER, OTHER_KEY, FACTS)
        done = await finish(embedding_id)
    assert done.state == COMPLETED, done.failure
    assert sum(seen.status == 401 for seen in twelvelabs.seen) == 3
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


async def test_a_removed_key_is_waited_for_also_by_the_next_worker(
    stored_keys, start_worker, create, finish, message, twelvelabs, until
):
    twelvelabs.polls_before_ready = 10_000

    async def told() -> bool:
        return "No API key for TwelveLabs is set" in await message(embedding_id)

    async with start_worker():
        embedding_id = (await create()).id
        await until(lambda: twelvelabs.count(Step.POLL) > 1)
        await stored_keys.delete(PROVIDER)
        await until(told)
    async with start_worker():
        await until(told)
        twelvelabs.tasks[0].polls_left = 1
        await stored_keys.put(PROVIDER, KEY, FACTS)
        assert (await finish(embedding_id)).state == COMPLETED
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


@pytest.mark.usefixtures("worker")
async def test_a_request_after_a_cancelled_one_adopts_its_task(create, finish, embed, twelvelabs, until):
    twelvelabs.polls_before_ready = 10_000
    first = await create(force=False)
    await until(lambda: twelvelabs.count(Step.POLL) > 1)
    await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=first.id))
    twelvelabs.tasks[0].polls_left = 1
    second = await create(force=False)
    assert second.id != first.id
    done = await finish(second.id)
    assert (done.state, done.provider_task_id) == (COMPLETED, twelvelabs.tasks[0].id)
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


@pytest.mark.usefixtures("worker")
async def test_a_request_after_a_failed_task_creates_another(create, finish, twelvelabs):
    twelvelabs.misbehave(fails("The video is too dark."), Step.POLL, Step.FETCH, times=2)
    failed = await finish((await create(force=False)).id)
    assert "The video is too dark. TwelveLabs may still bill task" in failed.failure.message
    done = await finish((await create(force=False)).id)
    assert done.state == COMPLETED, done.failure
    assert [task.id for task in twelvelabs.tasks] == [failed.provider_task_id, done.provider_task_id]


@pytest.mark.usefixtures("worker")
async def test_simultaneous_requests_through_two_replicas_pay_for_one_task(start_api, video, finish, twelvelabs):
    async with start_api() as one, start_api() as other:
        request = embed_pb2.CreateEmbeddingRequest(video_id=video)
        responses = await asyncio.gather(*(stub.CreateEmbedding(request) for stub in (one, other) * 10))
    assert sum(not response.reused for response in responses) == 1
    (embedding_id,) = {response.embedding.id for response in responses}
    assert (await finish(embedding_id)).state == COMPLETED
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)
