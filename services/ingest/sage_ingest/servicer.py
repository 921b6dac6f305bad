"""The service over gRPC: converts, calls, converts back."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc

from sage_ingest import convert
from sage_ingest.completion import Completion
from sage_ingest.model import Upload
from sage_ingest.open_uploads import OpenUploads
from sage_ingest.pacing import next_in_time
from sage_ingest.upload import Uploads
from sage_ingest.videos import Videos

Context = grpc.aio.ServicerContext[Any, Any]


class IngestServicer(ingest_pb2_grpc.IngestServiceServicer):
    """`sage.ingest.v1.IngestService`. Errors are translated by the server.

    Args:
        uploads: Takes videos in as streams.
        open_uploads: Takes videos in by parts.
        completion: Makes videos of those.
        videos: The videos there are.
        max_video_bytes: The largest video taken.
        idle_s: Seconds without a first message after which an upload is given up.
    """

    def __init__(
        self,
        *,
        uploads: Uploads,
        open_uploads: OpenUploads,
        completion: Completion,
        videos: Videos,
        max_video_bytes: int,
        idle_s: float,
    ) -> None:
        self._uploads = uploads
        self._open_uploads = open_uploads
        self._completion = completion
        self._videos = videos
        self._max_video_bytes = max_video_bytes
        self._idle_s = idle_s

    async def UploadVideo(
        self, request_iterator: AsyncIterator[ingest_pb2.UploadVideoRequest], context: Context
    ) -> ingest_pb2.UploadVideoResponse:
        """Take in one video."""
        messages = aiter(request_iterator)
        start = convert.to_upload_start(
            await next_in_time(messages, idle_s=self._idle_s),
            metadata=dict(context.invocation_metadata() or ()),
            max_video_bytes=self._max_video_bytes,
        )
        video = await self._uploads.upload(
            start.spec, convert.to_chunks(start.data, messages), request_id=start.request_id
        )
        return ingest_pb2.UploadVideoResponse(video=convert.from_video(video))

    async def CreateUpload(
        self, request: ingest_pb2.CreateUploadRequest, context: Context
    ) -> ingest_pb2.CreateUploadResponse:
        """Begin an upload in parts."""
        spec, request_id = convert.to_upload(request, max_video_bytes=self._max_video_bytes)
        upload = await self._open_uploads.begin(spec, request_id=request_id)
        return ingest_pb2.CreateUploadResponse(upload=await self._with_parts(upload))

    async def UploadPart(
        self, request_iterator: AsyncIterator[ingest_pb2.UploadPartRequest], context: Context
    ) -> ingest_pb2.UploadPartResponse:
        """Take in one part."""
        messages = aiter(request_iterator)
        spec, first = convert.to_part_spec(
            await next_in_time(messages, idle_s=self._idle_s), metadata=dict(context.invocation_metadata() or ())
        )
        part = await self._open_uploads.put_part(spec, convert.to_part_chunks(spec, first, messages))
        return ingest_pb2.UploadPartResponse(part=convert.from_part(part))

    async def GetUpload(self, request: ingest_pb2.GetUploadRequest, context: Context) -> ingest_pb2.GetUploadResponse:
        """Answer an upload in parts."""
        upload = await self._open_uploads.get(request.upload_id)
        return ingest_pb2.GetUploadResponse(upload=await self._with_parts(upload))

    async def CompleteUpload(
        self, request: ingest_pb2.CompleteUploadRequest, context: Context
    ) -> ingest_pb2.CompleteUploadResponse:
        """Answer the video that an upload becomes."""
        video = await self._completion.complete(request.upload_id)
        return ingest_pb2.CompleteUploadResponse(video=convert.from_video(video))

    async def AbortUpload(
        self, request: ingest_pb2.AbortUploadRequest, context: Context
    ) -> ingest_pb2.AbortUploadResponse:
        """Drop an upload."""
        upload = await self._open_uploads.abort(request.upload_id)
        return ingest_pb2.AbortUploadResponse(upload=await self._with_parts(upload))

    async def _with_parts(self, upload: Upload) -> ingest_pb2.Upload:
        return convert.from_upload(upload, await self._open_uploads.parts(upload))

    async def GetVideo(self, request: ingest_pb2.GetVideoRequest, context: Context) -> ingest_pb2.GetVideoResponse:
        """Answer one video."""
        return ingest_pb2.GetVideoResponse(video=convert.from_video(await self._videos.get(request.video_id)))

    async def ListVideos(
        self, request: ingest_pb2.ListVideosRequest, context: Context
    ) -> ingest_pb2.ListVideosResponse:
        """Answer a page of videos."""
        page = await self._videos.list(
            page_size=request.page_size,
            page_token=request.page_token,
            filename_contains=request.filename_contains,
        )
        return convert.from_page(page)

    async def DeleteVideo(
        self, request: ingest_pb2.DeleteVideoRequest, context: Context
    ) -> ingest_pb2.DeleteVideoResponse:
        """Delete a video."""
        await self._videos.delete(request.video_id)
        return ingest_pb2.DeleteVideoResponse()

    async def GetPlaybackUrl(
        self, request: ingest_pb2.GetPlaybackUrlRequest, context: Context
    ) -> ingest_pb2.GetPlaybackUrlResponse:
        """Answer a playback URL."""
        playback = await self._videos.playback_url(request.video_id, validity_s=convert.to_validity_s(request))
        return convert.from_playback_url(playback)
