"""A real server, real workers and PostgreSQL; ingest and the engines are fakes."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO

import grpc
import psycopg
import pytest
from fakes.embed import FakeIngest, Script, ScriptedEngine
from fakes.fingerprints import NoBlocks
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2_grpc
from sage_embed.app import api_services, running_worker
from sage_embed.config import SCHEMA, ApiSettings, WorkerSettings
from sage_embed.engines.twelvelabs.requests import TwelveLabsKeyChecker
from sage_embed.fingerprints.ports import FingerprintMaker
from sage_embed.jobs.queue import migrate_all
from sage_runtime.api import new_id
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import ServiceRegistration, running_server

WORKER_PROCESS = Path(__file__).with_name("worker_process.py")

FAST = {
    "SAGE_WORKER_POLL_SECONDS": "0.1",
    "SAGE_WORKER_HEARTBEAT_SECONDS": "0.2",
    "SAGE_WORKER_LOST_AFTER_SECONDS": "1.5",
    "SAGE_WORKER_SWEEP_SECONDS": "0.2",
    "SAGE_WORKER_STOP_AFTER_SECONDS": "0",
    "SAGE_WORKER_RETRY_BASE_SECONDS": "0.05",
}


@pytest.fixture(scope="session")
def migrated_dsn(make_database) -> str:
    """Return a database with embed's schema."""
    dsn = make_database()
    migrate_all(dsn, schema=SCHEMA)
    return dsn


