"""RPCs of embed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from typing import Any

import grpc
from sage.embed.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    embed_pb2,
    embed_pb2_grpc,
    fingerprint_pb2,
    fingerprint_pb2_grpc,
)

from sage_embed import convert
from sage_embed.embeddings import lifecycle, watch
from sage_embed.embeddings.ports import ChangeFeed, EmbeddingRepository, VideoCatalog
from sage_embed.embeddings.watch_leases import WatchLeases
from sage_embed.engines.engine import Engines
from sage_embed.errors import embedding_not_found, fingerprint_not_found
from sage_embed.fingerprints import lifecycle as fingerprints
from sage_embed.fingerprints.ports import FingerprintObjects, FingerprintRepository
from sage_embed.keys import api_keys
from sage_embed.keys.api_keys import CurrentKey
from sage_embed.keys.model import ApiKeyRepository, KeyChecker

SERVICE_NAME = embed_pb2.DESCRIPTOR.services_by_name["EmbedService"].full_name

# Further calls wait: 200 at once would otherwise delay health checks and every other call.
_CONCURRENT_CREATES = 8

_Context = grpc.aio.ServicerContext[Any, Any]


class EmbedServicer(embed_pb2_grpc.EmbedServiceServicer):
    """Serves `sage.embed.v1.EmbedService`.

    Args:
        repository: The embeddings.
        feed: Reports changes to them.
        leases: Keeps them from being cancelled while they are watched.
        videos: The videos.
        engines: The engines.
        watch_times: How long a watch waits.
        max_unfinished: Maximum number of PENDING and PROCESSING embeddings.
    """

    def __init__(
        self,
        *,
        repository: EmbeddingRepository,
        feed: ChangeFeed,
        leases: WatchLeases,
        videos: VideoCatalog,
        engines: Engines,
        watch_times: watch.WatchTimes,
        max_unfinished: int,
    ) -> None:
        self._repository = repository
        self._feed = feed
        self._leases = leases
        self._videos = videos
        self._engines = engines
        self._watch_times = watch_times
        self._max_unfinished = max_unfinished
        self._creating = asyncio.Semaphore(_CONCURRENT_CREATES)
        self._reads = watch.SharedReads(repository)

    async def CreateEmbedding(
        self, request: embed_pb2.CreateEmbeddingRequest, context: _Context
    ) -> embed_pb2.CreateEmbeddingResponse:
        """Return the embedding for a recipe, creating it if necessary."""
        async with self._creating:
            embedding, reused = await lifecycle.create(
                convert.to_create_request(request),
                repository=self._repository,
                videos=self._videos,
                engines=self._engines,
                max_unfinished=self._max_unfinished,
            )
        return embed_pb2.CreateEmbeddingResponse(embedding=convert.from_embedding(embedding), reused=reused)

    async def GetEmbedding(
        self, request: embed_pb2.GetEmbeddingRequest, context: _Context
    ) -> embed_pb2.GetEmbeddingResponse:
        """Return one embedding."""
        embedding = await lifecycle.get(request.embedding_id, repository=self._repository)
        return embed_pb2.GetEmbeddingResponse(embedding=convert.from_embedding(embedding))

    async def ListEmbeddings(
        self, request: embed_pb2.ListEmbeddingsRequest, context: _Context
    ) -> embed_pb2.ListEmbeddingsResponse:
        """Return a page of embeddings."""
        page, next_page_token = await lifecycle.list_page(
            convert.to_filter(request),
            page_size=request.page_size,
            page_token=request.page_token,
            repository=self._repository,
        )
        return embed_pb2.ListEmbeddingsResponse(
            embeddings=[convert.from_embedding(embedding) for embedding in page], next_page_token=next_page_token
        )

    async def DeleteEmbedding(
        self, request: embed_pb2.DeleteEmbeddingRequest, context: _Context
    ) -> embed_pb2.DeleteEmbeddingResponse:
        """Delete an embedding."""
        await lifecycle.delete(request.embedding_id, repository=self._repository)
        return embed_pb2.DeleteEmbeddingResponse()

    async def WatchEmbedding(
        self, request: embed_pb2.WatchEmbeddingRequest, context: _Context
    ) -> AsyncIterator[embed_pb2.WatchEmbeddingResponse]:
        """Send an embedding and its changes."""
        changes = watch.watch(
            request.embedding_id,
            after_revision=request.after_revision,
            reads=self._reads,
            feed=self._feed,
            times=self._watch_times,
            not_found=embedding_not_found,
        )
        # The watch of a request must not keep alive what that request withdraws.
        lease = nullcontext() if request.request_id else self._leases.hold(request.embedding_id)
        async with lease, aclosing(changes):
            async for embedding in changes:
                yield convert.to_watch_response(embedding)

    async def CancelEmbedding(
        self, request: embed_pb2.CancelEmbeddingRequest, context: _Context
    ) -> embed_pb2.CancelEmbeddingResponse:
        """Cancel an embedding."""
        embedding = await lifecycle.cancel(
            request.embedding_id, withdrawing=request.request_id, repository=self._repository
        )
        return embed_pb2.CancelEmbeddingResponse(embedding=convert.from_embedding(embedding))

    async def ReadSegments(
        self, request: embed_pb2.ReadSegmentsRequest, context: _Context
    ) -> AsyncIterator[embed_pb2.ReadSegmentsResponse]:
        """Send the vectors of a track."""
        chunks = lifecycle.read_segments(
            request.embedding_id, track=request.track, first_index=request.first_index, repository=self._repository
        )
        async with aclosing(chunks):
            async for chunk, dimensions in chunks:
                yield convert.from_segments(chunk, dimensions)

    async def ListModels(self, request: embed_pb2.ListModelsRequest, context: _Context) -> embed_pb2.ListModelsResponse:
        """Return the models."""
        models = await self._engines.models()
        return embed_pb2.ListModelsResponse(models=[convert.from_model(model) for model in models])


FINGERPRINT_SERVICE_NAME = fingerprint_pb2.DESCRIPTOR.services_by_name["FingerprintService"].full_name


class FingerprintServicer(fingerprint_pb2_grpc.FingerprintServiceServicer):
    """Serves `sage.embed.v1.FingerprintService`.

    Args:
        repository: The fingerprints.
        objects: Their blocks.
        feed: Reports changes to them.
        videos: The videos.
        watch_times: How long a watch waits.
        max_unfinished: Maximum number of PENDING and PROCESSING fingerprints.
    """

    def __init__(
        self,
        *,
        repository: FingerprintRepository,
        objects: FingerprintObjects,
        feed: ChangeFeed,
        videos: VideoCatalog,
        watch_times: watch.WatchTimes,
        max_unfinished: int,
    ) -> None:
        self._repository = repository
        self._objects = objects
        self._feed = feed
        self._videos = videos
        self._watch_times = watch_times
        self._max_unfinished = max_unfinished
        self._creating = asyncio.Semaphore(_CONCURRENT_CREATES)
        self._reads = watch.SharedReads(repository)

    async def CreateFingerprint(
        self, request: fingerprint_pb2.CreateFingerprintRequest, context: _Context
    ) -> fingerprint_pb2.CreateFingerprintResponse:
        """Return the fingerprint of a video, creating it if necessary."""
        async with self._creating:
            fingerprint = await fingerprints.create(
                request.video_id,
                request_id=request.request_id,
                repository=self._repository,
                videos=self._videos,
                max_unfinished=self._max_unfinished,
            )
        return fingerprint_pb2.CreateFingerprintResponse(fingerprint=convert.from_fingerprint(fingerprint))

    async def GetFingerprint(
        self, request: fingerprint_pb2.GetFingerprintRequest, context: _Context
    ) -> fingerprint_pb2.GetFingerprintResponse:
        """Return one fingerprint."""
        fingerprint = await fingerprints.get(request.video_id, repository=self._repository)
        return fingerprint_pb2.GetFingerprintResponse(fingerprint=convert.from_fingerprint(fingerprint))

    async def WatchFingerprint(
        self, request: fingerprint_pb2.WatchFingerprintRequest, context: _Context
    ) -> AsyncIterator[fingerprint_pb2.WatchFingerprintResponse]:
        """Send a fingerprint and its changes."""
        changes = watch.watch(
            request.video_id,
            after_revision=request.after_revision,
            reads=self._reads,
            feed=self._feed,
            times=self._watch_times,
            not_found=fingerprint_not_found,
        )
        async with aclosing(changes):
            async for fingerprint in changes:
                yield convert.to_fingerprint_watch_response(fingerprint)

    async def CancelFingerprint(
        self, request: fingerprint_pb2.CancelFingerprintRequest, context: _Context
    ) -> fingerprint_pb2.CancelFingerprintResponse:
        """Cancel a fingerprint."""
        fingerprint = await fingerprints.cancel(
            request.video_id, withdrawing=request.request_id, repository=self._repository
        )
        return fingerprint_pb2.CancelFingerprintResponse(fingerprint=convert.from_fingerprint(fingerprint))

    async def DeleteFingerprint(
        self, request: fingerprint_pb2.DeleteFingerprintRequest, context: _Context
    ) -> fingerprint_pb2.DeleteFingerprintResponse:
        """Delete a fingerprint."""
        await fingerprints.delete(request.video_id, repository=self._repository)
        return fingerprint_pb2.DeleteFingerprintResponse()

    async def ReadFingerprint(
        self, request: fingerprint_pb2.ReadFingerprintRequest, context: _Context
    ) -> AsyncIterator[fingerprint_pb2.ReadFingerprintResponse]:
        """Send the bytes of a fingerprint."""
        parts = fingerprints.read(request.video_id, repository=self._repository, objects=self._objects)
        async with aclosing(parts):
            async for data in parts:
                yield fingerprint_pb2.ReadFingerprintResponse(data=data)


API_KEY_SERVICE_NAME = api_key_pb2.DESCRIPTOR.services_by_name["ApiKeyService"].full_name


class ApiKeyServicer(api_key_pb2_grpc.ApiKeyServiceServicer):
    """Serves `sage.embed.v1.ApiKeyService`.

    Args:
        repository: Stores the key.
        checker: Asks the provider about keys.
        current: Provides the key in use; notified when it changes.
    """

    def __init__(self, *, repository: ApiKeyRepository, checker: KeyChecker, current: CurrentKey) -> None:
        self._repository = repository
        self._checker = checker
        self._current = current

    async def SetApiKey(
        self, request: api_key_pb2.SetApiKeyRequest, context: _Context
    ) -> api_key_pb2.SetApiKeyResponse:
        """Check a key and, unless `validate_only` is set, store it."""
        act = api_keys.check_key if request.validate_only else api_keys.set_key
        key = await act(request.key, repository=self._repository, checker=self._checker, current=self._current)
        return api_key_pb2.SetApiKeyResponse(api_key=convert.from_key(key))

    async def GetApiKey(
        self, request: api_key_pb2.GetApiKeyRequest, context: _Context
    ) -> api_key_pb2.GetApiKeyResponse:
        """Return what is known about the key."""
        key = await api_keys.describe_key(repository=self._repository, current=self._current)
        return api_key_pb2.GetApiKeyResponse(api_key=convert.from_key(key))

    async def DeleteApiKey(
        self, request: api_key_pb2.DeleteApiKeyRequest, context: _Context
    ) -> api_key_pb2.DeleteApiKeyResponse:
        """Delete the key."""
        await api_keys.delete_key(repository=self._repository, current=self._current)
        return api_key_pb2.DeleteApiKeyResponse()
