"""Embeddings in PostgreSQL, as the API uses them."""

from collections.abc import Collection
from datetime import timedelta

import psycopg
from sage_runtime.postgres import Pool, ping, store_errors

from sage_embed.embeddings.model import (
    LOCAL_PROVIDER,
    Embedding,
    Filter,
    Plan,
    Recipe,
    State,
    StoredSegments,
    cancelled_message,
    states_before,
)
from sage_embed.embeddings.ports import EmbeddingRepository
from sage_embed.embeddings.rows import from_plan, from_recipe, join_segments, to_embedding
from sage_embed.errors import request_id_reused
from sage_embed.fingerprints.rows import ensure_fingerprint, move_shared_fingerprint
from sage_embed.jobs.queue import EMBED, Connection, JobQueue, queue_of

# Two transactions for one recipe: the second waits here until the first has committed, then inserts nothing. The
# predicate is that of the index `embeddings_by_recipe`.
_INSERT = """
INSERT INTO embeddings (
    id, job_id, state, progress_message, reusable, requested_without_id, video_id, video_duration_seconds,
    video_start_offset_seconds, video_has_audio, video_size_bytes, video_width, video_height, video_media, model,
    model_revision, provider, dimensions, clip_seconds, requested_tracks
) VALUES (
    %(id)s, %(job_id)s, 'PENDING', 'Waiting for a worker.', true, %(request_id)s = '', %(video_id)s,
    %(video_duration_seconds)s, %(video_start_offset_seconds)s, %(video_has_audio)s, %(video_size_bytes)s,
    %(video_width)s, %(video_height)s, %(video_media)s, %(model)s, %(model_revision)s, %(provider)s, %(dimensions)s,
    %(clip_seconds)s, %(requested_tracks)s
) ON CONFLICT (video_id, model, model_revision, clip_seconds, requested_tracks)
WHERE reusable AND state IN ('PENDING', 'PROCESSING', 'COMPLETED') DO NOTHING
"""

# TwelveLabs keeps tasks for a week. A task belongs to one embedding that has not failed or been cancelled.
_ADOPT = """
UPDATE embeddings AS e SET
    provider_task_id = old.provider_task_id, submitted_url = old.submitted_url, submitted_key = old.submitted_key,
    submitted_at = old.submitted_at, task_adopted = true
FROM (
    SELECT * FROM embeddings
    WHERE video_id = %(video_id)s AND model = %(model)s AND model_revision = %(model_revision)s
        AND clip_seconds = %(clip_seconds)s AND requested_tracks = %(requested_tracks)s AND provider = %(provider)s
        AND state IN ('FAILED', 'CANCELLED') AND submitted_at > now() - interval '7 days'
    ORDER BY id DESC LIMIT 1
) AS old
WHERE e.id = %(id)s AND (old.provider_task_id <> '' OR old.submitted_url <> '') AND NOT EXISTS (
    SELECT FROM embeddings AS owner
    WHERE owner.provider = old.provider AND owner.provider_task_id = old.provider_task_id
        AND owner.provider_task_id <> '' AND owner.state IN ('PENDING', 'PROCESSING', 'COMPLETED')
)
"""

_INSERT_TRACKS = """
INSERT INTO tracks (embedding_id, name) SELECT %(id)s, unnest(%(requested_tracks)s::text[])
"""

_INSERT_REQUEST = """
INSERT INTO embedding_requests (request_id, fingerprint, embedding_id)
VALUES (%(request_id)s, %(fingerprint)s, %(id)s) ON CONFLICT (request_id) DO NOTHING
"""

_REPLACE = """
UPDATE embeddings SET reusable = false
WHERE reusable AND video_id = %(video_id)s AND model = %(model)s AND model_revision = %(model_revision)s
    AND clip_seconds = %(clip_seconds)s AND requested_tracks = %(requested_tracks)s
"""

_REUSE = """
SELECT * FROM embeddings_with_tracks
WHERE reusable AND state IN ('PENDING', 'PROCESSING', 'COMPLETED')
    AND video_id = %(video_id)s AND model = %(model)s AND model_revision = %(model_revision)s
    AND clip_seconds = %(clip_seconds)s AND requested_tracks = %(requested_tracks)s
-- A withdrawal in progress is waited for. If it cancels the embedding, that is not reusable any more.
FOR KEY SHARE
"""

_NOTE_REQUEST_WITHOUT_ID = """
UPDATE embeddings SET requested_without_id = true
WHERE id = %s AND NOT requested_without_id AND state IN ('PENDING', 'PROCESSING')
"""

