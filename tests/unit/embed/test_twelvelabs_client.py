"""The SDK's client."""

import os
import subprocess
import sys

import pytest

# The real command up to its event loop, in which a first request prints the modules that it had to import.
FIRST_REQUEST = """
import asyncio, contextlib, sys
import httpx
from sage_embed.__main__ import main
from sage_embed.engines.twelvelabs.client import Clients
from sage_embed.keys.model import ProviderKey

async def request():
    clients = Clients()
    async with clients.lend(ProviderKey("secret", "fingerprint")) as sdk:
        with contextlib.suppress(httpx.ConnectError):
            await sdk.embed.v_2.tasks.retrieve("task", request_options={"max_retries": 0})
    await clients.aclose()

begin = asyncio.run

def run(command):
    command.close()
    before = set(sys.modules)
    begin(request())
    print(*set(sys.modules) - before)

asyncio.run = run
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "worker"])
def test_the_first_request_imports_nothing(command):
    """Slow imports happen before the event loop starts. Otherwise they would delay health checks."""
    settings = {
        # Nothing listens there.
        "TWELVELABS_BASE_URL": "http://127.0.0.1:9",
        "SAGE_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "S3_BUCKET_NAME": "none",
    }
    done = subprocess.run(
        [sys.executable, "-c", FIRST_REQUEST, command],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
