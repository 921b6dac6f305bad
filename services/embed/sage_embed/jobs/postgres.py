"""Embeddings in PostgreSQL, as workers use them."""

from collections.abc import Sequence

import psycopg

from sage_embed.embeddings.model import Embedding, Progress, State, StoredSegments
from sage_embed.embeddings.ports import WorkRepository
from sage_embed.embeddings.postgres import drop_segments
from sage_embed.embeddings.rows import Row, clean, from_segments, to_embedding
from sage_embed.errors import TaskTakenError
from sage_embed.fingerprints.rows import move_shared_fingerprint
from sage_embed.jobs.queue import EMBED, Connection, queue_of
from sage_embed.jobs.records import COMPLETE, PostgresRecords, Table
from sage_embed.keys.model import PROVIDER

_CLAIM = """
UPDATE embeddings SET
    state = 'PROCESSING', start_time = COALESCE(start_time, now()), progress_message = 'Starting.',
    revision = revision + 1
{owned}
"""

_SAVE_SUBMISSION = """
UPDATE embeddings SET
    submitted_url = %(url)s, submitted_key = %(key)s, submitted_at = CASE WHEN %(url)s <> '' THEN now() END,
    provider_task_id = '', task_adopted = false, revision = revision + 1
{owned}
"""

_SAVE_TASK = """
UPDATE embeddings SET
    provider_task_id = %(provider_task_id)s, attempts = 0, revision = revision + 1
{owned}
"""

_APPENDED = """
UPDATE embeddings SET
    progress = GREATEST(progress, COALESCE(%(fraction)s, 0)),
    progress_message = COALESCE(%(message)s, progress_message), attempts = 0, revision = revision + 1
{owned}
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


class PostgresWorkRepository(PostgresRecords[Embedding], WorkRepository):
    """Stores the work on embeddings in PostgreSQL."""

    table = Table("embeddings", "embeddings_with_tracks", EMBED)

    def _to_record(self, row: Row) -> Embedding:
        return to_embedding(row)

    def _queue_of(self, row: Row) -> str:
        begun = any(segment_count for _, segment_count, *_ in row["tracks"])
        return queue_of(row["provider"], begun=begun)

    async def _drop_results(self, connection: Connection, record_id: str, job_id: int) -> None:
        await drop_segments(connection, record_id)

    async def _job_ended(self, connection: Connection, job_id: int, *, next_job_id: int | None) -> None:
        await move_shared_fingerprint(connection, self._queue, job_id, to=next_job_id)

    async def claim(self, embedding_id: str, job_id: int, /) -> Embedding:
        async with self._changing(_CLAIM, embedding_id, job_id, to=State.PROCESSING) as connection:
            return to_embedding(await self._read(connection, embedding_id, job_id))

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

    async def complete(self, embedding_id: str, job_id: int, message: str, /) -> None:
        query = "DELETE FROM tracks WHERE embedding_id = %s AND segment_count = 0"
        async with self._changing(
            COMPLETE, embedding_id, job_id, {"message": message}, to=State.COMPLETED
        ) as connection:
            await connection.execute(query, (embedding_id,))


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
