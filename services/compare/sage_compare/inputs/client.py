"""The gRPC adapter of `EmbeddingReader`, and conversions of the embed service's messages."""

import asyncio
from fractions import Fraction

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import media_pb2
from sage_runtime.client import to_sage_error

from sage_compare.inputs.embedding import Embedding, FrameClock, TimeRange, Track
from sage_compare.inputs.media import Area, AudioTrack, DynamicRange, Media
from sage_compare.inputs.segments import EmbeddingReader, Segments, Vectors

_SERVICE = "embed"
_DYNAMIC_RANGES = {"smpte2084": DynamicRange.PQ, "arib-std-b67": DynamicRange.HLG}
_INTERLACED = {
    media_pb2.FIELD_ORDER_PROGRESSIVE: False,
    media_pb2.FIELD_ORDER_TOP_FIRST: True,
    media_pb2.FIELD_ORDER_BOTTOM_FIRST: True,
}
_SERVICE_NAME = embed_pb2.DESCRIPTOR.services_by_name["EmbedService"].full_name


class GrpcEmbeddingReader(EmbeddingReader):
    """Reads from the embed service.

    Args:
        channel: To the embed service, from `sage_runtime.client.open_channel`.
        timeout_s: Seconds allowed for reading a track. The caller's deadline applies if it is earlier.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._embed = embed_pb2_grpc.EmbedServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._timeout_s = timeout_s

    async def get(self, embedding_id: str) -> Embedding:
        """Call `GetEmbedding`."""
        try:
            response = await self._embed.GetEmbedding(embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id))
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        return to_embedding(response.embedding)

    async def read_segments(self, embedding: Embedding, track: str) -> Segments:
        """Collect the stream of `ReadSegments`."""
        found = embedding.track(track)
        rows = SegmentRows(count=found.segment_count if found else 0, dimensions=embedding.dimensions)
        call = self._embed.ReadSegments(
            embed_pb2.ReadSegmentsRequest(embedding_id=embedding.id, track=track), timeout=self._timeout_s
        )
        try:
            async for message in call:
                rows.add(message)
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        finally:
            call.cancel()
        rows.check_complete()
        return await asyncio.to_thread(Segments.of, rows.starts, rows.ends, rows.vectors)

    async def tracks_of_model(self, model: str) -> frozenset[str]:
        """Call `ListModels`."""
        try:
            response = await self._embed.ListModels(embed_pb2.ListModelsRequest())
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        return frozenset(track for found in response.models if found.name == model for track in found.tracks)

    async def check(self) -> None:
        """Query the health of the embed service."""
        try:
            response = await self._health.Check(health_pb2.HealthCheckRequest(service=_SERVICE_NAME))
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        if response.status != health_pb2.HealthCheckResponse.SERVING:
            raise ConnectionError("the embed service is not serving")


class SegmentRows:
    """Collects the messages of `ReadSegments` into arrays that are allocated once per track.

    Args:
        count: Number of segments of the track.
        dimensions: Numbers per vector.
    """

    def __init__(self, *, count: int, dimensions: int) -> None:
        self._next = 0
        self.starts = np.empty(count, np.float64)
        self.ends = np.empty(count, np.float64)
        self.vectors: Vectors = np.empty((count, dimensions), np.float32)

    def add(self, message: embed_pb2.ReadSegmentsResponse) -> None:
        """Append the segments of a message.

        Raises:
            ValueError: They are not the next ones, or not what the embedding announced.
        """
        first, last = self._next, self._next + len(message.start_seconds)
        if last == first:
            return
        if message.first_index != first or last > len(self.starts):
            raise ValueError(
                f"expected segments {first} to {len(self.starts)}, received {last - first} from {message.first_index}"
            )
        dimensions = self.vectors.shape[1]
        if message.dimensions != dimensions or len(message.vectors) != (last - first) * dimensions * 4:
            raise ValueError(f"expected vectors of {dimensions} dimensions")
        self.starts[first:last] = message.start_seconds
        self.ends[first:last] = message.end_seconds
        self.vectors[first:last] = np.frombuffer(message.vectors, "<f4").reshape(-1, dimensions)
        self._next = last

    def check_complete(self) -> None:
        """Refuse a track that ended early.

        Raises:
            ValueError: Segments are missing.
        """
        if self._next != len(self.starts):
            raise ValueError(f"received {self._next} of {len(self.starts)} segments")


def to_embedding(message: embed_pb2.Embedding) -> Embedding:
    """Return an embedding as the embed service describes it."""
    return Embedding(
        id=message.id,
        video_id=message.video_id,
        clock=_clock(message.media),
        media=to_media(message.media),
        media_message=message.media.SerializeToString(),
        model=message.model,
        model_revision=message.model_revision,
        dimensions=message.dimensions,
        clip_seconds=message.clip_seconds,
        state=state_name(message.state),
        requested_tracks=tuple(message.requested_tracks),
        tracks=tuple(_track(track) for track in message.tracks),
        revision=message.revision,
    )


def to_media(message: media_pb2.Media) -> Media:
    """Return the tracks and the presentation of a file."""
    width, height = message.display_width, message.display_height
    return Media(
        audio_tracks=tuple(AudioTrack(one.channels, one.layout, one.language) for one in message.audio_tracks),
        picture_count=sum(not track.is_cover for track in message.video_tracks),
        dynamic_range=_DYNAMIC_RANGES.get(message.color.transfer, DynamicRange.SDR),
        aspect_ratio=Fraction(width, height) if width > 0 and height > 0 else None,
        active=_active(message),
        interlaced=_INTERLACED.get(message.field_order),
        mirrored=message.mirrored,
    )


def _active(media: media_pb2.Media) -> Area | None:
    """Return the active picture as it is displayed: a player mirrors the picture, then rotates it clockwise."""
    area = media.active_picture
    if not (0 < area.width <= media.width and 0 < area.height <= media.height):
        return None
    x, width = Fraction(area.left, media.width), Fraction(area.width, media.width)
    y, height = Fraction(area.top, media.height), Fraction(area.height, media.height)
    if media.mirrored:
        x = 1 - x - width
    for _ in range(media.rotation_degrees % 360 // 90):
        x, y, width, height = 1 - y - height, x, height, width
    return Area(x, y, width, height)


def _clock(media: media_pb2.Media) -> FrameClock:
    rate = media.frame_rate
    constant = media.frame_rate_mode == media_pb2.FRAME_RATE_MODE_CONSTANT
    return FrameClock(
        duration=media.duration_seconds,
        rate=Fraction(rate.numerator, rate.denominator) if rate.numerator > 0 and rate.denominator > 0 else None,
        stated_count=media.frame_count if constant and media.HasField("frame_count") else None,
    )


def state_name(state: int) -> str:
    """Return a state's name without its prefix, or its number if this build does not know it."""
    if state not in embed_pb2.EmbeddingState.values():
        return str(state)
    return embed_pb2.EmbeddingState.Name(embed_pb2.EmbeddingState.ValueType(state)).removeprefix("EMBEDDING_STATE_")


def _track(message: embed_pb2.Track) -> Track:
    covered = TimeRange(message.covered_start_seconds, message.covered_end_seconds) if message.segment_count else None
    return Track(message.name, message.segment_count, covered)
