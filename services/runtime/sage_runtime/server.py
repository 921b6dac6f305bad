"""The gRPC server that every service runs: start, serve, drain, end."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc
import structlog

from sage_runtime import health, reflection
from sage_runtime.access import ReadMethods
from sage_runtime.calls import CallObserver
from sage_runtime.exposure import ListenError, StartError, open_tokens
from sage_runtime.garbage import spare_what_is_loaded
from sage_runtime.interceptor import CallInterceptor
from sage_runtime.logging import configure_logging
from sage_runtime.malloc import keep_freed_memory
from sage_runtime.options import server_options
from sage_runtime.settings import ServerSettings, fail, variable_of
from sage_runtime.sign_in import SignIn
from sage_runtime.streams import StreamInterceptor
from sage_runtime.tracing import active, tracing

__all__ = ["ListenError", "RunningServer", "ServiceRegistration", "StartError", "running_server", "serve"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class ServiceRegistration:
    """A gRPC service to serve.

    Attributes:
        name: Its full name, such as `sage.ingest.v1.IngestService`.
        add: Adds its servicer to a server; None for what has no methods and is there for its health alone.
        check: Raises when something that the service needs is not there. It is called every few seconds and must be
            cheap.
        drain: Ends the streams that go on for as long as somebody listens; they would hold up the end of the server.
            Called once, just before new calls are refused.
    """

    name: str
    add: Callable[[grpc.aio.Server], None] | None
    check: Callable[[], Awaitable[None]]
    drain: Callable[[], None] | None = None


@dataclass(frozen=True)
class RunningServer:
    """A server that takes calls.

    Attributes:
        port: The port that it listens on.
        address: HOST:PORT for clients.
        health: Its health; tests check again at once with `health.check_all()`.
    """

    port: int
    address: str
    health: health.HealthMonitor


async def serve(
    *,
    service_name: str,
    settings: ServerSettings,
    services: Sequence[ServiceRegistration],
    on_started: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. A second signal ends the process at once.

    Args:
        service_name: The name in logs and traces, such as `ingest`.
        settings: Where and how.
        services: What to serve.
        on_started: Called with the port when calls are taken.

    Raises:
        SystemExit: With code 2 after one line on stderr, when an address cannot or must not be listened on, or the
            tokens cannot be read.
    """
    configure_logging(service_name, settings.log_level, settings.log_format)
    keep_freed_memory()
    stop = _stop_on_signals()
    with tracing(service_name, settings.otlp_endpoint):
        try:
            async with running_server(settings=settings, services=services) as server:
                spare_what_is_loaded()
                log.info("serving", address=server.address, services=[service.name for service in services])
                if on_started is not None:
                    on_started(server.port)
                await stop.wait()
                log.info("draining", wait_s=settings.drain_wait_s, grace_s=settings.grace_s)
        except StartError as error:
            fail(str(error))
    log.info("ended")


@contextlib.asynccontextmanager
async def running_server(
    *, settings: ServerSettings, services: Sequence[ServiceRegistration]
) -> AsyncIterator[RunningServer]:
    """Run a server for the length of the block, then drain it: `serve` without signals, also for tests.

    Draining: health turns NOT_SERVING, load balancers get `drain_wait_s` to notice, new calls are refused, calls in
    flight get `grace_s` to end and are cancelled after that.

    A server with methods asks its callers to sign in, see `ServerSettings.sign_in`; one that has only health does not.

    Raises:
        StartError: `settings.listen` or `settings.metrics_listen` cannot be listened on, or the former not without
            sign-in, or the tokens cannot be read.
        LookupError: `settings.reflect_also` names a service that does not exist.
    """
    monitor = health.HealthMonitor(
        {service.name: service.check for service in services},
        interval_s=settings.health_interval_s,
        timeout_s=settings.health_timeout_s,
    )
    # Without methods there is nothing to describe, and nothing to sign in for.
    health_only = bool(services) and all(service.add is None for service in services)
    with _metrics(settings) as observers:
        tokens = None if health_only else open_tokens(settings, variable=variable_of(type(settings), "listen"))
        sign_in = SignIn(tokens, ReadMethods(service.name for service in services)) if tokens else None
        server = _make_server(settings, observers, sign_in)
        for service in services:
            if service.add is not None:
                service.add(server)
        monitor.add_to(server)
        if not health_only:
            _add_reflection(server, settings, services)
        port = _bind(server, settings)
        await server.start()
        try:
            async with contextlib.AsyncExitStack() as stack:
                if tokens is not None:
                    await stack.enter_async_context(tokens.watched(every_s=settings.tokens_reload_s))
                await stack.enter_async_context(monitor.running())
                yield RunningServer(port, f"{settings.listen.rpartition(':')[0]}:{port}", monitor)
                await _drain(server, monitor, settings, services)
        finally:
            # Where the block raised: at once. After draining it does nothing.
            await server.stop(0)


def _make_server(
    settings: ServerSettings, observers: Sequence[CallObserver], sign_in: SignIn | None
) -> grpc.aio.Server:
    traced = active()
    calls = CallInterceptor(observers, sign_in=sign_in)
    interceptors = (StreamInterceptor(), *([traced.server] if traced else []), calls)
    return grpc.aio.server(
        interceptors=interceptors,
        options=server_options(max_message_bytes=settings.max_message_bytes),
        maximum_concurrent_rpcs=settings.max_concurrent_calls,
    )


def _add_reflection(server: grpc.aio.Server, settings: ServerSettings, services: Sequence[ServiceRegistration]) -> None:
    also = [name.strip() for name in settings.reflect_also.split(",") if name.strip()]
    reflection.load_descriptors(also)
    names = dict.fromkeys((*(service.name for service in services), *also, health.SERVICE_NAME))
    reflection.add_reflection(server, names)


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> int:
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError as error:
        raise _listen_error(settings, "listen") from error
    if port == 0:
        raise _listen_error(settings, "listen")
    return port


def _listen_error(settings: ServerSettings, field: str) -> ListenError:
    return ListenError(
        f"cannot listen on {getattr(settings, field)}: another process does, or the address is not this machine's. "
        f"Stop that process or set {variable_of(type(settings), field)} to another address."
    )


@contextlib.contextmanager
def _metrics(settings: ServerSettings) -> Iterator[Sequence[CallObserver]]:
    if not settings.metrics_listen:
        yield ()
        return
    from sage_runtime.metrics import CallMetrics, serving_metrics

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(serving_metrics(settings.metrics_listen))
        except OSError as error:
            raise _listen_error(settings, "metrics_listen") from error
        yield (CallMetrics(),)


async def _drain(
    server: grpc.aio.Server,
    monitor: health.HealthMonitor,
    settings: ServerSettings,
    services: Sequence[ServiceRegistration],
) -> None:
    await monitor.drain()
    await asyncio.sleep(settings.drain_wait_s)
    await monitor.end_watches()
    for service in services:
        if service.drain is not None:
            service.drain()
    await server.stop(settings.grace_s)


def _stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; the next has its default effect."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        stop.set()
        for one in signals:
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)

    for one in signals:
        loop.add_signal_handler(one, on_signal)
    return stop
