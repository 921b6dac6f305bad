"""Health that tells the truth: each service's own check decides, again and again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SERVICE_NAME = "grpc.health.v1.Health"
# The process is up and its event loop turns. It does not depend on stores: starting a process again mends none of them.
LIVENESS = "liveness"
# The server as a whole: serving when all of its services are.
OVERALL = ""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Check = Callable[[], Awaitable[None]]


class HealthMonitor:
    """Answers `grpc.health.v1.Health` from checks that it runs periodically.

    Args:
        checks: For each full service name what raises when something that the service needs is not there.
        interval_s: Seconds between two rounds.
        timeout_s: Seconds after which a check counts as failed.
    """

    def __init__(self, checks: Mapping[str, Check], *, interval_s: float, timeout_s: float) -> None:
        self._checks = dict(checks)
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._servicer = _Servicer()
        self._problems: dict[str, str] = {}
        self._draining = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the health service. Until the first round of checks everything but liveness is NOT_SERVING."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check once, then go on checking in the background until the end of the block."""
        await self._servicer.set(LIVENESS, _SERVING)
        await self.check_all()
        # Not a task group: that would wrap what the block raises into an exception group.
        checking = asyncio.create_task(self._check_forever())
        try:
            yield
        finally:
            checking.cancel()
            await asyncio.wait([checking])

    async def check_all(self) -> None:
        """Run every check once, all at the same time, and publish what they found."""
        results = await asyncio.gather(*(self._passes(name, check) for name, check in self._checks.items()))
        for name, serving in zip(self._checks, results, strict=True):
            await self._publish(name, serving=serving)
        await self._publish(OVERALL, serving=all(results))

    async def drain(self) -> None:
        """Publish NOT_SERVING for good, except for liveness: the process is well, it only takes no more calls."""
        self._draining = True
        for name in (*self._checks, OVERALL):
            await self._servicer.set(name, _NOT_SERVING)

    def end_watches(self) -> None:
        """End the Watch calls, which would otherwise hold up the end of the server."""
        self._servicer.end_watches()

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.check_all()

    async def _passes(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await check()
        except Exception as error:
            problem = f"no answer within {self._timeout_s} s" if isinstance(error, TimeoutError) else str(error)
            if name not in self._problems:
                log.warning("not healthy", health_service=name, problem=problem, error=type(error).__name__)
            self._problems[name] = problem
            return False
        if self._problems.pop(name, None) is not None:
            log.info("healthy again", health_service=name)
        return True

    async def _publish(self, name: str, *, serving: bool) -> None:
        if not self._draining:
            await self._servicer.set(name, _SERVING if serving else _NOT_SERVING)


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc]
    """The library's servicer, which begins with NOT_SERVING and whose Watch calls can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self._server_status[OVERALL] = _NOT_SERVING
        self._watches: set[asyncio.Task[None]] = set()

    async def Watch(  # noqa: N802 - the contract's name
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> None:
        """Send the status now and each change, until `end_watches`."""
        watch = asyncio.create_task(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            # Either the caller went or `end_watches` was called; only the first is this task's own cancellation.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        finally:
            watch.cancel()
            self._watches.discard(watch)

    def end_watches(self) -> None:
        for watch in self._watches:
            watch.cancel()
