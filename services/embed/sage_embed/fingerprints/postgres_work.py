"""Fingerprints in PostgreSQL, as workers use them."""

from sage_embed.embeddings.model import Progress, State
from sage_embed.embeddings.rows import Row, clean
from sage_embed.fingerprints.model import VERSION, Fingerprint, StoredObject
from sage_embed.fingerprints.ports import FingerprintWork
from sage_embed.fingerprints.rows import DISCARD, to_fingerprint
from sage_embed.jobs.queue import FINGERPRINT, Connection, fingerprint_queue_of
from sage_embed.jobs.records import PostgresRecords, Table

_DISCARD_UNSTORED = DISCARD + " AND NOT stored"

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


class PostgresFingerprintWork(PostgresRecords[Fingerprint], FingerprintWork):
    """Stores the work on fingerprints in PostgreSQL."""

    table = Table("fingerprints", "fingerprints", FINGERPRINT)

    def _to_record(self, row: Row) -> Fingerprint:
        return to_fingerprint(row)

    def _queue_of(self, row: Row) -> str:
        return fingerprint_queue_of(begun=row["block_count"] > 0)

    async def _drop_results(self, connection: Connection, record_id: str) -> None:
        await connection.execute(DISCARD, (record_id,))
        query = "UPDATE fingerprints SET block_count = 0, frame_count = 0, size_bytes = 0 WHERE id = %s"
        await connection.execute(query, (record_id,))

    async def claim(self, video_id: str, job_id: int, /) -> Fingerprint:
        async with self._changing(_CLAIM, video_id, job_id, to=State.PROCESSING) as connection:
            # What an earlier job has stored counts; what it was about to store does not.
            await connection.execute(_DISCARD_UNSTORED, (video_id,))
            renewed = await connection.execute(_TO_THIS_VERSION, {"id": video_id, "version": VERSION})
            if renewed.rowcount:
                await connection.execute(DISCARD, (video_id,))
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
