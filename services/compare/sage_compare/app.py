"""The composition root: builds the service from its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage_runtime.client import open_channel
from sage_runtime.server import ServiceRegistration, serve

from sage_compare.comparer import Comparer
from sage_compare.config import CompareSettings
from sage_compare.inputs.client import GrpcEmbeddingReader
from sage_compare.inputs.segments import SegmentCache
from sage_compare.servicer import CompareServicer


@asynccontextmanager
async def compare_service(settings: CompareSettings) -> AsyncIterator[ServiceRegistration]:
    """Yield the service, with a channel to the embed service that closes when the block ends."""
    async with open_channel(settings.embed_address) as channel:
        reader = GrpcEmbeddingReader(channel, timeout_s=settings.embed_timeout_s)
        cache = SegmentCache(reader, max_bytes=settings.cache_bytes, max_reads=settings.max_reads)
        servicer = CompareServicer(Comparer(reader, cache, max_segments=settings.max_segments))
        yield ServiceRegistration(
            name=compare_pb2.DESCRIPTOR.services_by_name["CompareService"].full_name,
            add=lambda server: compare_pb2_grpc.add_CompareServiceServicer_to_server(servicer, server),
            check=reader.check,
        )


async def run(settings: CompareSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with compare_service(settings) as service:
        await serve(service_name="compare", settings=settings, services=[service])
