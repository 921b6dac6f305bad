"""`sage-local demo`: the two sample cuts through a stack of its own."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from sage_local.display import TerminalDisplay, relative
from sage_local.errors import StackError
from sage_local.project import project_file
from sage_local.running import RunningStack
from sage_local.settings import StackSettings
from sage_local.sign_in import OPEN_AND_LOCAL
from sage_local.signals import stop_on_signals
from sage_local.stack import StopRequest, run_stack

_STOPPED = 130
_KINDS = {"changed": "changed", "only_in_a": "only in old", "only_in_b": "only in new"}


async def run_demo(state: Path) -> int:
    """Start a stack on a fresh state folder and free ports, diff the samples, stop it.

    Args:
        state: Its state folder; what a stack keeps there is wiped first.

    Returns:
        The exit code: 0 where the comparison ran, whatever it found; 1 where it did not; 130 where it was stopped.
    """
    begin = time.monotonic()
    display = TerminalDisplay()
    stop = StopRequest()
    stop_on_signals(stop)
    comparing: list[asyncio.Task[int]] = []

    def on_ready(running: RunningStack) -> None:
        comparing.append(asyncio.ensure_future(_compare(running, display, stop)))

    settings = StackSettings.on_free_ports(state, workers=1)
    try:
        await run_stack(settings, display=display, stop=stop, on_ready=on_ready, fresh=True, environment=OPEN_AND_LOCAL)
        if not comparing or not comparing[0].done():
            return _STOPPED
        code = comparing[0].result()
    except StackError as error:
        display.failed(error)
        return 1
    finally:
        for task in comparing:
            task.cancel()
    display.note(f"The demo took {time.monotonic() - begin:.1f} s, and nothing of it runs any more.")
    return code


async def _compare(running: RunningStack, display: TerminalDisplay, stop: StopRequest) -> int:
    """Show what `sage diff` finds, then what is true, and ask the stack to stop."""
    try:
        old, new = project_file("samples/old.mp4"), project_file("samples/new.mp4")
        truth = json.loads(project_file("samples/truth.json").read_text())
        arguments = ["diff", relative(old), relative(new)]
        display.note(f"\n$ {' '.join(['sage', *arguments])}\n")
        command = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sage_cli", *arguments,
            env={**os.environ, "SAGE_ADDRESS": running.client_address},
        )  # fmt: skip
        try:
            code = await command.wait()
        finally:
            if command.returncode is None:
                command.terminate()
                await command.wait()
        if stop.asked.is_set():  # Ctrl-C reached both
            return _STOPPED
        if code not in (0, 1):
            raise StackError(
                f"sage diff failed (exit code {code}).", next_step=f"The logs of its services: {running.logs}"
            )
        _show_truth(truth)
        return 0
    finally:
        stop.asked.set()


def _show_truth(truth: dict[str, Any]) -> None:
    """Show the edits in the notation of `sage diff`, whose table stands above."""
    console = Console(highlight=False)
    console.print("\nTo hold beside it: the edits that were made (samples/truth.json).\n")
    for edit in truth["edits"]:
        old, new = (_range(edit[side], truth["frame_rate"]) for side in ("a", "b"))
        console.print(f"   {_KINDS[edit['kind']]:<14}{old:<25}{new}")
        console.print(f"   {'':<14}{edit['what']}", style="dim")


def _range(seconds: list[float] | None, frame_rate: int) -> str:
    return "-" if seconds is None else "-".join(_timecode(second, frame_rate) for second in seconds)


def _timecode(seconds: float, frame_rate: int) -> str:
    whole, frames = divmod(round(seconds * frame_rate), frame_rate)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}:{frames:02}"
