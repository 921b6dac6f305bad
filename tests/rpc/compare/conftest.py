"""A real compare server beside an embed server that is a stand-in."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import pytest
from fakes.compare import FakeEmbedServicer
from sage.compare.v1 import compare_pb2_grpc
from sage_compare.__main__ import registration
from sage_compare.adapters.embed import GrpcEmbeddingReader
from sage_compare.config import CompareSettings
from sage_runtime.channel import open_channel
from sage_runtime.server import RunningServer, running_server
from sage_runtime.settings import ServerSettings


@dataclass
class CompareStack:
    """What a test talks to."""

    embed: FakeEmbedServicer
    embed_server: RunningServer
    server: RunningServer
    channel: grpc.aio.Channel
    compare: compare_pb2_grpc.CompareServiceStub
    embed_stack: AsyncExitStack

    async def stop_embed(self) -> None:
        """End the embed server for the rest of the test."""
        await self.embed_stack.aclose()


@pytest.fixture
async def stack() -> AsyncIterator[CompareStack]:
    """A compare server that takes tracks of at most 50 segments, and its embed server."""
    async with AsyncExitStack() as outer, AsyncExitStack() as embed_stack:
        embed = FakeEmbedServicer()
        embed_server = await embed_stack.enter_async_context(
            running_server(settings=ServerSettings(grace_s=0), services=[embed.registration()])
        )
        settings = CompareSettings(
            listen="127.0.0.1:0", embed_address=embed_server.address, max_segments=50, grace_s=0, health_timeout_s=1
        )
        to_embed = await outer.enter_async_context(open_channel(settings.embed_address))
        reader = GrpcEmbeddingReader(to_embed, timeout_s=settings.embed_timeout_s)
        server = await outer.enter_async_context(
            running_server(settings=settings, services=[registration(settings, reader)])
        )
        channel = await outer.enter_async_context(grpc.aio.insecure_channel(server.address))
        stub = compare_pb2_grpc.CompareServiceStub(channel)
        yield CompareStack(embed, embed_server, server, channel, stub, embed_stack)
