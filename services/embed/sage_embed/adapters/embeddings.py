"""Embeddings in PostgreSQL, as the API uses them."""

import psycopg
from sage_runtime.postgres import Pool, ping, store_errors

from sage_embed.adapters.queue import Connection, JobQueue
from sage_embed.adapters.rows import from_plan, join_segments, to_embedding
from sage_embed.errors import request_id_reused
from sage_embed.model import (
    Embedding,
    Filter,
    Plan,
    State,
    StoredSegments,
    cancelled_message,
    states_before,
)
from sage_embed.ports import EmbeddingStore

_INSERT = """
INSERT INTO embeddings (
    id, request_id, request_fingerprint, job_id, state, progress_message, video_id, video_duration_seconds,
    video_start_offset_seconds, video_has_audio, video_size_bytes, video_width, video_height, model, model_revision,
    provider, dimensions, clip_seconds, requested_tracks
) VALUES (
    %(id)s, %(request_id)s, %(fingerprint)s, %(job_id)s, 'PENDING', 'Waiting for a worker.', %(video_id)s,
    %(video_duration_seconds)s, %(video_start_offset_seconds)s, %(video_has_audio)s, %(video_size_bytes)s,
    %(video_width)s, %(video_height)s, %(model)s, %(model_revision)s, %(provider)s, %(dimensions)s, %(clip_seconds)s,
    %(requested_tracks)s
) ON CONFLICT (request_id) DO NOTHING
"""

_LIST = """
SELECT * FROM embeddings_with_tracks
WHERE (%(before_id)s::text IS NULL OR id < %(before_id)s)
    AND (%(video_id)s::text IS NULL OR video_id = %(video_id)s)
    AND (%(state)s::text IS NULL OR state = %(state)s)
    AND (%(model)s::text IS NULL OR model = %(model)s)
ORDER BY id DESC LIMIT %(limit)s
"""

_LOCK_UNFINISHED = """
SELECT * FROM embeddings_with_tracks WHERE id = %(id)s AND state = ANY(%(before)s) FOR UPDATE
"""

_CANCEL = """
UPDATE embeddings SET
    state = 'CANCELLED', finish_time = now(), revision = revision + 1, progress_message = %(message)s,
    submitted_url = ''
WHERE id = %(id)s
"""

# The chunk that holds `first_index`, then those after it, until there are enough.
_CHUNKS = """
WITH chunks AS (
    SELECT *, sum(segment_count) OVER (ORDER BY first_index) - segment_count AS segments_before
    FROM (
        SELECT first_index, segment_count, start_seconds, end_seconds, vectors FROM segment_chunks
        WHERE embedding_id = %(id)s AND track = %(track)s AND first_index >= (
            SELECT max(first_index) FROM segment_chunks
            WHERE embedding_id = %(id)s AND track = %(track)s AND first_index <= %(first_index)s
        )
        ORDER BY first_index LIMIT %(max_chunks)s
    ) AS following
)
SELECT first_index, segment_count, start_seconds, end_seconds, vectors FROM chunks
WHERE segments_before < %(max_segments)s ORDER BY first_index
"""
_MAX_CHUNKS = 512


