"""Ending an embedding from outside: cancel it, or delete it."""

from sage_runtime.ids import check_id

from sage_embed.errors import embedding_finished, embedding_not_found
from sage_embed.model import Embedding, State
from sage_embed.ports import EmbeddingStore


async def cancel(embedding_id: str, *, store: EmbeddingStore) -> Embedding:
    """Cancel an embedding and return it, CANCELLED in the store. Cancelling again returns it as it is.

    Raises:
        SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND, EMBEDDING_FINISHED, STORE_UNAVAILABLE.
    """
    check_id(embedding_id, prefix="embed", field="embedding_id")
    embedding = await store.cancel(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    if embedding.state is not State.CANCELLED:
        raise embedding_finished(embedding)
    return embedding


async def delete(embedding_id: str, *, store: EmbeddingStore) -> None:
    """Delete an embedding with its vectors; its work stops.

    Raises:
        SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND, STORE_UNAVAILABLE.
    """
    check_id(embedding_id, prefix="embed", field="embedding_id")
    if not await store.delete(embedding_id):
        raise embedding_not_found(embedding_id)