_WITHDRAW = """
UPDATE embedding_requests SET withdrawn = true WHERE request_id = %(request_id)s AND embedding_id = %(id)s
"""

_STILL_WANTED = """
SELECT requested_without_id OR EXISTS (
    SELECT FROM embedding_requests WHERE embedding_id = %(id)s AND NOT withdrawn
) OR EXISTS (
    SELECT FROM embedding_watches WHERE embedding_id = %(id)s AND expire_time > now()
) AS wanted
FROM embeddings WHERE id = %(id)s
"""

# A withdrawal in progress is waited for. If it cancels the embedding, there is nothing left to wait for.
_KEEP_WATCHES = """
INSERT INTO embedding_watches (embedding_id, replica, expire_time)
SELECT id, %(replica)s, now() + %(valid_for)s FROM embeddings
WHERE id = ANY(%(embedding_ids)s) AND state IN ('PENDING', 'PROCESSING') FOR KEY SHARE
ON CONFLICT (embedding_id, replica) DO UPDATE SET expire_time = EXCLUDED.expire_time
"""

# Rows that another replica is deleting are skipped, or the two could wait for each other.
_DROP_WATCHES = """
DELETE FROM embedding_watches WHERE (embedding_id, replica) IN (
    SELECT embedding_id, replica FROM embedding_watches
    WHERE (replica = %(replica)s AND embedding_id = ANY(%(embedding_ids)s)) OR expire_time < now()
    FOR UPDATE SKIP LOCKED
)
"""

_FIND_REQUEST = """
SELECT e.*, request.fingerprint FROM embedding_requests AS request
JOIN embeddings_with_tracks AS e ON e.id = request.embedding_id
WHERE request.request_id = %s
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
    state = 'CANCELLED', finish_time = now(), revision = revision + 1, progress_message = %(message)s
WHERE id = %(id)s
"""

# The chunk that holds `first_index` and those after it, until there are enough segments.
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