@pytest.fixture
def database_url(migrated_dsn) -> str:
    """Return a database with embed's empty schema."""
    with psycopg.connect(migrated_dsn, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute(
            "TRUNCATE embeddings, fingerprints, fingerprint_objects, procrastinate_jobs, procrastinate_workers CASCADE"
        )
    return migrated_dsn


@pytest.fixture
async def ingest() -> AsyncIterator[FakeIngest]:
    """Return a running fake of ingest; it listens on `address`."""
    servicer = FakeIngest()
    add = partial(ingest_pb2_grpc.add_IngestServiceServicer_to_server, servicer)

    async def check() -> None:
        return

    registration = ServiceRegistration(name="sage.ingest.v1.IngestService", add=add, check=check)
    async with running_server(settings=ServerSettings(grace_s=0), services=[registration]) as server:
        servicer.address = server.address
        yield servicer


@pytest.fixture
def video(ingest) -> str:
    """Return a video of 9.5 s: five clips of 2 s, the last one shorter."""
    return ingest.add(new_id("video"), duration_seconds=9.5)


@pytest.fixture
def script(tmp_path) -> Script:
    """Return the script that steers the engines of every worker."""
    return Script(tmp_path)


@pytest.fixture
def engine(script) -> ScriptedEngine:
    """Return the engine of the server and of the workers in this process."""
    return ScriptedEngine(script)


@pytest.fixture
def make_engines(engine) -> Callable:
    """Return a factory of the engines of the server and of the workers in this process."""
    return lambda pool, settings, keys: [engine]


@pytest.fixture
def maker() -> FingerprintMaker:
    """Return the maker of the workers in this process. Fingerprints without blocks need no store."""
    return NoBlocks()


@pytest.fixture
def store() -> dict[str, str]:
    """Return the settings of the store of fingerprints, by name of the environment variable. There is no such store."""
    return {"S3_BUCKET_NAME": "none", "S3_ENDPOINT_URL": "http://127.0.0.1:9"}


@pytest.fixture
def start_replica(database_url, ingest, make_engines, store) -> Callable[..., AbstractAsyncContextManager[str]]:
    """Return a function that starts a replica of the service with settings and yields its address."""

    @asynccontextmanager
    async def start(**changes: object) -> AsyncIterator[str]:
        settings = ApiSettings(
            **{
                "listen": "127.0.0.1:0",
                "database_url": database_url,
                "ingest_address": ingest.address,
                "grace_s": 0,
                "database_connections": 4,
                "watch_poll_s": 30,
                **store,
                **changes,
            }
        )
        async with (
            api_services(settings, make_engines, TwelveLabsKeyChecker()) as services,
            running_server(settings=settings, services=services) as server,
        ):
            yield server.address

    return start


@pytest.fixture
def start_api(start_replica) -> Callable[..., AbstractAsyncContextManager]:
    """Return a function that starts a replica of the service with settings and yields a stub."""

    @asynccontextmanager
    async def start(**changes: object) -> AsyncIterator[embed_pb2_grpc.EmbedServiceStub]:
        # The channel outlives the server, so that a test sees how a stopping server ends calls.
        async with AsyncExitStack() as stack, start_replica(**changes) as address:
            channel = grpc.aio.insecure_channel(address)
            stack.push_async_callback(channel.close, 5.0)
            yield embed_pb2_grpc.EmbedServiceStub(channel)

    return start


@pytest.fixture
async def embed(start_api) -> AsyncIterator[embed_pb2_grpc.EmbedServiceStub]:
    """Return a stub of a running service."""
    async with start_api() as stub:
        yield stub


@pytest.fixture
def start_worker(database_url, ingest, make_engines, maker, store) -> Callable[..., AbstractAsyncContextManager]:
    """Return a function that starts a worker with settings in this process."""

    def start(**changes: object) -> AbstractAsyncContextManager:
        settings = WorkerSettings(
            **{
                "database_url": database_url,
                "ingest_address": ingest.address,
                "poll_s": 0.1,
                "worker_heartbeat_s": 0.2,
                "worker_lost_after_s": 1.5,
                "sweep_s": 0.2,
                "stop_after_s": 0,
                "retry_base_s": 0.05,
                **store,
                **changes,
            }
        )
        return running_worker(settings, make_engines, maker)

    return start


@pytest.fixture
async def worker(start_worker) -> AsyncIterator[None]:
    """Run a worker in this process during the test."""
    async with start_worker():
        yield


@pytest.fixture
def worker_command(tmp_path) -> list[str]:
    """Return the command that starts a worker process."""
    return [sys.executable, str(WORKER_PROCESS), str(tmp_path)]


@pytest.fixture
def spawn(database_url, ingest, store) -> Iterator[Callable[..., subprocess.Popen]]:
    """Return a function that starts a process of embed with environment variables; `output` is a file for its logs."""
    processes: list[subprocess.Popen] = []

    def start(command: Sequence[str], *, output: IO[bytes] | None = None, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            command,
            env={
                **os.environ,
                **FAST,
                **store,
                "SAGE_DATABASE_URL": database_url,
                "SAGE_INGEST_ADDRESS": ingest.address,
                "PYTHONPATH": str(WORKER_PROCESS.parents[2]),
                **environment,
            },
            stdout=output,
            stderr=output,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def spawn_worker(spawn, worker_command) -> Callable[..., subprocess.Popen]:
    """Return a function that starts a worker process; its arguments are those of `spawn`."""
    return partial(spawn, worker_command)


@pytest.fixture
def create(embed, video) -> Callable:
    """Return a function that creates a new embedding of the video; keyword arguments are fields of the request.

    Requests are forced, so that each call makes another embedding of the video. `force=False` permits reuse.
    """

    async def call(**fields: object) -> embed_pb2.Embedding:
        request = embed_pb2.CreateEmbeddingRequest(**{"video_id": video, "force": True, **fields})
        return (await embed.CreateEmbedding(request)).embedding

    return call


@pytest.fixture
def watch(embed) -> Callable:
    """Return a function that watches an embedding until it is finished and returns every message."""

    async def call(embedding_id: str) -> list[embed_pb2.WatchEmbeddingResponse]:
        request = embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id)
        return [message async for message in embed.WatchEmbedding(request, timeout=60)]

    return call


@pytest.fixture
def finish(watch) -> Callable:
    """Return a function that watches an embedding until it is finished and returns it."""

    async def call(embedding_id: str) -> embed_pb2.Embedding:
        return (await watch(embedding_id))[-1].embedding

    return call


@pytest.fixture
def until() -> Callable:
    """Return a function that waits until a condition holds."""

    async def wait(condition: Callable[[], object], *, timeout_s: float = 60.0) -> None:
        async with asyncio.timeout(timeout_s):
            while True:
                result = condition()
                if await result if inspect.isawaitable(result) else result:
                    return
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def stored(embed, until) -> Callable:
    """Return a function that waits until `count` segments are stored: an engine notes a segment before it yields it."""

    async def wait(embedding_id: str, count: int) -> None:
        async def there() -> bool:
            request = embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id)
            return (await embed.GetEmbedding(request)).embedding.tracks[0].segment_count >= count

        await until(there)

    return wait


@pytest.fixture
def serving() -> Callable:
    """Return a function that waits until the server behind a channel is SERVING."""

    async def wait(channel: grpc.aio.Channel) -> None:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60
        )
        # It may be NOT_SERVING first, until it has reached its database.
        while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
            pass
        watch.cancel()

    return wait


@pytest.fixture
def jobs_left(database_url) -> Callable[[], int]:
    """Return a function that counts the jobs in the queue."""

    def count() -> int:
        with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
            row = connection.execute("SELECT count(*) FROM procrastinate_jobs").fetchone()
        return row[0] if row else 0

    return count
