"""`sage-local`: the whole of SAGE on this machine, without Docker or an account."""

import asyncio
import os
import shlex
import sys
import time
from pathlib import Path

import click
from sage_gateway.config import GatewaySettings
from sage_gateway.render import render
from sage_runtime.settings import load

from sage_local.demo import run_demo
from sage_local.display import TerminalDisplay
from sage_local.errors import StackError
from sage_local.records import find_running
from sage_local.running import RunningStack
from sage_local.settings import StackSettings
from sage_local.signals import stop_on_signals
from sage_local.stack import StopRequest, run_stack
from sage_local.state import State

_state_option = click.option(
    "--state", type=click.Path(path_type=Path), help="Folder of the stack's state (SAGE_STATE; default .sage)."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the whole of SAGE on this machine: PostgreSQL, S3, the three services, workers and the gateway."""


@main.command()
@_state_option
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="The gateway's (SAGE_GATEWAY_PORT; default 8080; 0: free)."
)
@click.option("--workers", type=click.IntRange(0, 64), help="Worker processes that embed (SAGE_WORKERS; default 1).")
@click.option(
    "--replicas",
    type=click.IntRange(1, 8),
    help="Processes of each service (SAGE_REPLICAS; default 1).",
)
def up(state: Path | None, port: int | None, workers: int | None, replicas: int | None) -> None:
    """Run the stack until Ctrl-C. Its state stays and is there again at the next start.

    The ports of SAGE_INGEST_PORT, SAGE_EMBED_PORT, SAGE_COMPARE_PORT, SAGE_POSTGRES_PORT and SAGE_S3_PORT are free
    ones where they are not set.
    """
    chosen = {"state": state, "gateway_port": port, "workers": workers, "replicas": replicas}
    settings = load(StackSettings).model_copy(update={key: value for key, value in chosen.items() if value is not None})
    sys.exit(asyncio.run(_up(settings)))


@main.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path(".sage/demo"),
    show_default=True,
    help="Wiped at the start.",
)
def demo(state: Path) -> None:
    """Diff the two sample cuts through a stack of its own, beside the edits that were made, then stop it."""
    sys.exit(asyncio.run(run_demo(state)))


@main.command()
@_state_option
def env(state: Path | None) -> None:
    """Print the settings of the running stack: eval "$(sage-local env)" in a shell, for sage, psql and S3 clients."""
    folder = state or load(StackSettings).state
    facts = find_running(State(folder))
    if facts is None:
        click.echo(f"error: no stack is ready on {folder}. `make up` starts one.", err=True)
        sys.exit(1)
    for name, value in facts.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@_state_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="How many of each.")
@click.argument("parts", nargs=-1)
def logs(state: Path | None, follow: bool, lines: int, parts: tuple[str, ...]) -> None:
    """Print the last lines of the logs of PARTS, or of all."""
    folder = State(state or load(StackSettings).state)
    known = sorted(file.stem for file in folder.logs.glob("*.log"))
    if unknown := [part for part in parts if part not in known]:
        click.echo(f"error: no log of {', '.join(unknown)}. There are: {', '.join(known) or 'none'}.", err=True)
        sys.exit(1)
    if not known:
        click.echo(f"error: no logs in {folder.logs}. `make up` starts a stack.", err=True)
        sys.exit(1)
    files = [str(folder.log(part)) for part in parts or known]
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files])  # noqa: S606 -- no shell


@main.command("gateway-config")
def gateway_config() -> None:
    """Print the gateway's configuration as the environment sets it, filled in with the default ports."""
    click.echo(render(load(GatewaySettings)), nl=False)


async def _up(settings: StackSettings) -> int:
    display = TerminalDisplay()
    stop = StopRequest()
    stop_on_signals(stop)
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
