"""Fingerprints in PostgreSQL, as the API and the sweep use them."""

from collections.abc import Sequence
from datetime import timedelta

from sage_runtime.postgres import Pool, ping, store_errors

from sage_embed.embeddings.model import State, Video, states_before
from sage_embed.fingerprints.model import Fingerprint, StoredObject
from sage_embed.fingerprints.ports import FingerprintRepository, FingerprintSweep
from sage_embed.fingerprints.rows import DISCARD, LOCK, drop_work, ensure_fingerprint, to_fingerprint
from sage_embed.jobs.queue import Connection, JobQueue

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

_OBJECTS = """
SELECT key, first_block, block_count, size_bytes FROM fingerprint_objects
WHERE fingerprint_id = %s AND stored AND remove_time IS NULL ORDER BY first_block
"""

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
                row = await (await connection.execute(LOCK, (video_id,))).fetchone()
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
                row = await (await connection.execute(LOCK, (video_id,))).fetchone()
                if row is not None and row["state"] in states_before(State.CANCELLED):
                    wanted = bool(withdrawing) and await _wanted_without(connection, video_id, withdrawing)
                    if not wanted:
                        await connection.execute(_CANCEL, (video_id,))
                        await connection.execute(DISCARD, (video_id,))
                        await drop_work(connection, self._queue, video_id, row["job_id"])
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
    row = await (await connection.execute(LOCK, (video_id,))).fetchone()
    if row is None:
        return False
    await connection.execute(DISCARD, (video_id,))
    await drop_work(connection, queue, video_id, row["job_id"])
    await connection.execute("DELETE FROM fingerprints WHERE id = %s", (video_id,))
    return True
