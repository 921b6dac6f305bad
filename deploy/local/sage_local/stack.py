"""The whole stack: started in order, watched, stopped in reverse order."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sage_local.display import Display
from sage_local.errors import StackError
from sage_local.parts import Part, build_parts, port_names
from sage_local.ports import choose_ports
from sage_local.records import Records, end_leftovers
from sage_local.running import RunningStack
from sage_local.settings import StackSettings
from sage_local.state import State
from sage_local.steps import Step, run_steps

_LOOK_EVERY_S = 0.2
# A part that ends at once, again and again, is started again more and more slowly.
_RESTART_AFTER_S = 0.5
_RESTART_AFTER_MAX_S = 30.0
_STEADY_AFTER_S = 60.0


@dataclass(frozen=True)
class StopRequest:
    """How a running stack is asked to end.

    Attributes:
        asked: Set it to stop every part in order.
        hurried: Set it besides to kill what has not stopped yet.
    """

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)


async def run_stack(
    settings: StackSettings,
    *,
    display: Display,
    stop: StopRequest,
    on_ready: Callable[[RunningStack], None],
    environment: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> None:
    """Start a stack, watch it until it is asked to stop, and stop it.

    Args:
        settings: Where and with which ports.
        display: Is told what happens.
        stop: Ends it.
        on_ready: Called when every part is ready.
        environment: Settings of ours for the services and the gateway, on top of those of this process.
        fresh: Whether what an earlier stack has kept in the state folder is wiped.

    Raises:
        StackError: Another stack holds the state folder, a port is taken, a part did not start, or one died that
            the stack cannot do without. Everything that ran has been stopped.
    """
    state = State(settings.state)
    with state.locked():
        if leftovers := await end_leftovers(state):
            display.ended_leftovers(leftovers)
        if fresh:
            state.wipe()
        names = port_names(workers=settings.workers, replicas=settings.replicas)
        ports = choose_ports(names, wanted=settings.wanted_ports(), last=state.read_ports())
        state.write_ports(ports)
        parts = build_parts(state, ports, environment=environment or {})
        supervisor = Supervisor(parts, Records(state), display)
        running = RunningStack(parts, ports, state)
        try:
            await supervisor.start(stop)
            if not stop.asked.is_set():
                supervisor.records.publish(running.environment())
                on_ready(running)
                await supervisor.watch(stop)
        finally:
            await supervisor.stop(stop)
            state.clear_running()


class Supervised(Protocol):
    """What a supervisor has to know of a stack's parts; see `Parts`."""

    def revived(self) -> Sequence[Part]:
        """The parts that are started again when they end."""
        ...

    def steps(self) -> Mapping[str, Step]:
        """How they start."""
        ...

    def lasting(self) -> Sequence[Part]:
        """The parts without which the stack is none."""
        ...

    def everything(self) -> Sequence[Part]:
        """Every part that has a process."""
        ...

    def stop_order(self) -> Sequence[Sequence[Part]]:
        """Every part that has a process, in the stages in which they stop."""
        ...


class Supervisor:
    """Starts parts, watches them, stops them.

    Attributes:
        records: Where it writes down what runs.
    """

    def __init__(self, parts: Supervised, records: Records, display: Display) -> None:
        self.records = records
        self._parts = parts
        self._display = display
        self._revivals: dict[str, _Revival] = {}
        for part in parts.everything():
            part.process.on_started = records.add

    async def start(self, stop: StopRequest) -> None:
        """Return when every part is ready, or when the stack is asked to stop before that."""
        steps = self._parts.steps()
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
        """Start parts again that end and are not alone; return when asked to stop.

        Raises:
            StackError: A part ended that the stack cannot do without.
        """
        while not stop.asked.is_set():
            for part in self._parts.lasting():
                if not part.process.running:
                    raise StackError(
                        f"{part.process.name} ended by itself ({_how_it_ended(part)}), so the stack stops.\n"
                        f"{part.process.last_lines()}",
                        next_step=f"Its whole log: {part.process.log}",
                    )
            for part in self._parts.revived():
                await self._keep_alive(part)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await stop.asked.wait()

    async def _keep_alive(self, part: Part) -> None:
        process = part.process
        revival = self._revivals.setdefault(process.name, _Revival())
        if process.running:
            return
        if revival.due is None:
            delay = revival.plan()
            # What it had started may still run.
            await process.stop()
            self._display.part_died(process.name, _how_it_ended(part), process.last_lines(), delay)
        elif time.monotonic() >= revival.due:
            revival.done()
            process.start()

    async def stop(self, stop: StopRequest) -> None:
        """Stop every part: what others need is stopped after them, what is independent at once."""
        self._display.stopping()
        hurrying = asyncio.ensure_future(self._kill_when_hurried(stop))
        try:
            for stage in self._parts.stop_order():
                await asyncio.gather(*(part.process.stop() for part in stage))
        finally:
            hurrying.cancel()
        self._display.stopped()

    async def _kill_when_hurried(self, stop: StopRequest) -> None:
        await stop.hurried.wait()
        for part in self._parts.everything():
            part.process.kill()


class _Revival:
    """When a part that ended is started again."""

    def __init__(self) -> None:
        self.due: float | None = None
        self._delay_s = _RESTART_AFTER_S
        self._started = time.monotonic()

    def plan(self) -> float:
        """Return after how many seconds it is started, and remember when that is."""
        now = time.monotonic()
        steady = now - self._started > _STEADY_AFTER_S
        self._delay_s = _RESTART_AFTER_S if steady else min(self._delay_s, _RESTART_AFTER_MAX_S)
        self.due = now + self._delay_s
        return self._delay_s

    def done(self) -> None:
        """It was started."""
        self.due = None
        self._started = time.monotonic()
        self._delay_s *= 2


def _how_it_ended(part: Part) -> str:
    code = part.process.exit_code
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
