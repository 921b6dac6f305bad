"""What a killed stack leaves running is found and ended, and nothing else is."""

import json
import sys
from pathlib import Path

import psutil
import pytest
from sage_local.process import Process
from sage_local.records import Records, end_leftovers, find_running
from sage_local.state import State
from sage_local.waiting import until_ready
from support.processes import runs

_SLEEP = "import time; time.sleep(60)"
_PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {_SLEEP!r}])
print(child.pid, flush=True)
child.wait()
"""


def recorded(tmp_path: Path, code: str) -> tuple[State, Process]:
    """Return a process that runs and the state folder that knows it."""
    state = State(tmp_path)
    process = Process("part", [sys.executable, "-c", code], log=state.log("part"))
    process.on_started = Records(state).add
    process.start()
    return state, process


async def test_a_process_that_was_left_is_ended(tmp_path: Path) -> None:
    """It is told by name, and the record of it is gone."""
    state, process = recorded(tmp_path, _SLEEP)
    assert await end_leftovers(state) == ["part"]
    assert not process.running
    assert state.read_running() == {}


async def test_another_process_with_the_same_pid_is_spared(tmp_path: Path) -> None:
    """A pid that was given to somebody else since is not ours to end."""
    state, process = recorded(tmp_path, _SLEEP)
    running = state.read_running()
    running["processes"][0]["create_time"] -= 100
    state.write_running(running)
    try:
        assert await end_leftovers(state) == []
        assert process.running
    finally:
        await process.stop()


@pytest.mark.parametrize("seconds", [-1, 1])
async def test_a_clock_that_was_set_a_little_spares_nothing(tmp_path: Path, seconds: int) -> None:
    """A start is told by when the machine booted, which the kernel tells in whole seconds: it may be one off."""
    state, process = recorded(tmp_path, _SLEEP)
    running = state.read_running()
    running["processes"][0]["create_time"] += seconds
    state.write_running(running)
    try:
        assert await end_leftovers(state) == ["part"]
        assert not process.running
    finally:
        await process.stop()


async def test_what_a_left_process_had_started_is_ended_too(tmp_path: Path) -> None:
    """Also where it is the only one left of its group."""
    state, process = recorded(tmp_path, _PARENT)

    async def told() -> bool:
        return process.last_lines().strip().isdigit()

    await until_ready(process, told, timeout_s=10)
    grandchild = psutil.Process(int(process.last_lines()))
    psutil.Process(process.pid).kill()
    await process.wait(timeout_s=5)
    assert grandchild.is_running()
    await end_leftovers(state)
    assert not runs(grandchild.pid)


async def test_a_state_folder_that_nobody_used_has_no_leftovers(tmp_path: Path) -> None:
    """The first start finds nothing to end."""
    assert await end_leftovers(State(tmp_path)) == []


def test_facts_are_there_while_the_supervisor_runs(tmp_path: Path) -> None:
    """Other commands see what the stack has published, and nothing once its supervisor is gone."""
    state = State(tmp_path)
    assert find_running(state) is None
    Records(state).publish({"SAGE_ADDRESS": "127.0.0.1:8080"})
    assert find_running(state) == {"SAGE_ADDRESS": "127.0.0.1:8080"}
    file = tmp_path / "running.json"
    running = json.loads(file.read_text())
    running["supervisor"]["create_time"] -= 100
    file.write_text(json.dumps(running))
    assert find_running(state) is None
