"""Working on jobs, and recovering the work of lost workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NoReturn

import structlog
from sage_runtime.errors import Reason, SageError, task_group
from sage_runtime.postgres import Pool

from sage_embed.config import WorkerSettings
from sage_embed.embeddings.model import Failure, WorkLostError
from sage_embed.embeddings.ports import WorkRepository
from sage_embed.jobs.queue import LOCAL_QUEUES, REMOTE_QUEUES, QueueWorker
from sage_embed.jobs.run import Runner

log = structlog.get_logger()

# Embeddings per sweep. The rest are left to the next one.
_BATCH = 100


@asynccontextmanager
async def working(
    pool: Pool, *, runner: Runner, repository: WorkRepository, settings: WorkerSettings
) -> AsyncIterator[None]:
    """Fetch jobs, run them and sweep for lost workers while the block runs; then release unfinished work."""
    async with task_group() as tasks:
        running = [tasks.create_task(worker.work_forever()) for worker in _queue_workers(pool, runner, settings)]
        running.append(tasks.create_task(_recover_forever(repository, settings)))
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def recover(*, repository: WorkRepository, silent_for: timedelta, max_attempts: int) -> int:
    """Requeue unfinished embeddings whose worker was lost, and return how many there were.

    Safe to run in any number of processes concurrently: each embedding is requeued once.

    Args:
        repository: The embeddings.
        silent_for: A worker without a heartbeat for this long is lost.
        max_attempts: Failed runs in a row after which the embedding fails: it may be what crashes the workers.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    lost = await repository.lost(silent_for=silent_for, limit=_BATCH)
    for embedding, job_id in lost:
        log.warning("worker_lost", embedding_id=embedding.id, job_id=job_id, attempts=embedding.attempts)
        try:
            if embedding.attempts + 1 >= max_attempts:
                message = f"The worker was lost while it worked on this video, {max_attempts} times in a row."
                await repository.fail(embedding.id, job_id, Failure(Reason.INTERNAL, message))
            else:
                await repository.requeue(
                    embedding.id,
                    job_id,
                    delay=timedelta(0),
                    message="The worker was lost; another one will continue.",
                    counts_as_attempt=True,
                )
        except WorkLostError:
            # Another process has recovered it.
            continue
    await repository.drop_dead_jobs(silent_for=silent_for)
    return len(lost)


def _queue_workers(pool: Pool, runner: Runner, settings: WorkerSettings) -> list[QueueWorker]:
    """Return a worker for each kind of work that this process does."""
    kinds = ((LOCAL_QUEUES, settings.concurrency), (REMOTE_QUEUES, settings.remote_concurrency))
    return [
        QueueWorker(
            pool, queues=queues, run=runner.run, release=runner.release, concurrency=concurrency, settings=settings
        )
        for queues, concurrency in kinds
        if concurrency
    ]


async def _recover_forever(repository: WorkRepository, settings: WorkerSettings) -> NoReturn:
    silent_for = timedelta(seconds=settings.worker_lost_after_s)
    while True:
        try:
            await recover(repository=repository, silent_for=silent_for, max_attempts=settings.max_attempts)
        except SageError as error:
            log.warning("recovery_failed", detail=error.detail, retry_in_s=settings.sweep_s)
        await asyncio.sleep(settings.sweep_s)
