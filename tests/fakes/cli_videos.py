"""The ingest service as the `sage` command sees it: videos and open uploads in memory."""

import hashlib
from typing import TYPE_CHECKING

import grpc
from fakes.cli_errors import abort
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_runtime.errors import Reason, SageError

if TYPE_CHECKING:
    from fakes.cli_services import FakeSage


class FakeIngestService(ingest_pb2_grpc.IngestServiceServicer):
    def __init__(self, sage: "FakeSage") -> None:
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
