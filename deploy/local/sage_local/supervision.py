"""Supervision of components: start in order, watch, restart those that are not essential, stop in reverse order."""

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sage_runtime.errors import task_group

from sage_local.display import Display
from sage_local.process import Process
from sage_local.state import RunningRecords

_CHECK_EVERY_S = 0.2
# A component that repeatedly exits right after its start is restarted with increasing delays.
_RESTART_AFTER_S = 0.5
_RESTART_AFTER_MAX_S = 30.0
_STABLE_AFTER_S = 60.0
# One Ctrl-C may reach us twice: from the terminal, and from the `make` that forwards it.
_SAME_SIGNAL_S = 0.5


@dataclass(frozen=True)
class StopRequest:
    """Asks a running stack to stop.

    Attributes:
        asked: Set this to stop every component cleanly.
        hurried: Set this as well to kill whatever has not stopped yet.
    """

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    def on_signals(self) -> None:
        """Stop on the first SIGINT, SIGTERM or SIGHUP (the terminal was closed); hurry on a later one."""
        loop = asyncio.get_running_loop()
        asked_at = -math.inf

        def on_signal() -> None:
            nonlocal asked_at
            if not self.asked.is_set():
                asked_at = time.monotonic()
                self.asked.set()
            elif time.monotonic() - asked_at > _SAME_SIGNAL_S:
                self.hurried.set()

        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(one, on_signal)


class Component(Protocol):
    """A component that can be started."""

    @property
    def process(self) -> Process:
        """Its process."""
        ...

    async def start(self) -> None:
        """Start it and return when it is ready."""
        ...


@dataclass(frozen=True)
class Step:
    """One step of a startup.

    Attributes:
        run: Performs the step and returns when it is done.
        after: Names of the steps that must be done first.
    """

    run: Callable[[], Awaitable[None]]
    after: Sequence[str] = ()


class Supervised(Protocol):
    """A stack as a supervisor sees it; see `Components`."""

    def steps(self) -> Mapping[str, Step]:
        """How it starts."""
        ...

    def essential(self) -> Sequence[Component]:
        """Components without which the stack cannot run."""
        ...

    def restartable(self) -> Sequence[Component]:
        """Components that are restarted when they exit."""
        ...

    def stop_order(self) -> Sequence[Sequence[Component]]:
        """Every component that has a process, in the stages in which they stop."""
        ...


class Supervisor:
    """Starts components, watches them and stops them.

    Attributes:
        records: Records the running processes.
    """

    def __init__(self, components: Supervised, records: RunningRecords, display: Display) -> None:
        self.records = records
        self._components = components
        self._display = display
        self._restarts: dict[str, _Restart] = {}
        for component in self._all():
            component.process.on_started = records.add

    async def start(self, stop: StopRequest) -> None:
        """Return when every component is ready, or earlier if the stack is asked to stop."""
        steps = self._components.steps()
        self._display.starting(list(steps))
        starting = asyncio.ensure_future(run_steps(steps, on_done=self._display.started))
        asked = asyncio.ensure_future(stop.asked.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
        finally:
            asked.cancel()
            starting.cancel()
            await asyncio.wait({starting, asked})

    async def watch(self, stop: StopRequest) -> None:
        """Restart non-essential components that exit; return when asked to stop.

        Raises:
            StackError: An essential component exited.
        """
        while not stop.asked.is_set():
            for component in self._components.essential():
                process = component.process
                if not process.running:
                    raise process.failure(f"exited unexpectedly ({process.describe_exit()}), so the stack stops")
            for component in self._components.restartable():
                await self._keep_alive(component.process)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY_S):
                    await stop.asked.wait()

    async def _keep_alive(self, process: Process) -> None:
        restart = self._restarts.setdefault(process.name, _Restart())
        if process.running:
            return
        if restart.due is None:
            delay = restart.plan()
            # Its child processes may still be running.
            await process.stop()
            self._display.component_died(process.name, process.describe_exit(), process.last_lines(), delay)
        elif time.monotonic() >= restart.due:
            restart.done()
            process.start()

    async def stop(self, stop: StopRequest) -> None:
        """Stop every component: stage after stage, the components of one stage in parallel."""
        self._display.stopping()
        hurrying = asyncio.ensure_future(self._kill_when_hurried(stop))
        try:
            for stage in self._components.stop_order():
                await asyncio.gather(*(component.process.stop() for component in stage))
        finally:
            hurrying.cancel()
        self._display.stopped()

    async def _kill_when_hurried(self, stop: StopRequest) -> None:
        await stop.hurried.wait()
        for component in self._all():
            component.process.kill()

    def _all(self) -> list[Component]:
        return [component for stage in self._components.stop_order() for component in stage]


class _Restart:
    """When a component that exited is restarted."""

    def __init__(self) -> None:
        self.due: float | None = None
        self._delay_s = _RESTART_AFTER_S
        self._started = time.monotonic()

    def plan(self) -> float:
        """Schedule the restart and return the seconds until then."""
        now = time.monotonic()
        stable = now - self._started > _STABLE_AFTER_S
        self._delay_s = _RESTART_AFTER_S if stable else min(self._delay_s, _RESTART_AFTER_MAX_S)
        self.due = now + self._delay_s
        return self._delay_s

    def done(self) -> None:
        """Note that the component was started."""
        self.due = None
        self._started = time.monotonic()
        self._delay_s *= 2


async def run_steps(steps: Mapping[str, Step], *, on_done: Callable[[str, float], None]) -> None:
    """Run every step as soon as the steps before it are done; the first failure cancels the others.

    Args:
        steps: The steps by name.
        on_done: Called with a step's name and its duration in seconds, excluding the wait for other steps.

    Raises:
        Exception: Whatever the first failing step raised.
    """
    done = {name: asyncio.Event() for name in steps}

    async def run(name: str, step: Step) -> None:
        for earlier in step.after:
            await done[earlier].wait()
        begin = time.monotonic()
        await step.run()
        on_done(name, time.monotonic() - begin)
        done[name].set()

    async with task_group() as tasks:
        for name, step in steps.items():
            tasks.create_task(run(name, step))
