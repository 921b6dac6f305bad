"""Workers: temporary and permanent errors, and workers that die during a job."""

import asyncio
import signal
import subprocess
from collections.abc import Callable

import grpc
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sage.embed.v1 import embed_pb2
from sage.errors.v1 import error_reason_pb2
from sage_local.ports import free_port
from sage_runtime.errors import Reason, SageError
from support.cuttable_proxy import CuttableProxy

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
FAILED = embed_pb2.EMBEDDING_STATE_FAILED
PROCESSING = embed_pb2.EMBEDDING_STATE_PROCESSING

ALL = [f"visual {index}" for index in range(5)]


def unreachable() -> SageError:
    """Return a retryable error."""
    return SageError(Reason.PROVIDER_UNREACHABLE, provider="Scripted")


async def test_retryable_errors_cost_no_segment(worker, create, finish, engine, script):
    engine.failures = {2: [unreachable(), SageError(Reason.STORE_UNAVAILABLE, store="store")], 4: [unreachable()]}
    done = await finish((await create()).id)
    assert done.state == COMPLETED
    assert script.computed() == ALL


async def test_a_retry_is_announced_with_reason_and_delay(create, start_worker, engine, watch):
    engine.failures = {0: [unreachable()]}
    embedding_id = (await create()).id
    async with start_worker(retry_base_s=1):
        messages = [message.embedding.progress.message for message in await watch(embedding_id)]
    assert "Scripted cannot be reached. SAGE tries again in 1 s." in messages


async def test_a_persistent_error_fails_after_the_last_attempt(create, start_worker, finish, engine):
    engine.failures = {1: [unreachable() for _ in range(9)]}
    embedding_id = (await create()).id
    async with start_worker(max_attempts=3):
        failed = await finish(embedding_id)
    assert failed.state == FAILED
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_PROVIDER_UNREACHABLE
    assert failed.failure.message == "Scripted cannot be reached. Try again."
    assert len(engine.urls) == 3


async def test_a_permanent_error_fails_at_once(worker, create, finish, engine):
    engine.failures = {1: [SageError(Reason.PROVIDER_REJECTED_VIDEO, provider="Scripted", why="it is too dark")]}
    failed = await finish((await create()).id)
    assert failed.state == FAILED
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_PROVIDER_REJECTED_VIDEO
    assert failed.failure.message == "Scripted does not accept this video: it is too dark."
    assert failed.HasField("finish_time")
    assert len(engine.urls) == 1


async def test_a_crash_of_the_engine_reveals_no_internal_details(worker, create, finish, engine):
    engine.failures = {1: [RuntimeError("the secret is 42")]}
    failed = await finish((await create()).id)
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_INTERNAL
    assert "secret" not in failed.failure.message
    assert failed.id in failed.failure.message


async def test_deleting_the_video_fails_the_embedding(create, start_worker, finish, ingest, video):
    embedding_id = (await create()).id
    del ingest.videos[video]
    async with start_worker():
        failed = await finish(embedding_id)
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_VIDEO_NOT_FOUND
    assert video in failed.failure.message


async def test_a_new_worker_resumes_the_job_of_a_killed_one(spawn_worker, create, finish, script, until, stored):
    script.allow(3)
    victim = spawn_worker()
    embedding_id = (await create()).id
    await until(lambda: "visual 2" in script.computed())
    await stored(embedding_id, 3)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    script.allow(5)
    spawn_worker()
    done = await finish(embedding_id)
    assert done.state == COMPLETED
    assert done.tracks[0].segment_count == 5
    assert script.computed() == ALL


async def test_a_running_worker_takes_over_the_job_of_a_killed_one(
    spawn_worker, create, finish, script, until, stored, serving
):
    script.allow(2)
    victim = spawn_worker()
    embedding_id = (await create()).id
    await until(lambda: "visual 1" in script.computed())
    await stored(embedding_id, 2)
    address = f"127.0.0.1:{free_port()}"
    spawn_worker(SAGE_WORKER_LISTEN=address)
    # It has swept once while the victim was alive, and must do so again.
    async with grpc.aio.insecure_channel(address) as channel:
        await serving(channel)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    script.allow(5)
    async with asyncio.timeout(15):
        assert (await finish(embedding_id)).state == COMPLETED
    assert script.computed() == ALL


async def test_a_stopped_worker_releases_its_job_at_once(
    spawn_worker, create, finish, script, until, stored, database_url
):

    def listening() -> int:
        with psycopg.connect(database_url) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idle' AND query LIKE 'LISTEN%'"
            row = connection.execute(query).fetchone()
        return row[0] if row else 0

    script.allow(2)
    # For ten minutes no worker is declared lost and none polls: the job must be handed over.
    slow = {
        "SAGE_WORKER_LOST_AFTER_SECONDS": "600",
        "SAGE_WORKER_SWEEP_SECONDS": "600",
        "SAGE_WORKER_POLL_SECONDS": "60",
    }
    first = spawn_worker(**slow)
    embedding_id = (await create()).id
    await until(lambda: "visual 1" in script.computed())
    await stored(embedding_id, 2)
    spawn_worker(**slow, PGAPPNAME="idle")
    # One for each kind of work: any local, local without a turn, and remote.
    await until(lambda: listening() == 3)
    first.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.wait, 10) == 0
    script.allow(5)
    async with asyncio.timeout(15):
        assert (await finish(embedding_id)).state == COMPLETED
    assert script.computed() == ALL


