"""A process that serves the echo service, for tests that send it signals. Prints its port once it accepts calls."""

import asyncio

from fakes.echo import Echo
from sage_runtime.process.settings import ServerSettings, load
from sage_runtime.server import serve


async def _main() -> None:
    settings = load(ServerSettings)
    registration = Echo().registration
    await serve(
        service_name="echo", settings=settings, services=[registration], on_started=lambda port: print(port, flush=True)
    )


asyncio.run(_main())
