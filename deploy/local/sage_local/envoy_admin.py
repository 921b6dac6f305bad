"""Envoy's admin interface, over its Unix socket."""

import asyncio
import contextlib
import http.client
import socket

_TIMEOUT_S = 2.0
_ACTIVE = "/stats?filter=^http.gateway.downstream_rq_active$"


class EnvoyAdmin:
    """Asks Envoy how it is and tells it to drain. One that cannot be reached says no to everything.

    Args:
        path: Path of the socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def ready(self) -> bool:
        """Say whether it takes calls."""
        return await self._ask("GET", "/ready") is not None

    async def drain(self) -> bool:
        """Have it fail its health check and turn new connections away; say whether it does."""
        failing = await self._ask("POST", "/healthcheck/fail")
        return failing is not None and await self._ask("POST", "/drain_listeners?graceful") is not None

    async def calls_under_way(self) -> int:
        """Return how many calls it carries now; 0 where it cannot be asked."""
        last = (await self._ask("GET", _ACTIVE) or "").strip().rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def _ask(self, method: str, path: str) -> str | None:
        """Return the text of a good answer; None where there is none."""
        return await asyncio.to_thread(self._ask_now, method, path)

    def _ask_now(self, method: str, path: str) -> str | None:
        with contextlib.closing(_UnixConnection(self._path)) as connection:
            try:
                connection.request(method, path)
                answer = connection.getresponse()
                text = answer.read().decode()
            except (OSError, http.client.HTTPException):
                return None
        return text if answer.status == http.HTTPStatus.OK else None


class _UnixConnection(http.client.HTTPConnection):
    """A connection to the server at a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        # Set before it connects, so that closing it closes the socket of an attempt that failed.
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)
