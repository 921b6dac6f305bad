"""The segments of a track, ready to compare: the port that reads them and the cache in front of it."""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sage_compare.inputs.cache import ReadCache
from sage_compare.inputs.embedding import Embedding

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Rows that are copied are handled in blocks that stay in a core's second-level cache (1 MiB and more on current server
# processors) between being written and being read again.
_BLOCK_BYTES = 512 * 1024


@dataclass(frozen=True)
class Segments:
    """The segments of one track in order of time. Build them with `Segments.of`, which checks and scales.

    Attributes:
        starts: Start of each in seconds, shape ``(n,)``.
        ends: End of each in seconds, shape ``(n,)``.
        units: The vectors scaled to length 1, shape ``(n, dimensions)``, contiguous. A zero vector stays zero.
        zero: Which vectors are zero, shape ``(n,)``. `None` if none is, as usual.
    """

    starts: Floats
    ends: Floats
    units: Vectors
    zero: Mask | None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        zero = 0 if self.zero is None else self.zero.nbytes
        return self.starts.nbytes + self.ends.nbytes + self.units.nbytes + zero

    @classmethod
    def of(cls, starts: ArrayLike, ends: ArrayLike, vectors: Vectors) -> Self:
        """Return segments with their vectors scaled to length 1.

        Lengths are computed in float64, in which no float32 vector overflows or underflows.

        Args:
            starts: Start of each segment in seconds, shape ``(n,)``.
            ends: End of each segment in seconds, shape ``(n,)``.
            vectors: Shape ``(n, dimensions)``. Not changed.

        Raises:
            ValueError: Shapes do not match, a segment does not end after it starts, segments are not in order of time
                from 0, or a number is not finite.
        """
        starts, ends = np.asarray(starts, np.float64), np.asarray(ends, np.float64)
        if vectors.ndim != 2 or not starts.shape == ends.shape == (len(vectors),):
            raise ValueError(f"shapes must match: {starts.shape} starts, {ends.shape} ends, {vectors.shape} vectors")
        if not (np.isfinite(starts).all() and np.isfinite(ends).all() and (ends > starts).all()):
            raise ValueError("every segment must start and end at a finite time, and end after it starts")
        if (starts < 0.0).any() or (starts[1:] <= starts[:-1]).any():
            raise ValueError("segments must start at 0 or later and be in order of time")
        units = np.empty(vectors.shape, np.float32)
        zero = np.zeros(len(vectors), np.bool_)
        for first, last in blocks(len(vectors), vectors.shape[1] * 8):
            block = vectors[first:last].astype(np.float64)
            lengths = np.sqrt(np.vecdot(block, block))
            if not np.isfinite(lengths).all():
                raise ValueError("every number of a vector must be finite")
            zero[first:last] = lengths == 0.0
            lengths[lengths == 0.0] = 1.0
            block /= lengths[:, np.newaxis]
            units[first:last] = block
        return cls(starts, ends, units, zero if zero.any() else None)


def blocks(count: int, row_bytes: int) -> list[tuple[int, int]]:
    """Return ``[first, last)`` of each block of rows that fits a core's cache."""
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    return [(first, min(first + step, count)) for first in range(0, count, step)]


class EmbeddingReader(Protocol):
    """Reads embeddings and their segments. Failures are raised as `SageError`."""

    async def get(self, embedding_id: str) -> Embedding:
        """Return an embedding as it is now.

        Raises:
            SageError: EMBEDDING_NOT_FOUND, SERVICE_UNAVAILABLE, STORE_UNAVAILABLE.
        """
        ...

    async def read_segments(self, embedding: Embedding, track: str) -> Segments:
        """Return the segments of a track that the embedding has.

        Raises:
            SageError: EMBEDDING_NOT_FOUND, EMBEDDING_NOT_COMPLETED, TRACK_MISSING, SERVICE_UNAVAILABLE,
                STORE_UNAVAILABLE.
            ValueError: The source sent something that is not a track.
        """
        ...

    async def tracks_of_model(self, model: str) -> frozenset[str]:
        """Return the names of the tracks that a model makes; none if the embed service no longer has the model.

        Raises:
            SageError: SERVICE_UNAVAILABLE, STORE_UNAVAILABLE.
        """
        ...

    async def check(self) -> None:
        """Raise if embeddings cannot currently be read."""
        ...


class SegmentCache:
    """Caches recently used segments, by embedding, track and revision, up to a number of bytes.

    A completed embedding never changes, so no entry becomes stale. The segments of a deleted embedding are not served
    either, because `sage_compare.comparer` looks the embedding up in each call; they are evicted as others are added.

    Args:
        reader: Source of segments.
        max_bytes: Memory for the cached arrays. Larger segments are returned but not cached.
        max_reads: How many tracks may be read at once; each is held in memory while it is read.
    """

    def __init__(self, reader: EmbeddingReader, *, max_bytes: int, max_reads: int) -> None:
        self._reader = reader
        self._cache = ReadCache[tuple[str, str, int], Segments](max_bytes=max_bytes, max_reads=max_reads)

    @property
    def nbytes(self) -> int:
        """Memory of the cached arrays in bytes."""
        return self._cache.nbytes

    async def segments(self, embedding: Embedding, track: str) -> Segments:
        """Return the segments of a track, from the cache if they are in it.

        Raises:
            SageError: As `EmbeddingReader.read_segments`.
            ValueError: As `EmbeddingReader.read_segments`.
        """
        key = (embedding.id, track, embedding.revision)
        return await self._cache.get(key, lambda: self._reader.read_segments(embedding, track))
