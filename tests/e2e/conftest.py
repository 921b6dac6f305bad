"""A complete stack for the tests that go through all of it."""

from collections.abc import Iterator

import pytest
from sage_local.background import running_stack
from sage_local.running import RunningStack


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """The whole stack on free ports, ready: gateway, services, one worker, PostgreSQL and S3."""
    with running_stack() as running:
        yield running
