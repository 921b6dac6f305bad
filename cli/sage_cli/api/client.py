"""The SAGE client: one channel, every service, a deadline on every unary call."""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    embed_pb2,
    embed_pb2_grpc,
    fingerprint_pb2,
    fingerprint_pb2_grpc,
)
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc

from sage_cli.api.channel import open_channel
from sage_cli.api.retries import PATIENT, QUICK, retry
from sage_cli.api.sign_in import Credentials

if TYPE_CHECKING:
    import grpc

CALL_TIMEOUT_S = 20.0
COMPARE_TIMEOUT_S = 120.0
# The server's largest page.
PAGE_SIZE = 200

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client:
    """A client of SAGE, used as an asynchronous context manager.

    Attributes:
        ingest: Stub of the ingest service, for uploads.
        embed: Stub of the embed service, for watches.
        fingerprints: Stub of the fingerprint service, for watches.
    """

    def __init__(self, address: str, credentials: Credentials | None = None) -> None:
        """Open the channel, which connects on the first call.

        Args:
            address: The address of SAGE, in a form that `open_channel` accepts.
            credentials: How to sign in; None to call without.

        Raises:
            CommandError: The address is malformed, or the token would go to another machine unencrypted.
        """
        self._rule = QUICK
        self._channel = open_channel(address, credentials or Credentials())
        self.ingest = ingest_pb2_grpc.IngestServiceStub(self._channel)
        self.embed = embed_pb2_grpc.EmbedServiceStub(self._channel)
        self.fingerprints = fingerprint_pb2_grpc.FingerprintServiceStub(self._channel)
        self._api_keys = api_key_pb2_grpc.ApiKeyServiceStub(self._channel)
        self._compare = compare_pb2_grpc.CompareServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    def be_patient(self) -> None:
        """Let further calls outlast a restart of SAGE: a failure would now waste work."""
        self._rule = PATIENT

    async def _repeatable(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Response:
        """Make a call that may be repeated: it changes nothing, has a request ID, or is idempotent."""
        return await retry(lambda: method(request, timeout=timeout_s), self._rule)

    async def get_video(self, video_id: str) -> ingest_pb2.Video:
        """Return one video."""
        return (await self._repeatable(self.ingest.GetVideo, ingest_pb2.GetVideoRequest(video_id=video_id))).video

    async def videos_with(self, sha256: str) -> AsyncIterator[ingest_pb2.Video]:
        """Yield the videos with these bytes, whatever their names, newest first. Pages are fetched as needed."""
        request = ingest_pb2.ListVideosRequest(sha256=sha256)
        while True:
            page = await self._repeatable(self.ingest.ListVideos, request)
            for video in page.videos:
                yield video
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def list_videos(self, *, filename_contains: str = "", limit: int) -> list[ingest_pb2.Video]:
        """Return at most `limit` videos, newest first."""
        request = ingest_pb2.ListVideosRequest(filename_contains=filename_contains)
        found: list[ingest_pb2.Video] = []
        while len(found) < limit:
            request.page_size = min(limit - len(found), PAGE_SIZE)
            page = await self._repeatable(self.ingest.ListVideos, request)
            found += page.videos
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        return found

    async def list_uploads(self, *, limit: int) -> list[ingest_pb2.Upload]:
        """Return at most `limit` open uploads, newest first."""
        request = ingest_pb2.ListUploadsRequest()
        found: list[ingest_pb2.Upload] = []
        while len(found) < limit:
            request.page_size = min(limit - len(found), PAGE_SIZE)
            page = await self._repeatable(self.ingest.ListUploads, request)
            found += page.uploads
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        return found

    async def abort_upload(self, upload_id: str) -> None:
        """Drop an open upload and its parts."""
        await self._repeatable(self.ingest.AbortUpload, ingest_pb2.AbortUploadRequest(upload_id=upload_id))

    async def delete_video(self, video_id: str) -> None:
        """Delete a video. Not repeated: a second call would fail with VIDEO_NOT_FOUND."""
        await self.ingest.DeleteVideo(ingest_pb2.DeleteVideoRequest(video_id=video_id), timeout=CALL_TIMEOUT_S)

    async def get_playback_url(self, video_id: str, *, validity_s: int) -> str:
        """Return a URL that plays a video for a number of seconds."""
        request = ingest_pb2.GetPlaybackUrlRequest(video_id=video_id)
        request.validity.FromSeconds(validity_s)
        return (await self._repeatable(self.ingest.GetPlaybackUrl, request)).url

    async def list_models(self) -> Sequence[embed_pb2.Model]:
        """Return the models, the best usable one first."""
        return (await self._repeatable(self.embed.ListModels, embed_pb2.ListModelsRequest())).models

    async def create_embedding(
        self,
        *,
        video_id: str,
        model: str,
        clip_seconds: float,
        tracks: Sequence[str],
        request_id: str,
        force: bool = False,
    ) -> embed_pb2.CreateEmbeddingResponse:
        """Return the embedding of a video for a recipe, and whether it existed before; `force` makes a new one."""
        request = embed_pb2.CreateEmbeddingRequest(
            video_id=video_id,
            model=model,
            clip_seconds=clip_seconds,
            tracks=tracks,
            request_id=request_id,
            force=force,
        )
        return await self._repeatable(self.embed.CreateEmbedding, request)

    async def get_embedding(self, embedding_id: str) -> embed_pb2.Embedding:
        """Return one embedding."""
        request = embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id)
        return (await self._repeatable(self.embed.GetEmbedding, request)).embedding

    async def list_embeddings(
        self,
        *,
        video_id: str = "",
        model: str = "",
        state: embed_pb2.EmbeddingState.ValueType = embed_pb2.EMBEDDING_STATE_UNSPECIFIED,
    ) -> AsyncIterator[embed_pb2.Embedding]:
        """Yield embeddings, newest first. Pages are fetched as needed."""
        request = embed_pb2.ListEmbeddingsRequest(page_size=PAGE_SIZE, video_id=video_id, model=model, state=state)
        while True:
            page = await self._repeatable(self.embed.ListEmbeddings, request)
            for embedding in page.embeddings:
                yield embedding
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def cancel_embedding(self, embedding_id: str, *, request_id: str = "") -> embed_pb2.Embedding:
        """Cancel an embedding; with a request ID, only if no other client waits for it."""
        request = embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id, request_id=request_id)
        return (await self._repeatable(self.embed.CancelEmbedding, request)).embedding

    async def delete_embedding(self, embedding_id: str) -> None:
        """Delete an embedding. Not repeated: a second call would fail with EMBEDDING_NOT_FOUND."""
        request = embed_pb2.DeleteEmbeddingRequest(embedding_id=embedding_id)
        await self.embed.DeleteEmbedding(request, timeout=CALL_TIMEOUT_S)

    async def create_fingerprint(self, video_id: str, *, request_id: str) -> fingerprint_pb2.Fingerprint:
        """Return the fingerprint of a video, an existing or a new one."""
        request = fingerprint_pb2.CreateFingerprintRequest(video_id=video_id, request_id=request_id)
        return (await self._repeatable(self.fingerprints.CreateFingerprint, request)).fingerprint

    async def get_fingerprint(self, video_id: str) -> fingerprint_pb2.Fingerprint:
        """Return the fingerprint of a video."""
        request = fingerprint_pb2.GetFingerprintRequest(video_id=video_id)
        return (await self._repeatable(self.fingerprints.GetFingerprint, request)).fingerprint

    async def delete_fingerprint(self, video_id: str) -> None:
        """Delete the fingerprint of a video. Not repeated: a second call would fail with FINGERPRINT_NOT_FOUND."""
        request = fingerprint_pb2.DeleteFingerprintRequest(video_id=video_id)
        await self.fingerprints.DeleteFingerprint(request, timeout=CALL_TIMEOUT_S)

    async def cancel_fingerprint(self, video_id: str, *, request_id: str) -> fingerprint_pb2.Fingerprint:
        """Withdraw a request for a fingerprint, which cancels it only if no one else waits for it."""
        request = fingerprint_pb2.CancelFingerprintRequest(video_id=video_id, request_id=request_id)
        return (await self._repeatable(self.fingerprints.CancelFingerprint, request)).fingerprint

    async def set_api_key(self, key: str, *, validate_only: bool) -> api_key_pb2.ApiKey:
        """Set the TwelveLabs key and return its description.

        Args:
            key: The key. With `validate_only`, empty means the key in use.
            validate_only: Whether to check the key without storing it.
        """
        request = api_key_pb2.SetApiKeyRequest(key=key, validate_only=validate_only)
        return (await self._repeatable(self._api_keys.SetApiKey, request)).api_key

    async def get_api_key(self) -> api_key_pb2.ApiKey:
        """Return the description of the TwelveLabs key."""
        return (await self._repeatable(self._api_keys.GetApiKey, api_key_pb2.GetApiKeyRequest())).api_key

    async def delete_api_key(self) -> None:
        """Delete the TwelveLabs key, if one is stored."""
        await self._repeatable(self._api_keys.DeleteApiKey, api_key_pb2.DeleteApiKeyRequest())

    async def compare(self, request: compare_pb2.CompareEmbeddingsRequest) -> compare_pb2.CompareEmbeddingsResponse:
        """Compare two embeddings."""
        return await self._repeatable(self._compare.CompareEmbeddings, request, timeout_s=COMPARE_TIMEOUT_S)
