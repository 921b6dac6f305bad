"""Looking at embeddings: one, or a page of them."""

from dataclasses import replace

from sage_runtime.fields import check_label, check_page_size
from sage_runtime.ids import check_id
from sage_runtime.paging import make_page_token, read_page_token

from sage_embed.errors import embedding_not_found
from sage_embed.model import Embedding, Filter
from sage_embed.ports import EmbeddingStore


async def get(embedding_id: str, *, store: EmbeddingStore) -> Embedding:
    """Return one embedding as it is now.

    Raises:
        SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND, STORE_UNAVAILABLE.
    """
    check_id(embedding_id, prefix="embed", field="embedding_id")
    embedding = await store.get(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    return embedding


async def list_page(
    wanted: Filter, *, page_size: int, page_token: str, store: EmbeddingStore
) -> tuple[list[Embedding], str]:
    """Return a page of embeddings, newest first, and the token of the next page, empty on the last.

    Raises:
        SageError: FIELD_INVALID, PAGE_TOKEN_INVALID, STORE_UNAVAILABLE.
    """
    limit = check_page_size(page_size)
    if wanted.video_id is not None:
        check_id(wanted.video_id, prefix="video", field="video_id")
    if wanted.model is not None:
        wanted = replace(wanted, model=check_label(wanted.model, field="model", max_length=128))
    scope = f"embeddings\n{wanted.video_id}\n{wanted.state}\n{wanted.model}"
    before_id = read_page_token(page_token, scope=scope)
    # One more than the page holds tells whether there is a next one.
    found = await store.list_page(wanted, before_id=before_id, limit=limit + 1)
    page = found[:limit]
    return page, make_page_token(page[-1].id, scope=scope) if len(found) > limit else ""
