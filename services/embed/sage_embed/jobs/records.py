"""What a job works on, in PostgreSQL: a row of a table, and the fencing token that guards it.

The job ID is a fencing token. Every change is one statement whose condition includes the job that owns the row and the
states that the change may follow, so a worker that was replaced, or whose work was cancelled or deleted, changes
nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic

from psycopg import sql
from sage_runtime.postgres import Pool, store_errors

from sage_embed.embeddings.model import Failure, Progress, State, WorkLostError, states_before
from sage_embed.embeddings.rows import Row, clean
from sage_embed.jobs.ports import JobRepository, RecordT
from sage_embed.jobs.queue import Connection, JobQueue, Task

_OWNED = "WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)"

_SAVE_PROGRESS = """
UPDATE {table} SET
    progress = GREATEST(progress, %(fraction)s), progress_message = %(message)s, revision = revision + 1
{owned}
"""

COMPLETE = """
UPDATE {table} SET
    state = 'COMPLETED', finish_time = now(), progress = 1, progress_message = %(message)s, revision = revision + 1
{owned}
"""

_FAIL = """
UPDATE {table} SET
    state = 'FAILED', finish_time = now(), failure_reason = %(reason)s, failure_message = %(message)s,
    progress_message = 'Failed.', revision = revision + 1
{owned}
"""

_REQUEUE = """
UPDATE {table} SET progress_message = %(message)s, revision = revision + 1
{owned}
"""

_HAND_OVER = """
UPDATE {table} SET job_id = %(to)s, attempts = attempts + %(attempts)s WHERE id = %(id)s
"""

# procrastinate's public API can neither join its tables with ours nor look for jobs that are due, so these statements
# read `procrastinate_jobs` and `procrastinate_workers` directly. Hence the upper bound on procrastinate's version in
# pyproject.toml.
_OTHERS_WAIT = """
SELECT EXISTS (
    SELECT FROM procrastinate_jobs
    WHERE status = 'todo' AND queue_name = ANY(%(queues)s) AND (scheduled_at IS NULL OR scheduled_at <= now())
        AND args ->> %(argument)s::text IS DISTINCT FROM %(than)s
) AS waits
"""

_LOST = """
SELECT record.* FROM {view} AS record
LEFT JOIN procrastinate_jobs AS job ON job.id = record.job_id
LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
WHERE record.state IN ('PENDING', 'PROCESSING')
    -- A fingerprint that shares the job of an embedding is requeued with it.
    AND NOT EXISTS (
        SELECT FROM embeddings AS e
        WHERE e.job_id = record.job_id AND e.id <> record.id AND e.state IN ('PENDING', 'PROCESSING')
    )
    AND (
        job.id IS NULL
        OR job.status NOT IN ('todo', 'doing')
        OR job.status = 'doing' AND (worker.id IS NULL OR worker.last_heartbeat < now() - %(silent_for)s)
    )
ORDER BY record.id LIMIT %(limit)s
"""

# Jobs of both kinds are in one table, so a job is dead only if neither kind refers to it.
_DROP_DEAD_JOBS = """
DELETE FROM procrastinate_jobs AS job
WHERE job.status = 'doing'
    AND NOT EXISTS (
        SELECT FROM procrastinate_workers AS worker
        WHERE worker.id = job.worker_id AND worker.last_heartbeat >= now() - %(silent_for)s
    )
    AND NOT EXISTS (
        SELECT FROM embeddings AS e WHERE e.job_id = job.id AND e.state IN ('PENDING', 'PROCESSING')
    )
    AND NOT EXISTS (
        SELECT FROM fingerprint_work AS f WHERE f.job_id = job.id AND f.state IN ('PENDING', 'PROCESSING')
    )
