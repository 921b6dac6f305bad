"""Child processes: they stop when they should, with everything they started."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sage_local.errors import StackError
from sage_local.process import Process, parent_bound
from support.processes import runs

_SLEEP = "import time; time.sleep(60)"
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
_PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {_DEAF!r}])
print("pid", child.pid, flush=True)
child.wait()
"""


def make(tmp_path: Path, code: str, **options: object) -> Process:
    """Return a process that runs Python code."""
    return Process("component", [sys.executable, "-c", code], log=tmp_path / "component.log", **options)  # type: ignore[arg-type] # options by name


async def written(process: Process, text: str) -> None:
    """Wait until it has written something."""

    async def found() -> bool:
        return text in process.last_lines()

    await process.until_ready(found, timeout_s=10)


def gone(pid: int) -> bool:
    """Say whether a process has ended, within five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not runs(pid):
            return True
        time.sleep(0.02)
    return False


async def test_it_stops_on_its_stop_signal(tmp_path: Path) -> None:
    process = make(tmp_path, _SLEEP)
    process.start()
    assert process.running
    await process.stop()
    assert process.exit_code == -signal.SIGTERM


async def test_it_is_killed_if_it_ignores_its_stop_signal(tmp_path: Path) -> None:
    process = make(tmp_path, _DEAF, grace_s=0.2)
    process.start()
    await written(process, "deaf")
    await process.stop()
    assert process.exit_code == -signal.SIGKILL


async def test_stop_waits_until_a_killed_process_is_gone(tmp_path: Path) -> None:
    process = make(tmp_path, _DEAF, grace_s=0)
    process.start()
    await written(process, "deaf")
    await process.stop()
    assert process.exit_code == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)


async def test_its_children_stop_with_it(tmp_path: Path) -> None:
    process = make(tmp_path, _PARENT)
    process.start()
    # Either of the two may be the first to write.
    await written(process, "pid")
    await written(process, "deaf")
    grandchild = int(process.last_lines().split("pid ")[1].split()[0])
    await process.stop()
    assert gone(grandchild)


def test_it_stops_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = [*parent_bound(), sys.executable, "-c", _SLEEP]
    code = f"import subprocess as s; c = s.Popen({child!r}, stdout=s.DEVNULL); print(c.pid, flush=True); c.wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    while psutil.Process(pid).name() == "setpriv":  # it has not asked for the signal yet
        time.sleep(0.01)
    parent.kill()
    parent.communicate(timeout=10)
    assert gone(pid)


async def test_last_lines_leave_out_earlier_runs(tmp_path: Path) -> None:
    for word in ("first", "second"):
        process = make(tmp_path, f"print({word!r})")
        process.start()
        await process.wait(timeout_s=10)
    assert process.last_lines() == "second"


async def test_an_empty_variable_removes_an_inherited_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    process = make(tmp_path, "import os; print('AWS_PROFILE' in os.environ)", environment={"AWS_PROFILE": ""})
    process.start()
    await process.wait(timeout_s=10)
    assert process.last_lines() == "False"


async def test_the_error_for_an_exit_during_startup_shows_the_log(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    process = make(tmp_path, "raise SystemExit('no such bucket')")
    process.start()
    with pytest.raises(StackError) as caught:
        await process.until_ready(never, timeout_s=10)
    assert "component exited" in caught.value.message
    assert "no such bucket" in caught.value.message
    assert str(process.log) in caught.value.next_step


async def test_waiting_for_readiness_times_out(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    process = make(tmp_path, _SLEEP)
    process.start()
    with pytest.raises(StackError, match="not ready"):
        await process.until_ready(never, timeout_s=0.1)
    await process.stop()


async def test_a_large_log_is_rotated_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage_local.process._MAX_LOG_BYTES", 100)
    (tmp_path / "component.log").write_text("x" * 101)
    process = make(tmp_path, "print('new')")
    process.start()
    await process.wait(timeout_s=10)
    assert (tmp_path / "component.log").read_text() == "new\n"
    assert (tmp_path / "component.log.1").read_text() == "x" * 101
