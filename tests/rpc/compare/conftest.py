"""A real compare server with a stand-in for the embed service."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import pytest
from fakes.compare import FakeEmbedServicer, FakeFingerprintServicer
from sage.compare.v1 import compare_pb2_grpc
from sage_compare.app import compare_service
from sage_compare.config import CompareSettings
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import RunningServer, running_server


@dataclass
class CompareStack:
    """The servers of a test and a stub of the compare service."""

    embed: FakeEmbedServicer
    fingerprints: FakeFingerprintServicer
    embed_server: RunningServer
    server: RunningServer
    channel: grpc.aio.Channel
    compare: compare_pb2_grpc.CompareServiceStub
    embed_stack: AsyncExitStack

    async def stop_embed(self) -> None:
        """Stop the embed server for the rest of the test."""
        await self.embed_stack.aclose()


@pytest.fixture
async def stack() -> AsyncIterator[CompareStack]:
    """A compare server that accepts 50 segments per embedding and 1,000 frames per film, and its embed server."""
    async with AsyncExitStack() as outer, AsyncExitStack() as embed_stack:
        embed, fingerprints = FakeEmbedServicer(), FakeFingerprintServicer()
        embed_server = await embed_stack.enter_async_context(
            running_server(
                settings=ServerSettings(grace_s=0), services=[embed.registration(), fingerprints.registration()]
            )
        )
        settings = CompareSettings(
            listen="127.0.0.1:0",
            embed_address=embed_server.address,
            max_segments=50,
            max_frames=1000,
            grace_s=0,
            health_timeout_s=1,
        )
        service = await outer.enter_async_context(compare_service(settings))
        server = await outer.enter_async_context(running_server(settings=settings, services=[service]))
        channel = await outer.enter_async_context(grpc.aio.insecure_channel(server.address))
        stub = compare_pb2_grpc.CompareServiceStub(channel)
        yield CompareStack(embed, fingerprints, embed_server, server, channel, stub, embed_stack)
