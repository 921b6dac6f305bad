"""Supervision: startup order, restarted workers, and stopping."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sage_local.display import Display
from sage_local.errors import StackError
from sage_local.process import Process
from sage_local.state import RunningRecords, State
from sage_local.supervision import Step, StopRequest, Supervisor, run_steps

_SLEEP = "print('begun', flush=True)\nimport time; time.sleep(60)"
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True); time.sleep(60)"


class SleepingComponent:
    """A stand-in that is ready once it has written a line."""

    def __init__(self, name: str, folder: Path, code: str = _SLEEP) -> None:
        self.process = Process(name, [sys.executable, "-c", code], log=folder / f"{name}.log")

    async def start(self) -> None:
        self.process.start()
        while "begun" not in self.process.last_lines():  # noqa: ASYNC110 - no event signals it
            await asyncio.sleep(0.01)


@dataclass
class SleepingComponents:
    """A stack of two stand-ins and a worker."""

    folder: Path
    code: str = _SLEEP
    workers: dict[str, SleepingComponent] = field(init=False)

    def __post_init__(self) -> None:
        self.database = SleepingComponent("database", self.folder, self.code)
        self.service = SleepingComponent("service", self.folder)
        self.workers = {"worker-1": SleepingComponent("worker-1", self.folder)}

    def stop_order(self) -> list[list[SleepingComponent]]:
        return [[self.service, *self.workers.values()], [self.database]]

    def everything(self) -> list[SleepingComponent]:
        return [self.service, *self.workers.values(), self.database]

    def restartable(self) -> list[SleepingComponent]:
        return [*self.workers.values()]

    def essential(self) -> list[SleepingComponent]:
        return [self.database, self.service]

    def steps(self) -> dict[str, Step]:
        return {component.process.name: Step(component.start) for component in self.everything()}


class RecordingDisplay(Display):
    """Records notifications."""

    def __init__(self) -> None:
        self.died: list[tuple[str, str]] = []
        self.told = asyncio.Event()

    def component_died(self, name: str, how: str, last_lines: str, restart_s: float) -> None:
        self.died.append((name, how))
        self.told.set()


@pytest.fixture
def components(tmp_path: Path) -> SleepingComponents:
    """Fakes, none of them started."""
    return SleepingComponents(tmp_path)


def supervise(components: SleepingComponents, display: Display | None = None) -> Supervisor:
    """Return a supervisor of stand-ins."""
    return Supervisor(components, RunningRecords(State(components.folder)), display or Display())


async def test_a_worker_that_dies_is_restarted(components: SleepingComponents) -> None:
    display = RecordingDisplay()
    supervisor, stop = supervise(components, display), StopRequest()
    await supervisor.start(stop)
    watching = asyncio.ensure_future(supervisor.watch(stop))
    worker = components.workers["worker-1"].process
    first = worker.pid
    os.kill(first, signal.SIGKILL)
    try:
        async with asyncio.timeout(10):
            await display.told.wait()
            while not (worker.running and worker.pid != first):  # noqa: ASYNC110 - no event signals it
                await asyncio.sleep(0.02)
        assert display.died == [("worker-1", "killed by signal 9")]
    finally:
        stop.asked.set()
        await watching
        await supervisor.stop(stop)


async def test_a_service_that_dies_stops_the_stack(components: SleepingComponents) -> None:
    supervisor, stop = supervise(components), StopRequest()
    await supervisor.start(stop)
    os.kill(components.service.process.pid, signal.SIGKILL)
    with pytest.raises(StackError) as caught:
        await asyncio.wait_for(supervisor.watch(stop), timeout=10)
    await supervisor.stop(stop)
    assert "service exited unexpectedly (killed by signal 9)" in caught.value.message
    assert "begun" in caught.value.message


async def test_stopping_stops_every_component(components: SleepingComponents) -> None:
    supervisor, stop = supervise(components), StopRequest()
    await supervisor.start(stop)
    await supervisor.stop(stop)
    assert not any(component.process.running for component in components.everything())


async def test_a_stop_during_startup_does_not_wait_for_readiness(components: SleepingComponents) -> None:
    components.service = SleepingComponent("service", components.folder, "import time; time.sleep(60)")
    supervisor, stop = supervise(components), StopRequest()
    starting = asyncio.ensure_future(supervisor.start(stop))
    await asyncio.sleep(0)
    stop.asked.set()
    await asyncio.wait_for(starting, timeout=5)
    await supervisor.stop(stop)
    assert not any(component.process.running for component in components.everything())


async def test_a_hurried_stop_kills_at_once(tmp_path: Path) -> None:
    components = SleepingComponents(tmp_path, code=_DEAF)
    supervisor, stop = supervise(components), StopRequest()
    await supervisor.start(stop)
    stopping = asyncio.ensure_future(supervisor.stop(stop))
    stop.hurried.set()
    await asyncio.wait_for(stopping, timeout=5)
    assert components.database.process.exit_code == -signal.SIGKILL


async def test_a_step_runs_after_the_steps_it_names() -> None:
    order: list[str] = []

    def record(name: str) -> Step:
        async def do() -> None:
            await asyncio.sleep(0)
            order.append(name)

        return Step(do, after=after[name])

    after: dict[str, list[str]] = {
        "gateway": ["service"],
        "service": ["database", "bucket"],
        "database": [],
        "bucket": [],
    }
    await run_steps({name: record(name) for name in after}, on_done=lambda name, seconds: None)
    assert order[2:] == ["service", "gateway"]


async def test_independent_steps_run_in_parallel() -> None:
    begun = {"one": asyncio.Event(), "two": asyncio.Event()}

    def meeting(own: str, other: str) -> Step:
        async def do() -> None:
            begun[own].set()
            await asyncio.wait_for(begun[other].wait(), timeout=5)

        return Step(do)

    done: list[str] = []
    steps = {"one": meeting("one", "two"), "two": meeting("two", "one")}
    await run_steps(steps, on_done=lambda name, seconds: done.append(name))
    assert sorted(done) == ["one", "two"]


async def test_a_failing_step_cancels_the_others() -> None:
    cancelled = asyncio.Event()

    async def fail() -> None:
        raise LookupError("the disk is gone")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(LookupError, match="the disk is gone"):
        await run_steps({"wait": Step(wait), "fail": Step(fail)}, on_done=lambda name, seconds: None)
    assert cancelled.is_set()
