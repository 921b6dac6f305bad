"""Real servers with the echo service, and channels to them."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
from fakes.echo import Echo
from sage_runtime.client import open_channel
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import RunningServer, running_server


@dataclass(frozen=True)
class Running:
    """A server with the echo service, and a channel to it.

    Attributes:
        echo: The servicer behind it.
        server: The server.
        channel: A plain channel, without our interceptors.
    """

    echo: Echo
    server: RunningServer
    channel: grpc.aio.Channel


@pytest.fixture
def settings() -> ServerSettings:
    """Settings for tests: a free port, and no long waits."""
    return ServerSettings(listen="127.0.0.1:0", grace_s=5, health_interval_s=0.05, health_timeout_s=0.2)


@pytest.fixture
async def echo(settings) -> AsyncIterator[Running]:
    """A running server with the echo service."""
    servicer = Echo()
    async with (
        running_server(settings=settings, services=[servicer.registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Running(servicer, server, channel)


@pytest.fixture
async def caller(settings, echo) -> AsyncIterator[Running]:
    """A second server, which calls the first through `open_channel`."""
    async with contextlib.AsyncExitStack() as stack:
        sibling = await stack.enter_async_context(open_channel(echo.server.address, timeout_s=3))
        servicer = Echo(sibling=sibling)
        server = await stack.enter_async_context(running_server(settings=settings, services=[servicer.registration]))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
        yield Running(servicer, server, channel)
