"""Reading, listing, cancelling and deleting embeddings."""

from collections.abc import AsyncGenerator

import numpy as np
from sage_runtime.api import make_page_token, page_size_of, read_page_token
from sage_runtime.errors import invalid_field

from sage_embed.embeddings.model import DEFAULT_TRACK, Embedding, Filter, State, StoredSegments
from sage_embed.embeddings.ports import EmbeddingRepository
from sage_embed.engines.engine import Segments
from sage_embed.errors import embedding_finished, embedding_not_completed, embedding_not_found, track_missing


async def get(embedding_id: str, *, repository: EmbeddingRepository) -> Embedding:
    """Return one embedding in its current state.

    Raises:
        SageError: EMBEDDING_NOT_FOUND, STORE_UNAVAILABLE.
    """
    embedding = await repository.get(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    return embedding


async def list_page(
    matching: Filter, *, page_size: int, page_token: str, repository: EmbeddingRepository
) -> tuple[list[Embedding], str]:
    """Return a page of embeddings, newest first, and the token of the next page (empty on the last).

    Raises:
        SageError: PAGE_TOKEN_INVALID, STORE_UNAVAILABLE.
    """
    limit = page_size_of(page_size)
    scope = f"embeddings\n{matching.video_id}\n{matching.state}\n{matching.model}"
    before_id = read_page_token(page_token, scope=scope)
    # One extra entry shows whether there is a next page.
    found = await repository.list_page(matching, before_id=before_id, limit=limit + 1)
    page = found[:limit]
    return page, make_page_token(page[-1].id, scope=scope) if len(found) > limit else ""


async def cancel(embedding_id: str, *, repository: EmbeddingRepository) -> Embedding:
    """Cancel an embedding and return it. Cancelling it again returns it unchanged.

    Raises:
        SageError: EMBEDDING_NOT_FOUND, EMBEDDING_FINISHED, STORE_UNAVAILABLE.
    """
    embedding = await repository.cancel(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    if embedding.state is not State.CANCELLED:
        raise embedding_finished(embedding)
    return embedding


async def delete(embedding_id: str, *, repository: EmbeddingRepository) -> None:
    """Delete an embedding with its vectors and stop its work.

    Raises:
        SageError: EMBEDDING_NOT_FOUND, STORE_UNAVAILABLE.
    """
    if not await repository.delete(embedding_id):
        raise embedding_not_found(embedding_id)


# Below the 1 MiB that the contract promises per message, with room for the other fields.
_MAX_BYTES = 768 * 1024


def max_segments(dimensions: int) -> int:
    """Return how many segments fit into one message: each is a row of float32 and two float64 times."""
    return max(1, _MAX_BYTES // (4 * dimensions + 16))


def to_stored(segments: Segments) -> list[StoredSegments]:
    """Return segments in the chunks in which they are stored and sent."""
    size = max_segments(segments.vectors.shape[1])
    vectors = np.ascontiguousarray(segments.vectors, dtype="<f4")
    starts = np.asarray(segments.start_seconds, dtype=np.float64)
    ends = np.asarray(segments.end_seconds, dtype=np.float64)
    return [
        StoredSegments(
            first_index=segments.first_index + begin,
            start_seconds=starts[begin : begin + size],
            end_seconds=ends[begin : begin + size],
            vectors=vectors[begin : begin + size].tobytes(),
        )
        for begin in range(0, len(starts), size)
    ]


async def read_segments(
    embedding_id: str, *, track: str, first_index: int, repository: EmbeddingRepository
) -> AsyncGenerator[tuple[StoredSegments, int], None]:
    """Yield the segments of a track in order of time, starting at `first_index`, in chunks with their dimensions.

    A range without segments yields one empty entry. No database connection is held between entries, however slow the
    caller is.

    Raises:
        SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND, EMBEDDING_NOT_COMPLETED, TRACK_MISSING, STORE_UNAVAILABLE.
    """
    embedding = await repository.get(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    if embedding.state is not State.COMPLETED:
        raise embedding_not_completed(embedding)
    name = track or DEFAULT_TRACK
    stored = embedding.track(name)
    if stored is None:
        raise track_missing(embedding, name)
    if first_index > stored.segment_count:
        raise invalid_field("first_index", f"must be at most {stored.segment_count}, the number of segments.")
    dimensions = embedding.plan.dimensions
    if first_index == stored.segment_count:
        yield StoredSegments(first_index, np.empty(0), np.empty(0), b""), dimensions
    while first_index < stored.segment_count:
        segments = await repository.read_segments(
            embedding_id, name, first_index=first_index, max_segments=max_segments(dimensions)
        )
        # A completed embedding never changes, so a gap means that it has been deleted meanwhile.
        if segments is None:
            raise embedding_not_found(embedding_id)
        yield segments, dimensions
        first_index += len(segments)
