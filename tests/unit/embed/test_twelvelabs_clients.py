"""The SDK's clients."""

import os
import subprocess
import sys

FIRST_REQUEST = """
import asyncio, contextlib, sys
import httpx
from sage_embed.adapters.twelvelabs.clients import Clients
from sage_embed.ports import ProviderKey

async def main():
    clients = Clients()
    async with clients.lend(ProviderKey("secret", "fingerprint")) as sdk:
        before = set(sys.modules)
        with contextlib.suppress(httpx.ConnectError):
            await sdk.embed.v_2.tasks.retrieve("task", request_options={"max_retries": 0})
        print(*set(sys.modules) - before)
    await clients.aclose()

asyncio.run(main())
"""


def test_first_request_imports_nothing():
    """What takes long to load is loaded in a thread, with the client, and not on the event loop in a request."""
    nobody = {"TWELVELABS_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_REQUEST], env=os.environ | nobody, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
