"""The connection to SAGE: one channel, every service, a deadline on every call."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import api_key_pb2, api_key_pb2_grpc, embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc

from sage_cli.access import Access
from sage_cli.channel import open_channel

CALL_TIMEOUT_S = 20.0
COMPARE_TIMEOUT_S = 120.0
PAGE_SIZE = 200

# Calls that change nothing, that carry a request id, or that come to the same when made twice may be made again where
# the connection broke. A deletion of a video may not: the second would say that there is nothing to delete.
_RETRIED = {
    "sage.ingest.v1.IngestService": ("GetVideo", "ListVideos", "GetPlaybackUrl"),
    "sage.embed.v1.EmbedService": (
        "CreateEmbedding",
        "GetEmbedding",
        "ListEmbeddings",
        "CancelEmbedding",
        "ListModels",
    ),
    "sage.embed.v1.ApiKeyService": ("SetApiKey", "GetApiKey", "DeleteApiKey"),
    "sage.compare.v1.CompareService": ("CompareEmbeddings",),
}
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method} for service, methods in _RETRIED.items() for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A comparison of two long films carries a distance for every clip.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


class Client:
    """A client of SAGE, to be used as an asynchronous context manager.

    Attributes:
        address: Where SAGE is, as the user named it.
        ingest: Stub of the ingest service, for calls that stream.
        embed: Stub of the embed service, for calls that stream.
    """

    def __init__(self, address: str, access: Access | None = None) -> None:
        """Open the channel; it connects with the first call.

        Args:
            address: Where SAGE is, as `sage_cli.channel.open_channel` takes it.
            access: What to sign in with; None for nothing.

        Raises:
            Trouble: The address is none, or the token must not go there.
        """
        self.address = address
        self._channel = open_channel(address, access or Access(), options=_OPTIONS)
        self.ingest = ingest_pb2_grpc.IngestServiceStub(self._channel)
        self.embed = embed_pb2_grpc.EmbedServiceStub(self._channel)
        self._api_keys = api_key_pb2_grpc.ApiKeyServiceStub(self._channel)
        self._compare = compare_pb2_grpc.CompareServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def get_video(self, video_id: str) -> ingest_pb2.Video:
        """Return one video."""
        request = ingest_pb2.GetVideoRequest(video_id=video_id)
        return (await self.ingest.GetVideo(request, timeout=CALL_TIMEOUT_S)).video

    async def list_videos(self, *, filename_contains: str = "") -> AsyncIterator[ingest_pb2.Video]:
        """Yield videos, newest first, fetching a page when the one before is used up."""
        request = ingest_pb2.ListVideosRequest(page_size=PAGE_SIZE, filename_contains=filename_contains)
        while True:
            page = await self.ingest.ListVideos(request, timeout=CALL_TIMEOUT_S)
            for video in page.videos:
                yield video
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_video(self, video_id: str) -> None:
        """Delete a video."""
        await self.ingest.DeleteVideo(ingest_pb2.DeleteVideoRequest(video_id=video_id), timeout=CALL_TIMEOUT_S)

    async def get_playback_url(self, video_id: str, *, validity_s: int) -> ingest_pb2.GetPlaybackUrlResponse:
        """Return a URL that plays a video and the moment when it stops working."""
        request = ingest_pb2.GetPlaybackUrlRequest(video_id=video_id)
        request.validity.FromSeconds(validity_s)
        return await self.ingest.GetPlaybackUrl(request, timeout=CALL_TIMEOUT_S)

    async def list_models(self) -> Sequence[embed_pb2.Model]:
        """Return the models, the best usable one first."""
        return (await self.embed.ListModels(embed_pb2.ListModelsRequest(), timeout=CALL_TIMEOUT_S)).models

    async def create_embedding(
        self, *, video_id: str, model: str, clip_seconds: float, tracks: Sequence[str]
    ) -> embed_pb2.Embedding:
        """Begin an embedding and return it."""
        request = embed_pb2.CreateEmbeddingRequest(
            video_id=video_id,
            model=model,
            clip_seconds=clip_seconds,
            tracks=tracks,
            request_id=f"sage-cli-{uuid.uuid4().hex}",
        )
        return (await self.embed.CreateEmbedding(request, timeout=CALL_TIMEOUT_S)).embedding

    async def get_embedding(self, embedding_id: str) -> embed_pb2.Embedding:
        """Return one embedding."""
        request = embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id)
        return (await self.embed.GetEmbedding(request, timeout=CALL_TIMEOUT_S)).embedding

    async def list_embeddings(
        self,
        *,
        video_id: str = "",
        model: str = "",
        state: embed_pb2.EmbeddingState.ValueType = embed_pb2.EMBEDDING_STATE_UNSPECIFIED,
    ) -> AsyncIterator[embed_pb2.Embedding]:
        """Yield embeddings, newest first, fetching a page when the one before is used up."""
        request = embed_pb2.ListEmbeddingsRequest(page_size=PAGE_SIZE, video_id=video_id, model=model, state=state)
        while True:
            page = await self.embed.ListEmbeddings(request, timeout=CALL_TIMEOUT_S)
            for embedding in page.embeddings:
                yield embedding
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def cancel_embedding(self, embedding_id: str) -> embed_pb2.Embedding:
        """Cancel an embedding and return it."""
        request = embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id)
        return (await self.embed.CancelEmbedding(request, timeout=CALL_TIMEOUT_S)).embedding

    async def delete_embedding(self, embedding_id: str) -> None:
        """Delete an embedding."""
        request = embed_pb2.DeleteEmbeddingRequest(embedding_id=embedding_id)
        await self.embed.DeleteEmbedding(request, timeout=CALL_TIMEOUT_S)

    async def set_api_key(self, key: str, *, validate_only: bool) -> api_key_pb2.ApiKey:
        """Set TwelveLabs' key, or only check it (an empty one: the one in use), and return what is known of it."""
        request = api_key_pb2.SetApiKeyRequest(key=key, validate_only=validate_only)
        return (await self._api_keys.SetApiKey(request, timeout=CALL_TIMEOUT_S)).api_key

    async def get_api_key(self) -> api_key_pb2.ApiKey:
        """Return what is known of TwelveLabs' key."""
        return (await self._api_keys.GetApiKey(api_key_pb2.GetApiKeyRequest(), timeout=CALL_TIMEOUT_S)).api_key

    async def delete_api_key(self) -> None:
        """Delete TwelveLabs' key, where there is one."""
        await self._api_keys.DeleteApiKey(api_key_pb2.DeleteApiKeyRequest(), timeout=CALL_TIMEOUT_S)

    async def compare(self, request: compare_pb2.CompareEmbeddingsRequest) -> compare_pb2.CompareEmbeddingsResponse:
        """Compare two embeddings."""
        return await self._compare.CompareEmbeddings(request, timeout=COMPARE_TIMEOUT_S)
