"""`sage-local`: all of SAGE on this machine, without Docker or an account."""

import asyncio
import os
import shlex
import sys
import time
from pathlib import Path

import click
from sage_runtime.process.settings import load

from sage_local.diff import run_demo, run_diff
from sage_local.display import TerminalDisplay
from sage_local.errors import StackError
from sage_local.settings import StackSettings
from sage_local.stack import RunningStack, run_stack
from sage_local.state import State, find_running
from sage_local.supervision import StopRequest

_state_option = click.option(
    "--state", type=click.Path(path_type=Path), help="Folder of the stack's state (SAGE_STATE; default .sage)."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run all of SAGE on this machine: PostgreSQL, S3, the three services, workers and the gateway."""


@main.command()
@_state_option
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="The gateway's port (SAGE_GATEWAY_PORT; default 8080; 0: any free)."
)
@click.option("--workers", type=click.IntRange(0, 64), help="Number of worker processes (SAGE_WORKERS; default 1).")
@click.option(
    "--replicas",
    type=click.IntRange(1, 8),
    help="Number of processes of each service (SAGE_REPLICAS; default 1).",
)
def up(state: Path | None, port: int | None, workers: int | None, replicas: int | None) -> None:
    """Run the stack until Ctrl-C. Its state is kept for the next start.

    Other ports are set with SAGE_INGEST_PORT, SAGE_EMBED_PORT, SAGE_COMPARE_PORT, SAGE_POSTGRES_PORT and SAGE_S3_PORT.
    By default they are free ports.
    """
    sys.exit(asyncio.run(_up(_settings(state=state, gateway_port=port, workers=workers, replicas=replicas))))


@main.command(context_settings={"ignore_unknown_options": True})
@_state_option
@click.argument("old")
@click.argument("new")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF sage diff]...")
def diff(state: Path | None, old: str, new: str, options: tuple[str, ...]) -> None:
    """Show where two cuts of a film differ: `sage diff OLD NEW` against this machine's stack.

    OLD and NEW are video files. Options of `sage diff` come after them; `sage diff -h` lists them. If no stack is
    running, this starts one and stops it afterwards. Its state is kept, so diffing the same films again takes seconds.

    Exit code, as for `sage diff`: 0 if the films do not differ, 1 if they do, 2 on failure.
    """
    if old.startswith("-") or new.startswith("-"):
        raise click.UsageError("The two files come first, then the options of sage diff.")
    sys.exit(asyncio.run(run_diff(_settings(state=state), (old, new), options)))


@main.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path(".sage/demo"),
    show_default=True,
    help="State folder, wiped first.",
)
def demo(state: Path) -> None:
    """Diff the two sample cuts through a temporary stack, and show the edits that were actually made."""
    sys.exit(asyncio.run(run_demo(state)))


@main.command()
@_state_option
def env(state: Path | None) -> None:
    """Print the settings of the running stack: eval "$(sage-local env)" in a shell, for sage, psql and S3 clients."""
    folder = _settings(state=state).state
    try:
        facts = find_running(State(folder))
    except StackError as error:
        TerminalDisplay().failed(error)
        sys.exit(1)
    if facts is None:
        click.echo(f"error: no stack is ready on {folder}. `make up` starts one.", err=True)
        sys.exit(1)
    for name, value in facts.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@_state_option
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines.")
@click.option("-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="Number of lines per log.")
@click.argument("components", nargs=-1)
def logs(state: Path | None, follow: bool, lines: int, components: tuple[str, ...]) -> None:
    """Print the last lines of the logs of COMPONENTS, or of all components."""
    folder = State(_settings(state=state).state)
    known = sorted(file.stem for file in folder.logs.glob("*.log"))
    if unknown := [component for component in components if component not in known]:
        click.echo(f"error: no log of {', '.join(unknown)}. There are: {', '.join(known) or 'none'}.", err=True)
        sys.exit(1)
    if not known:
        click.echo(f"error: no logs in {folder.logs}. `make up` starts a stack.", err=True)
        sys.exit(1)
    files = [str(folder.log(component)) for component in components or known]
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files])  # noqa: S606 -- no shell


def _settings(**chosen: object) -> StackSettings:
    """Return the settings from the environment, overridden by the options that were given."""
    given = {name: value for name, value in chosen.items() if value is not None}
    return load(StackSettings).model_copy(update=given)


async def _up(settings: StackSettings) -> int:
    display = TerminalDisplay()
    stop = StopRequest()
    stop.on_signals()
    begin = time.monotonic()

    def on_ready(running: RunningStack) -> None:
        display.ready(running, time.monotonic() - begin)

    try:
        await run_stack(settings, display=display, stop=stop, on_ready=on_ready)
    except StackError as error:
        display.failed(error)
        return 1
    return 0


if __name__ == "__main__":
    main()
