"""A complete stack for the tests that go through all of it."""

from collections.abc import Iterator

import pytest
from fakes.twelvelabs.server import StandIn
from sage_local.background import running_stack
from sage_local.running import RunningStack
from support.sage_command import Sage


@pytest.fixture(scope="session")
def stack(twelvelabs_server: StandIn) -> Iterator[RunningStack]:
    """The whole stack on free ports, ready: gateway, services, one worker, PostgreSQL and S3.

    It would find the stand-in for TwelveLabs, and has no key for it: a test may set one.
    """
    # A dead worker is noticed sooner than by default, so that no test waits for it.
    noticing = {"HEARTBEAT": "1", "LOST_AFTER": "4", "SWEEP": "1"}
    environment = {f"SAGE_WORKER_{name}_SECONDS": value for name, value in noticing.items()}
    environment |= {"TWELVELABS_BASE_URL": twelvelabs_server.base_url, "SAGE_TWELVELABS_POLL_SECONDS": "0.2"}
    with running_stack(environment=environment) as running:
        yield running


@pytest.fixture
def sage(stack: RunningStack) -> Sage:
    """The `sage` command at that stack's gateway."""
    return Sage(stack.address)
