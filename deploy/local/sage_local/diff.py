"""One diff through a temporary stack: `sage-local diff` for your own films, `sage-local demo` for the samples."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from sage_local.display import TerminalDisplay, relative
from sage_local.errors import StackError
from sage_local.settings import OPEN_AND_LOCAL, StackSettings
from sage_local.stack import RunningStack, run_stack
from sage_local.state import State, StateInUseError, find_running
from sage_local.supervision import StopRequest

_ROOT = Path(__file__).resolve().parents[3]
_INTERRUPTED_EXIT_CODE = 130
# Exit code of `sage diff` if it cannot compare; 1 means that the films differ.
_FAILED_EXIT_CODE = 2
_RETRY_S = 0.2
# `sage diff` accepts these in place of files.
_ID = re.compile(r"(video|embed)_[0-9a-f]{32}")
_SYMBOLS = {"INSERTED": "+", "DELETED": "-", "MOVED": ">", "CHANGED": "~"}


def project_file(path: str) -> Path:
    """Return a file of the checkout that these packages are installed from.

    Raises:
        StackError: It does not exist, because the packages were installed without a checkout.
    """
    file = _ROOT / path
    if not file.exists():
        raise StackError(f"{file} is missing.", next_step="Run sage-local from a checkout of the project: make setup.")
    return file


async def run_diff(settings: StackSettings, films: Sequence[str], options: Sequence[str]) -> int:
    """Run `sage diff` against the stack on a state folder. If none is running, start one and stop it afterwards.

    Videos and embeddings stay in the state folder, so a second run of the same pair uploads and embeds nothing. If a
    stack there is not ready yet, or is running only for another diff, this waits for it.

    Args:
        settings: The state folder and the number of workers. The stack uses free ports and is
            reachable only from this machine.
        films: The two video files, or IDs of videos or embeddings.
        options: Options of `sage diff`.

    Returns:
        The exit code of `sage diff`: 0 if the films do not differ, 1 if they do, 2 on failure; 130 if interrupted.
    """
    display = TerminalDisplay(brief=True)
    try:
        await asyncio.to_thread(_check_films, films)
        arguments = ["diff", *films, *options]
        run = _OneShot(display, lambda running: run.sage(running, arguments))
        own = StackSettings.on_free_ports(settings.state, workers=max(1, settings.workers))
        waiting = False
        while not run.interrupt.asked.is_set():
            if facts := find_running(State(settings.state)):
                _become_sage(arguments, address=facts["SAGE_ADDRESS"])
            try:
                return await run.on_stack(own)
            except StateInUseError as error:
                if not waiting:
                    display.note(f"{error.message} Waiting until it is ready or has stopped.")
                waiting = True
                await asyncio.sleep(_RETRY_S)
    except StackError as error:
        display.failed(error)
        return _FAILED_EXIT_CODE
    return _INTERRUPTED_EXIT_CODE


async def run_demo(state: Path) -> int:
    """Start a stack on a fresh state folder and free ports, diff the samples, and stop the stack.

    Args:
        state: Its state folder; files of an earlier stack are removed first.

    Returns:
        The exit code: 0 if the comparison ran, whatever it found; 1 if it did not; 130 if it was interrupted.
    """
    begin = time.monotonic()
    display = TerminalDisplay()

    async def compare(running: RunningStack) -> int:
        old, new = project_file("samples/old.mp4"), project_file("samples/new.mp4")
        truth = json.loads(project_file("samples/truth.json").read_text())
        arguments = ["diff", relative(old), relative(new)]
        display.note(f"\n$ {' '.join(['sage', *arguments])}\n")
        code = await run.sage(running, arguments)
        if run.interrupt.asked.is_set():
            return _INTERRUPTED_EXIT_CODE
        if code not in (0, 1):
            raise StackError(f"sage diff failed (exit code {code}).", next_step=f"Logs of the services: {running.logs}")
        _show_truth(truth)
        return 0

    run = _OneShot(display, compare)
    try:
        code = await run.on_stack(StackSettings.on_free_ports(state, workers=1), fresh=True)
    except StackError as error:
        display.failed(error)
        return 1
    if code == 0:
        display.note(f"The demo took {time.monotonic() - begin:.1f} s. Everything it started has been stopped.")
    return code


class _OneShot:
    """A stack that runs for one command and that no other command uses.

    Attributes:
        interrupt: Set by Ctrl-C and similar signals. The `sage` command gets to clean up before its stack stops.
    """

    def __init__(self, display: TerminalDisplay, work: Callable[[RunningStack], Coroutine[Any, Any, int]]) -> None:
        self.interrupt = StopRequest()
        self.interrupt.on_signals()
        self._display = display
        self._work = work

    async def on_stack(self, settings: StackSettings, *, fresh: bool = False) -> int:
        """Start a stack, do the work and stop the stack; return what the work returns, or 130 if it never began."""
        stop = StopRequest()
        working: list[asyncio.Task[int]] = []

        def on_ready(running: RunningStack) -> None:
            if self.interrupt.asked.is_set():
                stop.asked.set()
                return
            task = asyncio.ensure_future(self._work(running))
            task.add_done_callback(lambda _: stop.asked.set())
            working.append(task)

        async def relay_interrupt() -> None:
            await self.interrupt.asked.wait()
            if not working:
                stop.asked.set()
            await self.interrupt.hurried.wait()
            stop.hurried.set()

        relay = asyncio.ensure_future(relay_interrupt())
        try:
            await run_stack(
                settings,
                display=self._display,
                stop=stop,
                on_ready=on_ready,
                environment=OPEN_AND_LOCAL,
                fresh=fresh,
                shared=False,
            )
            return working[0].result() if working else _INTERRUPTED_EXIT_CODE
        finally:
            for task in (relay, *working):
                task.cancel()
            await asyncio.gather(relay, *working, return_exceptions=True)

    async def sage(self, running: RunningStack, arguments: Sequence[str]) -> int:
        """Run `sage` against a stack and return its exit code.

        It has its own session, so that Ctrl-C reaches only us. The first one is forwarded; a second one kills it.
        """
        line, environment = _sage_command(arguments, running.client_address)
        command = await asyncio.create_subprocess_exec(*line, env=environment, start_new_session=True)

        async def relay_interrupt() -> None:
            await self.interrupt.asked.wait()
            command.send_signal(signal.SIGINT)
            await self.interrupt.hurried.wait()
            command.kill()

        relay = asyncio.ensure_future(relay_interrupt())
        try:
            return await command.wait()
        finally:
            relay.cancel()
            if command.returncode is None:
                command.kill()
                await command.wait()


def _check_films(films: Sequence[str]) -> None:
    """Raise a `StackError` for a file that does not exist, before starting a stack."""
    for film in films:
        if not Path(film).is_file() and not _ID.fullmatch(film):
            what = "is a directory" if Path(film).is_dir() else "does not exist"
            raise StackError(f"{film} {what}.", next_step="Give the path of a video file, or the ID of a stored video.")


def _sage_command(arguments: Sequence[str], address: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "sage_cli", *arguments], {**os.environ, "SAGE_ADDRESS": address}


def _become_sage(arguments: Sequence[str], *, address: str) -> NoReturn:
    """Replace this process with `sage`, so that it receives the signals and sets the exit code."""
    line, environment = _sage_command(arguments, address)
    os.execve(line[0], line, environment)  # noqa: S606 -- no shell


def _show_truth(truth: dict[str, Any]) -> None:
    """Show the edits in the notation of `sage diff`, whose table is printed above."""
    console = Console(highlight=False)
    console.print("\nFor comparison, the edits that were actually made (samples/truth.json):\n")
    for edit in truth["edits"]:
        if edit["kind"] == "MATCHED":
            continue
        old, new = (_range(edit[side], truth["frame_rate"]) for side in ("a", "b"))
        console.print(f"   {_SYMBOLS[edit['kind']]} {edit['kind'].lower():<10} {old:<25}{new}")
        console.print(f"     {edit['what']}", style="dim")


def _range(frames: list[int] | None, frame_rate: int) -> str:
    return "-" if frames is None else "-".join(_timecode(frame, frame_rate) for frame in frames)


def _timecode(frame: int, frame_rate: int) -> str:
    whole, frames = divmod(frame, frame_rate)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}:{frames:02}"
