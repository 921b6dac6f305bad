"""A gateway in front of every service, whose methods respond with an empty message."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.contract import registrations
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import running_server
from support.gateway_in_front import Fronted, gateway_to

Start = Callable[..., contextlib.AbstractAsyncContextManager[Fronted]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A call runs a server with every service, and a gateway with these settings in front of it."""

    @contextlib.asynccontextmanager
    async def run(*, settings: ServerSettings | None = None, **environment: str) -> AsyncIterator[Fronted]:
        settings = settings or ServerSettings(listen="127.0.0.1:0", grace_s=1, health_interval_s=1)
        async with running_server(settings=settings, services=registrations()) as server:
            addresses = dict.fromkeys(("ingest", "embed", "compare"), server.address)
            async with gateway_to(addresses, tmp_path, **environment) as fronted:
                yield fronted

    return run


@pytest.fixture
async def fronted(start: Start) -> AsyncIterator[Fronted]:
    """A gateway with the default settings."""
    async with start() as running:
        yield running
