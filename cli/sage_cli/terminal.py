"""Where output goes: results to stdout, progress and trouble to stderr."""

import io
import json
import os
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from sage_cli.errors import Trouble


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the session. Rich would end with 1, which here means that films differ."""
        raise  # Rich calls this while it handles the error.


def abandon_stdout() -> None:
    """Point stdout to nowhere, so that nothing is written to a pipe whose reader has gone, not even at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass(frozen=True)
class Terminal:
    """The two streams of this process.

    Attributes:
        out: Console on stdout.
        err: Console on stderr.
        show_progress: Whether progress is drawn on stderr: only where somebody looks at it.
        quiet: Whether to tell no more than results and trouble.
    """

    out: Console
    err: Console
    show_progress: bool
    quiet: bool = False

    def say(self, content: RenderableType) -> None:
        """Print a result. Lines are never wrapped, so that they can be searched and cut."""
        self.out.print(content, soft_wrap=True)

    def say_json(self, document: object) -> None:
        """Print a result as JSON."""
        self.out.file.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        self.out.file.flush()

    def note(self, text: str) -> None:
        """Tell something that is not the result."""
        self.err.print(Text(text, style="dim"), soft_wrap=True)

    def complain(self, trouble: Trouble) -> None:
        """Print what went wrong and what to do."""
        self.err.print(Text.assemble(("sage: ", "bold red"), printable(trouble.message)), soft_wrap=True)
        for line in trouble.details:
            self.err.print(Text(f"  {printable(line)}"), soft_wrap=True)
        if trouble.next_step:
            self.err.print(Text.assemble(("      ", ""), (printable(trouble.next_step), "dim")), soft_wrap=True)


def open_terminal(*, quiet: bool = False, environ: Mapping[str, str] = os.environ) -> Terminal:
    """Return the consoles of this process.

    Colour goes to terminals only, and not where `NO_COLOR` is set; `FORCE_COLOR` asks for it in a pipe.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding does not know is shown escaped; it is no reason to break off.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    err = _open_console(sys.stderr, environ)
    return Terminal(
        out=_open_console(sys.stdout, environ),
        err=err,
        show_progress=not quiet and sys.stderr.isatty() and environ.get("TERM") != "dumb",
        quiet=quiet,
    )


def _open_console(stream: TextIO, environ: Mapping[str, str]) -> Console:
    terminal = stream.isatty() and environ.get("TERM") != "dumb"
    columns = environ.get("COLUMNS", "")
    colour = (terminal or bool(environ.get("FORCE_COLOR"))) and not environ.get("NO_COLOR")
    return _Console(
        file=stream,
        force_terminal=stream.isatty(),
        color_system="auto" if colour and terminal else "standard" if colour else None,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if stream.isatty() else (int(columns) if columns.isdecimal() else 0) or 80,
    )


def printable(text: str) -> str:
    """Return a text with its control characters made visible, so that a file's name cannot drive the terminal."""
    return "".join(
        f"\\x{ord(character):02x}" if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} else character
        for character in text
    )
