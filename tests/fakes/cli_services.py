"""The services in memory, as the `sage` command sees them, with switches for what may go wrong."""

import asyncio
import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from fakes.cli_comparisons import FakeCompareService
from fakes.cli_errors import abort
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import api_key_pb2, api_key_pb2_grpc, embed_pb2, embed_pb2_grpc
from sage.errors.v1 import error_reason_pb2
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc, media_pb2
from sage_runtime.errors import FieldViolation, Reason, SageError

FINAL = {
    embed_pb2.EMBEDDING_STATE_COMPLETED,
    embed_pb2.EMBEDDING_STATE_FAILED,
    embed_pb2.EMBEDDING_STATE_CANCELLED,
}


@dataclass
class FakeSage:
    """What the fakes hold, and how they behave.

    Attributes:
        uploads: Number of uploads.
        video_lists: The requests for lists of videos.
        creations: Number of embeddings that were created.
        read_only: Whether creating embeddings is forbidden.
        unavailable: Number of GetVideo calls that fail before one succeeds.
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
        received: The IDs of the requests that received an embedding, by its ID.
        watched: How many watches without a request ID an embedding has, by its ID.
        cancelled: Set when an embedding is cancelled, by its ID.
        keys: The keys that were set or checked.
        key: Description of the key in use.
        key_status: What TwelveLabs says about every key.
        key_refusal: What setting a key is refused with.
        environment_key: Description of the key that the server was started with.
    """

    videos: dict[str, ingest_pb2.Video] = field(default_factory=dict)
    embeddings: dict[str, embed_pb2.Embedding] = field(default_factory=dict)
    uploads: int = 0
    video_lists: list[ingest_pb2.ListVideosRequest] = field(default_factory=list)
    creations: int = 0
    read_only: bool = False
    unavailable: int = 0
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

    def content_of(self, embedding: embed_pb2.Embedding) -> str:
        """Return the checksum of the video of an embedding; empty if it is unknown."""
        video = self.videos.get(embedding.video_id)
        return video.sha256 if video else ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve on a free port and yield the address."""
        server = grpc.aio.server()
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(FakeIngestService(self), server)
        embed_pb2_grpc.add_EmbedServiceServicer_to_server(FakeEmbedService(self), server)
        api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server(FakeApiKeyService(self), server)
        compare_pb2_grpc.add_CompareServiceServicer_to_server(FakeCompareService(self), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


class FakeIngestService(ingest_pb2_grpc.IngestServiceServicer):
    def __init__(self, sage: FakeSage) -> None:
        self._sage = sage

    async def UploadVideo(self, request_iterator, context):
        self._sage.uploads += 1
        lost = self._sage.lose_statuses > 0
        self._sage.lose_statuses -= lost
        digest, size, spec = hashlib.sha256(), 0, ingest_pb2.VideoSpec()
        async for message in request_iterator:
            if message.HasField("spec"):
                spec = message.spec
                self._sage.request_ids.append(message.request_id)
                if self._sage.refuse_uploads and not lost:
                    await abort(
                        context, SageError(Reason.VIDEO_UNREADABLE, filename=spec.filename, why="it is a picture")
                    )
            digest.update(message.content.data)
            size += len(message.content.data)
        # Refused at the end: a call that is refused while it writes may lose its status, and is then repeated.
        if self._sage.store_is_full:
            await abort(context, SageError(Reason.STORE_FULL, store="video store", why="0 bytes are free on its disk"))
        if lost:
            await context.abort(grpc.StatusCode.INTERNAL, "Internal error from Core")
        if (spec.size_bytes, spec.sha256) != (size, digest.hexdigest()):
            await abort(context, SageError(Reason.SIZE_MISMATCH, declared_bytes=spec.size_bytes, received_bytes=size))
        video = self._sage.add_video(filename=spec.filename)
        video.media.video_track = spec.video_track
        video.content_type, video.size_bytes, video.sha256 = spec.content_type, size, digest.hexdigest()
        return ingest_pb2.UploadVideoResponse(video=video)

    async def GetVideo(self, request, context):
        if self._sage.unavailable:
            self._sage.unavailable -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        if request.video_id not in self._sage.videos:
            await abort(context, SageError(Reason.VIDEO_NOT_FOUND, video_id=request.video_id))
        return ingest_pb2.GetVideoResponse(video=self._sage.videos[request.video_id])

    async def ListVideos(self, request, context):
        self._sage.video_lists.append(request)
        matching = [
            video
            for video in reversed(self._sage.videos.values())
            if request.filename_contains in video.filename and request.sha256 in {"", video.sha256}
        ]
        start = int(request.page_token or 0)
        # Pages are short, so that tests notice a client that reads only the first one.
        end = start + min(request.page_size or 2, 2)
        more = str(end) if len(matching) > end else ""
        return ingest_pb2.ListVideosResponse(videos=matching[start:end], next_page_token=more)

    async def ListUploads(self, request, context):
        newest_first = list(reversed(self._sage.open_uploads.values()))
        start = int(request.page_token or 0)
        end = start + min(request.page_size or 2, 2)
        more = str(end) if len(newest_first) > end else ""
        return ingest_pb2.ListUploadsResponse(uploads=newest_first[start:end], next_page_token=more)

    async def AbortUpload(self, request, context):
        upload = self._sage.open_uploads.pop(request.upload_id, None)
        if upload is None:
            await abort(context, SageError(Reason.UPLOAD_NOT_FOUND, upload_id=request.upload_id))
        return ingest_pb2.AbortUploadResponse(upload=upload)

    async def DeleteVideo(self, request, context):
        if self._sage.videos.pop(request.video_id, None) is None:
            await abort(context, SageError(Reason.VIDEO_NOT_FOUND, video_id=request.video_id))
        return ingest_pb2.DeleteVideoResponse()

    async def GetPlaybackUrl(self, request, context):
        return ingest_pb2.GetPlaybackUrlResponse(url=f"http://s3/{request.video_id}?for={request.validity.seconds}")


class FakeEmbedService(embed_pb2_grpc.EmbedServiceServicer):
    def __init__(self, sage: FakeSage) -> None:
        self._sage = sage

    async def CreateEmbedding(self, request, context):
        sage = self._sage
        if sage.read_only:
            await abort(context, SageError(Reason.FORBIDDEN, needs="write", has="read"))
        recipe = (request.video_id, request.model, request.clip_seconds, set(request.tracks))
        for embedding in reversed(sage.embeddings.values()):
            made = (embedding.video_id, embedding.model, embedding.clip_seconds, set(embedding.requested_tracks))
            reusable = embedding.state not in FINAL - {embed_pb2.EMBEDDING_STATE_COMPLETED}
            if made == recipe and reusable and not request.force:
                sage.received[embedding.id].add(request.request_id)
                return embed_pb2.CreateEmbeddingResponse(embedding=embedding, reused=True)
        sage.creations += 1
        embedding = sage.add_embedding(
            request.video_id,
            state=embed_pb2.EMBEDDING_STATE_PENDING,
            clip_seconds=request.clip_seconds,
            model=request.model,
            tracks=request.tracks,
        )
        sage.received[embedding.id].add(request.request_id)
        return embed_pb2.CreateEmbeddingResponse(embedding=embedding)

    async def _find(self, embedding_id: str, context: grpc.aio.ServicerContext) -> embed_pb2.Embedding:
        if embedding_id not in self._sage.embeddings:
            await abort(context, SageError(Reason.EMBEDDING_NOT_FOUND, embedding_id=embedding_id))
        return self._sage.embeddings[embedding_id]

    async def GetEmbedding(self, request, context):
        return embed_pb2.GetEmbeddingResponse(embedding=await self._find(request.embedding_id, context))

    async def ListEmbeddings(self, request, context):
        return embed_pb2.ListEmbeddingsResponse(
            embeddings=[
                embedding
                for embedding in reversed(self._sage.embeddings.values())
                if request.video_id in {"", embedding.video_id}
                and request.model in {"", embedding.model}
                and request.state in {embed_pb2.EMBEDDING_STATE_UNSPECIFIED, embedding.state}
            ]
        )

    async def WatchEmbedding(self, request, context):
        sage = self._sage
        embedding = await self._find(request.embedding_id, context)
        sage.watches += 1
        sage.watched_after.append(request.after_revision)
        if sage.fail_watches:
            await abort(context, SageError(Reason.INTERNAL, request_id="request-7"))
        yield embed_pb2.WatchEmbeddingResponse(heartbeat=embed_pb2.Heartbeat())
        if embedding.state not in FINAL:
            embedding.state = embed_pb2.EMBEDDING_STATE_PROCESSING
            embedding.revision += 1
            embedding.progress.fraction = 0.5
            embedding.progress.message = "Embedded 10 of 20 s."
            yield embed_pb2.WatchEmbeddingResponse(embedding=embedding)
            sage.working.set()
            if sage.break_watches:
                sage.break_watches -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            if sage.hang_embeddings:
                sage.watched[embedding.id] += not request.request_id
                try:
                    await sage.cancelled[embedding.id].wait()
                finally:
                    sage.watched[embedding.id] -= not request.request_id
        if embedding.state not in FINAL:
            embedding.revision += 1
            if sage.fail_embeddings:
                embedding.state = embed_pb2.EMBEDDING_STATE_FAILED
                embedding.failure.reason = error_reason_pb2.ERROR_REASON_PROVIDER_FAILED
                embedding.failure.message = "local failed: the stream cannot be decoded after 12.4 s."
            else:
                embedding.state = embed_pb2.EMBEDDING_STATE_COMPLETED
                embedding.progress.fraction = 1.0
                embedding.progress.message = "Embedded 20 of 20 s."
        yield embed_pb2.WatchEmbeddingResponse(embedding=embedding, last=True)

    async def CancelEmbedding(self, request, context):
        embedding = await self._find(request.embedding_id, context)
        requests = self._sage.received[embedding.id]
        requests.discard(request.request_id)
        watched = self._sage.watched[embedding.id] > 0
        if request.request_id and (requests or watched or embedding.state in FINAL):
            return embed_pb2.CancelEmbeddingResponse(embedding=embedding)
        if embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED:
            await abort(context, SageError(Reason.EMBEDDING_FINISHED, embedding_id=embedding.id, state="COMPLETED"))
        embedding.state = embed_pb2.EMBEDDING_STATE_CANCELLED
        embedding.revision += 1
        self._sage.cancelled[embedding.id].set()
        return embed_pb2.CancelEmbeddingResponse(embedding=embedding)

    async def DeleteEmbedding(self, request, context):
        await self._find(request.embedding_id, context)
        del self._sage.embeddings[request.embedding_id]
        return embed_pb2.DeleteEmbeddingResponse()

    async def ListModels(self, request, context):
        usable = self._sage.marengo or self._sage.key.present
        local = embed_pb2.Model(
            name="local",
            revision="1",
            provider="local",
            dimensions=112,
            tracks=["visual"],
            min_clip_seconds=0.5,
            max_clip_seconds=10,
            usable=True,
        )
        marengos = [
            embed_pb2.Model(
                name=name,
                revision=self._sage.revisions[name],
                provider="twelvelabs",
                dimensions=512,
                tracks=["visual", "audio", "video"],
                min_clip_seconds=2,
                max_clip_seconds=10,
                usable=usable,
                unusable_reason="" if usable else "no API key is set. Set one with SetApiKey.",
            )
            for name in ("marengo3.0", "marengo3.5", "Marengo-retrieval-2.7")
        ]
        models = [*marengos, local] if usable else [local, *marengos]
        return embed_pb2.ListModelsResponse(models=models)


class FakeApiKeyService(api_key_pb2_grpc.ApiKeyServiceServicer):
    def __init__(self, sage: FakeSage) -> None:
        self._sage = sage

    async def SetApiKey(self, request, context):
        sage = self._sage
        sage.keys.append(request.key)
        if sage.key_refusal:
            await abort(context, sage.key_refusal)
        found = api_key_pb2.ApiKey(provider="twelvelabs", last_four=request.key.strip()[-4:], status=sage.key_status)
        found.check_time.FromSeconds(1_800_000_000)
        if request.validate_only:
            if not request.key:
                found.last_four, found.present, found.source = (
                    sage.key.last_four,
                    sage.key.present,
                    sage.key.source,
                )
            return api_key_pb2.SetApiKeyResponse(api_key=found)
        found.present, found.source = True, api_key_pb2.API_KEY_SOURCE_STORED
        sage.key = found
        return api_key_pb2.SetApiKeyResponse(api_key=found)

    async def GetApiKey(self, request, context):
        return api_key_pb2.GetApiKeyResponse(api_key=self._sage.key)

    async def DeleteApiKey(self, request, context):
        self._sage.key = self._sage.environment_key
        return api_key_pb2.DeleteApiKeyResponse()
