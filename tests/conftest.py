"""Real servers for the tests that need them, and a check that services raise only errors that the contracts list.

PostgreSQL and S3 are started once, when the first test needs them.
"""

import asyncio
import dataclasses
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import psycopg
import pytest
from fakes.twelvelabs.server import StandIn
from fakes.twelvelabs.studio import Studio
from sage_local import ports
from sage_local.ports import choose_ports, free_port
from sage_local.postgres import Postgres
from sage_local.seaweedfs import SeaweedFS, SeaweedPorts
from sage_runtime.server import interceptor
from sage_runtime.server.interceptor import Outcome
from support.error_lists import is_unlisted

# What starts a server, by the name of the fixture, or of the parameter of a contract suite.
_SERVER_FIXTURES = {"make_database", "s3_server", "stack"}
_SERVER_PARAMETERS = {"postgres", "s3"}
_PORTS_PER_WORKER = 1_000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --quick."""
    parser.addoption("--quick", action="store_true", help="Leave out tests that start a server or are marked slow.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Deselect the tests that --quick leaves out."""
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if not _is_quick(item)])
        items[:] = [item for item in items if _is_quick(item)]


def _is_quick(item: pytest.Function) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    starts_server = _SERVER_FIXTURES & set(item.fixturenames) or _SERVER_PARAMETERS & {*map(str, parameters)}
    return not starts_server and item.get_closest_marker("slow") is None


@pytest.fixture(scope="session", autouse=True)
def _separate_ports(worker_id: str) -> None:
    """Give each process of a parallel run different ports: two could find the same one free at the same time."""
    number = int(worker_id.removeprefix("gw")) % 12 if worker_id != "master" else 0
    ports.FREE_RANGE = range(20_000 + number * _PORTS_PER_WORKER, 20_000 + (number + 1) * _PORTS_PER_WORKER)


def pytest_configure() -> None:
    """Tolerate a busy machine, and let SIGINT reach the programs under test."""
    # By default Hypothesis fails a test if one example takes longer than 200 ms, even if only once.
    patient = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    hypothesis.settings.register_profile("patient", hypothesis.settings.default, **patient)
    hypothesis.settings.load_profile("patient")
    # A shell that starts the tests in the background makes them ignore it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _only_listed_errors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail an RPC test of a service whose method raises a reason that the method's comment does not list.

    It sees the servers in the test's own process. The fakes of other services may raise any reason.
    """
    _, _, area = str(request.path.parent).partition("/tests/rpc/")
    service = area.partition("/")[0]
    if service not in {"compare", "embed", "ingest"}:
        yield
        return
    unlisted: set[str] = set()
    log_call = interceptor.log_call

    def check_and_log_call(method: str, outcome: Outcome, **details: Any) -> None:
        reason = outcome.error.reason if outcome.error else None
        if reason and method.startswith(f"/sage.{service}.") and is_unlisted(method, reason):
            unlisted.add(f"{method} raised {reason}, which its comment does not list")
        log_call(method, outcome, **details)

    monkeypatch.setattr(interceptor, "log_call", check_and_log_call)
    yield
    assert not unlisted, "; ".join(sorted(unlisted))


@pytest.fixture(scope="session")
def make_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Return a function that creates an empty database and returns its DSN for the superuser."""
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
    # Chosen together: if chosen one by one, two of eight may be the same.
    names = [field.name for field in dataclasses.fields(SeaweedPorts)]
    server_ports = SeaweedPorts(**choose_ports(names, wanted={}, last={}))
    server = SeaweedFS(
        folder / "data", ports=server_ports, access_key="test", secret_key="test-secret", log=folder / "log"
    )
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            runner.run(server.start())
            yield server
        finally:
            runner.run(server.process.stop())


@pytest.fixture(scope="session")
def make_bucket(s3_server: SeaweedFS) -> Callable[[], str]:
    """Return a function that creates an empty bucket and returns its name."""

    def make() -> str:
        name = f"test-{uuid.uuid4().hex}"
        client = s3_server.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    return make


@pytest.fixture(scope="session")
def twelvelabs_server() -> Iterator[StandIn]:
    """The stand-in for TwelveLabs, started once. It remembers the films that it has processed."""
    with StandIn(Studio()).running() as stand_in:
        yield stand_in


@pytest.fixture
def twelvelabs(twelvelabs_server: StandIn) -> StandIn:
    """The stand-in for TwelveLabs, reset after the previous test."""
    twelvelabs_server.reset()
    return twelvelabs_server
