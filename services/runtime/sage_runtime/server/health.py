"""Health that reflects dependencies, from a check of each service that runs periodically."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SERVICE_NAME = "grpc.health.v1.Health"
# The process is up and its event loop runs. Independent of stores, which restarting the process would not fix.
LIVENESS = "liveness"
# Whether the tokens file can be read. The server serves for a while if it cannot.
TOKENS = "tokens"
# The server as a whole: serving if all of its services are.
OVERALL = ""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

Check = Callable[[], Awaitable[None]]

_Context = grpc.aio.ServicerContext[Any, Any]


class HealthMonitor:
    """Serves `grpc.health.v1.Health` from checks that it runs periodically.

    Args:
        checks: For each full service name a check that raises if a dependency of the service is unavailable.
        interval_s: Seconds between two rounds of checks.
        timeout_s: Seconds after which a check counts as failed, even if it cannot be interrupted.
        partial_checks: Checks with other names, which do not count for the server as a whole.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        interval_s: float,
        timeout_s: float,
        partial_checks: Mapping[str, Check] | None = None,
    ) -> None:
        self._services = tuple(checks)
        self._checks = {**checks, **(partial_checks or {})}
        # Checks that have not ended, possibly since an earlier round.
        self._running: dict[str, asyncio.Task[None]] = {}
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._servicer = _Servicer()
        self._problems: dict[str, str] = {}
        self._draining = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the health service. Names have no status before `running`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check once, then keep checking in the background until the end of the block.

        Before the first round of checks everything except liveness is NOT_SERVING.
        """
        names = (*self._checks, OVERALL)
        await self._servicer.publish({LIVENESS: _SERVING, **dict.fromkeys(names, _NOT_SERVING)})
        await self.check_all()
        # Not a task group: that would wrap what the block raises in an exception group.
        checking = asyncio.create_task(self._check_forever())
        try:
            yield
        finally:
            checking.cancel()
            await asyncio.wait([checking])
            if unfinished := list(self._running.values()):
                # They use what is closed next. One that blocks a thread is not waited for longer than a check takes.
                await asyncio.wait(unfinished, timeout=self._timeout_s)

    async def check_all(self) -> None:
        """Run all checks once, concurrently, and publish their results."""
        results = await asyncio.gather(*(self._passes(name, check) for name, check in self._checks.items()))
        results_by_name = dict(zip(self._checks, results, strict=True))
        results_by_name[OVERALL] = all(results_by_name[name] for name in self._services)
        if not self._draining:
            await self._servicer.publish(
                {name: _SERVING if serving else _NOT_SERVING for name, serving in results_by_name.items()}
            )

    async def drain(self) -> None:
        """Publish NOT_SERVING permanently, except for liveness: the process is healthy but accepts no more calls."""
        self._draining = True
        await self._servicer.publish(dict.fromkeys((*self._checks, OVERALL), _NOT_SERVING))

    async def end_watches(self) -> None:
        """End the Watch calls once they have sent the last change: they would keep the server from stopping."""
        await self._servicer.end_watches()

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.check_all()

    async def _passes(self, name: str, check: Check) -> bool:
        try:
            await self._within_limit(name, check)
        except Exception as error:
            problem = str(error)
            if name not in self._problems:
                log.warning("health_check_failed", health_service=name, problem=problem, error=type(error).__name__)
            self._problems[name] = problem
            return False
        if self._problems.pop(name, None) is not None:
            log.info("health_recovered", health_service=name)
        return True

    async def _within_limit(self, name: str, check: Check) -> None:
        """Run a check for at most `timeout_s`.

        A check that waits for a thread ends only when the thread does, and a frozen store keeps threads for minutes:
        it is left behind, and fails every round until it has ended.

        Raises:
            TimeoutError: There was no result in time.
            Exception: Whatever the check raised.
        """
        late = TimeoutError(f"no response within {self._timeout_s:g} s")
        if name in self._running:
            raise late
        task = self._running[name] = asyncio.ensure_future(check())
        task.add_done_callback(lambda ended: self._ended(name, ended))
        try:
            done, _ = await asyncio.wait([task], timeout=self._timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            raise late
        task.result()

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._running[name]
        # Retrieved, because asyncio logs a warning about an error that no round waits for any more.
        if not task.cancelled():
            task.exception()


class _Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # its base has no types
    """The methods of the health contract over a table of statuses.

    Not the library's servicer: its watches never end and would keep the server from stopping.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Condition()
        self._ending = False

    async def publish(self, statuses: Mapping[str, int]) -> None:
        if statuses.items() <= self._statuses.items():
            return  # otherwise every watch would wake up after every round of checks
        async with self._changed:
            self._statuses.update(statuses)
            self._changed.notify_all()

    async def end_watches(self) -> None:
        async with self._changed:
            self._ending = True
            self._changed.notify_all()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> health_pb2.HealthCheckResponse:
        """Return the status of a name, or fail with NOT_FOUND if there is no such name."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no service with this name.")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, _request: health_pb2.HealthListRequest, _context: _Context) -> health_pb2.HealthListResponse:
        """Return the status of every name."""
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, _context: _Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the status now and after each change, until the server stops."""
        sent = None
        while (status := self._statuses.get(request.service, _UNKNOWN)) != sent:
            yield health_pb2.HealthCheckResponse(status=status)
            sent = status
            async with self._changed:
                await self._changed.wait_for(
                    lambda: self._ending or self._statuses.get(request.service, _UNKNOWN) != sent  # noqa: B023 - called only while waiting
                )
