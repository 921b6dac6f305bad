"""One child process: started into a log file, watched, and ended with everything that it started."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import psutil

_POLL_S = 0.02
# Nothing holds up a kill but the kernel: a busy machine, or a disk that the process waits for.
_KILL_S = 30.0
# A log that has grown past this is put aside at the next start; the one put aside before is dropped.
_MAX_LOG_BYTES = 20 * 1024 * 1024

# Of our own environment these reach no process that is not given them: keys are nobody's business but embed's.
PRIVATE_VARIABLES = (
    "TWELVELABS_API_KEY",
    "TWELVELABS_BASE_URL",
    "SAGE_KEY_ENCRYPTION_KEYS",
    "SAGE_KEY_ENCRYPTION_KEYS_FILE",
)


class Process:
    """A program that runs in a process group of its own, with its output in a file.

    Ctrl-C in a terminal reaches the foreground group alone, so the supervisor decides who ends when.

    Attributes:
        name: What people call it.
        log: Where its output goes.
        stop_signal: What asks it to end in order.
        on_started: Called with it after each start.
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
        """Describe a process; nothing starts yet.

        Args:
            name: What people call it.
            command: The program and its arguments.
            log: Where its output goes, appended.
            environment: Variables on top of ours but for the private ones; an empty value takes the variable away.
            folder: Its working folder.
            stop_signal: What asks it to end in order.
            grace_s: How long it may take for that before it is killed.
            litter: Files that it does not remove when it ends, and that nobody needs then.
            before_stop: Is awaited before it is asked to end.
        """
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self.on_started: Callable[[Process], None] | None = None
        self._command = list(command)
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
        """The process id of the program that runs or ran last."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child.pid

    @property
    def create_time(self) -> float:
        """When the process began, as the kernel tells it; with the pid it names one process for good."""
        return self._create_time

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal), or None where it has not."""
        return None if self._child is None else self._child.poll()

    def environment(self) -> dict[str, str]:
        """Return the variables that it is started with."""
        inherited = {name: value for name, value in os.environ.items() if name not in PRIVATE_VARIABLES}
        return {name: value for name, value in {**inherited, **self._environment}.items() if value}

    def start(self) -> None:
        """Start the program. The thread that calls this must outlive it: its end counts as the parent's death."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with self.log.open("ab") as log:
            self._log_offset = log.tell()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self._folder,
                start_new_session=True,
            )
        self._create_time = _create_time_of(self._child.pid)
        if self.on_started is not None:
            self.on_started(self)

    async def stop(self) -> None:
        """End it: asked first, killed when its grace is over, and what it started with it."""
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
            file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill it and what it has started, without a word."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    async def wait(self, *, timeout_s: float) -> int | None:
        """Wait for its end and return how it ended, or None where it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.running and time.monotonic() < deadline:  # noqa: ASYNC110 -- no event tells of a child's end
            await asyncio.sleep(_POLL_S)
        return self.exit_code

    def last_lines(self, count: int = 12) -> str:
        """Return the end of what it has written since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_offset, size - 16_384))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-count:])


def _create_time_of(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # it failed at once and somebody else has reaped it
        return 0.0
