"""A complete stack, shared by the end-to-end tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.twelvelabs.server import KEY, StandIn
from sage_local.stack import RunningStack, running_stack
from support.films import films_at_equal_times
from support.sage_command import Sage


@pytest.fixture(scope="session")
def stack(twelvelabs_server: StandIn) -> Iterator[RunningStack]:
    """The full stack on free ports, ready: gateway, services, one worker, PostgreSQL and S3.

    It is configured for the stand-in for TwelveLabs but has no key: a test may set one.
    """
    # A dead worker is detected sooner than by default, so that tests need not wait for it.
    noticing = {"HEARTBEAT": "1", "LOST_AFTER": "4", "SWEEP": "1"}
    environment = {f"SAGE_WORKER_{name}_SECONDS": value for name, value in noticing.items()}
    environment |= {"TWELVELABS_BASE_URL": twelvelabs_server.base_url, "SAGE_TWELVELABS_POLL_SECONDS": "0.2"}
    with running_stack(environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two films for mode TIME: their edits do not shift time."""
    return films_at_equal_times(tmp_path_factory.mktemp("films"))


@pytest.fixture
def sage(stack: RunningStack) -> Sage:
    """The `sage` command, connected to that stack's gateway."""
    return Sage(stack.address)


@pytest.fixture
async def key(sage: Sage, twelvelabs: StandIn) -> AsyncIterator[str]:
    """The provider's key, set with `sage key set` and removed after the test."""
    run = await sage("key", "set", stdin=KEY + "\n")
    assert run.code == 0, run.err
    yield KEY
    assert (await sage("key", "remove")).code == 0
