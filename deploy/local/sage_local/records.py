"""What runs, written down as it starts, so that a start after `kill -9` finds and ends what was left behind."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from sage_local.process import Process
from sage_local.state import State

# The kernel counts a start in ticks of 10 ms since boot, and tells the moment of boot in whole seconds: where the clock
# was set in between by however little, the same start is told a second earlier or later.
_CREATE_TIME_TOLERANCE_S = 1.5
_POLL_S = 0.05


@dataclass(frozen=True)
class Record:
    """One process that was started, by pid and the moment of its start: a pid alone may belong to another by now."""

    name: str
    pid: int
    create_time: float
    stop_signal: int

    def find(self) -> psutil.Process | None:
        """Return the process, where it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.create_time) < _CREATE_TIME_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def find_group(self) -> list[psutil.Process]:
        """Return what runs of its process group: itself and whatever it has started.

        While anything of a group lives the kernel gives its number to nobody else.
        """
        group = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
                younger = process.create_time() >= self.create_time - _CREATE_TIME_TOLERANCE_S
                alive = process.status() != psutil.STATUS_ZOMBIE
                if os.getpgid(process.pid) == self.pid and younger and alive:
                    group.append(process)
        if any(process.pid == self.pid for process in group) and self.find() is None:
            return []  # the pid was given to another, who leads a group of its own
        return group


class Records:
    """The processes of a running stack, kept in its state folder as they come."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._records: dict[str, Record] = {}
        self._facts: dict[str, Any] = {}

    def add(self, process: Process) -> None:
        """Write down a process that has just started, in place of an earlier one of its name."""
        record = Record(process.name, process.pid, process.create_time, int(process.stop_signal))
        self._records[process.name] = record
        self._write()

    def publish(self, facts: dict[str, Any]) -> None:
        """Write down what other commands may know of the stack that is ready."""
        self._facts = facts
        self._write()

    def _write(self) -> None:
        own = Record("supervisor", os.getpid(), psutil.Process().create_time(), int(signal.SIGTERM))
        self._state.write_running(
            {
                "supervisor": asdict(own),
                "processes": [asdict(record) for record in self._records.values()],
                "facts": self._facts,
            }
        )


async def end_leftovers(state: State, *, grace_s: float = 5.0) -> list[str]:
    """End what a stack that was killed left running, and return the names of those parts.

    Call it with the state folder locked: then nobody else's stack is meant.

    Args:
        state: The folder it ran on.
        grace_s: How long its processes get to end in order before they are killed.
    """
    records = [Record(**record) for record in state.read_running().get("processes", [])]
    found = {record: record.find_group() for record in records}
    for record, group in found.items():
        for process in group:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(record.stop_signal)
    everything = [process for group in found.values() for process in group]
    await _wait_for_end(everything, timeout_s=grace_s)
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    await _wait_for_end(everything, timeout_s=grace_s)
    state.clear_running()
    return [record.name for record, group in found.items() if group]


def find_running(state: State) -> dict[str, Any] | None:
    """Return what the stack that runs on a state folder has published, or None where none does."""
    running = state.read_running()
    if "supervisor" not in running or Record(**running["supervisor"]).find() is None:
        return None
    facts: dict[str, Any] = running["facts"]
    return facts or None


async def _wait_for_end(processes: list[psutil.Process], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(map(_runs, processes)) and time.monotonic() < deadline:  # noqa: ASYNC110 -- no event tells of their end
        await asyncio.sleep(_POLL_S)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
