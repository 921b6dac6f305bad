"""Wiring of embed's processes: the service, the worker, and the rotation of keys.

`__main__` chooses the engines, so that tests, which pass their own, do not load the TwelveLabs SDK and the local model.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from typing import Any

import structlog
from sage.embed.v1 import api_key_pb2_grpc, embed_pb2_grpc, fingerprint_pb2_grpc
from sage_runtime.client import open_channel
from sage_runtime.errors import SageError, task_group
from sage_runtime.errors.catalogue import public_text
from sage_runtime.postgres import Pool, open_pool, ping
from sage_runtime.process.settings import fail
from sage_runtime.process.startup import freeze_loaded_objects, stop_on_signals
from sage_runtime.process.telemetry import configure_logging, tracing
from sage_runtime.server import ServiceRegistration, StartError, running_server, serve

from sage_embed.config import SCHEMA, ApiSettings, DatabaseSettings, EmbedSettings, WorkerSettings
from sage_embed.embeddings.changes import PostgresChangeFeed
from sage_embed.embeddings.postgres import PostgresEmbeddingRepository
from sage_embed.embeddings.videos import IngestVideoCatalog
from sage_embed.embeddings.watch import WatchTimes
from sage_embed.embeddings.watch_leases import WatchLeases
from sage_embed.engines.engine import Engine, Engines
from sage_embed.fingerprints.ports import FingerprintMaker
from sage_embed.fingerprints.postgres import PostgresFingerprintRepository, PostgresFingerprintSweep
from sage_embed.fingerprints.postgres_work import PostgresFingerprintWork
from sage_embed.fingerprints.run import FingerprintRunner
from sage_embed.fingerprints.storage import S3FingerprintObjects
from sage_embed.fingerprints.sweep import Sweeper
from sage_embed.jobs.postgres import PostgresWorkRepository
from sage_embed.jobs.queue import (
    EMBED,
    FINGERPRINT,
    FIRST_TURN_QUEUES,
    LOCAL_QUEUES,
    REMOTE_QUEUES,
    Actions,
    JobQueue,
    QueueWorker,
    Task,
    quiet_queue,
)
from sage_embed.jobs.run import Runner, lost_message
from sage_embed.jobs.runner import JobRunner, recover_forever
from sage_embed.keys.model import KeyChecker, ProviderKeys
from sage_embed.keys.postgres import open_keys
from sage_embed.servicer import (
    API_KEY_SERVICE_NAME,
    FINGERPRINT_SERVICE_NAME,
    SERVICE_NAME,
    ApiKeyServicer,
    EmbedServicer,
    FingerprintServicer,
)

log = structlog.get_logger()

# The service name in the worker's health service. The worker serves no other calls.
_WORKER_HEALTH_NAME = "sage.embed.worker"
_MAX_MESSAGE_BYTES = 8192


# Returns the engines, the preferred one first, given connections to the database and the providers' keys.
MakeEngines = Callable[[Pool, EmbedSettings, ProviderKeys], Sequence[Engine]]


async def run_api(settings: ApiSettings, make_engines: MakeEngines, checker: KeyChecker) -> None:
    """Serve until SIGTERM or SIGINT."""
    if settings.log_level != "debug":
        quiet_queue()
    try:
        async with api_services(settings, make_engines, checker) as services:
            await serve(service_name="embed", settings=settings, services=services)
    except StartError as error:
        fail(str(error))


@asynccontextmanager
async def api_services(
    settings: ApiSettings, make_engines: MakeEngines, checker: KeyChecker
) -> AsyncIterator[list[ServiceRegistration]]:
    """Yield the gRPC services, and free their resources afterwards.

    Raises:
        StartError: The key-encryption keys of the settings cannot be used.
    """
    dsn = settings.database_url.get_secret_value()
    feed = PostgresChangeFeed(dsn, max_subscriptions=settings.max_watches)
    async with (
        AsyncExitStack() as stack,
        await open_pool(dsn, schema=SCHEMA, max_size=settings.database_connections) as pool,
        open_channel(settings.ingest_address) as channel,
    ):
        objects = S3FingerprintObjects.open(settings)
        stack.enter_context(closing(objects))
        api_keys, current_key = open_keys(pool, settings)
        videos = IngestVideoCatalog(channel, url_validity_s=settings.url_validity_s)
        watch_times = WatchTimes(heartbeat_s=settings.heartbeat_s, poll_s=settings.watch_poll_s)
        repository = PostgresEmbeddingRepository(pool, JobQueue())
        fingerprint_repository = PostgresFingerprintRepository(pool, JobQueue())
        leases = WatchLeases(repository, lease_s=settings.watch_lease_s)
        embeddings = EmbedServicer(
            repository=repository,
            feed=feed,
            leases=leases,
            videos=videos,
            engines=Engines(make_engines(pool, settings, current_key)),
            watch_times=watch_times,
            max_unfinished=settings.max_unfinished,
        )
        fingerprints = FingerprintServicer(
            repository=fingerprint_repository,
            objects=objects,
            feed=feed,
            videos=videos,
            watch_times=watch_times,
            max_unfinished=settings.max_unfinished,
        )
        keys = ApiKeyServicer(repository=api_keys, checker=checker, current=current_key)
        add_embeddings = partial(embed_pb2_grpc.add_EmbedServiceServicer_to_server, embeddings)
        add_fingerprints = partial(fingerprint_pb2_grpc.add_FingerprintServiceServicer_to_server, fingerprints)
        add_keys = partial(api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server, keys)
        async with feed.running(), leases.running():
            yield [
                ServiceRegistration(name=SERVICE_NAME, add=add_embeddings, check=repository.check, drain=feed.close),
                ServiceRegistration(
                    name=FINGERPRINT_SERVICE_NAME,
                    add=add_fingerprints,
                    check=fingerprint_repository.check,
                    # Without the store, everything but the bytes of fingerprints can still be read.
                    partial_checks={f"{FINGERPRINT_SERVICE_NAME}/data": objects.check},
                ),
                ServiceRegistration(name=API_KEY_SERVICE_NAME, add=add_keys, check=repository.check),
            ]


async def run_worker(settings: WorkerSettings, make_engines: MakeEngines, maker: FingerprintMaker) -> None:
    """Work until SIGTERM or SIGINT, then release unfinished work. A second signal ends the process at once."""
    configure_logging("embed-worker", settings.log_level, settings.log_format)
    if settings.log_level != "debug":
        quiet_queue()
    stop = stop_on_signals()
    with tracing("embed-worker", settings.otlp_endpoint):
        try:
            async with running_worker(settings, make_engines, maker):
                freeze_loaded_objects()
                log.info("worker_started", local=settings.concurrency, remote=settings.remote_concurrency)
                await stop.wait()
                log.info("stop_requested", stop_after_s=settings.stop_after_s)
        except StartError as error:
            fail(str(error))
    log.info("worker_stopped")


@asynccontextmanager
async def running_worker(
    settings: WorkerSettings, make_engines: MakeEngines, maker: FingerprintMaker
) -> AsyncIterator[None]:
    """Work while the block runs.

    Raises:
        StartError: The health service cannot listen, or the key-encryption keys of the settings cannot be used.
    """
    async with AsyncExitStack() as stack:
        # A local job writes often, while the queue is polled and heartbeats are sent. Remote jobs mostly wait, so they
        # share the connections.
        pool_size = settings.database_connections + settings.concurrency
        pool = await stack.enter_async_context(
            await open_pool(settings.database_url.get_secret_value(), schema=SCHEMA, max_size=pool_size)
        )
        token = settings.service_token.get_secret_value()
        channel = await stack.enter_async_context(open_channel(settings.ingest_address, token=token))
        objects = S3FingerprintObjects.open(settings)
        stack.enter_context(closing(objects))
        if settings.listen:
            health = ServiceRegistration(
                name=_WORKER_HEALTH_NAME,
                add=None,
                check=partial(ping, pool),
                partial_checks={f"{_WORKER_HEALTH_NAME}/fingerprints": objects.check},
            )
            await stack.enter_async_context(running_server(settings=settings, services=[health]))
        _, current_key = open_keys(pool, settings)
        engines = Engines(make_engines(pool, settings, current_key))
        stack.push_async_callback(engines.aclose)
        videos = IngestVideoCatalog(channel, url_validity_s=settings.url_validity_s)
        repository = PostgresWorkRepository(pool, JobQueue())
        work = PostgresFingerprintWork(pool, JobQueue())
        fingerprints = FingerprintRunner(
            work=work, objects=objects, videos=videos, maker=maker, settings=settings, describe=describe
        )
        embeddings = Runner(
            repository=repository,
            videos=videos,
            engines=engines,
            fingerprints=fingerprints,
            settings=settings,
            describe=describe,
        )
        runners: dict[Task, JobRunner[Any, Any]] = {EMBED: embeddings, FINGERPRINT: fingerprints}
        sweeper = Sweeper(
            sweep=PostgresFingerprintSweep(pool, JobQueue()), objects=objects, videos=videos, settings=settings
        )
        tasks = await stack.enter_async_context(task_group())
        running = [tasks.create_task(worker.work_forever()) for worker in _queue_workers(pool, runners, settings)]
        running += [
            tasks.create_task(recover_forever(repository, settings, lost_message)),
            tasks.create_task(recover_forever(work, settings)),
            tasks.create_task(sweeper.sweep_forever()),
        ]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


def describe(error: SageError) -> str:
    """Return an error's public text for an embedding's failure, which may be longer than the status of a call."""
    return public_text(error, max_bytes=_MAX_MESSAGE_BYTES)


def _queue_workers(
    pool: Pool, runners: Mapping[Task, JobRunner[Any, Any]], settings: WorkerSettings
) -> list[QueueWorker]:
    """Return a worker for each kind of work that this process does."""
    # One place is kept for local work that has not had a turn, so that a short video never waits for long ones.
    kept = int(settings.concurrency > 1)
    kinds = (
        (LOCAL_QUEUES, settings.concurrency - kept, LOCAL_QUEUES),
        (FIRST_TURN_QUEUES, kept, FIRST_TURN_QUEUES),
        (REMOTE_QUEUES, settings.remote_concurrency, ()),
    )
    return [
        QueueWorker(
            pool,
            queues=queues,
            actions={
                task: Actions(run=partial(runner.run, turn_queues=turn_queues), release=runner.release)
                for task, runner in runners.items()
            },
            concurrency=concurrency,
            settings=settings,
        )
        for queues, concurrency, turn_queues in kinds
        if concurrency
    ]


async def rotate_keys(settings: DatabaseSettings) -> None:
    """Encrypt the stored keys under the first key-encryption key."""
    configure_logging("embed-rotate-keys", settings.log_level, settings.log_format)
    dsn = settings.database_url.get_secret_value()
    try:
        async with await open_pool(dsn, schema=SCHEMA, max_size=1) as pool:
            api_keys, _ = open_keys(pool, settings)
            log.info("keys_rotated", count=await api_keys.rotate())
    except StartError as error:
        fail(str(error))
    except SageError as error:
        fail(f"the keys were not rotated: {public_text(error)}")
