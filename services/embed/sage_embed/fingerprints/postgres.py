"""Fingerprints in PostgreSQL, as the API, workers and the sweep use them."""

from collections.abc import Sequence
from datetime import timedelta

import psycopg
from sage_runtime.postgres import Pool, ping, store_errors

from sage_embed.embeddings.model import Progress, State, Video, states_before
from sage_embed.embeddings.rows import Row, clean, from_video, to_failure, to_video
from sage_embed.fingerprints.model import VERSION, Fingerprint, StoredObject
from sage_embed.fingerprints.ports import FingerprintRepository, FingerprintSweep, FingerprintWork
from sage_embed.jobs.queue import FINGERPRINT, Connection, JobQueue, fingerprint_queue_of
from sage_embed.jobs.records import PostgresRecords, Table

_INSERT = """
INSERT INTO fingerprints (
    id, job_id, version, state, progress_message, video_duration_seconds, video_start_offset_seconds, video_has_audio,
    video_size_bytes, video_width, video_height, video_media
) VALUES (
    %(id)s, %(job_id)s, %(version)s, 'PENDING', 'Waiting for a worker.', %(video_duration_seconds)s,
    %(video_start_offset_seconds)s, %(video_has_audio)s, %(video_size_bytes)s, %(video_width)s, %(video_height)s,
    %(video_media)s
) ON CONFLICT (id) DO NOTHING
"""

_RENEW = """
UPDATE fingerprints SET
    job_id = %(job_id)s, version = %(version)s, state = 'PENDING', progress = 0,
    progress_message = 'Waiting for a worker.', failure_reason = NULL, failure_message = NULL, create_time = now(),
    start_time = NULL, finish_time = NULL, revision = revision + 1, attempts = 0, requested_without_id = false,
    block_count = 0, frame_count = 0, size_bytes = 0
WHERE id = %(id)s
"""

# A cancellation in progress is waited for.
_LOCK = "SELECT *, now() AS claim_time FROM fingerprints WHERE id = %s FOR UPDATE"

_LOCK_SHARED = """
SELECT id, block_count FROM fingerprints WHERE job_id = %s AND state IN ('PENDING', 'PROCESSING') FOR UPDATE
"""

_EMBEDDING_OF_JOB = "SELECT FROM embeddings WHERE job_id = %s AND state IN ('PENDING', 'PROCESSING')"

# A row that is not wanted as it is stays unlocked.
_SHARE = """
SELECT id FROM fingerprints
WHERE id = %s AND (%s OR version >= %s AND state NOT IN ('FAILED', 'CANCELLED'))
FOR KEY SHARE
"""

_NOTE_REQUEST_WITHOUT_ID = """
UPDATE fingerprints SET requested_without_id = true
WHERE id = %s AND NOT requested_without_id AND state IN ('PENDING', 'PROCESSING')
"""

_NOTE_REQUEST = """
INSERT INTO fingerprint_requests (fingerprint_id, request_id) VALUES (%s, %s) ON CONFLICT DO NOTHING
"""

_WITHDRAW = "DELETE FROM fingerprint_requests WHERE fingerprint_id = %s AND request_id = %s"

_STILL_WANTED = """
SELECT requested_without_id OR EXISTS (
    SELECT FROM fingerprint_requests WHERE fingerprint_id = %(id)s
) OR EXISTS (
    SELECT FROM embeddings WHERE video_id = %(id)s AND state IN ('PENDING', 'PROCESSING')
) AS wanted
FROM fingerprints WHERE id = %(id)s
"""

_CANCEL = """
UPDATE fingerprints SET
    state = 'CANCELLED', finish_time = now(), revision = revision + 1, progress_message = 'Cancelled.',
    block_count = 0, frame_count = 0, size_bytes = 0
WHERE id = %s
"""

# A worker that has lost its job may still be sending one, and a client may still be reading one.
_DISCARD = """
UPDATE fingerprint_objects SET remove_time = now() + interval '10 minutes'
WHERE fingerprint_id = %s AND remove_time IS NULL
"""
_DISCARD_UNSTORED = _DISCARD + " AND NOT stored"

