"""Embeddings in PostgreSQL, as workers use them.

The job ID is a fencing token. Every change is one statement whose condition includes the job that owns the embedding
and the states that the change may follow, so a worker that was replaced, or whose embedding was cancelled or deleted,
changes nothing.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
from sage_runtime.postgres import Pool, store_errors

from sage_embed.embeddings.model import (
    Embedding,
    Failure,
    Progress,
    State,
    StoredSegments,
    WorkLostError,
    states_before,
)
from sage_embed.embeddings.ports import WorkRepository
from sage_embed.embeddings.postgres import drop_segments
from sage_embed.embeddings.rows import clean, from_segments, to_embedding
from sage_embed.errors import TaskTakenError
from sage_embed.jobs.queue import Connection, JobQueue
from sage_embed.keys.model import PROVIDER

_CLAIM = """
UPDATE embeddings SET
    state = 'PROCESSING', start_time = COALESCE(start_time, now()), progress_message = 'Starting.',
    revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

_SAVE_SUBMISSION = """
UPDATE embeddings SET
    submitted_url = %(url)s, submitted_key = %(key)s, submitted_at = CASE WHEN %(url)s <> '' THEN now() END,
    provider_task_id = '', task_adopted = false, revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

_SAVE_TASK = """
UPDATE embeddings SET
    provider_task_id = %(provider_task_id)s, attempts = 0, revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

_SAVE_PROGRESS = """
UPDATE embeddings SET
    progress = GREATEST(progress, %(fraction)s), progress_message = %(message)s, revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

_APPENDED = """
UPDATE embeddings SET
    progress = GREATEST(progress, COALESCE(%(fraction)s, 0)),
    progress_message = COALESCE(%(message)s, progress_message), attempts = 0, revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

_EXTEND_TRACK = """
UPDATE tracks SET
    covered_start_seconds = CASE segment_count WHEN 0 THEN %(start)s ELSE covered_start_seconds END,
    covered_end_seconds = %(end)s, segment_count = segment_count + %(count)s
WHERE embedding_id = %(id)s AND name = %(track)s AND segment_count = %(first_index)s
"""

_INSERT_CHUNK = """
INSERT INTO segment_chunks (embedding_id, track, first_index, segment_count, start_seconds, end_seconds, vectors)
VALUES (%(id)s, %(track)s, %(first_index)s, %(segment_count)s, %(start_seconds)s, %(end_seconds)s, %(vectors)b)
"""

_COMPLETE = """
UPDATE embeddings SET
    state = 'COMPLETED', finish_time = now(), progress = 1, progress_message = %(message)s, revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

_FAIL = """
UPDATE embeddings SET
    state = 'FAILED', finish_time = now(), failure_reason = %(reason)s, failure_message = %(message)s,
    progress_message = 'Failed.', revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

_REQUEUE = """
UPDATE embeddings SET
    attempts = attempts + %(attempts)s, progress_message = %(message)s, revision = revision + 1
WHERE id = %(id)s AND job_id = %(job_id)s AND state = ANY(%(before)s)
"""

# procrastinate's public API can neither join its tables with ours nor look for jobs that are due, so these statements
# read `procrastinate_jobs` and `procrastinate_workers` directly. Hence the upper bound on procrastinate's version in
# pyproject.toml.
_OTHERS_WAIT = """
SELECT EXISTS (
    SELECT FROM procrastinate_jobs
    WHERE status = 'todo' AND queue_name = ANY(%(queues)s) AND (scheduled_at IS NULL OR scheduled_at <= now())
) AS waits
"""

