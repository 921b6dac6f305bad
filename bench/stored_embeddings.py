"""Writes embeddings straight to the embed service's tables, as if a worker had made them.

No model here makes vectors of the size that the benchmarks need, and none could be paused in the middle of its work.
"""

from typing import Literal

import numpy as np
import psycopg
from numpy.typing import NDArray
from sage.ingest.v1 import media_pb2
from sage_runtime.api import new_id

TRACK = "visual"
# As many as the embed service writes to one row of its table.
_SEGMENTS_PER_ROW = 64


def store_embedding(
    dsn: str,
    *,
    state: Literal["PROCESSING", "COMPLETED"],
    duration_seconds: float,
    segment_count: int,
    dimensions: int,
    clip_seconds: float = 2.0,
    vectors: NDArray[np.float32] | None = None,
) -> str:
    """Store an embedding of a new video with one visual track and return its ID.

    Args:
        dsn: The database, as the embed service's role.
        state: Its state.
        duration_seconds: Length of its video.
        segment_count: Number of segments that the track is said to have.
        dimensions: Numbers per vector.
        clip_seconds: Length of a segment.
        vectors: The vectors, shape ``(segment_count, dimensions)``. `None` if no one will read them.
    """
    embedding_id = new_id("embed")
    media = media_pb2.Media(
        duration_seconds=duration_seconds,
        frame_rate=media_pb2.FrameRate(numerator=24, denominator=1),
        frame_rate_mode=media_pb2.FRAME_RATE_MODE_CONSTANT,
        width=1920,
        height=1080,
    )
    with psycopg.connect(dsn, options="-c search_path=embed") as connection:
        connection.execute(
            """
            INSERT INTO embeddings (
                id, video_id, video_duration_seconds, video_start_offset_seconds, video_media, model, model_revision,
                provider, dimensions, clip_seconds, state, progress, finish_time, job_id, requested_tracks
            ) VALUES (
                %(id)s, %(video_id)s, %(duration)s, 0, %(media)s, 'bench', '1', 'bench', %(dimensions)s, %(clip)s,
                %(state)s, %(progress)s, CASE WHEN %(completed)s THEN now() END, 0, ARRAY[%(track)s]
            )
            """,
            {
                "id": embedding_id,
                "video_id": new_id("video"),
                "duration": duration_seconds,
                "media": media.SerializeToString(),
                "dimensions": dimensions,
                "clip": clip_seconds,
                "state": state,
                "progress": 1.0 if state == "COMPLETED" else 0.5,
                "completed": state == "COMPLETED",
                "track": TRACK,
            },
        )
        connection.execute(
            "INSERT INTO tracks (embedding_id, name, segment_count, covered_start_seconds, covered_end_seconds)"
            " VALUES (%s, %s, %s, 0, %s)",
            (embedding_id, TRACK, segment_count, segment_count * clip_seconds),
        )
        if vectors is not None:
            _store_segments(connection, embedding_id, vectors, clip_seconds=clip_seconds)
    return embedding_id


def _store_segments(
    connection: psycopg.Connection, embedding_id: str, vectors: NDArray[np.float32], *, clip_seconds: float
) -> None:
    starts = np.arange(len(vectors)) * clip_seconds
    for first in range(0, len(vectors), _SEGMENTS_PER_ROW):
        rows = slice(first, first + _SEGMENTS_PER_ROW)
        connection.execute(
            "INSERT INTO segment_chunks"
            " (embedding_id, track, first_index, segment_count, start_seconds, end_seconds, vectors)"
            " VALUES (%s, %s, %s, %s, %s, %s, %b)",
            (
                embedding_id,
                TRACK,
                first,
                len(vectors[rows]),
                starts[rows].tobytes(),
                (starts[rows] + clip_seconds).tobytes(),
                vectors[rows].tobytes(),
            ),
        )
