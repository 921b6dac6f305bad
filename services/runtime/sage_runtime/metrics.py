"""Prometheus metrics of calls, under the names that go-grpc-prometheus made common. Imported only where on."""

import contextlib
from collections.abc import Iterator

import grpc
import prometheus_client

# When each series began is noise that doubles the page.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # their function has no types

_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_STARTED = prometheus_client.Counter("grpc_server_started_total", "Calls that began.", _LABELS)
_HANDLED = prometheus_client.Counter("grpc_server_handled_total", "Calls that ended.", (*_LABELS, "grpc_code"))
_SECONDS = prometheus_client.Histogram(
    "grpc_server_handling_seconds",
    "Seconds from the beginning of a call to its end.",
    _LABELS,
    # From a cached comparison to an upload of many gigabytes.
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)


class CallMetrics:
    """Counts calls. Only methods that exist reach it, so the labels are bounded."""

    def started(self, method: str, arity: tuple[str, str]) -> None:
        """Count the start."""
        _STARTED.labels(*_labels(method, arity)).inc()

    def ended(self, method: str, arity: tuple[str, str], status: grpc.StatusCode, duration_s: float) -> None:
        """Count the end and its duration."""
        labels = _labels(method, arity)
        _HANDLED.labels(*labels, status.name).inc()
        _SECONDS.labels(*labels).observe(duration_s)


@contextlib.contextmanager
def serving_metrics(listen: str) -> Iterator[int]:
    """Serve /metrics on HOST:PORT from a thread for the length of the block; yields the port.

    Raises:
        OSError: The address is taken or not ours.
    """
    host, _, port = listen.rpartition(":")
    server, thread = prometheus_client.start_http_server(int(port), addr=host.strip("[]"))
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _labels(method: str, arity: tuple[str, str]) -> tuple[str, str, str]:
    _, service, name = method.split("/", 2)
    kind = {
        ("unary", "unary"): "unary",
        ("unary", "stream"): "server_stream",
        ("stream", "unary"): "client_stream",
        ("stream", "stream"): "bidi_stream",
    }[arity]
    return kind, service, name
