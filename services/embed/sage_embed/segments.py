"""Reading the vectors of an embedding, a bounded piece at a time."""

from collections.abc import AsyncGenerator

import numpy as np
from sage_runtime.errors import invalid_field
from sage_runtime.ids import check_id

from sage_embed.engine import Segments
from sage_embed.errors import embedding_not_completed, embedding_not_found, track_missing
from sage_embed.model import DEFAULT_TRACK, State, StoredSegments
from sage_embed.ports import EmbeddingStore

# Under the 1 MiB that the contract promises for a message, with room for its other fields.
MAX_PIECE_BYTES = 768 * 1024


def max_segments(dimensions: int) -> int:
    """Return how many segments fit into one piece: each is a float32 row and two float64 times."""
    return max(1, MAX_PIECE_BYTES // (4 * dimensions + 16))


def to_stored(segments: Segments) -> list[StoredSegments]:
    """Return segments in pieces as they are stored and sent."""
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
    embedding_id: str, *, track: str, first_index: int, store: EmbeddingStore
) -> AsyncGenerator[tuple[StoredSegments, int], None]:
    """Yield the segments of a track from `first_index` on in the order of time, with the dimensions of the vectors.

    Where there are none to send, one empty piece is yielded. No connection is held while the caller takes its time.

    Raises:
        SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND, EMBEDDING_NOT_COMPLETED, TRACK_MISSING, STORE_UNAVAILABLE.
    """
    check_id(embedding_id, prefix="embed", field="embedding_id")
    embedding = await store.get(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    if embedding.state is not State.COMPLETED:
        raise embedding_not_completed(embedding)
    name = track or DEFAULT_TRACK
    stored = embedding.track(name)
    if stored is None:
        raise track_missing(embedding, name[:64])
    if not 0 <= first_index <= stored.segment_count:
        raise invalid_field("first_index", f"must be 0 to {stored.segment_count}, the number of segments.")
    dimensions = embedding.plan.dimensions
    if first_index == stored.segment_count:
        yield StoredSegments(first_index, np.empty(0), np.empty(0), b""), dimensions
    while first_index < stored.segment_count:
        piece = await store.read_segments(
            embedding_id, name, first_index=first_index, max_segments=max_segments(dimensions)
        )
        # What completed never changes, so a gap means that it was deleted meanwhile.
        if piece is None:
            raise embedding_not_found(embedding_id)
        yield piece, dimensions
        first_index += len(piece)
