"""The composition root: builds the service from its parts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from threading import Thread

from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage_runtime.client import open_channel
from sage_runtime.server import ServiceRegistration, serve

from sage_compare.aligned.warm import warm_up
from sage_compare.alignment import Aligner
from sage_compare.comparer import Comparer
from sage_compare.config import CompareSettings
from sage_compare.inputs.client import GrpcEmbeddingReader
from sage_compare.inputs.fingerprint_client import GrpcFingerprintReader
from sage_compare.inputs.fingerprints import FingerprintCache
from sage_compare.inputs.segments import SegmentCache
from sage_compare.servicer import CompareServicer


@asynccontextmanager
async def compare_service(settings: CompareSettings) -> AsyncIterator[ServiceRegistration]:
    """Yield the service, with a channel to the embed service that closes when the block ends."""
    async with open_channel(settings.embed_address) as channel, AsyncExitStack() as stack:
        reader = GrpcEmbeddingReader(channel, timeout_s=settings.embed_timeout_s)
        cache = SegmentCache(reader, max_bytes=settings.cache_bytes, max_reads=settings.max_reads)
        fingerprints = GrpcFingerprintReader(
            channel, timeout_s=settings.embed_timeout_s, max_frames=settings.max_frames
        )
        aligner = Aligner(
            fingerprints,
            FingerprintCache(
                fingerprints, max_bytes=settings.fingerprint_cache_bytes, max_reads=2 * settings.max_alignments
            ),
            cache,
            max_frames=settings.max_frames,
            max_at_once=settings.max_alignments,
        )
        stack.callback(aligner.close)
        servicer = CompareServicer(Comparer(reader, cache, aligner, max_segments=settings.max_segments))
        yield ServiceRegistration(
            name=compare_pb2.DESCRIPTOR.services_by_name["CompareService"].full_name,
            add=lambda server: compare_pb2_grpc.add_CompareServiceServicer_to_server(servicer, server),
            check=reader.check,
        )


async def run(settings: CompareSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    # The first comparison waits for it. A daemon, so that a service that is stopped meanwhile does not.
    Thread(target=warm_up, name="warm-up", daemon=True).start()
    async with compare_service(settings) as service:
        await serve(service_name="compare", settings=settings, services=[service])
