"""The state folder, and leftover processes of a killed stack: they are found and stopped, and no others."""

import base64
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sage_local.display import Display, TerminalDisplay
from sage_local.errors import StackError
from sage_local.process import Process
from sage_local.room import full_disk_explained
from sage_local.settings import StackSettings
from sage_local.stack import run_stack
from sage_local.state import RunningRecords, State, StateInUseError, end_leftovers, find_running
from sage_local.supervision import StopRequest
from support.other_users import open_to_others
from support.processes import runs

_SLEEP = "import time; time.sleep(60)"
_PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {_SLEEP!r}])
print(child.pid, flush=True)
child.wait()
"""


def test_a_second_stack_is_refused(tmp_path: Path) -> None:
    with State(tmp_path).locked(), pytest.raises(StateInUseError) as caught, State(tmp_path).locked():
        pass
    assert str(tmp_path) in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert "SAGE_STATE" in caught.value.next_step


def test_killing_the_holder_releases_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from sage_local.state import State\n"
        "with State(Path(sys.argv[1])).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode < 0
    with State(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_written_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="Cannot write") as caught, State(tmp_path / "file" / "state").locked():
        pass
    assert "SAGE_STATE" in caught.value.next_step


def test_secrets_are_generated_once_and_private(tmp_path: Path) -> None:
    first = State(tmp_path).secret("postgres")
    assert State(tmp_path).secret("postgres") == first
    assert State(tmp_path).secret("s3") != first
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


async def test_a_new_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    state = State(folder)
    with state.locked():
        writer = Process("writer", ["sh", "-c", "echo text >file"], log=state.log("writer"), folder=folder)
        writer.start()
        assert await writer.wait(timeout_s=10) == 0
        state.write_ports({})
        state.write_running({})
        state.encryption_keys()
        state.sockets()
        assert list(open_to_others(folder.parent)) == []
        if os.geteuid() != 0:
            assert folder.stat().st_mode & 0o777 == 0o700


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    state = State(folder)
    (folder / "logs").mkdir(parents=True)
    for file in (folder / "lock", folder / "ports.json", state.log("ingest"), folder / "logs" / "ingest.log.1"):
        file.touch(mode=0o644)
    assert list(open_to_others(folder)) != []
    with state.locked():
        assert list(open_to_others(folder)) == []


def test_a_folder_with_other_files_keeps_its_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").touch()
    with State(tmp_path).locked():
        assert tmp_path.stat().st_mode & 0o777 == 0o755
        assert [one.name for one in open_to_others(tmp_path)] == [tmp_path.name, "thesis.txt"]


def test_a_folder_that_everyone_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    tmp_path.chmod(0o777)
    with pytest.raises(StackError, match="Every user of this machine can write") as caught, State(tmp_path).locked():
        pass
    assert "SAGE_STATE" in caught.value.next_step
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("depth", [1, 60])
def test_sockets_have_a_short_path_in_a_private_folder(tmp_path: Path, depth: int) -> None:
    state = State(tmp_path.joinpath(*depth * ["ü"]))
    with state.locked():
        folder = state.sockets()
        assert folder == state.sockets()
        assert folder.stat().st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "gateway.sock"))
    assert not folder.exists()


def test_sockets_are_not_created_where_another_user_has_taken_the_place(tmp_path: Path) -> None:
    state = State(tmp_path.joinpath(*60 * ["ü"]))
    with state.locked():
        first = state.sockets()
        first.chmod(0o777)
        assert state.sockets() != first
    first.rmdir()


def test_wiping_keeps_foreign_files(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.locked():
        state.secret("postgres")
        (state.s3 / "volumes").mkdir(parents=True)
        (tmp_path / "thesis.txt").write_text("years of work")
        state.wipe()
        assert not state.s3.exists()
        assert not (tmp_path / "secrets.json").exists()
        assert (tmp_path / "thesis.txt").exists()


def test_the_encryption_key_is_generated_once_and_private(tmp_path: Path) -> None:
    file = State(tmp_path).encryption_keys()
    text = file.read_text()
    key_id, _, encoded = text.strip().partition(":")
    assert (key_id, len(base64.b64decode(encoded))) == ("local", 32)
    assert State(tmp_path).encryption_keys().read_text() == text
    assert file.stat().st_mode & 0o077 == 0
    state = State(tmp_path)
    with state.locked():
        state.wipe()
    assert not file.exists()


def recorded(tmp_path: Path, code: str) -> tuple[State, Process]:
    """Return a running process and the state folder that it is recorded in."""
    state = State(tmp_path)
    process = Process("component", [sys.executable, "-c", code], log=state.log("component"))
    process.on_started = RunningRecords(state).add
    process.start()
    return state, process


async def test_a_leftover_process_is_stopped(tmp_path: Path) -> None:
    state, process = recorded(tmp_path, _SLEEP)
    assert await end_leftovers(state) == ["component"]
    assert not process.running
    assert state.read_running() == {}


async def test_another_process_with_the_same_pid_is_left_alone(tmp_path: Path) -> None:
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
async def test_a_leftover_is_recognised_after_a_clock_adjustment(tmp_path: Path, seconds: int) -> None:
    state, process = recorded(tmp_path, _SLEEP)
    running = state.read_running()
    running["processes"][0]["create_time"] += seconds
    state.write_running(running)
    try:
        assert await end_leftovers(state) == ["component"]
        assert not process.running
    finally:
        await process.stop()


async def test_children_of_a_leftover_process_are_stopped(tmp_path: Path) -> None:
    state, process = recorded(tmp_path, _PARENT)

    async def told() -> bool:
        return process.last_lines().strip().isdigit()

    await process.until_ready(told, timeout_s=10)
    grandchild = psutil.Process(int(process.last_lines()))
    psutil.Process(process.pid).kill()
    await process.wait(timeout_s=5)
    assert grandchild.is_running()
    await end_leftovers(state)
    assert not runs(grandchild.pid)


async def test_a_new_state_folder_has_no_leftovers(tmp_path: Path) -> None:
    assert await end_leftovers(State(tmp_path)) == []


def test_facts_are_published_only_while_the_supervisor_runs(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert find_running(state) is None
    RunningRecords(state).publish({"SAGE_ADDRESS": "127.0.0.1:8080"})
    assert find_running(state) == {"SAGE_ADDRESS": "127.0.0.1:8080"}
    file = tmp_path / "running.json"
    running = json.loads(file.read_text())
    running["supervisor"]["create_time"] -= 100
    file.write_text(json.dumps(running))
    assert find_running(state) is None


@pytest.mark.parametrize("told_by", ["the kernel", "a program"])
async def test_a_full_disk_is_one_line_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    no_space = os.strerror(errno.ENOSPC)
    kernel, program = OSError(errno.ENOSPC, no_space), StackError(f"initdb failed.\n{no_space}\n")
    error = kernel if told_by == "the kernel" else program

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(State, "write_ports", fail)
    settings = StackSettings.on_free_ports(tmp_path, workers=0)
    with pytest.raises(StackError) as caught:
        await run_stack(settings, display=Display(), stop=StopRequest(), on_ready=lambda _: None)
    assert caught.value.message.startswith(f"The disk of {tmp_path} is full: ")
    assert "\n" not in caught.value.message
    assert "SAGE_STATE" in caught.value.next_step


def test_other_errors_are_not_blamed_on_the_disk(tmp_path: Path) -> None:
    for error in (OSError(errno.EACCES, "denied"), StackError("A port is taken."), StateInUseError("In use.")):
        with pytest.raises(type(error)) as caught, full_disk_explained(tmp_path / "none"):
            raise error
        assert caught.value is error


async def test_little_room_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sage_local.stack.free_bytes", lambda _: 123_000_000)
    monkeypatch.setattr(State, "write_ports", lambda *_: (_ for _ in ()).throw(StackError("enough")))
    settings = StackSettings.on_free_ports(tmp_path, workers=0)
    with pytest.raises(StackError, match="enough"):
        await run_stack(settings, display=TerminalDisplay(), stop=StopRequest(), on_ready=lambda _: None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Little room: ")
    assert line.endswith("has only 123 MB free.")
