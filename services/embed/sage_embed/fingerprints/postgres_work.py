"""Fingerprints in PostgreSQL, as workers use them.

A fingerprint is made by its job or, while it has parts, by the jobs of its parts. Every change locks the fingerprint's
row first, so that which jobs these are cannot change meanwhile.
"""

from collections.abc import Mapping
from typing import Any

from sage_fingerprint.blocks import BLOCK_SECONDS, block_count, nanoseconds

from sage_embed.embeddings.model import Progress, State, states_before
from sage_embed.embeddings.rows import Row, clean
from sage_embed.fingerprints.model import VERSION, Fingerprint, StoredObject, progress_at, split_blocks
from sage_embed.fingerprints.ports import FingerprintWork
from sage_embed.fingerprints.rows import DISCARD, LOCK, drop_parts, to_fingerprint
from sage_embed.jobs.queue import FINGERPRINT, Connection, fingerprint_queue_of
from sage_embed.jobs.records import COMPLETE, PostgresRecords, Table

_OWNED = """
WHERE id = %(id)s AND state = ANY(%(before)s)
    AND EXISTS (SELECT FROM fingerprint_work AS work WHERE work.id = %(id)s AND work.job_id = %(job_id)s)
"""

_DISCARD_UNSTORED = (
    DISCARD + " AND NOT stored AND first_block >= %s AND (%s::integer IS NULL OR first_block < %s::integer)"
)

_CLAIM = """
UPDATE {table} SET
    state = 'PROCESSING', start_time = COALESCE(start_time, now()), revision = revision + 1,
    progress_message = CASE WHEN EXISTS (
        SELECT FROM fingerprint_parts WHERE fingerprint_id = %(id)s
    ) THEN progress_message ELSE 'Starting.' END
{owned}
"""

_TO_THIS_VERSION = """
UPDATE fingerprints SET
    version = %(version)s, job_id = %(job_id)s, progress = 0, block_count = 0, frame_count = 0, size_bytes = 0
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

_INSERT_PART = """
INSERT INTO fingerprint_parts (fingerprint_id, next_block, end_block, job_id)
VALUES (%(id)s, %(next_block)s, %(end_block)s, %(job_id)s)
"""

_HAND_OVER_PART = """
UPDATE fingerprint_parts SET job_id = %(to)s, attempts = attempts + %(attempts)s
WHERE fingerprint_id = %(id)s AND job_id = %(job_id)s
"""

_APPEND_TO_PART = """
UPDATE fingerprint_parts SET next_block = next_block + %(block_count)s, attempts = 0
WHERE fingerprint_id = %(id)s AND job_id = %(job_id)s
"""

_REMOVE_PART = "DELETE FROM fingerprint_parts WHERE fingerprint_id = %(id)s AND job_id = %(job_id)s"

_OTHER_PARTS = "SELECT FROM fingerprint_parts WHERE fingerprint_id = %(id)s LIMIT 1"

_TAKE_OVER = "UPDATE fingerprints SET job_id = %(job_id)s WHERE id = %(id)s"

_APPEND = """
UPDATE fingerprints SET
    progress = GREATEST(progress, %(fraction)s), progress_message = %(message)s, attempts = 0,
    block_count = block_count + %(block_count)s, frame_count = frame_count + %(frame_count)s,
    size_bytes = size_bytes + %(size_bytes)s, revision = revision + 1
