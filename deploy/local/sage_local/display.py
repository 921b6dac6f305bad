"""What people see while a stack starts, runs and stops."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape

from sage_local.errors import StackError

if TYPE_CHECKING:
    from rich.status import Status

    from sage_local.stack import RunningStack


class Display:
    """Receives notifications and shows nothing."""

    def ended_leftovers(self, names: Sequence[str]) -> None:
        """Processes left running by an earlier stack were stopped."""

    def little_room(self, folder: Path, free_bytes: int) -> None:
        """The disk of the state folder has little free space."""

    def starting(self, names: Sequence[str]) -> None:
        """These steps begin."""

    def started(self, name: str, seconds: float) -> None:
        """A step is done."""

    def component_died(self, name: str, how: str, last_lines: str, restart_s: float) -> None:
        """A component exited unexpectedly and will be restarted."""

    def stopping(self) -> None:
        """The stack is stopping."""

    def stopped(self) -> None:
        """Nothing runs any more."""

    def failed(self, error: StackError) -> None:
        """The stack, or the command that it ran for, failed."""


class _Unbreakable:
    """A text stream whose reader may go away: a closed terminal must not keep a stack from stopping cleanly."""

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
    """Shows progress on standard error: a line for each step and, in a terminal, what is being waited for.

    Args:
        brief: Whether to omit the lines, for a stack that runs for one command.
    """

    def __init__(self, *, brief: bool = False) -> None:
        self._console = Console(file=cast("IO[str]", _Unbreakable(sys.stderr)), highlight=False, soft_wrap=True)
        self._brief = brief
        self._status: Status | None = None
        self._waiting: list[str] = []

    def ended_leftovers(self, names: Sequence[str]) -> None:
        """List the leftover processes."""
        self._console.print(f"Stopped processes left behind by an earlier run: {', '.join(names)}.")

    def little_room(self, folder: Path, free_bytes: int) -> None:
        """Show a line."""
        free = f"{free_bytes / 1e6:,.0f} MB free"
        self._console.print(f"[yellow]Little room:[/] the disk of {escape(relative(folder))} has only {free}.")

    def starting(self, names: Sequence[str]) -> None:
        """Show what is being waited for, until the next message."""
        self._waiting = list(names)
        self._status = self._console.status(self._waiting_text())
        self._status.start()

    def started(self, name: str, seconds: float) -> None:
        """Show a line for the step."""
        self._waiting.remove(name)
        if not self._brief:
            self._console.print(f"  [green]✓[/] {name:<18}{seconds:5.1f} s")
        if self._status is not None:
            self._status.update(self._waiting_text())
        if not self._waiting:
            self._end_status()

    def ready(self, running: "RunningStack", seconds: float) -> None:
        """Show the addresses and the next steps."""
        self._end_status()
        show = self._console.print
        sage = command_path("sage")
        default = running.client_address == "127.0.0.1:8080"
        tls = running.client_address.startswith("https://")
        address = running.client_address if tls else running.address.replace("127.0.0.1:", "localhost:")
        show(f"\n[bold]SAGE is ready[/] after {seconds:.1f} s: [bold]{address}[/]\n")
        for name, value in running.addresses.items():
            if name != "gateway":
                show(f"  {name:<10}{value}")
        show(f"  {'s3':<10}{running.s3.endpoint_url}, bucket {running.s3.bucket}")
        show(f"  {'postgres':<10}{running.database_urls['postgres'].rpartition('@')[2]}")
        show(f"  {'settings':<10}{command_path('sage-local')} env")
        show(f"  {'logs':<10}{command_path('sage-local')} logs -f")
        show("\nIn another terminal:\n")
        prefix = "" if default else f"SAGE_ADDRESS={address} "
        show(f"  {prefix}{sage} diff samples/old.mp4 samples/new.mp4")
        show(f"  {command_path('grpcurl')} {'' if tls else '-plaintext '}{address.removeprefix('https://')} list")
        show("\nPress Ctrl-C to stop. The state is kept in " + relative(running.state) + ".")

    def component_died(self, name: str, how: str, last_lines: str, restart_s: float) -> None:
        """Show the component, how it ended, and its last lines."""
        self._console.print(f"[yellow]{name} exited unexpectedly[/] ({how}); restarting in {restart_s:.1f} s.")
        if last_lines:
            self._console.print(escape(last_lines), style="dim")

    def stopping(self) -> None:
        """Show that the stack is stopping: draining may take seconds."""
        self._end_status()
        if not self._brief:
            self._console.print("Stopping.")

    def stopped(self) -> None:
        """Show that everything has stopped."""
        self._end_status()
        if not self._brief:
            self._console.print("Stopped.")

    def note(self, text: str) -> None:
        """Show a sentence."""
        self._end_status()
        self._console.print(escape(text))

    def failed(self, error: StackError) -> None:
        """Show the error and the next step."""
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
    """Return a path as it would be written in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
