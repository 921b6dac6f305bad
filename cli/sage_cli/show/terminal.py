"""The terminal: results go to stdout, progress and errors to stderr."""

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

from sage_cli.api.errors import CommandError


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Raise the error that Rich is handling. Rich would exit with 1, which means here that films differ."""
        raise


def abandon_stdout() -> None:
    """Redirect stdout to the null device, so that nothing is written to a closed pipe, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass(frozen=True)
class Terminal:
    """The two streams of this process.

    Attributes:
        out: Console on stdout.
        err: Console on stderr.
        show_progress: Whether progress is drawn on stderr: only if it is a terminal.
        quiet: Whether to print only results and errors.
    """

    out: Console
    err: Console
    show_progress: bool
    quiet: bool = False

    def print(self, content: RenderableType) -> None:
        """Print a result. Lines are never wrapped, so that `grep` and `cut` work on them."""
        self.out.print(content, soft_wrap=True)

    def print_json(self, document: object, *, indent: int | None = 2) -> None:
        """Print a result as JSON; without an indent in one line."""
        self.out.file.write(json.dumps(document, indent=indent, ensure_ascii=False) + "\n")
        self.out.file.flush()

    def note(self, text: str) -> None:
        """Print a remark to stderr."""
        self.err.print(Text(text, style="dim"), soft_wrap=True)

    def error(self, error: CommandError) -> None:
        """Print what went wrong and what to do next."""
        self.err.print(Text.assemble(("sage: ", "bold red"), printable(error.message)), soft_wrap=True)
        for line in error.details:
            self.err.print(Text(f"  {printable(line)}"), soft_wrap=True)
        if error.next_step:
            self.err.print(Text.assemble(("      ", ""), (printable(error.next_step), "dim")), soft_wrap=True)


def open_terminal(*, quiet: bool = False, environ: Mapping[str, str] = os.environ) -> Terminal:
    """Return the terminal of this process.

    Colour is used on terminals unless `NO_COLOR` is set, and in pipes if `FORCE_COLOR` is.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file name that the encoding cannot represent is printed escaped instead of raising an error.
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
    """Return a text with its control characters escaped, so that a file name cannot control the terminal."""
    return "".join(
        f"\\x{ord(character):02x}" if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} else character
        for character in text
    )
