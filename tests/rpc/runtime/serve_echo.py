"""A process that serves the tiny service, for tests that send it signals. Prints its port when it takes calls."""

import asyncio

from fakes.echo import Echo
from sage_runtime.server import serve
from sage_runtime.settings import ServerSettings, load


async def _main() -> None:
    settings = load(ServerSettings)
    registration = Echo().registration
    await serve(
        service_name="echo", settings=settings, services=[registration], on_started=lambda port: print(port, flush=True)
    )


asyncio.run(_main())
