"""Child processes: they end when they should, with all that they started."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sage_local.errors import StackError
from sage_local.privileges import launcher
from sage_local.process import Process
from sage_local.waiting import until_ready
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
    return Process("part", [sys.executable, "-c", code], log=tmp_path / "part.log", **options)  # type: ignore[arg-type] # options by name


async def written(process: Process, text: str) -> None:
    """Wait until it has written something."""

    async def found() -> bool:
        return text in process.last_lines()

    await until_ready(process, found, timeout_s=10)


def gone(pid: int) -> bool:
    """Say whether a process has ended, within five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not runs(pid):
            return True
        time.sleep(0.02)
    return False


async def test_it_ends_when_asked(tmp_path: Path) -> None:
    """A process that takes its stop signal is not killed."""
    process = make(tmp_path, _SLEEP)
    process.start()
    assert process.running
    await process.stop()
    assert process.exit_code == -signal.SIGTERM


async def test_it_is_killed_when_it_does_not_listen(tmp_path: Path) -> None:
    """A process that ignores its stop signal is killed when its grace is over."""
    process = make(tmp_path, _DEAF, grace_s=0.2)
    process.start()
    await written(process, "deaf")
    await process.stop()
    assert process.exit_code == -signal.SIGKILL


async def test_the_end_of_a_killed_one_is_waited_for(tmp_path: Path) -> None:
    """However short its grace is, a process that is killed is gone when it counts as stopped, and no zombie."""
    process = make(tmp_path, _DEAF, grace_s=0)
    process.start()
    await written(process, "deaf")
    await process.stop()
    assert process.exit_code == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)


async def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    """A grandchild does not outlive it."""
    process = make(tmp_path, _PARENT)
    process.start()
    # Either of the two may be the first to write.
    await written(process, "pid")
    await written(process, "deaf")
    grandchild = int(process.last_lines().split("pid ")[1].split()[0])
    await process.stop()
    assert gone(grandchild)


def test_it_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the parent ends the child, which nobody is left to stop."""
    child = [*launcher(), sys.executable, "-c", _SLEEP]
    code = f"import subprocess as s; c = s.Popen({child!r}, stdout=s.DEVNULL); print(c.pid, flush=True); c.wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    while psutil.Process(pid).name() == "setpriv":  # it has not asked for the signal yet
        time.sleep(0.01)
    parent.kill()
    parent.communicate(timeout=10)
    assert gone(pid)


async def test_last_lines_are_of_this_run(tmp_path: Path) -> None:
    """What an earlier run wrote into the same log is not shown as this one's end."""
    for word in ("first", "second"):
        process = make(tmp_path, f"print({word!r})")
        process.start()
        await process.wait(timeout_s=10)
    assert process.last_lines() == "second"


async def test_an_empty_variable_takes_one_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person's own account do not reach a part that has its own."""
    monkeypatch.setenv("AWS_PROFILE", "work")
    process = make(tmp_path, "import os; print('AWS_PROFILE' in os.environ)", environment={"AWS_PROFILE": ""})
    process.start()
    await process.wait(timeout_s=10)
    assert process.last_lines() == "False"


async def test_a_part_that_ends_while_it_starts_says_why(tmp_path: Path) -> None:
    """The error has its name, how it ended, its last words and where the rest of them is."""

    async def never() -> bool:
        return False

    process = make(tmp_path, "raise SystemExit('no such bucket')")
    process.start()
    with pytest.raises(StackError) as caught:
        await until_ready(process, never, timeout_s=10)
    assert "part ended" in caught.value.message
    assert "no such bucket" in caught.value.message
    assert str(process.log) in caught.value.next_step


async def test_a_part_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    """Waiting has an end, and the error says how long it took."""

    async def never() -> bool:
        return False

    process = make(tmp_path, _SLEEP)
    process.start()
    with pytest.raises(StackError, match="not ready"):
        await until_ready(process, never, timeout_s=0.1)
    await process.stop()


async def test_a_log_that_has_grown_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs do not fill the disk over many starts."""
    monkeypatch.setattr("sage_local.process._MAX_LOG_BYTES", 100)
    (tmp_path / "part.log").write_text("x" * 101)
    process = make(tmp_path, "print('new')")
    process.start()
    await process.wait(timeout_s=10)
    assert (tmp_path / "part.log").read_text() == "new\n"
    assert (tmp_path / "part.log.1").read_text() == "x" * 101