"""


@dataclass(frozen=True)
class Table:
    """Where one kind of work is stored.

    Attributes:
        name: The table that is changed.
        view: The view that is read.
        task: How the work is queued.
        owned: Condition of every change: the job owns the row, whose state is one of `before`.
    """

    name: str
    view: str
    task: Task
    owned: str = _OWNED


class PostgresRecords(ABC, JobRepository[RecordT], Generic[RecordT]):
    """Stores one kind of work in PostgreSQL.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it.
        queue: Queues work in the same transaction.
    """

    table: Table

    def __init__(self, pool: Pool, queue: JobQueue) -> None:
        self._pool = pool
        self._queue = queue

    @abstractmethod
    def _to_record(self, row: Row) -> RecordT:
        """Return the record of a row of the view."""

    @abstractmethod
    def _queue_of(self, row: Row) -> str:
        """Return the queue in which the work on the record of a row of the view waits."""

    async def _drop_results(self, connection: Connection, record_id: str, job_id: int) -> None:
        """Delete what was stored of a record that a job has failed."""

    async def _lock(self, connection: Connection, record_id: str) -> None:
        """Lock what a guarded change depends on, if that is more than its row."""

    async def _job_ended(self, connection: Connection, job_id: int, *, next_job_id: int | None) -> None:
        """Note that a job does not work on its record any more. The next one, if there is one, resumes the work."""

    async def save_progress(self, record_id: str, job_id: int, progress: Progress, /) -> None:
        values = {"fraction": progress.fraction, "message": clean(progress.message)}
        async with self._changing(_SAVE_PROGRESS, record_id, job_id, values):
            pass

    async def complete(self, record_id: str, job_id: int, message: str, /) -> None:
        async with self._changing(COMPLETE, record_id, job_id, {"message": message}, to=State.COMPLETED):
            pass

    async def fail(self, record_id: str, job_id: int, failure: Failure, /) -> None:
        values = {"reason": failure.reason, "message": clean(failure.message)}
        async with self._changing(_FAIL, record_id, job_id, values, to=State.FAILED) as connection:
            await self._drop_results(connection, record_id, job_id)
            await self._job_ended(connection, job_id, next_job_id=None)

    async def requeue(
        self, record_id: str, job_id: int, /, *, delay: timedelta, message: str, counts_as_attempt: bool
    ) -> None:
        async with self._changing(_REQUEUE, record_id, job_id, {"message": clean(message)}) as connection:
            row = await self._read(connection, record_id, job_id)
            new_job_id = await self._queue.put(
                connection, self.table.task, record_id, queue=self._queue_of(row), delay=delay
            )
            values = {"id": record_id, "job_id": job_id, "to": new_job_id, "attempts": int(counts_as_attempt)}
            await self._hand_over(connection, values)
            await self._job_ended(connection, job_id, next_job_id=new_job_id)

    async def _hand_over(self, connection: Connection, values: Mapping[str, Any]) -> None:
        """Let the job `to` own what `job_id` owned, after as many further `attempts`."""
        await connection.execute(self._statement(_HAND_OVER), values)

    async def others_wait(self, queues: Sequence[str], *, than: str = "") -> bool:
        parameters = {"queues": list(queues), "argument": self.table.task.argument, "than": than}
        with store_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_OTHERS_WAIT, parameters)).fetchone()
        return bool(row and row["waits"])

    async def lost(self, *, silent_for: timedelta, limit: int) -> list[tuple[RecordT, int]]:
        parameters = {"silent_for": silent_for, "limit": limit}
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(self._statement(_LOST), parameters)).fetchall()
        return [(self._to_record(row), row["job_id"]) for row in rows]

    async def drop_dead_jobs(self, *, silent_for: timedelta) -> None:
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_DROP_DEAD_JOBS, {"silent_for": silent_for})

    async def _read(self, connection: Connection, record_id: str, job_id: int) -> Row:
        query = self._statement("SELECT *, now() AS claim_time FROM {view} WHERE id = %s AND job_id = %s")
        row = await (await connection.execute(query, (record_id, job_id))).fetchone()
        if row is None:
            raise WorkLostError
        return row

    def _statement(self, text: str) -> sql.Composed:
        # The text is one of this program's, never a caller's.
        return sql.SQL(text).format(
            table=sql.Identifier(self.table.name),
            view=sql.Identifier(self.table.view),
            owned=sql.SQL(self.table.owned),
        )

    @asynccontextmanager
    async def _changing(
        self,
        statement: str,
        record_id: str,
        job_id: int,
        values: Mapping[str, Any] | None = None,
        *,
        to: State | None = None,
    ) -> AsyncIterator[Connection]:
        """Run a guarded change and then the block, in one transaction.

        Args:
            statement: Changes the row.
            record_id: The row.
            job_id: The job that writes.
            values: Further parameters of the statement.
            to: The state that the statement sets; `None` if it sets none.

        Raises:
            WorkLostError: The statement changed nothing.
        """
        # A change that sets no state requires unfinished work: the states that PROCESSING may follow.
        before = states_before(to or State.PROCESSING)
        parameters = {"id": record_id, "job_id": job_id, "before": before, **(values or {})}
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await self._lock(connection, record_id)
                cursor = await connection.execute(self._statement(statement), parameters)
                if cursor.rowcount == 0:
                    raise WorkLostError
                yield connection
