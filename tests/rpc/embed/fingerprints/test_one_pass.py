"""An embedding whose job makes the fingerprint in the same pass, with real workers, PostgreSQL and S3."""

import signal
from collections.abc import Awaitable, Callable

import pytest
from fakes.fingerprints import FRAMES_PER_BLOCK, OnePassEngine
from sage.embed.v1 import embed_pb2, fingerprint_pb2
from sage_runtime.errors import Reason, SageError

PROCESSING = embed_pb2.EMBEDDING_STATE_PROCESSING
COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
FAILED = embed_pb2.EMBEDDING_STATE_FAILED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED


@pytest.fixture
def engine(script) -> OnePassEngine:
    """Return the engine of the server and of the workers in this process."""
    return OnePassEngine(script)


def made(script, kind: str) -> list[int]:
    """Return which blocks were made: `pass` with an embedding, `block` by a job of the fingerprint."""
    return [int(line.split()[1]) for line in script.computed() if line.startswith(kind)]


@pytest.fixture
def four_stored(get) -> Callable[[], Awaitable[bool]]:
    """Return a function that says whether four blocks, and no more, are stored."""

    async def check() -> bool:
        return (await get()).progress.message == "Fingerprinted 4 of 10 s."

    return check


async def test_one_job_makes_both(worker, create, finish, script, read, get, watch_one, expected, until, jobs_left):
    embedding = await create()
    messages = await watch_one()
    done = messages[-1].fingerprint
    assert (done.state, done.frame_count) == (COMPLETED, 10 * FRAMES_PER_BLOCK)
    assert done.progress.message == "Fingerprinted 10 s."
    assert await read() == expected
    assert (await finish(embedding.id)).state == COMPLETED
    assert made(script, "pass") == list(range(10))
    assert made(script, "block") == []
    await until(lambda: jobs_left() == 0)


async def test_both_report_their_progress(worker, create, script, get, until, stored, four_stored, finish):
    script.allow(2)
    embedding = await create()
    await stored(embedding.id, 2)
    await until(four_stored)
    assert (await get()).state == PROCESSING
    script.allow(10)
    assert (await finish(embedding.id)).state == COMPLETED


@pytest.mark.parametrize("withdrawn", [False, True])
async def test_cancelling_the_embedding_keeps_the_stored_blocks(
    worker, create, embed, script, until, four_stored, watch_one, read, expected, withdrawn
):
    script.allow(2)
    request = {"request_id": "mine"} if withdrawn else {}
    embedding = await create(**request)
    await until(four_stored)
    await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=embedding.id, **request))
    script.allow(10)
    assert (await watch_one())[-1].fingerprint.state == COMPLETED
    assert await read() == expected
    # The first four were stored.
    assert made(script, "pass") == [0, 1, 2, 3]
    assert made(script, "block") == [4, 5, 6, 7, 8, 9]


async def test_cancelling_the_fingerprint_keeps_the_embedding(
    worker, create, fingerprints, video, script, until, four_stored, finish, get
):
    script.allow(2)
    embedding = await create()
    await until(four_stored)
    cancel = fingerprint_pb2.CancelFingerprintRequest(video_id=video)
    assert (await fingerprints.CancelFingerprint(cancel)).fingerprint.state == CANCELLED
    script.allow(10)
    assert (await finish(embedding.id)).state == COMPLETED
    assert (await get()).state == CANCELLED


async def test_a_killed_worker_is_replaced_and_both_are_resumed(
    spawn_worker, create, script, until, keys, finish, watch_one, read, expected
):
    script.allow(3)
    first = spawn_worker(SCRIPT_ONE_PASS="1")
    embedding = await create()
    await until(lambda: len(keys()) == 3)
    await until(lambda: "visual 2" in script.computed())
    first.send_signal(signal.SIGKILL)
    first.wait()
    script.allow(10)
    spawn_worker(SCRIPT_ONE_PASS="1")
    assert (await watch_one())[-1].fingerprint.state == COMPLETED
    assert (await finish(embedding.id)).state == COMPLETED
    assert await read() == expected
    assert made(script, "block") == []
    assert sorted(set(made(script, "pass"))) == list(range(10))


async def test_what_fails_in_one_pass_is_done_apart(worker, create, script, engine, finish, watch_one, read, expected):
    engine.failures = {2: [SageError(Reason.PROVIDER_FAILED, provider="The local engine", why="it is large")]}
    embedding = await create()
    assert (await finish(embedding.id)).state == COMPLETED
    assert (await watch_one())[-1].fingerprint.state == COMPLETED
    assert await read() == expected
    assert made(script, "pass") == [0, 1, 2, 3]
    assert made(script, "block") == [4, 5, 6, 7, 8, 9]
    assert [line for line in script.computed() if line.startswith("visual")] == [f"visual {n}" for n in range(5)]


async def test_an_embedding_that_fails_leaves_the_fingerprint_to_its_own_job(
    worker, create, engine, finish, watch_one, read, expected
):
    failure = SageError(Reason.PROVIDER_FAILED, provider="The local engine", why="it stands still")
    engine.failures = {2: [failure, failure]}
    embedding = await create()
    assert (await finish(embedding.id)).state == FAILED
    assert (await watch_one())[-1].fingerprint.state == COMPLETED
    assert await read() == expected
