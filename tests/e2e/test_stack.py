"""The stack's own life: it starts, stops, and comes back after anything."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
from sage_local.ports import free_port
from sage_local.running import RunningStack

_BIN = Path(sys.executable).parent
_START_S = 60.0


class UpCommand:
    """`sage-local up` in a process of its own, as `make up` runs it."""

    def __init__(self, state: Path, *, port: int = 0, **environment: str) -> None:
        self.state = state
        self.output = state.with_name(f"{state.name}-{time.monotonic_ns()}.out")
        command = [sys.executable, "-m", "sage_local", "up", "--state", str(state), "--port", str(port)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **environment}, start_new_session=True
            )

    def text(self) -> str:
        """Return what it has said."""
        return self.output.read_text()

    def until(self, condition: Callable[[], bool], *, timeout_s: float = _START_S) -> None:
        """Wait for something to come true while it runs."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def until_ready(self) -> "UpCommand":
        """Wait for its word that the stack is ready."""
        self.until(lambda: "In another terminal" in self.text())
        return self

    def settings(self) -> dict[str, str]:
        """Return what `sage-local env` says of it."""
        command = [sys.executable, "-m", "sage_local", "env", "--state", str(self.state)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())

    def parts(self) -> list[psutil.Process]:
        """Return the processes that it has started and that run."""
        return psutil.Process(self.process.pid).children()

    def ended(self, *, timeout_s: float = 30.0) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(timeout_s)


def _all_gone(processes: list[psutil.Process], *, timeout_s: float = 20.0) -> bool:
    gone, _ = psutil.wait_procs(processes, timeout=timeout_s)
    return len(gone) == len(processes)


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[Callable[..., UpCommand]]:
    """A call starts `sage-local up` on the same state folder; what still runs at the end is ended."""
    started: list[UpCommand] = []

    def start(*, port: int = 0, **environment: str) -> UpCommand:
        started.append(UpCommand(tmp_path / "state", port=port, **environment))
        return started[-1]

    yield start
    for command in started:
        with contextlib.suppress(ProcessLookupError):
            command.process.terminate()
        command.ended()


def grpcurl(address: str, *arguments: str) -> str:
    """Return what `grpcurl` prints for a call without TLS."""
    command = [str(_BIN / "grpcurl"), "-plaintext", "-max-time", "10", address, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_one_address_lists_all_services(stack: RunningStack) -> None:
    """Reflection through the gateway shows what all three services have."""
    listed = grpcurl(stack.address, "list").split()
    expected = {"sage.ingest.v1.IngestService", "sage.embed.v1.EmbedService", "sage.compare.v1.CompareService"}
    assert expected <= set(listed)


@pytest.mark.parametrize(
    "method",
    [
        "sage.ingest.v1.IngestService/ListVideos",
        "sage.embed.v1.EmbedService/ListEmbeddings",
        "sage.embed.v1.EmbedService/ListModels",
    ],
)
def test_each_service_answers_through_the_gateway(stack: RunningStack, method: str) -> None:
    """A call without a proto file at hand, by reflection alone, reaches the service that owns the method."""
    assert grpcurl(stack.address, method).startswith("{")


def test_settings_of_a_running_stack_work(stack: RunningStack) -> None:
    """The bucket and the roles' databases can be reached with what the stack says of itself."""
    s3 = boto3.client(
        "s3",
        endpoint_url=stack.s3.endpoint_url,
        region_name=stack.s3.region,
        aws_access_key_id=stack.s3.access_key,
        aws_secret_access_key=stack.s3.secret_key,
    )
    s3.head_bucket(Bucket=stack.s3.bucket)
    s3.close()
    for role, url in stack.database_urls.items():
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (role,)


def test_logs_are_shown_by_part(stack: RunningStack) -> None:
    """`sage-local logs PART` prints the end of that part's log."""
    command = [sys.executable, "-m", "sage_local", "logs", "--state", str(stack.state), "-n", "100", "postgres"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "ready to accept connections" in shown


def test_a_worker_that_is_killed_comes_back(stack: RunningStack) -> None:
    """Another process does its work soon, and the rest goes on."""
    before = stack.pids
    os.kill(before["worker-1"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while stack.pids.get("worker-1", before["worker-1"]) == before["worker-1"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {**stack.pids, "worker-1": 0} == {**before, "worker-1": 0}


def test_a_second_stack_on_one_state_folder_is_refused(stack: RunningStack) -> None:
    """It says which process has it and how to run beside it."""
    command = [sys.executable, "-m", "sage_local", "up", "--state", str(stack.state), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"pid {os.getpid()}" in second.stderr
    assert "--state" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_named_before_anything_starts(start_stack: Callable[..., UpCommand]) -> None:
    """The error has the port, who holds it, and the variable that changes it."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        refused = start_stack(port=port)
        assert refused.ended() == 1
    assert f"Port {port}" in refused.text()
    assert "SAGE_GATEWAY_PORT" in refused.text()
    assert "✓" not in refused.text()


def test_everything_is_there_after_a_restart_and_nothing_runs_in_between(
    start_stack: Callable[..., UpCommand],
) -> None:
    """Ctrl-C ends every process with exit code 0; the next start finds the same data at the same addresses."""
    first = start_stack().until_ready()
    settings = first.settings()
    with psycopg.connect(settings["SAGE_INGEST_DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE ingest.kept AS SELECT 42 AS value")
    parts = first.parts()
    assert len(parts) == 7
    first.process.send_signal(signal.SIGINT)
    assert first.ended() == 0, first.text()
    assert _all_gone(parts)
    second = start_stack().until_ready()
    again = second.settings()
    assert again["SAGE_INGEST_DATABASE_URL"] == settings["SAGE_INGEST_DATABASE_URL"]
    with psycopg.connect(again["SAGE_INGEST_DATABASE_URL"]) as connection:
        assert connection.execute("SELECT value FROM ingest.kept").fetchone() == (42,)


def test_a_start_after_kill_just_works_and_a_dead_service_ends_it(start_stack: Callable[..., UpCommand]) -> None:
    """What a killed supervisor has left is ended. A service that dies is named, and nothing runs on without it."""
    first = start_stack().until_ready()
    parts = first.parts()
    first.process.kill()
    first.ended()
    second = start_stack().until_ready()
    assert _all_gone(parts, timeout_s=1)
    parts = second.parts()
    next(part for part in parts if "sage_ingest" in part.cmdline()).kill()
    assert second.ended() == 1
    assert "ingest ended by itself (killed by signal 9)" in second.text()
    assert "ingest.log" in second.text()
    assert _all_gone(parts)