class PostgresEmbeddingRepository(EmbeddingRepository):
    """Stores embeddings in PostgreSQL.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it.
        queue: Queues work in the same transaction.
    """

    def __init__(self, pool: Pool, queue: JobQueue) -> None:
        self._pool = pool
        self._queue = queue

    async def create(
        self, embedding_id: str, plan: Plan, *, request_id: str, fingerprint: str, force: bool = False
    ) -> Embedding:
        # Another call may win the race for the recipe or the request ID, and its embedding may be deleted before it is
        # read here. Each turn of the loop means that another call has made progress.
        while True:
            created = await self._insert(
                embedding_id, plan, request_id=request_id, fingerprint=fingerprint, force=force
            )
            if created is not None:
                return created
            if request_id:
                known = await self.find_request(request_id, fingerprint=fingerprint)
                if known is not None:
                    return known
            if not force:
                existing = await self.reuse(plan.recipe, request_id=request_id, fingerprint=fingerprint)
                if existing is not None:
                    return existing

    async def _insert(
        self, embedding_id: str, plan: Plan, *, request_id: str, fingerprint: str, force: bool
    ) -> Embedding | None:
        """Insert an embedding, or nothing and return `None` if its recipe or its request ID is in use."""
        row = {"id": embedding_id, "request_id": request_id, "fingerprint": fingerprint, **from_plan(plan)}
        with store_errors():
            async with self._pool.connection() as connection:
                async with connection.transaction():
                    row["job_id"] = await self._queue.put(
                        connection, EMBED, embedding_id, queue=queue_of(plan.provider)
                    )
                    if force:
                        await connection.execute(_REPLACE, row)
                    if (await connection.execute(_INSERT, row)).rowcount == 0:
                        raise psycopg.Rollback
                    await connection.execute(_INSERT_TRACKS, row)
                    if not force:
                        await connection.execute(_ADOPT, row)
                    if request_id and (await connection.execute(_INSERT_REQUEST, row)).rowcount == 0:
                        raise psycopg.Rollback
                    # The local model decodes the whole film, so the same pass makes the fingerprint.
                    shared = row["job_id"] if plan.provider == LOCAL_PROVIDER else None
                    await ensure_fingerprint(connection, self._queue, plan.video, renew=True, shared_job_id=shared)
                return await _get(connection, embedding_id)

    async def reuse(self, recipe: Recipe, *, request_id: str, fingerprint: str) -> Embedding | None:
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                row = await (await connection.execute(_REUSE, from_recipe(recipe))).fetchone()
                if row is None:
                    return None
                # The embedding may be older than fingerprints are.
                await ensure_fingerprint(connection, self._queue, to_embedding(row).plan.video, renew=False)
                if not request_id:
                    await connection.execute(_NOTE_REQUEST_WITHOUT_ID, (row["id"],))
                    return to_embedding(row)
                request = {"request_id": request_id, "fingerprint": fingerprint, "id": row["id"]}
                try:
                    async with connection.transaction():
                        remembered = (await connection.execute(_INSERT_REQUEST, request)).rowcount == 1
                except psycopg.errors.ForeignKeyViolation:
                    # It was deleted after it was read.
                    return None
        if remembered:
            return to_embedding(row)
        # A concurrent call used the request ID first.
        return await self.find_request(request_id, fingerprint=fingerprint)

    async def find_request(self, request_id: str, *, fingerprint: str) -> Embedding | None:
        with store_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_FIND_REQUEST, (request_id,))).fetchone()
        if row is None:
            return None
        if row["fingerprint"] != fingerprint:
            raise request_id_reused(request_id)
        return to_embedding(row)

    async def count_unfinished(self) -> int:
        query = "SELECT count(*) AS n FROM embeddings WHERE state IN ('PENDING', 'PROCESSING')"
        with store_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(query)).fetchone()
        return int(row["n"]) if row else 0

    async def get(self, embedding_id: str) -> Embedding | None:
        with store_errors():
            async with self._pool.connection() as connection:
                return await _get(connection, embedding_id)

    async def list_page(self, matching: Filter, *, before_id: str | None, limit: int) -> list[Embedding]:
        parameters = {
            "before_id": before_id,
            "video_id": matching.video_id,
            "state": matching.state,
            "model": matching.model,
            "limit": limit,
        }
        with store_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_LIST, parameters)).fetchall()
        return [to_embedding(row) for row in rows]

    async def cancel(self, embedding_id: str, *, withdrawing: str = "") -> Embedding | None:
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                parameters = {"id": embedding_id, "before": states_before(State.CANCELLED)}
                # Locked until the transaction ends: no task can be started between the read and the change, and no
                # other request can receive it.
                row = await (await connection.execute(_LOCK_UNFINISHED, parameters)).fetchone()
                wanted = bool(row and withdrawing) and await _wanted_without(connection, embedding_id, withdrawing)
                if row is not None and not wanted:
                    message = cancelled_message(to_embedding(row))
                    await connection.execute(_CANCEL, {"id": embedding_id, "message": message})
                    await drop_segments(connection, embedding_id)
                    await move_shared_fingerprint(connection, self._queue, row["job_id"], to=None)
                    await self._queue.drop(connection, row["job_id"])
                return await _get(connection, embedding_id)

    async def keep_watches(self, replica: str, embedding_ids: Collection[str], *, valid_for: timedelta) -> None:
        row = {"replica": replica, "embedding_ids": list(embedding_ids), "valid_for": valid_for}
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_KEEP_WATCHES, row)

    async def drop_watches(self, replica: str, embedding_ids: Collection[str]) -> None:
        row = {"replica": replica, "embedding_ids": list(embedding_ids)}
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_DROP_WATCHES, row)

    async def delete(self, embedding_id: str) -> bool:
        query = "DELETE FROM embeddings WHERE id = %s RETURNING job_id"
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                row = await (await connection.execute(query, (embedding_id,))).fetchone()
                if row is not None:
                    await move_shared_fingerprint(connection, self._queue, row["job_id"], to=None)
                    await self._queue.drop(connection, row["job_id"])
        return row is not None

    async def read_segments(
        self, embedding_id: str, track: str, *, first_index: int, max_segments: int
    ) -> StoredSegments | None:
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

    async def check(self) -> None:
        await ping(self._pool)


async def _wanted_without(connection: Connection, embedding_id: str, request_id: str) -> bool:
    """Withdraw a request, and return whether another one received the embedding, or anyone else watches it."""
    parameters = {"id": embedding_id, "request_id": request_id}
    await connection.execute(_WITHDRAW, parameters)
    row = await (await connection.execute(_STILL_WANTED, parameters)).fetchone()
    return bool(row and row["wanted"])


async def drop_segments(connection: Connection, embedding_id: str) -> None:
    """Delete the vectors of an embedding that will never complete."""
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
