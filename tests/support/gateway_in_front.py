"""Runs a gateway in front of servers that a test has started."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from sage_local.gateway import Gateway, gateway_settings
from sage_local.ports import choose_ports


@dataclass(frozen=True)
class Fronted:
    """A gateway and the server behind it.

    Attributes:
        address: HOST:PORT of the gateway.
        probe: HOST:PORT at which monitoring reads statistics.
        log: The gateway's log.
        gateway: The gateway.
    """

    address: str
    probe: str
    log: Path
    gateway: Gateway


@contextlib.asynccontextmanager
async def gateway_to(addresses: dict[str, str], folder: Path, **environment: str) -> AsyncIterator[Fronted]:
    """Run a gateway in front of services at these addresses."""
    ports = choose_ports(["gateway", "gateway-probe"], wanted={}, last={})
    gateway = Gateway(
        folder / "gateway.yaml", settings=gateway_settings(ports, addresses, environment), log=folder / "gateway.log"
    )
    try:
        await gateway.start()
        yield Fronted(
            f"127.0.0.1:{ports['gateway']}", f"127.0.0.1:{ports['gateway-probe']}", folder / "gateway.log", gateway
        )
    finally:
        gateway.process.kill()
        await gateway.process.wait(timeout_s=10)
        await gateway.process.stop()  # which removes its socket
