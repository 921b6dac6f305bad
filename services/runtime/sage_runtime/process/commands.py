"""Command lines, `python -m PACKAGE COMMAND`, and how their processes stop on signals."""

import argparse
import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from sage_runtime.process.settings import fail


@dataclass(frozen=True)
class Command:
    """A command without arguments; its settings come from the environment.

    Attributes:
        help: What it does, for `--help`.
        run: Runs it.
    """

    help: str
    run: Callable[[], None]


class CommandParser(argparse.ArgumentParser):
    """An argument parser that reports bad usage in one line on stderr and exits with code 2, as bad settings do."""

    def error(self, message: str) -> NoReturn:
        """See the base class."""
        usage = " ".join(self.format_usage().split())
        fail(f"{message} ({usage})")


def run_command(
    package: str, description: str, commands: Mapping[str, Command], arguments: Sequence[str] | None = None
) -> None:
    """Run the command that the command line names.

    Example:
        run_command("sage_ingest", "Stores videos.", {"serve": Command("serve until SIGTERM or SIGINT", serve)})

    Args:
        package: The package of the `__main__` module, such as `sage_ingest`.
        description: What the package is, for `--help`.
        commands: The commands by name.
        arguments: The command line without the program; that of the process by default.

    Raises:
        SystemExit: With code 2 on bad usage, 0 after `--help`.
    """
    parser = CommandParser(prog=f"python -m {package}", description=description)
    choices = parser.add_subparsers(dest="command", required=True, metavar="|".join(commands))
    for name, command in commands.items():
        choices.add_parser(name, help=command.help, description=command.help)
    commands[parser.parse_args(arguments).command].run()


def stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets. A second signal ends the process at once.

    Call it in the running event loop, once per process.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        stop.set()
        for one in signals:
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)

    for one in signals:
        loop.add_signal_handler(one, on_signal)
    return stop
