"""Takes jobs out of the queue and has them done: procrastinate's worker, started again where the database was away."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.job_context import AbortReason, JobContext
from sage_runtime.context import working_on
from sage_runtime.postgres import Pool

from sage_embed.adapters.queue import TASK

log = structlog.get_logger()

# After the queue could not be used: the database is away, most likely.
_RESTART_AFTER_S = 1.0
# A request to abort is announced at once; this is for an announcement that was lost.
_ABORT_POLL_S = 1.0


@dataclass(frozen=True)
class WorkerTimes:
    """How a worker waits and shows that it lives.

    Attributes:
        poll_s: The queue is asked after so long though no job was announced.
        heartbeat_s: Between two signs of life.
        lost_after_s: Without a sign of life for so long a worker counts as lost.
        stop_after_s: Jobs get so long to end when the worker is to stop; then they are handed back.
    """

    poll_s: float
    heartbeat_s: float
    lost_after_s: float
    stop_after_s: float


class QueueWorker:
    """Works on jobs.

    Args:
        pool: Connections that look in embed's schema; the caller closes it. A job needs one only while it stores
            something, so there may be many more jobs than connections.
        queues: Where the jobs are.
        run: Does the work of an embedding under a job. It is cancelled where the job is to be aborted.
        release: Hands the work back, called after `run` was cancelled because the worker is to stop.
        concurrency: Jobs at once.
        times: How it waits.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        queues: Sequence[str],
        run: Callable[[str, int], Awaitable[None]],
        release: Callable[[str, int], Awaitable[None]],
        concurrency: int,
        times: WorkerTimes,
    ) -> None:
        self._pool = pool
        self._queues = queues
        self._concurrency = concurrency
        self._times = times
        self._app = _app(run, release)

    async def work_forever(self) -> NoReturn:
        """Work until cancelled; then take no more jobs, wait for those that run, and hand back what is not done."""
        async with self._app.open_async(self._pool):
            while True:
                try:
                    await self._app.run_worker_async(
                        queues=list(self._queues),
                        concurrency=self._concurrency,
                        fetch_job_polling_interval=self._times.poll_s,
                        abort_job_polling_interval=_ABORT_POLL_S,
                        shutdown_graceful_timeout=self._times.stop_after_s,
                        delete_jobs="always",
                        install_signal_handlers=False,
                        update_heartbeat_interval=self._times.heartbeat_s,
                        stalled_worker_timeout=self._times.lost_after_s,
                    )
                except Exception as error:
                    log.warning(
                        "queue_lost", error=repr(error), cause=str(error.__cause__), retry_in_s=_RESTART_AFTER_S
                    )
                await asyncio.sleep(_RESTART_AFTER_S)


def _app(run: Callable[[str, int], Awaitable[None]], release: Callable[[str, int], Awaitable[None]]) -> App:
    app = App(connector=PsycopgConnector())

    @app.task(name=TASK, pass_context=True)
    async def embed(context: JobContext, embedding_id: str) -> None:
        job_id = context.job.id
        if job_id is None:
            raise TypeError("a job that was fetched has no id")
        with working_on():
            try:
                await run(embedding_id, job_id)
            except asyncio.CancelledError:
                if context.abort_reason() is AbortReason.SHUTDOWN:
                    await release(embedding_id, job_id)
                raise

    return app