_OBJECTS = """
SELECT key, first_block, block_count, size_bytes FROM fingerprint_objects
WHERE fingerprint_id = %s AND stored AND remove_time IS NULL ORDER BY first_block
"""

_CLAIM = """
UPDATE {table} SET
    state = 'PROCESSING', start_time = COALESCE(start_time, now()), progress_message = 'Starting.',
    revision = revision + 1
{owned}
"""

_TO_THIS_VERSION = """
UPDATE fingerprints SET version = %(version)s, progress = 0, block_count = 0, frame_count = 0, size_bytes = 0
WHERE id = %(id)s AND version < %(version)s
"""

_OWN = """
UPDATE {table} SET job_id = job_id
{owned}
"""

_INSERT_OBJECT = """
INSERT INTO fingerprint_objects (key, fingerprint_id, first_block, block_count, size_bytes)
VALUES (%(key)s, %(id)s, %(first_block)s, %(block_count)s, %(size_bytes)s)
"""

_APPEND = """
UPDATE {table} SET
    progress = GREATEST(progress, %(fraction)s), progress_message = %(message)s, attempts = 0,
    block_count = block_count + %(block_count)s, frame_count = frame_count + %(frame_count)s,
    size_bytes = size_bytes + %(size_bytes)s, revision = revision + 1
{owned}
"""

_STORED = "UPDATE fingerprint_objects SET stored = true WHERE key = %s AND first_block = %s AND remove_time IS NULL"

_CLAIM_DISCARDED = """
UPDATE fingerprint_objects SET remove_time = now() + %(again_after)s
WHERE key IN (
    SELECT key FROM fingerprint_objects WHERE remove_time <= now()
    ORDER BY remove_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
) RETURNING key
"""

_CLAIM_UNCHECKED = """
UPDATE fingerprints SET check_time = now()
WHERE id IN (
    SELECT id FROM fingerprints AS f
    WHERE check_time < now() - %(older_than)s
        AND NOT EXISTS (SELECT FROM embeddings AS e WHERE e.video_id = f.id)
    ORDER BY check_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
) RETURNING id
"""


class PostgresFingerprintRepository(FingerprintRepository):
    """Stores fingerprints in PostgreSQL.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it.
        queue: Queues work in the same transaction.
    """

    def __init__(self, pool: Pool, queue: JobQueue) -> None:
        self._pool = pool
        self._queue = queue

    async def reuse(self, video_id: str, *, request_id: str) -> Fingerprint | None:
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                row = await (await connection.execute(_LOCK, (video_id,))).fetchone()
                if row is None or not to_fingerprint(row).reusable:
                    return None
                await _note_request(connection, video_id, request_id)
                return to_fingerprint(row)

    async def create(self, video: Video, *, request_id: str) -> Fingerprint:
        while True:
            with store_errors():
                async with self._pool.connection() as connection, connection.transaction():
                    await ensure_fingerprint(connection, self._queue, video, renew=True)
                    created = await _get(connection, video.id)
                    # Another call may have deleted it meanwhile.
                    if created is not None:
                        await _note_request(connection, video.id, request_id)
                        return created

    async def count_unfinished(self) -> int:
        query = "SELECT count(*) AS n FROM fingerprints WHERE state IN ('PENDING', 'PROCESSING')"
        with store_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(query)).fetchone()
        return int(row["n"]) if row else 0

    async def get(self, video_id: str) -> Fingerprint | None:
        with store_errors():
            async with self._pool.connection() as connection:
                return await _get(connection, video_id)

    async def cancel(self, video_id: str, *, withdrawing: str = "") -> Fingerprint | None:
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                row = await (await connection.execute(_LOCK, (video_id,))).fetchone()
                if row is not None and row["state"] in states_before(State.CANCELLED):
                    wanted = bool(withdrawing) and await _wanted_without(connection, video_id, withdrawing)
                    if not wanted:
                        await connection.execute(_CANCEL, (video_id,))
                        await connection.execute(_DISCARD, (video_id,))
                        await _drop_job(connection, self._queue, row["job_id"])
                return await _get(connection, video_id)

    async def delete(self, video_id: str) -> bool:
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                return await _delete(connection, self._queue, video_id)

    async def objects(self, video_id: str) -> list[StoredObject]:
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_OBJECTS, (video_id,))).fetchall()
        return [StoredObject(**row) for row in rows]

    async def check(self) -> None:
        await ping(self._pool)