_LOST = """
SELECT e.* FROM embeddings_with_tracks AS e
LEFT JOIN procrastinate_jobs AS job ON job.id = e.job_id
LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
WHERE e.state IN ('PENDING', 'PROCESSING')
    AND (
        job.id IS NULL
        OR job.status NOT IN ('todo', 'doing')
        OR job.status = 'doing' AND (worker.id IS NULL OR worker.last_heartbeat < now() - %(silent_for)s)
    )
ORDER BY e.id LIMIT %(limit)s
"""

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
"""


class PostgresWorkRepository(WorkRepository):
    """Stores the work on embeddings in PostgreSQL.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it.
        queue: Queues work in the same transaction.
    """

    def __init__(self, pool: Pool, queue: JobQueue) -> None:
        self._pool = pool
        self._queue = queue

    async def claim(self, embedding_id: str, job_id: int) -> Embedding:
        query = "SELECT *, now() AS claim_time FROM embeddings_with_tracks WHERE id = %s"
        async with self._changing(_CLAIM, embedding_id, job_id, to=State.PROCESSING) as connection:
            row = await (await connection.execute(query, (embedding_id,))).fetchone()
        if row is None:
            raise WorkLostError
        return to_embedding(row)

    async def save_submission(self, embedding_id: str, job_id: int, url: str, *, key_fingerprint: str) -> None:
        values = {"url": url, "key": key_fingerprint}
        async with self._changing(_SAVE_SUBMISSION, embedding_id, job_id, values):
            pass

    async def save_task(self, embedding_id: str, job_id: int, provider_task_id: str) -> None:
        try:
            async with self._changing(_SAVE_TASK, embedding_id, job_id, {"provider_task_id": clean(provider_task_id)}):
                pass
        except psycopg.errors.UniqueViolation as error:
            raise TaskTakenError(PROVIDER, provider_task_id) from error

    async def save_progress(self, embedding_id: str, job_id: int, progress: Progress) -> None:
        values = {"fraction": progress.fraction, "message": clean(progress.message)}
        async with self._changing(_SAVE_PROGRESS, embedding_id, job_id, values):
            pass

    async def append(
        self,
        embedding_id: str,
        job_id: int,
        track: str,
        chunks: Sequence[StoredSegments],
        *,
        progress: Progress | None,
    ) -> None:
        values = {
            "fraction": progress.fraction if progress else None,
            "message": clean(progress.message) if progress else None,
        }
        async with self._changing(_APPENDED, embedding_id, job_id, values) as connection:
            for chunk in chunks:
                await _append(connection, embedding_id, track, chunk)

    async def complete(self, embedding_id: str, job_id: int, message: str) -> None:
        query = "DELETE FROM tracks WHERE embedding_id = %s AND segment_count = 0"
        values = {"message": message}
        async with self._changing(_COMPLETE, embedding_id, job_id, values, to=State.COMPLETED) as connection:
            await connection.execute(query, (embedding_id,))

    async def fail(self, embedding_id: str, job_id: int, failure: Failure) -> None:
        values = {"reason": failure.reason, "message": clean(failure.message)}
        async with self._changing(_FAIL, embedding_id, job_id, values, to=State.FAILED) as connection:
            await drop_segments(connection, embedding_id)

    async def requeue(
        self, embedding_id: str, job_id: int, *, delay: timedelta, message: str, counts_as_attempt: bool
    ) -> None:
        query = "SELECT provider, tracks FROM embeddings_with_tracks WHERE id = %s"
        values = {"attempts": int(counts_as_attempt), "message": clean(message)}
        async with self._changing(_REQUEUE, embedding_id, job_id, values) as connection:
            row = await (await connection.execute(query, (embedding_id,))).fetchone()
            if row is None:
                raise WorkLostError
            begun = any(segment_count for _, segment_count, *_ in row["tracks"])
            new_job_id = await self._queue.put(
                connection, embedding_id, provider=row["provider"], begun=begun, delay=delay
            )
            await connection.execute("UPDATE embeddings SET job_id = %s WHERE id = %s", (new_job_id, embedding_id))

    async def others_wait(self, queues: Sequence[str]) -> bool:
        with store_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_OTHERS_WAIT, {"queues": list(queues)})).fetchone()
        return bool(row and row["waits"])

    async def lost(self, *, silent_for: timedelta, limit: int) -> list[tuple[Embedding, int]]:
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_LOST, {"silent_for": silent_for, "limit": limit})).fetchall()
        return [(to_embedding(row), row["job_id"]) for row in rows]

    async def drop_dead_jobs(self, *, silent_for: timedelta) -> None:
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_DROP_DEAD_JOBS, {"silent_for": silent_for})

    @asynccontextmanager
    async def _changing(
        self,
        statement: str,
        embedding_id: str,
        job_id: int,
        values: Mapping[str, Any] | None = None,
        *,
        to: State | None = None,
    ) -> AsyncIterator[Connection]:
        """Run a guarded change and then the block, in one transaction.

        Args:
            statement: Changes the row of the embedding.
            embedding_id: The embedding.
            job_id: The job that writes.
            values: Further parameters of the statement.
            to: The state that the statement sets; `None` if it sets none.

        Raises:
            WorkLostError: The statement changed nothing.
        """
        # A change that sets no state requires an unfinished embedding: the states that PROCESSING may follow.
        before = states_before(to or State.PROCESSING)
        parameters = {"id": embedding_id, "job_id": job_id, "before": before, **(values or {})}
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                cursor = await connection.execute(statement, parameters)
                if cursor.rowcount == 0:
                    raise WorkLostError
                yield connection


async def _append(connection: Connection, embedding_id: str, track: str, chunk: StoredSegments) -> None:
    if len(chunk) == 0:
        return
    key = {"id": embedding_id, "track": track}
    extended = await connection.execute(
        _EXTEND_TRACK,
        {
            **key,
            "start": float(chunk.start_seconds[0]),
            "end": float(chunk.end_seconds[-1]),
            "count": len(chunk),
            "first_index": chunk.first_index,
        },
    )
    if extended.rowcount == 0:
        raise ValueError(f"segments of track {track} from index {chunk.first_index} do not follow the stored ones")
    await connection.execute(_INSERT_CHUNK, {**key, **from_segments(chunk)})
