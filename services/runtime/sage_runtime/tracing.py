"""OpenTelemetry traces of calls served and made. The SDK is imported only where an endpoint is set."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

# Probes and tools: nobody reads traces of those.
_UNTRACED_PREFIXES = ("/grpc.health.", "/grpc.reflection.")

# The last spans are sent while the process ends: a collector that is away must not hold that up for long.
_EXPORT_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Tracing:
    """The interceptors of a process whose calls are traced.

    Attributes:
        server: To stand before the one that translates errors.
        clients: One per call shape, `unary_unary` to `stream_stream`.
    """

    server: grpc.aio.ServerInterceptor
    clients: dict[str, Any]


# Channels are opened before the server starts and tracing with it, so they ask at each call.
_active: Tracing | None = None


def active() -> Tracing | None:
    """Return the tracing of this process while it is on."""
    return _active


@contextlib.contextmanager
def tracing(service_name: str, otlp_endpoint: str) -> Iterator[Tracing | None]:
    """Send traces to a collector for the length of the block; do nothing where the endpoint is empty."""
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
        return not method.startswith(_UNTRACED_PREFIXES)

    shapes = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    # The instrumentation has no type hints.
    clients = aio_client_interceptors(tracer_provider=provider, filter_=traced)  # type: ignore[no-untyped-call] # their function has no types
    return Tracing(
        server=aio_server_interceptor(tracer_provider=provider, filter_=traced),  # type: ignore[no-untyped-call] # their function has no types
        clients=dict(zip(shapes, clients, strict=True)),
    )
