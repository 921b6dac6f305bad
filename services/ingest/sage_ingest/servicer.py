"""RPCs of ingest: convert, call the use case, convert back."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc

from sage_ingest import convert
from sage_ingest.config import IngestSettings
from sage_ingest.uploads.completion import Completion
from sage_ingest.uploads.model import Upload
from sage_ingest.uploads.parts import next_in_time
from sage_ingest.uploads.resumable import ResumableUploads
from sage_ingest.uploads.streamed import StreamedUploads
from sage_ingest.videos.catalog import VideoCatalog

Context = grpc.aio.ServicerContext[Any, Any]


class IngestServicer(ingest_pb2_grpc.IngestServiceServicer):
    """`sage.ingest.v1.IngestService`. The server checks the contract's annotations and translates errors.

    Args:
        settings: Limits of uploads.
        streamed: Streamed uploads.
        resumable: Resumable uploads.
        completion: Completes resumable uploads.
        catalog: Stored videos.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        streamed: StreamedUploads,
        resumable: ResumableUploads,
        completion: Completion,
        catalog: VideoCatalog,
    ) -> None:
        self._streamed = streamed
        self._resumable = resumable
        self._completion = completion
        self._catalog = catalog
        self._max_video_bytes = settings.max_video_bytes
        self._idle_s = settings.upload_idle_s
        self._expire_s = settings.upload_expire_s

    async def UploadVideo(
        self, request_iterator: AsyncIterator[ingest_pb2.UploadVideoRequest], context: Context
    ) -> ingest_pb2.UploadVideoResponse:
        """Receive one video."""
        messages = aiter(request_iterator)
        start = convert.to_upload_start(
            await next_in_time(messages, idle_s=self._idle_s),
            metadata=dict(context.invocation_metadata() or ()),
            max_video_bytes=self._max_video_bytes,
        )
        chunks = convert.to_chunks(start.data, messages)
        video = await self._streamed.upload(start.spec, chunks, request_id=start.request_id)
        return ingest_pb2.UploadVideoResponse(video=convert.from_video(video))

    async def CreateUpload(
        self, request: ingest_pb2.CreateUploadRequest, context: Context
    ) -> ingest_pb2.CreateUploadResponse:
        """Create a resumable upload."""
        spec = convert.to_video_spec(request, max_video_bytes=self._max_video_bytes)
        upload = await self._resumable.create(spec, request_id=request.request_id)
        return ingest_pb2.CreateUploadResponse(upload=await self._with_parts(upload))

    async def UploadPart(
        self, request_iterator: AsyncIterator[ingest_pb2.UploadPartRequest], context: Context
    ) -> ingest_pb2.UploadPartResponse:
        """Receive one part."""
        messages = aiter(request_iterator)
        spec, first = convert.to_part_spec(
            await next_in_time(messages, idle_s=self._idle_s), metadata=dict(context.invocation_metadata() or ())
        )
        part = await self._resumable.put_part(spec, convert.to_part_chunks(spec, first, messages))
        return ingest_pb2.UploadPartResponse(part=convert.from_part(part))

    async def GetUpload(self, request: ingest_pb2.GetUploadRequest, context: Context) -> ingest_pb2.GetUploadResponse:
        """Return a resumable upload."""
        upload = await self._resumable.get(request.upload_id)
        return ingest_pb2.GetUploadResponse(upload=await self._with_parts(upload))

    async def ListUploads(
        self, request: ingest_pb2.ListUploadsRequest, context: Context
    ) -> ingest_pb2.ListUploadsResponse:
        """Return a page of open uploads."""
        page = await self._resumable.list(page_size=request.page_size, page_token=request.page_token)
        return convert.from_upload_page(page, expire_s=self._expire_s)

    async def CompleteUpload(
        self, request: ingest_pb2.CompleteUploadRequest, context: Context
    ) -> ingest_pb2.CompleteUploadResponse:
        """Return the video that a resumable upload becomes."""
        video = await self._completion.complete(request.upload_id)
        return ingest_pb2.CompleteUploadResponse(video=convert.from_video(video))

    async def AbortUpload(
        self, request: ingest_pb2.AbortUploadRequest, context: Context
    ) -> ingest_pb2.AbortUploadResponse:
        """Abort a resumable upload."""
        upload = await self._resumable.abort(request.upload_id)
        return ingest_pb2.AbortUploadResponse(upload=await self._with_parts(upload))

    async def _with_parts(self, upload: Upload) -> ingest_pb2.Upload:
        return convert.from_upload(upload, await self._resumable.parts(upload), expire_s=self._expire_s)

    async def GetVideo(self, request: ingest_pb2.GetVideoRequest, context: Context) -> ingest_pb2.GetVideoResponse:
        """Return a video."""
        return ingest_pb2.GetVideoResponse(video=convert.from_video(await self._catalog.get(request.video_id)))

    async def ListVideos(
        self, request: ingest_pb2.ListVideosRequest, context: Context
    ) -> ingest_pb2.ListVideosResponse:
        """Return a page of videos."""
        page = await self._catalog.list(
            page_size=request.page_size,
            page_token=request.page_token,
            filename_contains=request.filename_contains,
            sha256=request.sha256,
        )
        return convert.from_page(page)

    async def DeleteVideo(
        self, request: ingest_pb2.DeleteVideoRequest, context: Context
    ) -> ingest_pb2.DeleteVideoResponse:
        """Delete a video."""
        await self._catalog.delete(request.video_id)
        return ingest_pb2.DeleteVideoResponse()

    async def GetPlaybackUrl(
        self, request: ingest_pb2.GetPlaybackUrlRequest, context: Context
    ) -> ingest_pb2.GetPlaybackUrlResponse:
        """Return a playback URL."""
        playback = await self._catalog.playback_url(request.video_id, validity_s=convert.to_validity_s(request))
        return convert.from_playback_url(playback)
