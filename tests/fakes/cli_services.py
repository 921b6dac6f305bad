"""The services in memory, as the `sage` command sees them, with switches for what may go wrong."""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from fakes.cli_comparisons import FakeCompareService
from fakes.cli_embeddings import FakeApiKeyService, FakeEmbedService
from fakes.cli_errors import abort
from fakes.cli_fingerprints import FakeFingerprintService
from fakes.cli_videos import FakeIngestService
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    embed_pb2,
    embed_pb2_grpc,
    fingerprint_pb2,
    fingerprint_pb2_grpc,
)
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc, media_pb2
from sage_runtime.errors import FieldViolation, Reason, SageError


@dataclass
class FakeSage:
    """What the fakes hold, and how they behave.

    Attributes:
        uploads: Number of uploads.
        video_lists: The requests for lists of videos.
        fingerprints: The fingerprints, by their video's ID.
        script: What aligned comparisons of different films find in the picture; None for a default.
        sound: What they find in the sound; None for the same cuts and no change.
        creations: Number of embeddings that were created.
        fingerprint_creations: Number of fingerprints that were created.
        fingerprint_watches: The `after_revision` of each watch of a fingerprint.
        fail_fingerprints: Whether every fingerprint fails.
        hang_fingerprints: Whether fingerprints never finish.
        read_only: Whether creating embeddings and fingerprints is forbidden.
        unavailable: Number of calls of a method that fail before one succeeds, by its name.
        watches: Number of watches.
        watched_after: The `after_revision` of each watch.
        break_watches: Number of watches that are cut off after their first message.
        fail_watches: Whether watches end with an internal error.
        fail_embeddings: Whether every embedding fails.
        hang_embeddings: Whether embeddings never finish.
        open_uploads: The resumable uploads that are open.
        store_is_full: Whether uploads are refused for lack of room.
        refuse_uploads: Whether uploads are refused as unreadable.
        lose_statuses: Number of uploads that end without the server's status, as some refused ones do in grpcio.
        request_ids: The request ID of each upload.
        violations: What comparisons are refused with.
        requests: The requests for comparisons.
        unknown_results: Whether comparisons have a result that this client does not know.
        marengo: Whether Marengo is usable.
        tail_seconds: Length of the end of every film that no clip covers.
        dubbed: Whether films with the same picture differ in sound.
        frame_rate: Frame rate of the videos that are uploaded.
        picture_tracks: Number of picture tracks of the videos that are uploaded. The first one is the default.
        beyond_tracks: What every comparison says about the media of the files, and about what was not compared.
        working: Set when an embedding is watched for the first time.
        received: The IDs of the requests that received an embedding, by its ID, or a fingerprint, by its video's.
        watched: How many watches without a request ID an embedding has, by its ID.
        cancelled: Set when an embedding is cancelled, by its ID, or a fingerprint, by its video's.
        keys: The keys that were set or checked.
        key: Description of the key in use.
        key_status: What TwelveLabs says about every key.
        key_refusal: What setting a key is refused with.
        environment_key: Description of the key that the server was started with.
    """

    videos: dict[str, ingest_pb2.Video] = field(default_factory=dict)
    embeddings: dict[str, embed_pb2.Embedding] = field(default_factory=dict)
    fingerprints: dict[str, fingerprint_pb2.Fingerprint] = field(default_factory=dict)
    script: compare_pb2.EditScript | None = None
    sound: compare_pb2.EditScript | None = None
    uploads: int = 0
    video_lists: list[ingest_pb2.ListVideosRequest] = field(default_factory=list)
    creations: int = 0
    fingerprint_creations: int = 0
    fingerprint_watches: list[int] = field(default_factory=list)
    fail_fingerprints: bool = False
    hang_fingerprints: bool = False
    read_only: bool = False
    unavailable: Counter[str] = field(default_factory=Counter)
    watches: int = 0
    watched_after: list[int] = field(default_factory=list)
    break_watches: int = 0
    fail_watches: bool = False
    fail_embeddings: bool = False
    hang_embeddings: bool = False
    open_uploads: dict[str, ingest_pb2.Upload] = field(default_factory=dict)
    store_is_full: bool = False
    refuse_uploads: bool = False
    lose_statuses: int = 0
    request_ids: list[str] = field(default_factory=list)
    violations: tuple[FieldViolation, ...] = ()
    requests: list[compare_pb2.CompareEmbeddingsRequest] = field(default_factory=list)
    unknown_results: bool = False
    marengo: bool = False
    tail_seconds: float = 0.0
    dubbed: bool = False
    frame_rate: tuple[int, int] = (24, 1)
    picture_tracks: int = 1
    beyond_tracks: compare_pb2.CompareEmbeddingsResponse = field(default_factory=compare_pb2.CompareEmbeddingsResponse)
    working: asyncio.Event = field(default_factory=asyncio.Event)
    received: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    watched: Counter[str] = field(default_factory=Counter)
    cancelled: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    keys: list[str] = field(default_factory=list)
    key: api_key_pb2.ApiKey = field(default_factory=lambda: api_key_pb2.ApiKey(provider="twelvelabs"))
    key_status: api_key_pb2.ApiKeyStatus.ValueType = api_key_pb2.API_KEY_STATUS_VALID
    key_refusal: SageError | None = None
    environment_key: api_key_pb2.ApiKey = field(default_factory=lambda: api_key_pb2.ApiKey(provider="twelvelabs"))

    @property
    def revisions(self) -> dict[str, str]:
        """The version of each model."""
        return {"local": "1", "marengo3.0": "3", "marengo3.5": "35", "Marengo-retrieval-2.7": "27"}

    def add_video(self, *, filename: str = "film.mp4", seconds: float = 20.0) -> ingest_pb2.Video:
        """Return a new video."""
        numerator, denominator = self.frame_rate
        video = ingest_pb2.Video(
            id=f"video_{uuid.uuid4().hex}",
            filename=filename,
            content_type="video/mp4",
            media=media_pb2.Media(
                duration_seconds=seconds,
                width=640,
                height=360,
                display_width=640,
                display_height=360,
                video_codec="h264",
                frame_rate=media_pb2.FrameRate(numerator=numerator, denominator=denominator),
                video_tracks=[media_pb2.VideoTrack(codec="h264") for _ in range(self.picture_tracks)],
                audio_tracks=[
                    media_pb2.AudioTrack(codec="aac", channels=2, layout="stereo", sample_rate=48_000, language="eng")
                ],
            ),
        )
        video.create_time.FromSeconds(1_800_000_000 + len(self.videos))
        self.videos[video.id] = video
        return video

    def add_open_upload(self, filename: str) -> ingest_pb2.Upload:
        """Return a new resumable upload of 60 MB with one part."""
        spec = ingest_pb2.VideoSpec(filename=filename, content_type="video/mp4", size_bytes=60_000_000)
        upload = ingest_pb2.Upload(
            id=f"upload_{uuid.uuid4().hex}",
            spec=spec,
            part_size_bytes=8 * 1024 * 1024,
            received_bytes=8 * 1024 * 1024,
            state=ingest_pb2.UPLOAD_STATE_OPEN,
        )
        for moment in (upload.create_time, upload.active_time, upload.expire_time):
            moment.FromSeconds(1_800_000_000 + len(self.open_uploads))
        self.open_uploads[upload.id] = upload
        return upload

    def add_embedding(
        self,
        video_id: str,
        *,
        state: embed_pb2.EmbeddingState.ValueType = embed_pb2.EMBEDDING_STATE_COMPLETED,
        clip_seconds: float = 2.0,
        model: str = "local",
        tracks: Sequence[str] = ("visual",),
    ) -> embed_pb2.Embedding:
        """Return a new embedding."""
        embedding = embed_pb2.Embedding(
            id=f"embed_{uuid.uuid4().hex}",
            video_id=video_id,
            media=self.videos[video_id].media,
            model=model,
            model_revision=self.revisions[model],
            clip_seconds=clip_seconds,
            requested_tracks=tracks,
            state=state,
            revision=1,
            progress=embed_pb2.Progress(fraction=1.0 if state == embed_pb2.EMBEDDING_STATE_COMPLETED else 0.0),
        )
        self.embeddings[embedding.id] = embedding
        return embedding

    def add_fingerprint(
        self, video_id: str, *, state: embed_pb2.EmbeddingState.ValueType = embed_pb2.EMBEDDING_STATE_COMPLETED
    ) -> fingerprint_pb2.Fingerprint:
        """Return a new fingerprint of a video."""
        found = fingerprint_pb2.Fingerprint(video_id=video_id, version=1, state=state, revision=1)
        self.fingerprints[video_id] = found
        return found

    def content_of(self, embedding: embed_pb2.Embedding) -> str:
        """Return the checksum of the video of an embedding; empty if it is unknown."""
        video = self.videos.get(embedding.video_id)
        return video.sha256 if video else ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve on a free port and yield the address."""
        server = grpc.aio.server(interceptors=[_Unavailable(self.unavailable)])
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(FakeIngestService(self), server)
        embed_pb2_grpc.add_EmbedServiceServicer_to_server(FakeEmbedService(self), server)
        fingerprint_pb2_grpc.add_FingerprintServiceServicer_to_server(FakeFingerprintService(self), server)
        api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server(FakeApiKeyService(self), server)
        compare_pb2_grpc.add_CompareServiceServicer_to_server(FakeCompareService(self), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


class _Unavailable(grpc.aio.ServerInterceptor):
    """Fails calls as if the database was away, as often as it is told to for each method."""

    def __init__(self, times: Counter[str]) -> None:
        self._times = times

    async def intercept_service(self, continuation, handler_call_details):
        method = handler_call_details.method.rpartition("/")[2]
        handler = await continuation(handler_call_details)
        if not self._times[method]:
            return handler
        self._times[method] -= 1

        async def refuse(request, context):
            if handler.request_streaming:
                async for _ in request:
                    pass
            await abort(context, SageError(Reason.STORE_UNAVAILABLE, store="database"))

        refusing = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return refusing(refuse, request_deserializer=handler.request_deserializer)
