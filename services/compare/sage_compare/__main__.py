"""`python -m sage_compare serve` runs the compare service."""

import argparse
import asyncio

from sage.compare.v1 import compare_pb2_grpc
from sage_runtime.channel import open_channel
from sage_runtime.server import ServiceRegistration, serve
from sage_runtime.settings import load

from sage_compare.adapters.embed import GrpcEmbeddingReader
from sage_compare.clip_cache import ClipCache
from sage_compare.compare import Comparer
from sage_compare.config import CompareSettings
from sage_compare.servicer import SERVICE_NAME, CompareServicer


def registration(settings: CompareSettings, reader: GrpcEmbeddingReader) -> ServiceRegistration:
    """Return the service, put together from its parts."""
    cache = ClipCache(reader, max_bytes=settings.cache_bytes, max_reads=settings.max_reads)
    servicer = CompareServicer(Comparer(reader, cache, max_segments=settings.max_segments))
    return ServiceRegistration(
        name=SERVICE_NAME,
        add=lambda server: compare_pb2_grpc.add_CompareServiceServicer_to_server(servicer, server),
        check=reader.check,
    )


async def run(settings: CompareSettings) -> None:
    """Serve until a stop signal comes."""
    async with open_channel(settings.embed_address) as channel:
        reader = GrpcEmbeddingReader(channel, timeout_s=settings.embed_timeout_s)
        await serve(service_name="compare", settings=settings, services=[registration(settings, reader)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="sage_compare", description="Finds where two cuts of a video differ.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM or SIGINT; settings come from the environment")
    parser.parse_args()
    asyncio.run(run(load(CompareSettings)))


if __name__ == "__main__":
    main()
