"""The life of a stack: it starts, stops, and recovers from anything."""

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
from sage_local.stack import RunningStack

_BIN = Path(sys.executable).parent
_START_S = 60.0


class UpCommand:
    """`sage-local up` as a process, as `make up` runs it."""

    def __init__(self, state: Path, *, port: int = 0, **environment: str) -> None:
        self.state = state
        self.output = state.with_name(f"{state.name}-{time.monotonic_ns()}.out")
        command = [sys.executable, "-m", "sage_local", "up", "--state", str(state), "--port", str(port)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **environment}, start_new_session=True
            )

    def text(self) -> str:
        """Return its output so far."""
        return self.output.read_text()

    def until(self, condition: Callable[[], bool], *, timeout_s: float = _START_S) -> None:
        """Wait until a condition holds while it runs."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def until_ready(self) -> "UpCommand":
        """Wait until it reports that the stack is ready."""
        self.until(lambda: "In another terminal" in self.text())
        return self

    def settings(self) -> dict[str, str]:
        """Return what `sage-local env` prints for it."""
        command = [sys.executable, "-m", "sage_local", "env", "--state", str(self.state)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())

    def components(self) -> list[psutil.Process]:
        """Return the running processes that it has started."""
        return psutil.Process(self.process.pid).children()

    def ended(self, *, timeout_s: float = 30.0) -> int:
        """Wait until it exits and return its exit code."""
        return self.process.wait(timeout_s)


def _all_gone(processes: list[psutil.Process], *, timeout_s: float = 20.0) -> bool:
    gone, _ = psutil.wait_procs(processes, timeout=timeout_s)
    return len(gone) == len(processes)


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[Callable[..., UpCommand]]:
    """Return a function that starts `sage-local up` on one state folder; stop what still runs afterwards."""
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


def test_reflection_through_the_gateway_lists_all_services(stack: RunningStack) -> None:
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
def test_each_service_is_reached_through_the_gateway(stack: RunningStack, method: str) -> None:
    assert grpcurl(stack.address, method).startswith("{")


def test_settings_of_a_running_stack_work(stack: RunningStack) -> None:
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


def test_logs_of_one_component_are_shown(stack: RunningStack) -> None:
    command = [sys.executable, "-m", "sage_local", "logs", "--state", str(stack.state), "-n", "100", "postgres"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "ready to accept connections" in shown


def test_a_killed_worker_is_restarted_and_nothing_else(stack: RunningStack) -> None:
    before = stack.pids
    os.kill(before["worker-1"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while stack.pids.get("worker-1", before["worker-1"]) == before["worker-1"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {**stack.pids, "worker-1": 0} == {**before, "worker-1": 0}


def test_a_second_stack_on_one_state_folder_is_refused(stack: RunningStack) -> None:
    command = [sys.executable, "-m", "sage_local", "up", "--state", str(stack.state), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"pid {os.getpid()}" in second.stderr
    assert "SAGE_STATE" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_named_before_anything_starts(start_stack: Callable[..., UpCommand]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        refused = start_stack(port=port)
        assert refused.ended() == 1
    assert f"Port {port}" in refused.text()
    assert "SAGE_GATEWAY_PORT" in refused.text()
    assert "✓" not in refused.text()


def test_data_and_addresses_survive_a_restart_and_nothing_runs_in_between(
    start_stack: Callable[..., UpCommand],
) -> None:
    first = start_stack().until_ready()
    settings = first.settings()
    with psycopg.connect(settings["SAGE_INGEST_DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE ingest.kept AS SELECT 42 AS value")
    components = first.components()
    assert len(components) == 7
    first.process.send_signal(signal.SIGINT)
    assert first.ended() == 0, first.text()
    assert _all_gone(components)
    second = start_stack().until_ready()
    again = second.settings()
    assert again["SAGE_INGEST_DATABASE_URL"] == settings["SAGE_INGEST_DATABASE_URL"]
    with psycopg.connect(again["SAGE_INGEST_DATABASE_URL"]) as connection:
        assert connection.execute("SELECT value FROM ingest.kept").fetchone() == (42,)


def test_a_start_after_a_kill_works_and_a_dead_service_stops_the_stack(start_stack: Callable[..., UpCommand]) -> None:
    first = start_stack().until_ready()
    components = first.components()
    first.process.kill()
    first.ended()
    second = start_stack().until_ready()
    assert _all_gone(components, timeout_s=1)
    components = second.components()
    next(one for one in components if "sage_ingest" in one.cmdline()).kill()
    assert second.ended() == 1
    assert "ingest exited unexpectedly (killed by signal 9)" in second.text()
    assert "ingest.log" in second.text()
    assert _all_gone(components)
