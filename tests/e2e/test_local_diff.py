"""`sage-local diff`: one command for your own films, with or without a running stack."""

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sage_local.stack import RunningStack
from sage_local.state import State, find_running
from support.films import SAMPLES
from support.waiting import until

OLD, NEW = "old cut.mp4", "new.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the command is called in, with two films."""
    for name, sample in ((OLD, "old.mp4"), (NEW, "new.mp4")):
        (tmp_path / name).symlink_to(SAMPLES / sample)
    return tmp_path


def command(*arguments: str) -> list[str]:
    """Return the command line of a diff."""
    return [sys.executable, "-m", "sage_local", "diff", *arguments]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a diff in a folder."""
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, check=False)


def embeddings_of(out: str) -> set[str]:
    """Return the IDs of the embeddings that a diff compared."""
    return set(re.findall(r"embed_[0-9a-f]{32}", out))


def processes_in(state: Path) -> list[psutil.Process]:
    """Return the processes that have a state folder in their command line or environment."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if str(state) in f"{process.info['cmdline']} {process.info['environ']}"
    ]


def test_a_running_stack_is_used(stack: RunningStack, folder: Path) -> None:
    before = stack.pids
    done = run("--state", str(stack.state), OLD, NEW, "--json", folder=folder)
    assert done.returncode == 1, done.stderr
    assert len(embeddings_of(done.stdout)) == 2
    assert stack.pids == before
    assert not (folder / ".sage").exists()


def test_without_one_a_stack_runs_for_the_diff_and_its_state_is_kept(folder: Path) -> None:
    first = run(OLD, NEW, "--json", folder=folder)
    assert first.returncode == 1, first.stderr
    state = folder / ".sage"
    assert processes_in(state) == []
    second = run(OLD, OLD, "--json", folder=folder)
    assert second.returncode == 0, second.stderr
    assert embeddings_of(second.stdout) < embeddings_of(first.stdout)
    assert find_running(State(state)) is None
    assert processes_in(state) == []


async def test_an_interrupt_stops_what_was_started(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(*command(OLD, NEW), cwd=folder, stderr=asyncio.subprocess.PIPE)
    state = folder / ".sage"
    await until(lambda: (state / "running.json").exists(), timeout_s=60)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130, err.decode()
    assert processes_in(state) == []


def test_a_missing_film_is_named_before_anything_starts(folder: Path) -> None:
    done = run("--state", "state", OLD, "missing.mp4", folder=folder)
    assert (done.returncode, done.stderr) == (
        2,
        "error: missing.mp4 does not exist.\nGive the path of a video file, or the ID of a stored video.\n",
    )
    assert not (folder / "state").exists()


def test_options_before_the_films_are_refused_with_the_order(folder: Path) -> None:
    done = run("--json", OLD, NEW, folder=folder)
    assert done.returncode == 2
    assert "The two files come first" in done.stderr
