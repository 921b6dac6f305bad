"""The SDK's clients."""

import os
import subprocess
import sys

import pytest

# The command as it is, but for its loop: what is loaded before that begins is to be all that a first request needs.
FIRST_REQUEST = """
import asyncio, contextlib, sys
import httpx
from sage_embed.__main__ import main
from sage_embed.adapters.twelvelabs.clients import Clients
from sage_embed.ports import ProviderKey

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


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_first_request_imports_nothing(command):
    """What takes long to load is loaded before the event loop begins, which would else hold up health."""
    settings = {
        # Nobody listens there.
        "TWELVELABS_BASE_URL": "http://127.0.0.1:9",
        "SAGE_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    }
    done = subprocess.run(
        [sys.executable, "-c", FIRST_REQUEST, command],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