class PostgresFingerprintWork(PostgresRecords[Fingerprint], FingerprintWork):
    """Stores the work on fingerprints in PostgreSQL."""

    table = Table("fingerprints", "fingerprints", FINGERPRINT)

    def _to_record(self, row: Row) -> Fingerprint:
        return to_fingerprint(row)

    def _queue_of(self, row: Row) -> str:
        return fingerprint_queue_of(begun=row["block_count"] > 0)

    async def _drop_results(self, connection: Connection, record_id: str) -> None:
        await connection.execute(_DISCARD, (record_id,))
        query = "UPDATE fingerprints SET block_count = 0, frame_count = 0, size_bytes = 0 WHERE id = %s"
        await connection.execute(query, (record_id,))

    async def claim(self, video_id: str, job_id: int, /) -> Fingerprint:
        async with self._changing(_CLAIM, video_id, job_id, to=State.PROCESSING) as connection:
            # What an earlier job has stored counts; what it was about to store does not.
            await connection.execute(_DISCARD_UNSTORED, (video_id,))
            renewed = await connection.execute(_TO_THIS_VERSION, {"id": video_id, "version": VERSION})
            if renewed.rowcount:
                await connection.execute(_DISCARD, (video_id,))
            return to_fingerprint(await self._read(connection, video_id))

    async def begin_object(self, video_id: str, job_id: int, stored: StoredObject) -> None:
        async with self._changing(_OWN, video_id, job_id) as connection:
            await connection.execute(_INSERT_OBJECT, {"id": video_id, **vars(stored)})

    async def append(
        self, video_id: str, job_id: int, stored: StoredObject, *, frame_count: int, progress: Progress
    ) -> None:
        values = {
            "fraction": progress.fraction,
            "message": clean(progress.message),
            "block_count": stored.block_count,
            "frame_count": frame_count,
            "size_bytes": stored.size_bytes,
        }
        async with self._changing(_APPEND, video_id, job_id, values) as connection:
            row = await self._read(connection, video_id)
            marked = await connection.execute(_STORED, (stored.key, stored.first_block))
            if row["block_count"] != stored.first_block + stored.block_count or marked.rowcount == 0:
                raise ValueError(f"blocks from {stored.first_block} do not follow the stored ones")


class PostgresFingerprintSweep(FingerprintSweep):
    """Finds what is left over of fingerprints in PostgreSQL.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it.
        queue: Queues work in the same transaction.
    """

    def __init__(self, pool: Pool, queue: JobQueue) -> None:
        self._pool = pool
        self._queue = queue

    async def claim_discarded(self, *, again_after: timedelta, limit: int) -> list[str]:
        parameters = {"again_after": again_after, "limit": limit}
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_CLAIM_DISCARDED, parameters)).fetchall()
        return [row["key"] for row in rows]

    async def forget(self, keys: Sequence[str]) -> None:
        query = "DELETE FROM fingerprint_objects WHERE key = ANY(%s) AND remove_time IS NOT NULL"
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute(query, (list(keys),))

    async def claim_unchecked(self, *, older_than: timedelta, limit: int) -> list[str]:
        parameters = {"older_than": older_than, "limit": limit}
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_CLAIM_UNCHECKED, parameters)).fetchall()
        return [row["id"] for row in rows]

    async def delete(self, video_id: str) -> bool:
        query = "SELECT FROM embeddings WHERE video_id = %s LIMIT 1"
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                if await (await connection.execute(query, (video_id,))).fetchone() is not None:
                    return False
                return await _delete(connection, self._queue, video_id)


