"""Logs, OpenTelemetry traces and Prometheus metrics. Traces and metrics are imported only when enabled."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from structlog.typing import Processor

if TYPE_CHECKING:
    import prometheus_client

# Traces of probes and tools would bury the others.
_UNTRACED_PREFIXES = ("/grpc.health.", "/grpc.reflection.")

# The last spans are sent while the process ends, which an unreachable collector must not delay for long.
_EXPORT_TIMEOUT_S = 2.0

_LABELS = ("grpc_type", "grpc_service", "grpc_method")
# From a cached comparison to an upload of many gigabytes.
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@dataclass(frozen=True)
class Tracing:
    """The interceptors of a process whose calls are traced.

    Attributes:
        server: Must come before the one that translates errors.
        clients: One per call shape, `unary_unary` to `stream_stream`.
    """

    server: grpc.aio.ServerInterceptor
    clients: dict[str, Any]


# Channels are opened before the server starts tracing, so they look this up at each call.
_active: Tracing | None = None


def active_tracing() -> Tracing | None:
    """Return the tracing of this process while it is on."""
    return _active


@contextlib.contextmanager
def tracing(service_name: str, otlp_endpoint: str) -> Iterator[Tracing | None]:
    """Send traces to a collector for the length of the block. Does nothing if the endpoint is empty."""
    global _active
    if not otlp_endpoint:
        yield None
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service_name}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(
        endpoint=otlp_endpoint, insecure=not otlp_endpoint.startswith("https://"), timeout=_EXPORT_TIMEOUT_S
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _active = make_tracing(provider)
    try:
        yield _active
    finally:
        _active = None
        provider.shutdown()


def make_tracing(provider: Any) -> Tracing:
    """Return interceptors that record into a tracer provider of the OpenTelemetry SDK."""
    from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor

    def traced(details: Any) -> bool:
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        # A method that exists has two slashes. Any other is not worth a span, and the SDK could not parse it.
        return method.count("/") == 2 and not method.startswith(_UNTRACED_PREFIXES)

    shapes = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    clients = aio_client_interceptors(tracer_provider=provider, filter_=traced)  # type: ignore[no-untyped-call] # their function has no types
    return Tracing(
        server=aio_server_interceptor(tracer_provider=provider, filter_=traced),  # type: ignore[no-untyped-call] # their function has no types
        clients=dict(zip(shapes, clients, strict=True)),
    )


@contextlib.contextmanager
def serving_metrics(listen: str) -> Iterator[int]:
    """Serve /metrics on HOST:PORT from a thread for the length of the block. Yields the port.

    Raises:
        OSError: The address is in use or does not belong to this machine.
    """
    import prometheus_client

    host, _, port = listen.rpartition(":")
    server, thread = prometheus_client.start_http_server(int(port), addr=host.strip("[]"))
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class CallMetrics:
    """Counts calls under the names that go-grpc-prometheus made common.

    All methods that do not exist have one name here, so the number of labels is bounded.
    """

    def __init__(self) -> None:
        self._series = _series()

    def started(self, method: str, arity: tuple[str, str]) -> None:
        """Count the start of a call."""
        self._series.started.labels(*_labels(method, arity)).inc()

    def ended(self, method: str, arity: tuple[str, str], status: grpc.StatusCode, duration_s: float) -> None:
        """Count the end of a call and its duration."""
        labels = _labels(method, arity)
        self._series.handled.labels(*labels, status.name).inc()
        self._series.seconds.labels(*labels).observe(duration_s)


@dataclass(frozen=True)
class _Series:
    started: "prometheus_client.Counter"
    handled: "prometheus_client.Counter"
    seconds: "prometheus_client.Histogram"


@cache
def _series() -> _Series:
    """Return the series, registered once per process."""
    import prometheus_client

    # The creation time of each series would double the size of the page.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # their function has no types
    return _Series(
        prometheus_client.Counter("grpc_server_started_total", "Calls that started.", _LABELS),
        prometheus_client.Counter("grpc_server_handled_total", "Calls that ended.", (*_LABELS, "grpc_code")),
        prometheus_client.Histogram(
            "grpc_server_handling_seconds",
            "Duration of a call in seconds.",
            _LABELS,
            buckets=_BUCKETS_S,
        ),
    )


def _labels(method: str, arity: tuple[str, str]) -> tuple[str, str, str]:
    _, service, name = method.split("/", 2)
    kind = {
        ("unary", "unary"): "unary",
        ("unary", "stream"): "server_stream",
        ("stream", "unary"): "client_stream",
        ("stream", "stream"): "bidi_stream",
    }[arity]
    return kind, service, name


# At `debug` these log headers, signatures and bodies, or noise, so they never log below `info`.
_NEVER_BELOW_INFO = ("asyncio", "boto3", "botocore", "grpc", "s3transfer", "urllib3")


def configure_logging(service_name: str, level: str = "info", format: str = "json") -> None:  # noqa: A002 - as the setting is named
    """Send all logs of this process to stderr.

    Args:
        service_name: The value of `service` in each line.
        level: Lowest level to log: `debug`, `info`, `warning` or `error`.
        format: `json`, one object per line, or `console` for people.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _service_name(service_name),
                *_renderers(format),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in _NEVER_BELOW_INFO:
        logging.getLogger(name).setLevel(max(threshold, logging.INFO))
    logging.captureWarnings(capture=True)


def _service_name(name: str) -> Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"service": name, **event}

    return add


def _renderers(format: str) -> list[Processor]:  # noqa: A002 - as the setting is named
    # Tracebacks are plain in both formats: the rich ones print local variables, which may contain secrets.
    if format == "console":
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
