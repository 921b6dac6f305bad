"""Videos through ingest's API."""

import grpc
from google.protobuf.duration_pb2 import Duration
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_runtime.client import to_sage_error

from sage_embed.embeddings.model import Video
from sage_embed.embeddings.pictures import picture_of
from sage_embed.embeddings.ports import VideoCatalog

_URL_VARIANTS = 3600
_SERVICE = "ingest"


class IngestVideoCatalog(VideoCatalog):
    """Calls ingest.

    Args:
        channel: Channel to ingest, made by `sage_runtime.client.open_channel`; the caller closes it.
        url_validity_s: Seconds for which a URL must be valid: longer than any single attempt at the work.
    """

    def __init__(self, channel: grpc.aio.Channel, *, url_validity_s: int) -> None:
        self._stub = ingest_pb2_grpc.IngestServiceStub(channel)
        self._url_validity_s = url_validity_s

    async def get(self, video_id: str) -> Video:
        try:
            response = await self._stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=video_id))
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        video = response.video
        media = video.media
        return Video(
            id=video.id,
            duration_seconds=media.duration_seconds,
            start_offset_seconds=media.start_offset_seconds,
            has_audio=bool(media.audio_tracks),
            size_bytes=video.size_bytes,
            width=media.width,
            height=media.height,
            picture=picture_of(media),
            media=media.SerializeToString(deterministic=True),
        )

    async def url(self, video_id: str, *, variant: int) -> str:
        # A presigned URL depends only on the second in which it was signed and on its validity. The variant is
        # therefore added to the validity, which becomes up to an hour longer.
        validity = Duration(seconds=self._url_validity_s + variant % _URL_VARIANTS)
        request = ingest_pb2.GetPlaybackUrlRequest(video_id=video_id, validity=validity)
        try:
            response = await self._stub.GetPlaybackUrl(request)
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        return response.url
