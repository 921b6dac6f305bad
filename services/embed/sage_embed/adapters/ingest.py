"""Videos through ingest's contract."""

import grpc
from google.protobuf.duration_pb2 import Duration
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_runtime.channel import to_sage_error
from sage_runtime.errors import Reason, SageError

from sage_embed.model import Video
from sage_embed.ports import VideoCatalog

URL_VARIANTS = 3600
_SERVICE = "ingest"


class IngestVideoCatalog(VideoCatalog):
    """Asks ingest about videos.

    Args:
        channel: To ingest, made by `sage_runtime.channel.open_channel`; the caller closes it.
        url_validity_s: How long a URL has to serve at least: longer than any one attempt at the work.
    """

    def __init__(self, channel: grpc.aio.Channel, *, url_validity_s: int) -> None:
        self._stub = ingest_pb2_grpc.IngestServiceStub(channel)
        self._url_validity_s = url_validity_s

    async def get(self, video_id: str) -> Video:
        """See `VideoCatalog`."""
        try:
            answer = await self._stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=video_id))
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        video = answer.video
        if video.state != ingest_pb2.VIDEO_STATE_READY:
            raise SageError(Reason.VIDEO_NOT_READY, video_id=video_id)
        return Video(
            id=video.id,
            duration_seconds=video.media.duration_seconds,
            start_offset_seconds=video.media.start_offset_seconds,
            has_audio=video.media.HasField("audio"),
            size_bytes=video.size_bytes,
            width=video.media.width,
            height=video.media.height,
        )

    async def url(self, video_id: str, *, variant: int) -> str:
        """See `VideoCatalog`."""
        # A signature covers the second that it was made in and the validity, and nothing else that differs between two
        # URLs of one video. So the variant is in the validity: an hour longer at the most.
        validity = Duration(seconds=self._url_validity_s + variant % URL_VARIANTS)
        request = ingest_pb2.GetPlaybackUrlRequest(video_id=video_id, validity=validity)
        try:
            answer = await self._stub.GetPlaybackUrl(request)
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        return answer.url
