"""The worker process: jobs from the queue, a look-out for lost workers, and an end that loses nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import NoReturn

import structlog
from sage_runtime.catalogue import public_text
from sage_runtime.channel import open_channel
from sage_runtime.errors import SageError
from sage_runtime.garbage import spare_what_is_loaded
from sage_runtime.logging import configure_logging
from sage_runtime.postgres import Pool, open_pool, ping
from sage_runtime.server import ServiceRegistration, StartError, running_server
from sage_runtime.settings import fail
from sage_runtime.tracing import tracing

from sage_embed.adapters.api_keys import open_keys
from sage_embed.adapters.ingest import IngestVideoCatalog
from sage_embed.adapters.queue import LOCAL_QUEUES, REMOTE_QUEUES, JobQueue, quiet_queue
from sage_embed.adapters.queue_worker import QueueWorker, WorkerTimes
from sage_embed.adapters.work import PostgresWorkStore
from sage_embed.config import SCHEMA, WorkerSettings
from sage_embed.engine import Engine
from sage_embed.engines import Engines
from sage_embed.ports import ProviderKeys
from sage_embed.record import RunPolicy
from sage_embed.recover import recover
from sage_embed.run import Runner

log = structlog.get_logger()

# What the worker's health service answers for: it serves no calls of its own.
_HEALTH_NAME = "sage.embed.worker"
_MAX_MESSAGE_BYTES = 8192


MakeEngines = Callable[[Pool, WorkerSettings, ProviderKeys], Sequence[Engine]]


async def run_worker(settings: WorkerSettings, make_engines: MakeEngines) -> None:
    """Work until SIGTERM or SIGINT, then hand back what is not done. A second signal ends the process at once.

    Args:
        settings: The process's settings.
        make_engines: Returns the engines, the best first, over connections to the database and the keys for providers.
    """
    configure_logging("embed-worker", settings.log_level, settings.log_format)
    if settings.log_level != "debug":
        quiet_queue()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)

    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, on_signal)
    with tracing("embed-worker", settings.otlp_endpoint):
        try:
            async with working(settings, make_engines):
                spare_what_is_loaded()
                log.info("working", local=settings.concurrency, remote=settings.remote_concurrency)
                await stop.wait()
                log.info("stopping", stop_after_s=settings.stop_after_s)
        except StartError as error:
            fail(str(error))
    log.info("ended")


@asynccontextmanager
async def working(settings: WorkerSettings, make_engines: MakeEngines) -> AsyncIterator[None]:
    """Work for the length of the block.

    Raises:
        StartError: The health service cannot be listened on, or the key-encryption keys of the settings cannot be used.
    """
    async with AsyncExitStack() as stack:
        # A local job writes often, while the queue is fetched, beaten and polled. Remote ones mostly wait: they share.
        pool_size = settings.database_connections + settings.concurrency
        pool = await stack.enter_async_context(
            await open_pool(settings.database_url.get_secret_value(), schema=SCHEMA, max_size=pool_size)
        )
        token = settings.service_token.get_secret_value()
        channel = await stack.enter_async_context(open_channel(settings.ingest_address, token=token))
        if settings.listen:
            await stack.enter_async_context(running_server(settings=settings, services=[_health(pool)]))
        _, current_key = open_keys(pool, settings)
        engines = Engines(make_engines(pool, settings, current_key))
        stack.push_async_callback(engines.aclose)
        store = PostgresWorkStore(pool, JobQueue())
        runner = Runner(
            store=store,
            videos=IngestVideoCatalog(channel, url_validity_s=settings.url_validity_s),
            engines=engines,
            policy=RunPolicy(
                max_attempts=settings.max_attempts,
                retry_base_s=settings.retry_base_s,
                retry_max_s=settings.retry_max_s,
            ),
            describe=describe,
        )
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(worker.work_forever()) for worker in _queue_workers(pool, runner, settings)]
            running.append(tasks.create_task(_recover_forever(store, settings)))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()


def describe(error: SageError) -> str:
    """Return what people read of an error: part of an embedding, not the status of a call, so others' words fit."""
    return public_text(error, max_bytes=_MAX_MESSAGE_BYTES)


def _queue_workers(pool: Pool, runner: Runner, settings: WorkerSettings) -> list[QueueWorker]:
    """Return a worker for each kind of work that this process does."""
    times = WorkerTimes(
        poll_s=settings.poll_s,
        heartbeat_s=settings.worker_heartbeat_s,
        lost_after_s=settings.worker_lost_after_s,
        stop_after_s=settings.stop_after_s,
    )
    kinds = ((LOCAL_QUEUES, settings.concurrency), (REMOTE_QUEUES, settings.remote_concurrency))
    return [
        QueueWorker(pool, queues=queues, run=runner.run, release=runner.release, concurrency=concurrency, times=times)
        for queues, concurrency in kinds
        if concurrency
    ]


async def _recover_forever(store: PostgresWorkStore, settings: WorkerSettings) -> NoReturn:
    silent_for = timedelta(seconds=settings.worker_lost_after_s)
    while True:
        try:
            await recover(store=store, silent_for=silent_for, max_attempts=settings.max_attempts)
        except SageError as error:
            log.warning("recovery_failed", detail=error.detail, retry_in_s=settings.sweep_s)
        await asyncio.sleep(settings.sweep_s)


def _health(pool: Pool) -> ServiceRegistration:
    return ServiceRegistration(name=_HEALTH_NAME, add=None, check=partial(ping, pool))
