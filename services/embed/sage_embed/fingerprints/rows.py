"""Rows of fingerprints in PostgreSQL: what repositories change of them in their transactions."""

import psycopg

from sage_embed.embeddings.model import Progress, State, Video
from sage_embed.embeddings.rows import Row, from_video, to_failure, to_video
from sage_embed.fingerprints.model import VERSION, Fingerprint, Part
from sage_embed.jobs.queue import FINGERPRINT, Connection, JobQueue, fingerprint_queue_of

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
LOCK = "SELECT *, now() AS claim_time FROM fingerprints WHERE id = %s FOR UPDATE"

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

# A worker that has lost its job may still be sending one, and a client may still be reading one.
DISCARD = """
UPDATE fingerprint_objects SET remove_time = now() + interval '10 minutes'
WHERE fingerprint_id = %s AND remove_time IS NULL
"""


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
    row = await (await connection.execute(LOCK, (video.id,))).fetchone()
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
        await connection.execute(DISCARD, (video.id,))
        await connection.execute("DELETE FROM fingerprint_requests WHERE fingerprint_id = %s", (video.id,))
        await drop_work(connection, queue, video.id, row["job_id"])


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
        part=None if row.get("end_block") is None else Part(row["next_block"], row["end_block"]),
    )


async def drop_work(connection: Connection, queue: JobQueue, video_id: str, job_id: int) -> None:
    """Remove the parts of a fingerprint and their jobs; if there are none, the job of the fingerprint."""
    if not await drop_parts(connection, queue, video_id):
        await _drop_job(connection, queue, job_id)


async def drop_parts(connection: Connection, queue: JobQueue, video_id: str, *, keep: int | None = None) -> int:
    """Remove the parts of a fingerprint and their jobs, except a job to `keep`. Return how many parts there were."""
    query = "DELETE FROM fingerprint_parts WHERE fingerprint_id = %s RETURNING job_id"
    parts = await (await connection.execute(query, (video_id,))).fetchall()
    for part in parts:
        if part["job_id"] != keep:
            await queue.drop(connection, part["job_id"])
    return len(parts)


async def _drop_job(connection: Connection, queue: JobQueue, job_id: int) -> None:
    """Remove the job of a fingerprint, unless it is also that of an embedding, which continues."""
    if await (await connection.execute(_EMBEDDING_OF_JOB, (job_id,))).fetchone() is None:
        await queue.drop(connection, job_id)
