"""Watching a stack: workers come back, everything else ends it."""

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
from sage_local.records import Records
from sage_local.stack import StopRequest, Supervisor
from sage_local.state import State
from sage_local.steps import Step

_SLEEP = "print('begun', flush=True)\nimport time; time.sleep(60)"
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True); time.sleep(60)"


class SleepingPart:
    """A stand-in that is ready when it has said so."""

    def __init__(self, name: str, folder: Path, code: str = _SLEEP) -> None:
        self.process = Process(name, [sys.executable, "-c", code], log=folder / f"{name}.log")

    async def start(self) -> None:
        self.process.start()
        while "begun" not in self.process.last_lines():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@dataclass
class SleepingParts:
    """A stack of two stand-ins and a worker."""

    folder: Path
    code: str = _SLEEP
    workers: dict[str, SleepingPart] = field(init=False)

    def __post_init__(self) -> None:
        self.database = SleepingPart("database", self.folder, self.code)
        self.service = SleepingPart("service", self.folder)
        self.workers = {"worker-1": SleepingPart("worker-1", self.folder)}

    def stop_order(self) -> list[list[SleepingPart]]:
        return [[self.service, *self.workers.values()], [self.database]]

    def everything(self) -> list[SleepingPart]:
        return [self.service, *self.workers.values(), self.database]

    def revived(self) -> list[SleepingPart]:
        return [*self.workers.values()]

    def lasting(self) -> list[SleepingPart]:
        return [self.database, self.service]

    def steps(self) -> dict[str, Step]:
        return {part.process.name: Step(part.start) for part in self.everything()}


class RecordingDisplay(Display):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.died: list[tuple[str, str]] = []
        self.told = asyncio.Event()

    def part_died(self, name: str, how: str, last_lines: str, restart_s: float) -> None:
        self.died.append((name, how))
        self.told.set()


@pytest.fixture
def parts(tmp_path: Path) -> SleepingParts:
    """Stand-ins, none of them started."""
    return SleepingParts(tmp_path)


def supervise(parts: SleepingParts, display: Display | None = None) -> Supervisor:
    """Return what watches over stand-ins."""
    return Supervisor(parts, Records(State(parts.folder)), display or Display())


async def test_a_worker_that_dies_comes_back(parts: SleepingParts) -> None:
    """Its death is told, and soon another process does its work."""
    display = RecordingDisplay()
    supervisor, stop = supervise(parts, display), StopRequest()
    await supervisor.start(stop)
    watching = asyncio.ensure_future(supervisor.watch(stop))
    worker = parts.workers["worker-1"].process
    first = worker.pid
    os.kill(first, signal.SIGKILL)
    try:
        async with asyncio.timeout(10):
            await display.told.wait()
            while not (worker.running and worker.pid != first):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.02)
        assert display.died == [("worker-1", "killed by signal 9")]
    finally:
        stop.asked.set()
        await watching
        await supervisor.stop(stop)


async def test_a_service_that_dies_ends_the_stack(parts: SleepingParts) -> None:
    """The error names it, how it ended, and what it said last."""
    supervisor, stop = supervise(parts), StopRequest()
    await supervisor.start(stop)
    os.kill(parts.service.process.pid, signal.SIGKILL)
    with pytest.raises(StackError) as caught:
        await asyncio.wait_for(supervisor.watch(stop), timeout=10)
    await supervisor.stop(stop)
    assert "service ended by itself (killed by signal 9)" in caught.value.message
    assert "begun" in caught.value.message


async def test_stopping_ends_every_part(parts: SleepingParts) -> None:
    """What others need is stopped after them, and nothing is left."""
    supervisor, stop = supervise(parts), StopRequest()
    await supervisor.start(stop)
    await supervisor.stop(stop)
    assert not any(part.process.running for part in parts.everything())


async def test_a_stop_during_the_start_is_heeded(parts: SleepingParts) -> None:
    """Nobody waits for a part that will never be ready."""
    parts.service = SleepingPart("service", parts.folder, "import time; time.sleep(60)")
    supervisor, stop = supervise(parts), StopRequest()
    starting = asyncio.ensure_future(supervisor.start(stop))
    await asyncio.sleep(0)
    stop.asked.set()
    await asyncio.wait_for(starting, timeout=5)
    await supervisor.stop(stop)
    assert not any(part.process.running for part in parts.everything())


async def test_a_hurried_stop_kills(tmp_path: Path) -> None:
    """A second Ctrl-C does not wait for a part that takes its time."""
    parts = SleepingParts(tmp_path, code=_DEAF)
    supervisor, stop = supervise(parts), StopRequest()
    await supervisor.start(stop)
    stopping = asyncio.ensure_future(supervisor.stop(stop))
    stop.hurried.set()
    await asyncio.wait_for(stopping, timeout=5)
    assert parts.database.process.exit_code == -signal.SIGKILL
