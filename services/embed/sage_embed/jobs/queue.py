"""The job queue: procrastinate, whose tables are in embed's schema.

Source of what is relied on: `sql/schema.sql` of procrastinate 3.10. Inserting a job notifies the workers; setting a job
back to `todo` does not. So work that another worker should continue gets a new job. Its ID is also the new fencing
token, which locks out the previous worker.

Each kind of work has a queue. A job of the local engine keeps a processor busy, so a worker runs one or two at a time;
a provider's job mostly waits, so a worker runs a hundred. In a single queue each kind would block the other. Local work
that has stored results, and so has had a turn (`sage_embed.jobs.turn`), waits in a third queue. Fingerprints are local
work, too; they have separate queues because workers of earlier versions do not know them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import NoReturn

import psycopg
import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.schema import SchemaManager
from psycopg import sql
from psycopg.rows import DictRow
from sage_runtime.context import working_on
from sage_runtime.postgres import Pool, migrate

from sage_embed.config import WorkerSettings
from sage_embed.embeddings.model import LOCAL_PROVIDER

log = structlog.get_logger()

Connection = psycopg.AsyncConnection[DictRow]
# Acts on a record, such as an embedding, under a job.
JobAction = Callable[[str, int], Awaitable[None]]


@dataclass(frozen=True)
class Task:
    """A kind of work.

    Attributes:
        name: Its name in the queue.
        argument: The name of the argument that has the record's ID.
    """

    name: str
    argument: str


EMBED = Task("embed", "embedding_id")
FINGERPRINT = Task("fingerprint", "video_id")


@dataclass(frozen=True)
class Actions:
    """How a worker does one kind of work.

    Attributes:
        run: Does the work. It is cancelled if the job is to be aborted.
        release: Returns the work to the queue, called after `run` was cancelled because the worker is stopping.
    """

    run: JobAction
    release: JobAction


# Version 0.1 had only the queue `embed`, for the local engine. A worker of that version that stops during an upgrade
# returns its work to that queue.
FIRST_TURN_QUEUES = ("local", "embed", "fingerprint")
_LATER_TURNS_QUEUES = ("local-later", "fingerprint-later")
LOCAL_QUEUES = (*FIRST_TURN_QUEUES, *_LATER_TURNS_QUEUES)
REMOTE_QUEUES = ("remote",)

# Delay after an error of the queue, most likely because the database is unavailable.
_RESTART_AFTER_S = 1.0
# Abort requests are announced at once; this is for lost announcements.
_ABORT_POLL_S = 1.0


def quiet_queue() -> None:
    """Keep procrastinate's own entries about jobs out of the log, which reports jobs as events of what they work on."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)


def queue_of(provider: str, *, begun: bool = False) -> str:
    """Return the name of the queue for a provider's work; `begun` if segments are stored."""
    if provider != LOCAL_PROVIDER:
        return REMOTE_QUEUES[0]
    return "local-later" if begun else "local"


def fingerprint_queue_of(*, begun: bool = False) -> str:
    """Return the name of the queue for a fingerprint; `begun` if blocks are stored."""
    return "fingerprint-later" if begun else "fingerprint"


class JobQueue:
    """Adds jobs to the queue and removes them, in the caller's transaction."""

    def __init__(self) -> None:
        # Every method runs on the caller's connection, so the connector is never opened.
        self._app = App(connector=PsycopgConnector())

    async def put(
        self,
        connection: Connection,
        task: Task,
        record_id: str,
        *,
        queue: str,
        delay: timedelta = timedelta(0),
    ) -> int:
        """Queue work on a record, and return the job's ID.

        The delay is added to PostgreSQL's time, with which procrastinate compares it.
        """
        schedule_at = None
        if delay:
            row = await (await connection.execute("SELECT now() + %s AS at", (delay,))).fetchone()
            schedule_at = None if row is None else row["at"]
        deferrer = self._app.configure_task(
            task.name,
            queue=queue,
            connection=connection,
            schedule_at=schedule_at,
        )
        with _psycopg_errors():
            return await deferrer.defer_async(**{task.argument: record_id})

    async def drop(self, connection: Connection, job_id: int) -> None:
        """Remove a job from the queue; if a worker is running it, that worker is told to abort."""
        with _psycopg_errors():
            await self._app.job_manager.cancel_job_by_id_async(
                job_id, abort=True, delete_job=True, connection=connection
            )


