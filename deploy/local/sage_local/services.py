"""Our own processes: the three services, the workers and the migrations."""

import sys
from collections.abc import Mapping
from pathlib import Path

from sage_local.errors import StackError
from sage_local.privileges import launcher
from sage_local.probes import grpc_serves
from sage_local.process import Process
from sage_local.waiting import until_ready

# The services' own grace is shorter than the supervisor's, whose kill comes only where theirs has failed. They look
# often whether they are well: what begins before a sibling is there should not take five seconds to notice it.
_DEFAULTS = {"SAGE_GRACE_SECONDS": "5", "SAGE_HEALTH_INTERVAL_SECONDS": "0.5"}
_KILL_AFTER_S = 8.0
# Where another one serves as well: the gateway asks for health once a second and believes the second answer.
_DRAIN_WAIT_S = 4.0


class GrpcProcess:
    """A process of ours that says over gRPC whether it is well."""

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
        """Describe a process; nothing starts yet.

        Args:
            name: What people call it.
            module: The package that is run.
            command: What of it.
            health: The service whose health stands for it.
            port: Where it answers.
            log: Where its output goes.
            environment: Its settings.
            replicated: Whether others serve the same, so that its callers should be theirs before it ends.
        """
        wait_s = _DRAIN_WAIT_S if replicated else 0.0
        self.address = f"127.0.0.1:{port}"
        self._health = health
        self.process = Process(
            name,
            [*launcher(), sys.executable, "-m", module, command],
            log=log,
            environment={**_DEFAULTS, "SAGE_DRAIN_WAIT_SECONDS": f"{wait_s:g}", **environment},
            grace_s=_KILL_AFTER_S + wait_s,
        )

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start it and return when it says that it is well."""
        self.process.start()
        await until_ready(self.process, lambda: grpc_serves(self.address, self._health), timeout_s=timeout_s)


class Migration:
    """A run of a service's migrations: starts, does its work, ends."""

    def __init__(self, module: str, *, log: Path, environment: Mapping[str, str]) -> None:
        self.process = Process(
            f"{module} migrate",
            [*launcher(), sys.executable, "-m", module, "migrate"],
            log=log,
            environment=environment,
        )

    async def start(self, *, timeout_s: float = 120.0) -> None:
        """Run it to its end.

        Raises:
            StackError: It failed or took too long.
        """
        self.process.start()
        code = await self.process.wait(timeout_s=timeout_s)
        if code != 0:
            how = f"failed (exit code {code})" if code is not None else f"took longer than {timeout_s:.0f} seconds"
            raise StackError(
                f"{self.process.name} {how}.\n{self.process.last_lines()}",
                next_step=f"Its whole log: {self.process.log}",
            )
