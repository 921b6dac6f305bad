"""A long fingerprint in parts that several worker processes make, with PostgreSQL and S3."""

import signal
from collections.abc import Callable

import psycopg
import pytest
from fakes.fingerprints import FRAMES_PER_BLOCK
from sage.embed.v1 import embed_pb2, fingerprint_pb2
from sage_embed.config import SCHEMA
from sage_runtime.api import new_id

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
FAILED = embed_pb2.EMBEDDING_STATE_FAILED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED


@pytest.fixture
def video(ingest) -> str:
    """Return a video of 98 s: ten blocks of ten seconds, in two parts."""
    return ingest.add(new_id("video"), duration_seconds=98)


@pytest.fixture
def store(store) -> dict[str, str]:
    """Return settings with which workers run one job each, and split the video."""
    return {
        **store,
        "SAGE_WORKER_CONCURRENCY": "1",
        "SAGE_FINGERPRINT_PART_SECONDS": "60",
        "SCRIPT_BLOCK_SECONDS": "10",
        # Long enough for a busy machine: a test counts what is made twice.
        "SAGE_WORKER_LOST_AFTER_SECONDS": "5",
    }


@pytest.fixture
def next_blocks(database_url, video) -> Callable[[], list[int]]:
    """Return a function that returns which block each part stores next."""

    def find() -> list[int]:
        query = "SELECT next_block FROM fingerprint_parts WHERE fingerprint_id = %s ORDER BY end_block"
        with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
            return [row[0] for row in connection.execute(query, (video,))]

    return find


@pytest.fixture
def blocks(script) -> Callable[[], list[int]]:
    """Return a function that returns which blocks were made."""
    return lambda: [int(line.split()[1]) for line in script.computed()]


@pytest.fixture
def two_at_work(spawn_worker, request_one, script, until, next_blocks) -> Callable:
    """Return a function that returns two workers, each of which has a part; the second one has the second part."""

    async def start() -> list:
        script.allow(0)
        await request_one()
        first = spawn_worker()
        await until(lambda: len(next_blocks()) == 2)
        second = spawn_worker()
        return [first, second]

    return start


@pytest.fixture
def running(database_url, until) -> Callable:
    """Return a function that waits until workers run so many jobs."""

    async def wait(count: int) -> None:
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"

        def found() -> bool:
            with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
                return connection.execute(query).fetchone() == (count,)

        await until(found)

    return wait


async def test_two_workers_share_the_parts_and_the_bytes_are_those_of_one(
    two_at_work, running, script, watch_one, read, expected, blocks, jobs_left, until, get
):
    await two_at_work()
    await running(2)
    script.allow(10)
    messages = await watch_one()
    done = messages[-1].fingerprint
    assert (done.state, done.frame_count) == (COMPLETED, 10 * FRAMES_PER_BLOCK)
    assert done.progress.message == "Fingerprinted 98 s."
    assert await read() == expected
    assert sorted(blocks()) == list(range(10))
    fractions = [message.fingerprint.progress.fraction for message in messages if message.HasField("fingerprint")]
    assert fractions == sorted(fractions)
    await until(lambda: jobs_left() == 0)


async def test_one_worker_makes_the_parts_one_after_the_other(
    spawn_worker, request_one, watch_one, read, expected, blocks
):
    await request_one()
    spawn_worker()
    assert (await watch_one())[-1].fingerprint.state == COMPLETED
    assert blocks() == list(range(10))
    assert await read() == expected


async def test_the_part_of_a_killed_worker_is_resumed_by_the_other(
    two_at_work, running, script, until, next_blocks, blocks, watch_one, read, expected
):
    _, second = await two_at_work()
    await running(2)
    # The first part is complete, and the second one lacks three blocks.
    script.allow(8)
    await until(lambda: next_blocks() == [7] and 7 in blocks())
    second.send_signal(signal.SIGKILL)
    second.wait()
    script.allow(10)
    done = (await watch_one())[-1].fingerprint
    assert (done.state, done.frame_count) == (COMPLETED, 10 * FRAMES_PER_BLOCK)
    assert await read() == expected
    # Only what was not stored is made again.
    assert sorted(blocks()) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9]


@pytest.mark.parametrize("method", ["cancel", "delete"])
async def test_cancelling_or_deleting_stops_all_parts(
    two_at_work,
    running,
    script,
    fingerprints,
    video,
    jobs_left,
    until,
    next_blocks,
    request_one,
    watch_one,
    read,
    expected,
    method,
):
    await two_at_work()
    await running(2)
    script.allow(7)
    await until(lambda: next_blocks() == [5 + 2])
    if method == "cancel":
        request = fingerprint_pb2.CancelFingerprintRequest(video_id=video)
        assert (await fingerprints.CancelFingerprint(request)).fingerprint.state == CANCELLED
    else:
        await fingerprints.DeleteFingerprint(fingerprint_pb2.DeleteFingerprintRequest(video_id=video))
    await until(lambda: jobs_left() == 0)
    assert next_blocks() == []
    # Made again on request.
    script.allow(10)
    await request_one()
    assert (await watch_one())[-1].fingerprint.state == COMPLETED
    assert await read() == expected


async def test_a_video_that_is_deleted_meanwhile_fails_the_whole(
    spawn_worker, request_one, script, until, next_blocks, ingest, video, watch_one, jobs_left
):
    script.allow(2)
    await request_one()
    spawn_worker()
    await until(lambda: next_blocks() == [2, 5])
    del ingest.videos[video]
    spawn_worker()
    failed = (await watch_one())[-1].fingerprint
    assert failed.state == FAILED
    assert video in failed.failure.message
    await until(lambda: jobs_left() == 0)