async def test_a_providers_task_is_resumed_and_never_started_twice(spawn_worker, create, finish, script, until):
    script.allow(1)
    victim = spawn_worker(SCRIPT_TASK_ID="task-1")
    embedding_id = (await create()).id
    await until(lambda: "visual 0" in script.computed())
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    script.allow(5)
    spawn_worker(SCRIPT_TASK_ID="task-2")
    done = await finish(embedding_id)
    assert done.provider_task_id == "task-1"
    assert script.computed().count("task task-1") == 1
    assert "task task-2" not in script.computed()


async def test_work_that_kills_workers_fails_eventually(create, start_worker, finish, database_url):
    embedding_id = (await create()).id
    async with start_worker(max_attempts=1):
        with psycopg.connect(database_url, options="-c search_path=embed") as connection:
            # As a dead worker leaves it: fetched, by no live worker.
            connection.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL")
            connection.execute("UPDATE embeddings SET state = 'PROCESSING', start_time = now()")
        failed = await finish(embedding_id)
    assert failed.state == FAILED
    assert failed.failure.message == "The worker was lost while it worked on this video, 1 times in a row."


async def test_a_worker_survives_the_loss_of_its_database_connections(
    create, start_worker, finish, script, until, database_url
):
    script.allow(2)
    async with start_worker():
        embedding_id = (await create()).id
        await until(lambda: "visual 1" in script.computed())
        with psycopg.connect(database_url, autocommit=True) as connection:
            # Waits until they are gone: otherwise this connection's next call could still reach one of them.
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        script.allow(5)
        async with asyncio.timeout(30):
            assert (await finish(embedding_id)).state == COMPLETED
    assert set(script.computed()) == set(ALL)


@pytest.mark.parametrize("busy", [True, False])
async def test_a_worker_that_is_stopped_while_the_database_is_away_ends(
    spawn_worker, create, script, until, stored, database_url, busy
):
    parts = conninfo_to_dict(database_url)
    async with CuttableProxy(f"{parts['host']}:{parts['port']}").running() as proxy:
        script.allow(2 if busy else 5)
        worker = spawn_worker(SAGE_DATABASE_URL=make_conninfo(database_url, host="127.0.0.1", port=proxy.port))
        await stored((await create()).id, 2 if busy else 5)
        proxy.go_away()
        worker.send_signal(signal.SIGTERM)
        await until(lambda: worker.poll() is not None)
        assert worker.returncode == 0


async def test_a_worker_serves_health_if_configured(spawn_worker, serving):
    address = f"127.0.0.1:{free_port()}"
    spawn_worker(SAGE_WORKER_LISTEN=address)
    async with grpc.aio.insecure_channel(address) as channel:
        await serving(channel)


@pytest.fixture
def freeze(database_url, until) -> Callable:
    """Return a function that suspends a process outside of any transaction, whose locks would block other workers."""

    def transactions() -> int:
        with psycopg.connect(database_url) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mortal' AND xact_start IS NOT NULL"
            row = connection.execute(query).fetchone()
        return row[0] if row else 0

    async def stop(process: subprocess.Popen) -> None:
        while True:
            process.send_signal(signal.SIGSTOP)
            try:
                # Statements that it has sent finish soon; a transaction that it has started remains open.
                await until(lambda: not transactions(), timeout_s=1)
            except TimeoutError:
                process.send_signal(signal.SIGCONT)
            else:
                return

    return stop


async def test_a_suspended_worker_writes_nothing_after_it_was_replaced(
    spawn_worker, freeze, create, finish, script, until, stored, database_url
):
    script.allow(2)
    zombie = spawn_worker(PGAPPNAME="mortal")
    embedding_id = (await create()).id
    await until(lambda: "visual 1" in script.computed())
    await stored(embedding_id, 2)
    await freeze(zombie)
    successor = spawn_worker()
    script.allow(5)
    done = await finish(embedding_id)
    assert done.state == COMPLETED
    with psycopg.connect(database_url, options="-c search_path=embed") as connection:
        # As a third worker would when it starts.
        connection.execute("DELETE FROM procrastinate_workers WHERE last_heartbeat < now() - interval '1.5 s'")
    zombie.send_signal(signal.SIGCONT)
    # It was suspended at the gate, so it computes the segment that it was about to.
    await until(lambda: script.computed().count("visual 2") == 2)
    successor.send_signal(signal.SIGKILL)
    successor.wait()
    assert (await finish((await create()).id)).state == COMPLETED
    assert await finish(embedding_id) == done
    # It noticed when it stored the first segment, and stopped.
    assert script.computed().count("visual 3") == 2