class QueueWorker:
    """Fetches jobs from queues and runs them: procrastinate's worker, restarted after the database was unavailable.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it. A job holds one only while it
            stores something, so there may be many more jobs than connections.
        queues: The queues.
        actions: How each kind of work is done.
        concurrency: Maximum number of concurrent jobs.
        settings: Of the worker.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        queues: Sequence[str],
        actions: Mapping[Task, Actions],
        concurrency: int,
        settings: WorkerSettings,
    ) -> None:
        self._pool = pool
        self._queues = queues
        self._concurrency = concurrency
        self._settings = settings
        self._app = _make_app(actions)

    async def work_forever(self) -> NoReturn:
        """Work until cancelled; then fetch no more jobs, wait for the running ones, and release unfinished work."""
        settings = self._settings
        async with self._app.open_async(self._pool):
            while True:
                try:
                    await self._app.run_worker_async(
                        queues=list(self._queues),
                        concurrency=self._concurrency,
                        fetch_job_polling_interval=settings.poll_s,
                        abort_job_polling_interval=_ABORT_POLL_S,
                        shutdown_graceful_timeout=settings.stop_after_s,
                        delete_jobs="always",
                        install_signal_handlers=False,
                        update_heartbeat_interval=settings.worker_heartbeat_s,
                        stalled_worker_timeout=settings.worker_lost_after_s,
                    )
                except Exception as error:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        # Raised in place of the cancellation, because the worker could not sign off from the queue.
                        log.warning("queue_left_without_notice", error=repr(error), cause=str(error.__cause__))
                        raise asyncio.CancelledError from error
                    log.warning(
                        "queue_lost", error=repr(error), cause=str(error.__cause__), retry_in_s=_RESTART_AFTER_S
                    )
                await asyncio.sleep(_RESTART_AFTER_S)


def _make_app(actions: Mapping[Task, Actions]) -> App:
    app = App(connector=PsycopgConnector())
    for task, one in actions.items():
        _register(app, task, one)
    return app


def _register(app: App, task: Task, actions: Actions) -> None:
    @app.task(name=task.name, pass_context=True)
    async def work(context: JobContext, /, **arguments: str) -> None:
        job_id, record_id = context.job.id, arguments[task.argument]
        if job_id is None:
            raise TypeError("procrastinate fetched a job without an ID")
        with working_on():
            try:
                await actions.run(record_id, job_id)
            except asyncio.CancelledError:
                if context.abort_reason() is AbortReason.SHUTDOWN:
                    await actions.release(record_id, job_id)
                raise


@contextmanager
def _psycopg_errors() -> Iterator[None]:
    """Raise psycopg's error instead of procrastinate's: callers handle psycopg's, since the transaction is theirs."""
    try:
        yield
    except ConnectorException as error:
        raise error.__cause__ or error from error


log = structlog.get_logger()


def migrate_all(dsn: str, *, schema: str) -> None:
    """Bring the tables of embed and of the job queue up to date. Safe to repeat and to run concurrently.

    Raises:
        MigrationError: The database does not match this release.
        psycopg.Error: The database cannot be reached, or a migration failed; earlier ones stay applied.
    """
    migrate(dsn, schema=schema, migrations=resources.files("sage_embed") / "migrations")
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('sage.migrate.queue'), hashtext(%s))", (schema,))
        connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
        _migrate_queue(connection)


def _migrate_queue(connection: psycopg.Connection) -> None:
    """Apply procrastinate's schema to a new database, or its new migrations to an existing one.

    As procrastinate documents, a new database receives the current schema and counts all migrations as applied.
    """
    files = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    with connection.transaction():
        if connection.execute("SELECT to_regclass('queue_migrations')").fetchone() == (None,):
            connection.execute(
                "CREATE TABLE queue_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            connection.execute(SchemaManager.get_schema().encode())
            _record(connection, [file.name for file in files])
            log.info("migration_applied", migration="procrastinate's schema")
            return
    applied = {name for (name,) in connection.execute("SELECT name FROM queue_migrations")}
    for file in files:
        if file.name not in applied:
            with connection.transaction():
                connection.execute(file.read_bytes())
                _record(connection, [file.name])
            log.info("migration_applied", migration=f"procrastinate's {file.name}")


def _record(connection: psycopg.Connection, names: list[str]) -> None:
    connection.execute("INSERT INTO queue_migrations (name) SELECT unnest(%s::text[])", (names,))
