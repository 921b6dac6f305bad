"""What people see of a stack as it starts, runs and stops."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape

from sage_local.errors import StackError
from sage_local.running import RunningStack

if TYPE_CHECKING:
    from rich.status import Status


class Display:
    """Is told what happens, and shows nothing of it."""

    def ended_leftovers(self, names: Sequence[str]) -> None:
        """An earlier stack had left these running; they were ended."""

    def starting(self, names: Sequence[str]) -> None:
        """These steps begin."""

    def started(self, name: str, seconds: float) -> None:
        """A step is done."""

    def part_died(self, name: str, how: str, last_lines: str, restart_s: float) -> None:
        """A part ended by itself and is started again."""

    def stopping(self) -> None:
        """The stack begins to stop."""

    def stopped(self) -> None:
        """Nothing runs any more."""


class _Unbreakable:
    """A text stream whose reader may go away: a closed terminal must not keep a stack from being stopped in order."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class TerminalDisplay(Display):
    """Shows it on standard error: a line for each step, and in a terminal what is being waited for."""

    def __init__(self) -> None:
        self._console = Console(file=cast("IO[str]", _Unbreakable(sys.stderr)), highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._waiting: list[str] = []

    def ended_leftovers(self, names: Sequence[str]) -> None:
        """Say what was left behind."""
        self._console.print(f"Ended what an earlier run had left: {', '.join(names)}.")

    def starting(self, names: Sequence[str]) -> None:
        """Show what is being waited for, until `finish_start`."""
        self._waiting = list(names)
        self._status = self._console.status(self._waiting_text())
        self._status.start()

    def started(self, name: str, seconds: float) -> None:
        """Show a line for the step."""
        self._waiting.remove(name)
        self._console.print(f"  [green]✓[/] {name:<18}{seconds:5.1f} s")
        if self._status is not None:
            self._status.update(self._waiting_text())

    def ready(self, running: RunningStack, seconds: float) -> None:
        """Show addresses and what to do next."""
        self._end_status()
        show = self._console.print
        sage = command_path("sage")
        default = running.address == "127.0.0.1:8080"
        tls = running.client_address.startswith("https://")
        address = running.client_address if tls else f"localhost:{running.address.rpartition(':')[2]}"
        show(f"\n[bold]SAGE is ready[/] after {seconds:.1f} s: [bold]{address}[/]\n")
        for name, value in running.addresses.items():
            if name != "gateway":
                show(f"  {name:<10}{value}")
        show(f"  {'s3':<10}{running.s3.endpoint_url}, bucket {running.s3.bucket}")
        show(f"  {'postgres':<10}{running.database_urls['postgres'].rpartition('@')[2]}")
        show(f"  {'settings':<10}{command_path('sage-local')} env")
        show(f"  {'logs':<10}tail -F {relative(running.logs)}/*.log")
        show("\nIn another terminal:\n")
        prefix = "" if default else f"SAGE_ADDRESS={address} "
        show(f"  {prefix}{sage} diff samples/old.mp4 samples/new.mp4")
        show(f"  {command_path('grpcurl')} {'' if tls else '-plaintext '}{address.removeprefix('https://')} list")
        show("\nCtrl-C stops it; its state stays in " + relative(running.state) + ".")

    def part_died(self, name: str, how: str, last_lines: str, restart_s: float) -> None:
        """Say which, how, and what it said last."""
        self._console.print(f"[yellow]{name} ended by itself[/] ({how}); it starts again in {restart_s:.1f} s.")
        if last_lines:
            self._console.print(escape(last_lines), style="dim")

    def stopping(self) -> None:
        """Say so: draining may take seconds."""
        self._end_status()
        self._console.print("Stopping.")

    def stopped(self) -> None:
        """Say so."""
        self._end_status()
        self._console.print("Stopped.")

    def note(self, text: str) -> None:
        """Show a sentence."""
        self._end_status()
        self._console.print(escape(text))

    def failed(self, error: StackError) -> None:
        """Say what went wrong and what to do about it."""
        self._end_status()
        self._console.print(f"[bold red]error:[/] {escape(error.message)}")
        if error.next_step:
            self._console.print(escape(error.next_step))

    def _waiting_text(self) -> str:
        return f"Starting {', '.join(self._waiting)}"

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def command_path(name: str) -> str:
    """Return how to call a command of this environment from the current folder."""
    return relative(Path(sys.executable).parent / name)


def relative(path: Path) -> str:
    """Return a path as people in the current folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
