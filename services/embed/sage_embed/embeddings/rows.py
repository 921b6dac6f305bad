"""Rows of PostgreSQL and the embeddings, recipes and segments that they hold."""

from typing import Any

import numpy as np
from sage.ingest.v1 import media_pb2
from sage_runtime.errors import Reason

from sage_embed.embeddings.model import Embedding, Failure, Plan, Progress, Recipe, State, StoredSegments, Track, Video
from sage_embed.embeddings.pictures import picture_of

Row = dict[str, Any]


def to_embedding(row: Row) -> Embedding:
    """Return the embedding of a row of `embeddings_with_tracks`."""
    return Embedding(
        id=row["id"],
        plan=Plan(
            video=to_video(row, row["video_id"]),
            model=row["model"],
            model_revision=row["model_revision"],
            provider=row["provider"],
            dimensions=row["dimensions"],
            clip_seconds=row["clip_seconds"],
            tracks=tuple(row["requested_tracks"]),
        ),
        state=State(row["state"]),
        progress=Progress(row["progress"], row["progress_message"]),
        tracks=tuple(Track(*track) for track in row["tracks"]),
        provider_task_id=row["provider_task_id"],
        failure=to_failure(row),
        create_time=row["create_time"],
        start_time=row["start_time"],
        finish_time=row["finish_time"],
        revision=row["revision"],
        attempts=row["attempts"],
        submitted_url=row["submitted_url"],
        submitted_key=row["submitted_key"],
        submitted_at=row["submitted_at"],
        task_adopted=row["task_adopted"],
        claim_time=row.get("claim_time"),
    )


def to_video(row: Row, video_id: str) -> Video:
    """Return the video that a row describes."""
    media = bytes(row["video_media"])
    return Video(
        id=video_id,
        duration_seconds=row["video_duration_seconds"],
        start_offset_seconds=row["video_start_offset_seconds"],
        has_audio=row["video_has_audio"],
        size_bytes=row["video_size_bytes"],
        width=row["video_width"],
        height=row["video_height"],
        picture=picture_of(media_pb2.Media.FromString(media)),
        media=media,
    )


def from_video(video: Video) -> Row:
    """Return the columns that describe a video, without its ID."""
    return {
        "video_duration_seconds": video.duration_seconds,
        "video_start_offset_seconds": video.start_offset_seconds,
        "video_has_audio": video.has_audio,
        "video_size_bytes": video.size_bytes,
        "video_width": video.width,
        "video_height": video.height,
        "video_media": video.media,
    }


def to_failure(row: Row) -> Failure | None:
    """Return why the work failed, or `None`."""
    reason = row["failure_reason"]
    return None if reason is None else Failure(Reason(reason), row["failure_message"])


def from_plan(plan: Plan) -> Row:
    """Return the columns of a plan."""
    return {
        **from_recipe(plan.recipe),
        **from_video(plan.video),
        "provider": plan.provider,
        "dimensions": plan.dimensions,
    }


def from_recipe(recipe: Recipe) -> Row:
    """Return the columns of a recipe, which the index `embeddings_by_recipe` covers."""
    return {
        "video_id": recipe.video_id,
        "model": recipe.model,
        "model_revision": recipe.model_revision,
        "clip_seconds": recipe.clip_seconds,
        "requested_tracks": list(recipe.tracks),
    }


def from_segments(chunk: StoredSegments) -> Row:
    """Return the columns of a chunk."""
    return {
        "first_index": chunk.first_index,
        "segment_count": len(chunk),
        "start_seconds": chunk.start_seconds.astype("<f8").tobytes(),
        "end_seconds": chunk.end_seconds.astype("<f8").tobytes(),
        "vectors": chunk.vectors,
    }


def join_segments(rows: list[Row], *, first_index: int, max_segments: int) -> StoredSegments | None:
    """Return at most `max_segments` segments of consecutive chunks from `first_index`, or `None` if there are none."""
    if not rows:
        return None
    count = sum(row["segment_count"] for row in rows)
    vectors = b"".join(row["vectors"] for row in rows)
    row_bytes = len(vectors) // count
    begin = first_index - rows[0]["first_index"]
    end = min(count, begin + max_segments)
    if not 0 <= begin < end:
        return None
    return StoredSegments(
        first_index=first_index,
        start_seconds=np.frombuffer(b"".join(row["start_seconds"] for row in rows), "<f8")[begin:end],
        end_seconds=np.frombuffer(b"".join(row["end_seconds"] for row in rows), "<f8")[begin:end],
        vectors=vectors[begin * row_bytes : end * row_bytes],
    )


def clean(text: str) -> str:
    """Return a text that PostgreSQL can store: without NUL and lone surrogates, both of which JSON may contain."""
    return text.replace("\0", "").encode(errors="replace").decode()