async def ensure_fingerprint(
    connection: Connection, queue: JobQueue, video: Video, *, renew: bool, shared_job_id: int | None = None
) -> None:
    """Record a fingerprint of a video and queue its work, unless there is one, in the caller's transaction.

    Args:
        connection: In a transaction.
        queue: Queues the work.
        video: The video.
        renew: Whether to make one again that is not reusable.
        shared_job_id: The job of an embedding that makes the fingerprint in the same pass of decoding; `None`: the
            fingerprint has a separate job.
    """
    # Embeddings of one video share this lock, so they are recorded side by side.
    row = await (await connection.execute(_SHARE, (video.id, not renew, VERSION))).fetchone()
    if row is not None:
        return
    row = await (await connection.execute(_LOCK, (video.id,))).fetchone()
    if row is not None and (not renew or to_fingerprint(row).reusable):
        return
    # If another transaction inserts it first, this one waits here and then queues nothing.
    async with connection.transaction():
        job_id = shared_job_id
        if job_id is None:
            job_id = await queue.put(connection, FINGERPRINT, video.id, queue=fingerprint_queue_of())
        values = {"id": video.id, "job_id": job_id, "version": VERSION, **from_video(video)}
        statement = _INSERT if row is None else _RENEW
        if (await connection.execute(statement, values)).rowcount == 0:
            raise psycopg.Rollback
    if row is not None:
        await connection.execute(_DISCARD, (video.id,))
        await connection.execute("DELETE FROM fingerprint_requests WHERE fingerprint_id = %s", (video.id,))
        await _drop_job(connection, queue, row["job_id"])


async def move_shared_fingerprint(connection: Connection, queue: JobQueue, job_id: int, *, to: int | None) -> None:
    """Let another job resume the fingerprint that shares the job of an embedding, because that job ends.

    Args:
        connection: In a transaction.
        queue: Queues the work.
        job_id: The job of the embedding.
        to: The job that resumes the embedding; `None`: there is none, so the fingerprint is given a separate one.
    """
    row = await (await connection.execute(_LOCK_SHARED, (job_id,))).fetchone()
    if row is None:
        return
    if to is None:
        queue_name = fingerprint_queue_of(begun=row["block_count"] > 0)
        to = await queue.put(connection, FINGERPRINT, row["id"], queue=queue_name)
    await connection.execute("UPDATE fingerprints SET job_id = %s WHERE id = %s", (to, row["id"]))


def to_fingerprint(row: Row) -> Fingerprint:
    """Return the fingerprint of a row."""
    return Fingerprint(
        video=to_video(row, row["id"]),
        version=row["version"],
        state=State(row["state"]),
        progress=Progress(row["progress"], row["progress_message"]),
        failure=to_failure(row),
        create_time=row["create_time"],
        start_time=row["start_time"],
        finish_time=row["finish_time"],
        revision=row["revision"],
        block_count=row["block_count"],
        frame_count=row["frame_count"],
        size_bytes=row["size_bytes"],
        attempts=row["attempts"],
    )


async def _get(connection: Connection, video_id: str) -> Fingerprint | None:
    row = await (await connection.execute("SELECT * FROM fingerprints WHERE id = %s", (video_id,))).fetchone()
    return None if row is None else to_fingerprint(row)


async def _note_request(connection: Connection, video_id: str, request_id: str) -> None:
    if request_id:
        await connection.execute(_NOTE_REQUEST, (video_id, request_id))
    else:
        await connection.execute(_NOTE_REQUEST_WITHOUT_ID, (video_id,))


async def _wanted_without(connection: Connection, video_id: str, request_id: str) -> bool:
    """Withdraw a request, and return whether anyone else waits for the fingerprint."""
    await connection.execute(_WITHDRAW, (video_id, request_id))
    row = await (await connection.execute(_STILL_WANTED, {"id": video_id})).fetchone()
    return bool(row and row["wanted"])


async def _delete(connection: Connection, queue: JobQueue, video_id: str) -> bool:
    query = "DELETE FROM fingerprints WHERE id = %s RETURNING job_id"
    row = await (await connection.execute(query, (video_id,))).fetchone()
    if row is None:
        return False
    await connection.execute(_DISCARD, (video_id,))
    await _drop_job(connection, queue, row["job_id"])
    return True


async def _drop_job(connection: Connection, queue: JobQueue, job_id: int) -> None:
    """Remove the job of a fingerprint, unless it is also that of an embedding, which continues."""
    if await (await connection.execute(_EMBEDDING_OF_JOB, (job_id,))).fetchone() is None:
        await queue.drop(connection, job_id)
