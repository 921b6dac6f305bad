"""SAGE's own processes: the three services, the workers and the migrations."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sage_local.process import Process, parent_bound

# The services' own grace period is shorter than the supervisor's, which kills only if theirs has failed. They check
# their health often: a service that starts before a dependency should not need five seconds to notice it.
_DEFAULTS = {"SAGE_GRACE_SECONDS": "5", "SAGE_HEALTH_INTERVAL_SECONDS": "0.5"}
_KILL_AFTER_S = 8.0
# For a service with replicas: the gateway checks health once a second and acts on the second result.
_DRAIN_WAIT_S = 4.0
_PROBE_TIMEOUT_S = 2.0


class GrpcProcess:
    """A process of SAGE that reports its health over gRPC."""

    def __init__(
        self,
        name: str,
        module: str,
        command: str,
        *,
        health: str,
        port: int,
        log: Path,
        environment: Mapping[str, str],
        replicated: bool = False,
    ) -> None:
        """Describe a process without starting it.

        Args:
            name: Name shown to people.
            module: The package to run.
            command: Its command, such as `serve`.
            health: The service whose health stands for the whole process.
            port: Port it listens on.
            log: File that its output is appended to.
            environment: Its settings.
            replicated: Whether other processes serve the same API, so that callers move to them before it stops.
        """
        wait_s = _DRAIN_WAIT_S if replicated else 0.0
        self.address = f"127.0.0.1:{port}"
        self._health = health
        self.process = Process(
            name,
            [*parent_bound(), sys.executable, "-m", module, command],
            log=log,
            environment={**_DEFAULTS, "SAGE_DRAIN_WAIT_SECONDS": f"{wait_s:g}", **environment},
            grace_s=_KILL_AFTER_S + wait_s,
        )

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start it and return when it reports that it is healthy."""
        self.process.start()
        await self.process.until_ready(self._is_serving, timeout_s=timeout_s)

    async def _is_serving(self) -> bool:
        return await asyncio.to_thread(self._check_health)

    def _check_health(self) -> bool:
        # A new channel for each check: a failed one waits a second before it reconnects.
        with grpc.insecure_channel(self.address) as channel:
            try:
                response = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=self._health), timeout=_PROBE_TIMEOUT_S
                )
            except grpc.RpcError:
                return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


class Migration:
    """One run of a service's migrations, which exits when it is done."""

    def __init__(self, module: str, *, log: Path, environment: Mapping[str, str]) -> None:
        self.process = Process(
            f"{module} migrate",
            [*parent_bound(), sys.executable, "-m", module, "migrate"],
            log=log,
            environment=environment,
        )

    async def start(self, *, timeout_s: float = 120.0) -> None:
        """Run the migrations to completion.

        Raises:
            StackError: They failed or took too long.
        """
        self.process.start()
        code = await self.process.wait(timeout_s=timeout_s)
        if code is None:
            raise self.process.failure(f"took longer than {timeout_s:.0f} seconds")
        if code != 0:
            raise self.process.failure(f"failed ({self.process.describe_exit()})")