WHERE id = %(id)s
"""

_STORED = "UPDATE fingerprint_objects SET stored = true WHERE key = %s AND first_block = %s AND remove_time IS NULL"


class PostgresFingerprintWork(PostgresRecords[Fingerprint], FingerprintWork):
    """Stores the work on fingerprints in PostgreSQL."""

    table = Table("fingerprints", "fingerprint_work", FINGERPRINT, _OWNED)

    def _to_record(self, row: Row) -> Fingerprint:
        return to_fingerprint(row)

    def _queue_of(self, row: Row) -> str:
        return fingerprint_queue_of(begun=row["block_count"] > 0)

    async def _lock(self, connection: Connection, record_id: str) -> None:
        await connection.execute(LOCK, (record_id,))

    async def _hand_over(self, connection: Connection, values: Mapping[str, Any]) -> None:
        if (await connection.execute(_HAND_OVER_PART, values)).rowcount == 0:
            await super()._hand_over(connection, values)

    async def _drop_results(self, connection: Connection, record_id: str, job_id: int) -> None:
        await connection.execute(DISCARD, (record_id,))
        query = "UPDATE fingerprints SET block_count = 0, frame_count = 0, size_bytes = 0 WHERE id = %s"
        await connection.execute(query, (record_id,))
        # This job is about to end.
        await drop_parts(connection, self._queue, record_id, keep=job_id)

    async def claim(self, video_id: str, job_id: int, /, *, part_blocks: int = 0) -> Fingerprint:
        async with self._changing(_CLAIM, video_id, job_id, to=State.PROCESSING) as connection:
            values = {"id": video_id, "job_id": job_id, "version": VERSION}
            if (await connection.execute(_TO_THIS_VERSION, values)).rowcount:
                await connection.execute(DISCARD, (video_id,))
                await drop_parts(connection, self._queue, video_id, keep=job_id)
            row = await self._read(connection, video_id, job_id)
            if part_blocks and row["end_block"] is None and row["version"] == VERSION:
                await self._split(connection, row, part_blocks)
                row = await self._read(connection, video_id, job_id)
            # What an earlier job has stored counts; what it was about to store does not.
            unstored = (video_id, row["next_block"], row["end_block"], row["end_block"])
            await connection.execute(_DISCARD_UNSTORED, unstored)
            return to_fingerprint(row)

    async def _split(self, connection: Connection, row: Row, part_blocks: int) -> None:
        """Record the parts of what is missing, if it is more than one, and queue a job for each but the first."""
        if to_fingerprint(row).video.picture.timestamps_jump:
            # Each part would be decoded from the start of the film.
            return
        end = block_count(nanoseconds(row["video_duration_seconds"]))
        parts = split_blocks(row["block_count"], end, part_blocks=part_blocks) if end > row["block_count"] else []
        if len(parts) < 2:
            return
        job_id = row["job_id"]
        for part in parts:
            await connection.execute(_INSERT_PART, {"id": row["id"], "job_id": job_id, **vars(part)})
            if part is not parts[-1]:
                # They wait with what has had a turn, so that a short video never waits for all parts of a long one.
                queue_name = fingerprint_queue_of(begun=True)
                job_id = await self._queue.put(connection, FINGERPRINT, row["id"], queue=queue_name)

    async def begin_object(self, video_id: str, job_id: int, stored: StoredObject) -> None:
        async with self._changing(_OWN, video_id, job_id) as connection:
            await connection.execute(_INSERT_OBJECT, {"id": video_id, **vars(stored)})

    async def append(
        self, video_id: str, job_id: int, stored: StoredObject, *, frame_count: int, progress: Progress
    ) -> None:
        async with self._changing(_OWN, video_id, job_id) as connection:
            row = await self._read(connection, video_id, job_id)
            marked = await connection.execute(_STORED, (stored.key, stored.first_block))
            if row["next_block"] != stored.first_block or marked.rowcount == 0:
                raise ValueError(f"blocks from {stored.first_block} do not follow the stored ones")
            if row["end_block"] is not None:
                done = (row["block_count"] + stored.block_count) * BLOCK_SECONDS
                progress = progress_at(done, row["video_duration_seconds"])
            values = {
                "id": video_id,
                "job_id": job_id,
                "fraction": progress.fraction,
                "message": clean(progress.message),
                "block_count": stored.block_count,
                "frame_count": frame_count,
                "size_bytes": stored.size_bytes,
            }
            await connection.execute(_APPEND, values)
            await connection.execute(_APPEND_TO_PART, values)

    async def complete(self, video_id: str, job_id: int, message: str, /) -> None:
        async with self._changing(_OWN, video_id, job_id) as connection:
            row = await self._read(connection, video_id, job_id)
            values = {"id": video_id, "job_id": job_id, "message": message, "before": states_before(State.COMPLETED)}
            if row["end_block"] is not None:
                if row["next_block"] != row["end_block"]:
                    raise ValueError(f"a part ends at block {row['next_block']}, not {row['end_block']}")
                await connection.execute(_REMOVE_PART, values)
                if await (await connection.execute(_OTHER_PARTS, values)).fetchone() is not None:
                    return
                await connection.execute(_TAKE_OVER, values)
            await connection.execute(self._statement(COMPLETE), values)
