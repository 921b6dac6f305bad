"""One child process: started with its output in a log file, watched, and stopped along with everything it started."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import psutil

from sage_local.errors import StackError
from sage_local.files import OWNER_ONLY, open_private

_POLL_S = 0.02
_READY_POLL_S = 0.05
# Only the kernel can delay a kill: a busy machine, or a disk that the process waits for.
_KILL_S = 30.0
# A log larger than this is rotated at the next start; the previously rotated one is deleted.
_MAX_LOG_BYTES = 20 * 1024 * 1024

# Secrets of embed. A process gets these from our environment only if they are passed explicitly.
PRIVATE_VARIABLES = (
    "TWELVELABS_API_KEY",
    "TWELVELABS_BASE_URL",
    "SAGE_KEY_ENCRYPTION_KEYS",
    "SAGE_KEY_ENCRYPTION_KEYS_FILE",
)


class Process:
    """A program in its own process group, with its output in a file. Only its user can read the files that it writes.

    Ctrl-C in a terminal reaches the foreground process group only, so the supervisor decides the stop order.

    Attributes:
        name: Name shown to people.
        log: File that its output is appended to.
        stop_signal: Signal that asks it to shut down cleanly.
        on_started: Called with this process after each start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 10.0,
        litter: Sequence[Path] = (),
        before_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Describe a process without starting it.

        Args:
            name: Name shown to people.
            command: The program and its arguments.
            log: File that its output is appended to.
            environment: Variables on top of this process's (without the private ones); an empty one removes a variable.
            folder: Its working folder.
            stop_signal: Signal that asks it to shut down cleanly.
            grace_s: How long it may take to shut down before it is killed.
            litter: Files that it leaves behind, to be deleted once it has stopped.
            before_stop: Awaited before the stop signal is sent.
        """
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self.on_started: Callable[[Process], None] | None = None
        self.command = list(command)
        self._environment = environment or {}
        self._folder = folder
        self._grace_s = grace_s
        self._litter = litter
        self._before_stop = before_stop
        self._child: subprocess.Popen[bytes] | None = None
        self._log_offset = 0
        self._create_time = 0.0

    @property
    def pid(self) -> int:
        """The process ID of the current or last run."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child.pid

    @property
    def create_time(self) -> float:
        """When the process started, according to the kernel; with the pid, it identifies a process permanently."""
        return self._create_time

    @property
    def running(self) -> bool:
        """Whether it was started and has not exited."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code (negative: killed by that signal); `None` if it has not exited."""
        return None if self._child is None else self._child.poll()

    def environment(self) -> dict[str, str]:
        """Return the variables that it is started with."""
        inherited = {name: value for name, value in os.environ.items() if name not in PRIVATE_VARIABLES}
        return {name: value for name, value in {**inherited, **self._environment}.items() if value}

    def start(self) -> None:
        """Start the program. The calling thread must outlive it: when that thread ends, so does the program."""
        self.log.parent.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with open(self.log, "ab", opener=open_private) as log:
            self._log_offset = log.tell()
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self._folder,
                start_new_session=True,
                umask=0o077,
            )
        self._create_time = _create_time_of(self._child.pid)
        if self.on_started is not None:
            self.on_started(self)

    async def stop(self) -> None:
        """Stop it and everything it started: signal first, then kill after the grace period."""
        if self._child is None:
            return
        if self.running:
            if self._before_stop is not None:
                await self._before_stop()
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(self.stop_signal)
            await self.wait(timeout_s=self._grace_s)
        self.kill()
        await self.wait(timeout_s=_KILL_S)
        for file in self._litter:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill its process group without warning."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    async def wait(self, *, timeout_s: float) -> int | None:
        """Wait until it exits and return its exit code; `None` if it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.running and time.monotonic() < deadline:  # noqa: ASYNC110 -- no event signals a child's exit
            await asyncio.sleep(_POLL_S)
        return self.exit_code

    async def until_ready(self, probe: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
        """Return once `probe` returns true; it is called every 50 ms.

        Args:
            probe: Returns whether the process is ready.
            timeout_s: How long to wait.

        Raises:
            StackError: The process exited or the timeout passed. The message has the last lines of its log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.running:
                raise self.failure(f"exited during startup ({self.describe_exit()})")
            if await probe():
                return
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready after {timeout_s:.0f} seconds")
            await asyncio.sleep(_READY_POLL_S)

    def failure(self, what: str) -> StackError:
        """Return an error that says what happened to this process, with the last lines of its log."""
        return StackError(f"{self.name} {what}.\n{self.last_lines()}".rstrip(), next_step=f"Full log: {self.log}")

    def describe_exit(self) -> str:
        """Return how it ended, such as "exit code 1" or "killed by signal 9"."""
        code = self.exit_code
        return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def last_lines(self, count: int = 12) -> str:
        """Return the last lines that it has written since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_offset, size - 16_384))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-count:])


def parent_bound(death_signal: str = "TERM") -> list[str]:
    """Return a command prefix that makes the kernel signal the program when its parent dies.

    `setpriv` (util-linux, on every Debian) sets this up between fork and exec, where Python code is not safe with
    threads. Without it the prefix is empty.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", death_signal, "--"] if setpriv else []


def _create_time_of(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # it failed at once and has been reaped
        return 0.0
