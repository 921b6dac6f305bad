"""Choosing ports, and naming the process that uses a port that is taken."""

import itertools
import os
import random
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from sage_local.errors import StackError

# Below the range that Linux uses for outgoing connections (32768 and up), so none of those takes the port before our
# server listens on it.
FREE_RANGE = range(20_000, 32_000)
SEAWEED_SOCKETS = Path("/tmp")  # noqa: S108 -- SeaweedFS decides
# In turn, so that a port is not chosen again before the server that it was chosen for listens on it.
_turn = itertools.count(random.randrange(len(FREE_RANGE)))  # noqa: S311 -- a port is not a secret


def choose_ports(names: Iterable[str], *, wanted: Mapping[str, int], last: Mapping[str, int]) -> dict[str, int]:
    """Return a port for each name that no server listens on.

    Args:
        names: Names that require a port.
        wanted: Requested ports; 0 or a missing entry means any free one.
        last: Ports of the last start, reused if they are free, so that addresses stay the same.

    Raises:
        StackError: A requested port is taken, or requested twice. Names the port, who uses it, and the variable to set.
    """
    chosen: dict[str, int] = {}
    # Requested ports first, so that none is given away.
    for name in sorted(names, key=lambda name: not wanted.get(name)):
        port = wanted.get(name) or last.get(name, 0)
        if wanted.get(name):
            if other := next((one for one, taken in chosen.items() if taken == port), None):
                raise StackError(
                    f"Port {port} is requested for both {other} and {name}.",
                    next_step=f"Set SAGE_{name.upper()}_PORT or SAGE_{other.upper()}_PORT to another (0: any free).",
                )
            if not is_free(port):
                raise StackError(
                    f"Port {port}, requested for {name}, is taken by {holder(port)}.",
                    next_step=f"Stop it, or set SAGE_{name.upper()}_PORT to another port (0: any free one).",
                )
        while not port or port in chosen.values() or not is_free(port):
            port = FREE_RANGE[next(_turn) % len(FREE_RANGE)]
        chosen[name] = port
    return chosen


def free_port() -> int:
    """Return a port of 127.0.0.1 that no server listens on."""
    return choose_ports(["any"], wanted={}, last={})["any"]


def is_free(port: int) -> bool:
    """Return whether a server can listen on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier server in TIME_WAIT do not prevent a new one from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    # SeaweedFS names sockets after its ports, and cannot replace those of another user.
    return all(one.lstat().st_uid == os.geteuid() for one in SEAWEED_SOCKETS.glob(f"seaweedfs-*-{port}.sock"))


def holder(port: int) -> str:
    """Return the process that listens on a port, as "nginx (pid 42)", or "another process" if it is not visible."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        connections = []
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
            continue
        if connection.laddr.port == port:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return "another process"
