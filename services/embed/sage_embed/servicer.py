"""The gRPC face of embed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc

from sage_embed import browse, cancel, convert, create, segments, watch
from sage_embed.engines import Engines
from sage_embed.ports import ChangeFeed, EmbeddingStore, VideoCatalog
from sage_embed.shared_reads import SharedReads

SERVICE_NAME = embed_pb2.DESCRIPTOR.services_by_name["EmbedService"].full_name

# More wait for their turn: two hundred that come together would else hold up health and every other call.
_CREATES_AT_ONCE = 8

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Needs:
    """What the service works with.

    Attributes:
        store: Where embeddings are kept.
        feed: Tells of changes to them.
        videos: Knows videos.
        engines: Who computes.
        watch_times: How long a watch waits.
        max_unfinished: Embeddings that may wait or be worked on at once.
    """

    store: EmbeddingStore
    feed: ChangeFeed
    videos: VideoCatalog
    engines: Engines
    watch_times: watch.WatchTimes
    max_unfinished: int


class EmbedServicer(embed_pb2_grpc.EmbedServiceServicer):
    """Serves `sage.embed.v1.EmbedService`."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._creating = asyncio.Semaphore(_CREATES_AT_ONCE)
        self._reads = SharedReads(needs.store)

    async def CreateEmbedding(
        self, request: embed_pb2.CreateEmbeddingRequest, context: _Context
    ) -> embed_pb2.CreateEmbeddingResponse:
        """Record an embedding and queue its work."""
        async with self._creating:
            embedding = await create.create(
                convert.to_create_request(request),
                store=self._needs.store,
                videos=self._needs.videos,
                engines=self._needs.engines,
                max_unfinished=self._needs.max_unfinished,
            )
        return embed_pb2.CreateEmbeddingResponse(embedding=convert.from_embedding(embedding))

    async def GetEmbedding(
        self, request: embed_pb2.GetEmbeddingRequest, context: _Context
    ) -> embed_pb2.GetEmbeddingResponse:
        """Answer one embedding."""
        embedding = await browse.get(request.embedding_id, store=self._needs.store)
        return embed_pb2.GetEmbeddingResponse(embedding=convert.from_embedding(embedding))

    async def ListEmbeddings(
        self, request: embed_pb2.ListEmbeddingsRequest, context: _Context
    ) -> embed_pb2.ListEmbeddingsResponse:
        """Answer a page of embeddings."""
        page, next_page_token = await browse.list_page(
            convert.to_filter(request),
            page_size=request.page_size,
            page_token=request.page_token,
            store=self._needs.store,
        )
        return embed_pb2.ListEmbeddingsResponse(
            embeddings=[convert.from_embedding(embedding) for embedding in page], next_page_token=next_page_token
        )

    async def DeleteEmbedding(
        self, request: embed_pb2.DeleteEmbeddingRequest, context: _Context
    ) -> embed_pb2.DeleteEmbeddingResponse:
        """Delete an embedding."""
        await cancel.delete(request.embedding_id, store=self._needs.store)
        return embed_pb2.DeleteEmbeddingResponse()

    async def WatchEmbedding(
        self, request: embed_pb2.WatchEmbeddingRequest, context: _Context
    ) -> AsyncIterator[embed_pb2.WatchEmbeddingResponse]:
        """Send an embedding and its changes."""
        changes = watch.watch(
            request.embedding_id,
            after_revision=request.after_revision,
            reads=self._reads,
            feed=self._needs.feed,
            times=self._needs.watch_times,
        )
        async with aclosing(changes):
            async for embedding in changes:
                yield convert.to_watch_response(embedding)

    async def CancelEmbedding(
        self, request: embed_pb2.CancelEmbeddingRequest, context: _Context
    ) -> embed_pb2.CancelEmbeddingResponse:
        """Cancel an embedding."""
        embedding = await cancel.cancel(request.embedding_id, store=self._needs.store)
        return embed_pb2.CancelEmbeddingResponse(embedding=convert.from_embedding(embedding))

    async def ReadSegments(
        self, request: embed_pb2.ReadSegmentsRequest, context: _Context
    ) -> AsyncIterator[embed_pb2.ReadSegmentsResponse]:
        """Send the vectors of a track."""
        pieces = segments.read_segments(
            request.embedding_id, track=request.track, first_index=request.first_index, store=self._needs.store
        )
        async with aclosing(pieces):
            async for piece, dimensions in pieces:
                yield convert.from_segments(piece, dimensions)

    async def ListModels(self, request: embed_pb2.ListModelsRequest, context: _Context) -> embed_pb2.ListModelsResponse:
        """Answer the models."""
        models = await self._needs.engines.models()
        return embed_pb2.ListModelsResponse(models=[convert.from_model(model) for model in models])
