"""Checks the health of servers repeatedly, from a separate process, and measures how long each response takes.

In the process of a busy test, it would measure how long that test kept it from running.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PAUSE_S = 0.05
_PATIENCE_S = 5.0


class HealthProbe:
    """Measures the health service of servers until it is stopped.

    Args:
        addresses: HOST:PORT of each.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start measuring."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *self._addresses, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )

    async def stop(self) -> dict[str, list[float]]:
        """Stop, and return the seconds that each response took, by address."""
        assert self._process is not None
        out, _ = await self._process.communicate(b"")
        latencies: dict[str, list[float]] = json.loads(out)
        return latencies


async def _probe(address: str, latencies: list[float]) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        # The first response waits for the connection.
        await stub.Check(request, wait_for_ready=True)
        while True:
            begun = time.perf_counter()
            await stub.Check(request, timeout=_PATIENCE_S)
            latencies.append(time.perf_counter() - begun)
            await asyncio.sleep(_PAUSE_S)


async def _main(addresses: Sequence[str]) -> None:
    latencies: dict[str, list[float]] = {address: [] for address in addresses}
    probes = [asyncio.create_task(_probe(address, took)) for address, took in latencies.items()]
    # It stops at the end of standard input.
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([ended, *probes], return_when=asyncio.FIRST_COMPLETED)
    for probe in probes:
        if probe.done():
            probe.result()
        probe.cancel()
    sys.stdout.write(json.dumps(latencies))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
