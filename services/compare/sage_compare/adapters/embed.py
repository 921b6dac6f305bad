"""The embed service, over gRPC."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_runtime.channel import to_sage_error

from sage_compare import convert
from sage_compare.distance import to_clips
from sage_compare.model import Clips, Embedding

_SERVICE = "embed"
_SERVICE_NAME = embed_pb2.DESCRIPTOR.services_by_name["EmbedService"].full_name


class GrpcEmbeddingReader:
    """Reads embeddings through the embed service's contract: the `EmbeddingReader` port.

    Args:
        channel: To the embed service, from `sage_runtime.channel.open_channel`.
        timeout_s: Seconds that reading a track may take where the caller has set no deadline or a later one.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._embed = embed_pb2_grpc.EmbedServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._timeout_s = timeout_s

    async def get(self, embedding_id: str) -> Embedding:
        """Return an embedding as it is now."""
        try:
            response = await self._embed.GetEmbedding(embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id))
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        return convert.to_embedding(response.embedding)

    async def read_clips(self, embedding: Embedding, track: str) -> Clips:
        """Return the clips of a track that the embedding has."""
        found = embedding.track(track)
        rows = convert.SegmentRows(count=found.segment_count if found else 0, dimensions=embedding.dimensions)
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
        return await asyncio.to_thread(to_clips, rows.starts, rows.ends, rows.vectors)

    async def check(self) -> None:
        """Raise where the embed service does not serve: nothing can be compared then."""
        try:
            response = await self._health.Check(health_pb2.HealthCheckRequest(service=_SERVICE_NAME))
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        if response.status != health_pb2.HealthCheckResponse.SERVING:
            raise ConnectionError("the embed service is not serving")
