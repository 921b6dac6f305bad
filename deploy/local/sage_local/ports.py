"""Choosing ports, and saying who holds one that is taken."""

import random
import socket

import psutil

# Below the range that Linux takes for outgoing connections (32768 up), so none of those slips in before our server.
_FREE_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Say whether a server can listen on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    while True:
        port = random.choice(_FREE_RANGE)  # noqa: S311 -- a port is no secret
        if is_free(port):
            return port


def holder(port: int) -> str:
    """Return who listens on a port, as "nginx (pid 42)", or "another process" where we may not know."""
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
