"""Real servers for the tests that want them: PostgreSQL and S3, each started once and only when a test asks."""

import asyncio
import dataclasses
import signal
import uuid
from collections.abc import Callable, Iterator

import hypothesis
import psycopg
import pytest
from fakes.twelvelabs.server import StandIn
from fakes.twelvelabs.studio import Studio
from sage_local.ports import choose_ports, free_port
from sage_local.postgres import Postgres
from sage_local.seaweedfs import SeaweedFS, SeaweedPorts


def pytest_configure() -> None:
    """Let a busy machine be slow, and SIGINT reach the programs under test."""
    # Hypothesis fails a test of which one example took longer than 200 ms, though the next time it takes none.
    patient = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    hypothesis.settings.register_profile("patient", hypothesis.settings.default, **patient)
    hypothesis.settings.load_profile("patient")
    # A shell that starts the tests in the background has it ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A call makes an empty database of its own and returns its DSN, as superuser."""
    folder = tmp_path_factory.mktemp("postgres")
    server = Postgres(folder / "data", port=free_port(), password="test", log=folder / "log", durable=False)

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return server.dsn(database=name)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            runner.run(server.start())
            yield make
        finally:
            runner.run(server.process.stop())


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An S3 server, with `endpoint_url`, `access_key`, `secret_key` and `region`."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    # Chosen together: of eight chosen one by one, two may be the same.
    names = [field.name for field in dataclasses.fields(SeaweedPorts)]
    ports = SeaweedPorts(**choose_ports(names, wanted={}, last={}))
    server = SeaweedFS(folder / "data", ports=ports, access_key="test", secret_key="test-secret", log=folder / "log")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            runner.run(server.start())
            yield server
        finally:
            runner.run(server.process.stop())


@pytest.fixture(scope="session")
def make_bucket(s3_server: SeaweedFS) -> Callable[[], str]:
    """A call makes an empty bucket of its own and returns its name."""

    def make() -> str:
        name = f"test-{uuid.uuid4().hex}"
        client = s3_server.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    return make


@pytest.fixture(scope="session")
def twelvelabs_server() -> Iterator[StandIn]:
    """The stand-in for TwelveLabs, started once; what it has seen of a film is kept."""
    with StandIn(Studio()).running() as stand_in:
        yield stand_in


@pytest.fixture
def twelvelabs(twelvelabs_server: StandIn) -> StandIn:
    """The stand-in for TwelveLabs, which has forgotten every test before."""
    twelvelabs_server.reset()
    return twelvelabs_server
