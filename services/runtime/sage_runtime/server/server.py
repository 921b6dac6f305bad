"""The gRPC server that every service runs: start, serve, drain, stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import structlog

from sage_runtime.auth.sign_in import (
    ListenError,
    ReadMethods,
    SignIn,
    StartError,
    check_metrics_address,
    open_tokens,
)
from sage_runtime.auth.tokens import TokenFiles
from sage_runtime.process.settings import MIB, ServerSettings, fail, variable_of
from sage_runtime.process.startup import freeze_loaded_objects, keep_freed_memory, stop_on_signals
from sage_runtime.process.telemetry import CallMetrics, active_tracing, configure_logging, serving_metrics, tracing
from sage_runtime.server import health, reflection
from sage_runtime.server.admission import Admission
from sage_runtime.server.interceptor import CallInterceptor, CallObserver, StreamInterceptor
from sage_runtime.server.validation import compile_rules

__all__ = ["ListenError", "RunningServer", "ServiceRegistration", "StartError", "running_server", "serve"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class ServiceRegistration:
    """A gRPC service to serve.

    Attributes:
        name: Its full name, such as `sage.ingest.v1.IngestService`.
        add: Adds its servicer to a server, or `None` for a process that has only health, such as a worker.
        check: Raises if a dependency of the service is unavailable. It is called every few seconds and must be cheap.
        partial_checks: For each further name in the health service, such as `sage.ingest.v1.IngestService/uploads`, a
            check of one function of the service. If it raises, that name is NOT_SERVING and the log says why; the
            service stays SERVING, because its other functions work.
        drain: Ends streams that last as long as their caller listens; they would keep the server from stopping. Called
            once, just before new calls are refused.
        read_methods: Names of RPCs, such as `GetPlaybackUrl`, that need only the scope `read` although the contract
            does not mark them with `idempotency_level = NO_SIDE_EFFECTS`.
    """

    name: str
    add: Callable[[grpc.aio.Server], None] | None
    check: Callable[[], Awaitable[None]]
    partial_checks: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    drain: Callable[[], None] | None = None
    read_methods: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RunningServer:
    """A server that accepts calls.

    Attributes:
        port: The port that it listens on.
        address: HOST:PORT for clients.
        health: Its health. Tests check again at once with `health.check_all()`.
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
        settings: The server's settings.
        services: The services to serve.
        on_started: Called with the port once the server accepts calls.

    Raises:
        SystemExit: With code 2 after one line on stderr, if the server cannot or must not listen on an address, or the
            tokens cannot be read.
    """
    configure_logging(service_name, settings.log_level, settings.log_format)
    keep_freed_memory()
    stop = stop_on_signals()
    with tracing(service_name, settings.otlp_endpoint):
        try:
            async with running_server(settings=settings, services=services) as server:
                freeze_loaded_objects()
                log.info("server_started", address=server.address, services=[service.name for service in services])
                if on_started is not None:
                    on_started(server.port)
                await stop.wait()
                log.info("drain_started", wait_s=settings.drain_wait_s, grace_s=settings.grace_s)
        except StartError as error:
            fail(str(error))
    log.info("server_stopped")


@contextlib.asynccontextmanager
async def running_server(
    *, settings: ServerSettings, services: Sequence[ServiceRegistration]
) -> AsyncIterator[RunningServer]:
    """Run a server for the length of the block, then drain it: `serve` without signals, also for tests.

    Draining: health reports NOT_SERVING, load balancers have `drain_wait_s` to notice, then new calls are refused and
    calls in progress have `grace_s` to finish before they are cancelled.

    Callers must sign in as `ServerSettings.sign_in` says, except to a server that has only health.

    Raises:
        StartError: The server cannot listen on `settings.listen` or `settings.metrics_listen`, must not listen on the
            former without sign-in, or cannot read the tokens.
        LookupError: `settings.reflect_also` names a service that does not exist, or `read_methods` an RPC that its
            service does not have.
    """
    # Without methods there is nothing to describe or to protect.
    health_only = bool(services) and all(service.add is None for service in services)
    with _metrics(settings) as observers:
        tokens = None if health_only else open_tokens(settings, variable=variable_of(type(settings), "listen"))
        monitor = _health_monitor(settings, services, tokens)
        reads = ReadMethods({service.name: service.read_methods for service in services})
        sign_in = SignIn(tokens, reads) if tokens else None
        compile_rules(service.name for service in services)
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
            # At once if the block raised. After draining this does nothing.
            await server.stop(0)


def _health_monitor(
    settings: ServerSettings, services: Sequence[ServiceRegistration], tokens: TokenFiles | None
) -> health.HealthMonitor:
    async def readable() -> None:
        if tokens is not None:
            tokens.check()

    def checked(service: ServiceRegistration) -> health.Check:
        async def check() -> None:
            if tokens is not None:
                tokens.check_not_stale()
            await service.check()

        return check

    partial = {name: check for service in services for name, check in service.partial_checks.items()}
    if tokens is not None:
        partial[health.TOKENS] = readable
    return health.HealthMonitor(
        {service.name: checked(service) for service in services},
        partial_checks=partial,
        interval_s=settings.health_interval_s,
        timeout_s=settings.health_timeout_s,
    )


def _make_server(
    settings: ServerSettings, observers: Sequence[CallObserver], sign_in: SignIn | None
) -> grpc.aio.Server:
    traced = active_tracing()
    calls = CallInterceptor(observers, sign_in=sign_in, admission=Admission(settings))
    interceptors = (StreamInterceptor(), *([traced.server] if traced else []), calls)
    return grpc.aio.server(
        interceptors=interceptors,
        # No `maximum_concurrent_rpcs`: it also counts calls that have not signed in or sent their message.
        options=server_options(max_message_bytes=settings.max_message_bytes),
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
        f"cannot listen on {getattr(settings, field)}: it is in use, or the address does not belong to this machine. "
        f"Stop the other process or set {variable_of(type(settings), field)} to another address."
    )


@contextlib.contextmanager
def _metrics(settings: ServerSettings) -> Iterator[Sequence[CallObserver]]:
    if not settings.metrics_listen:
        yield ()
        return
    check_metrics_address(settings)
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


def server_options(*, max_message_bytes: int) -> tuple[tuple[str, int | str], ...]:
    """Return the options of every server.

    With gRPC's own flow control, which widens its windows as it measures bandwidth, eight stalled uploads drove a
    server to about 1 GB of memory. With the probe off and 1 MiB of lookahead it stayed at 150 MB and was no slower.
    """
    return (
        # Two servers on one port would silently share its connections; the second must fail instead.
        ("grpc.so_reuseport", 0),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", MIB),
        # Otherwise a proxy's keepalive pings on idle connections are refused with "too many pings".
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Beyond 1,000 pending calls gRPC ends some of them with CANCELLED and no reason. A service has its own limits
        # and reports which one is reached; the gateway lets 4,096 calls through.
        ("grpc.server.max_pending_requests", 8192),
        ("grpc.server.max_pending_requests_hard_limit", 16384),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    )