class PostgresEmbeddingStore(EmbeddingStore):
    """Keeps embeddings in PostgreSQL.

    Args:
        pool: Connections that look in embed's schema; the caller closes it.
        queue: Where work is queued, in the same transaction.
    """

    def __init__(self, pool: Pool, queue: JobQueue) -> None:
        self._pool = pool
        self._queue = queue

    async def create(self, embedding_id: str, plan: Plan, *, request_id: str, fingerprint: str) -> Embedding:
        """See `EmbeddingStore`."""
        with store_errors():
            async with self._pool.connection() as connection:
                async with connection.transaction():
                    job_id = await self._queue.put(connection, embedding_id, provider=plan.provider)
                    row = {"id": embedding_id, "request_id": request_id or None, "fingerprint": fingerprint}
                    cursor = await connection.execute(_INSERT, {**row, "job_id": job_id, **from_plan(plan)})
                    if cursor.rowcount == 0:
                        # Another call with this request id was faster: the job that was queued goes with the rest.
                        raise psycopg.Rollback
                    await _insert_tracks(connection, embedding_id, plan)
                found = await _get(connection, embedding_id)
            if found is None:
                found = await self.find_request(request_id, fingerprint=fingerprint)
        if found is None:
            # It was deleted between the two looks. The client may use the id again.
            return await self.create(embedding_id, plan, request_id=request_id, fingerprint=fingerprint)
        return found

    async def find_request(self, request_id: str, *, fingerprint: str) -> Embedding | None:
        """See `EmbeddingStore`."""
        query = "SELECT * FROM embeddings_with_tracks WHERE request_id = %s"
        with store_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(query, (request_id,))).fetchone()
        if row is None:
            return None
        if row["request_fingerprint"] != fingerprint:
            raise request_id_reused(request_id)
        return to_embedding(row)

    async def count_unfinished(self) -> int:
        """See `EmbeddingStore`."""
        query = "SELECT count(*) AS n FROM embeddings WHERE state IN ('PENDING', 'PROCESSING')"
        with store_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(query)).fetchone()
        return int(row["n"]) if row else 0

    async def get(self, embedding_id: str) -> Embedding | None:
        """See `EmbeddingStore`."""
        with store_errors():
            async with self._pool.connection() as connection:
                return await _get(connection, embedding_id)

    async def list_page(self, wanted: Filter, *, before_id: str | None, limit: int) -> list[Embedding]:
        """See `EmbeddingStore`."""
        parameters = {
            "before_id": before_id,
            "video_id": wanted.video_id,
            "state": wanted.state,
            "model": wanted.model,
            "limit": limit,
        }
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_LIST, parameters)).fetchall()
        return [to_embedding(row) for row in rows]

    async def cancel(self, embedding_id: str) -> Embedding | None:
        """See `EmbeddingStore`."""
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                parameters = {"id": embedding_id, "before": states_before(State.CANCELLED)}
                # Held until the end of the transaction: no task can be started between the look and the change.
                row = await (await connection.execute(_LOCK_UNFINISHED, parameters)).fetchone()
                if row is not None:
                    message = cancelled_message(to_embedding(row))
                    await connection.execute(_CANCEL, {"id": embedding_id, "message": message})
                    await drop_segments(connection, embedding_id)
                    await self._queue.drop(connection, row["job_id"])
                return await _get(connection, embedding_id)

    async def delete(self, embedding_id: str) -> bool:
        """See `EmbeddingStore`."""
        query = "DELETE FROM embeddings WHERE id = %s RETURNING job_id"
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                row = await (await connection.execute(query, (embedding_id,))).fetchone()
                if row is not None:
                    await self._queue.drop(connection, row["job_id"])
        return row is not None

    async def read_segments(
        self, embedding_id: str, track: str, *, first_index: int, max_segments: int
    ) -> StoredSegments | None:
        """See `EmbeddingStore`."""
        parameters = {
            "id": embedding_id,
            "track": track,
            "first_index": first_index,
            "max_segments": max_segments,
            "max_chunks": _MAX_CHUNKS,
        }
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_CHUNKS, parameters, binary=True)).fetchall()
        return join_segments(rows, first_index=first_index, max_segments=max_segments)

    async def ping(self) -> None:
        """See `EmbeddingStore`."""
        await ping(self._pool)


async def drop_segments(connection: Connection, embedding_id: str) -> None:
    """Drop the vectors of an embedding that will never be complete."""
    await connection.execute("DELETE FROM segment_chunks WHERE embedding_id = %s", (embedding_id,))
    await connection.execute(
        "UPDATE tracks SET segment_count = 0, covered_start_seconds = 0, covered_end_seconds = 0 "
        "WHERE embedding_id = %s",
        (embedding_id,),
    )


async def _get(connection: Connection, embedding_id: str) -> Embedding | None:
    cursor = await connection.execute("SELECT * FROM embeddings_with_tracks WHERE id = %s", (embedding_id,))
    row = await cursor.fetchone()
    return None if row is None else to_embedding(row)


async def _insert_tracks(connection: Connection, embedding_id: str, plan: Plan) -> None:
    await connection.execute(
        "INSERT INTO tracks (embedding_id, name, position) "
        "SELECT %s, name, position FROM unnest(%s::text[]) WITH ORDINALITY AS track (name, position)",
        (embedding_id, list(plan.tracks)),
    )
