"""What comparing needs from the outside."""

from typing import Protocol

from sage_compare.model import Clips, Embedding


class EmbeddingReader(Protocol):
    """Reads embeddings and their vectors. Failures come as `SageError`."""

    async def get(self, embedding_id: str) -> Embedding:
        """Return an embedding as it is now.

        Raises:
            SageError: EMBEDDING_NOT_FOUND, SERVICE_UNAVAILABLE.
        """
        ...

    async def read_clips(self, embedding: Embedding, track: str) -> Clips:
        """Return the clips of a track that the embedding has.

        Raises:
            SageError: EMBEDDING_NOT_FOUND, EMBEDDING_NOT_COMPLETED, TRACK_MISSING, SERVICE_UNAVAILABLE.
            ValueError: What was read is not a track.
        """
        ...
