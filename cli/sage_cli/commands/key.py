"""`sage key`: the TwelveLabs key. It is read without echo and never printed."""

import getpass
import sys
import warnings
from typing import NoReturn

import click
from rich.text import Text
from sage.embed.v1 import api_key_pb2

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError
from sage_cli.commands.options import OrderedGroup, json_option, session_options
from sage_cli.commands.session import INTERRUPTED_EXIT_CODE, SAME_EXIT_CODE, TROUBLE_EXIT_CODE, Session
from sage_cli.show.json_output import message_document
from sage_cli.show.tables import Column, print_table
from sage_cli.show.terminal import printable
from sage_cli.show.timecode import date_and_time

PROMPT = "TwelveLabs API key (not shown): "
# Far longer than any key: anything larger is some other file.
MAX_BYTES = 4096

_HOW = "Run `sage key set` and paste the key, or `sage key set < FILE`."
_SET_ONE = "`sage key set` sets one."


@click.group(cls=OrderedGroup)
def key() -> None:
    """Set, check, show or remove the TwelveLabs key.

    The Marengo models need a key. SAGE stores it encrypted and never returns it.
    """


@key.command(
    name="set",
    # Any argument may be the key, even one that begins with a dash.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.option("--check", "check_only", is_flag=True, help="Only check the key with TwelveLabs; do not store it.")
@json_option
@session_options
def set_key(session: Session, arguments: tuple[str, ...], *, check_only: bool, as_json: bool) -> None:
    """Set the key, replacing the current one.

    Prompts for the key, or reads it from standard input: `sage key set < FILE`. It is first checked with TwelveLabs,
    and not stored if TwelveLabs rejects it.
    """
    text = _read_before_loop(session, arguments)

    async def run(client: Client) -> int:
        found = await client.set_api_key(text, validate_only=check_only)
        if check_only:
            return _report_check(session, found, as_json=as_json)
        terminal = session.terminal
        if as_json:
            terminal.print_json(message_document(found))
        elif not session.quiet:
            terminal.print(Text(f"The key {_shown(found)} is set."))
        if found.status != api_key_pb2.API_KEY_STATUS_VALID and not session.quiet:
            terminal.note("It could not be checked with TwelveLabs. `sage key check` tries again.")
        return SAME_EXIT_CODE

    session.run(run)


@key.command()
@json_option
@session_options
def check(session: Session, *, as_json: bool) -> None:
    """Check with TwelveLabs whether the key in use is valid.

    Exit code: 0 if it is, 2 if TwelveLabs rejects it or it could not be checked.
    """

    async def run(client: Client) -> int:
        found = await client.set_api_key("", validate_only=True)
        if not found.present:
            raise CommandError("There is no key to check.", next_step=_SET_ONE)
        return _report_check(session, found, as_json=as_json)

    session.run(run)


@key.command()
@json_option
@session_options
def show(session: Session, *, as_json: bool) -> None:
    """Show the key's last four characters, its status and its source."""

    async def run(client: Client) -> None:
        found = await client.get_api_key()
        terminal = session.terminal
        if as_json:
            terminal.print_json(message_document(found))
        elif not found.present:
            terminal.note(f"There is no key. {_SET_ONE}")
        else:
            print_table(terminal, _COLUMNS, [_row(found)])

    session.run(run)


@key.command()
@session_options
def remove(session: Session) -> None:
    """Remove the stored key, if there is one.

    Embeddings in progress that use it may fail.
    """

    async def run(client: Client) -> None:
        await client.delete_api_key()
        left = await client.get_api_key()
        if session.quiet:
            return
        session.terminal.print(Text("No key is stored."))
        if left.present:
            session.terminal.note(f"The server now uses {_shown(left)}, which it was started with.")

    session.run(run)


_STATUSES = {
    api_key_pb2.API_KEY_STATUS_UNSPECIFIED: "not checked",
    api_key_pb2.API_KEY_STATUS_VALID: "valid",
    api_key_pb2.API_KEY_STATUS_INVALID: "rejected",
    api_key_pb2.API_KEY_STATUS_UNKNOWN: "unknown",
}
_SOURCES = {
    api_key_pb2.API_KEY_SOURCE_STORED: "sage key set",
    api_key_pb2.API_KEY_SOURCE_ENVIRONMENT: "the server's environment",
}
_COLUMNS = (
    Column("key", style="cyan"),
    Column("status"),
    Column("checked", style="dim", keep=2),
    Column("source", keep=1),
    Column("provider", keep=0),
)


def _row(found: api_key_pb2.ApiKey) -> tuple[str, ...]:
    checked = date_and_time(found.check_time) if found.HasField("check_time") else "never"
    return (
        _shown(found),
        _STATUSES.get(found.status, "unknown"),
        checked,
        _SOURCES.get(found.source, "unknown"),
        printable(found.provider),
    )


def _shown(found: api_key_pb2.ApiKey) -> str:
    return f"…{printable(found.last_four)}"


def _report_check(session: Session, found: api_key_pb2.ApiKey, *, as_json: bool) -> int:
    """Print the result of a check and return the exit code."""
    if as_json:
        session.terminal.print_json(message_document(found))
    match found.status:
        case api_key_pb2.API_KEY_STATUS_VALID:
            if not as_json and not session.quiet:
                session.terminal.print(Text(f"The key {_shown(found)} is valid."))
            return SAME_EXIT_CODE
        case api_key_pb2.API_KEY_STATUS_INVALID:
            error = CommandError(
                f"TwelveLabs rejected the key {_shown(found)}.", next_step="`sage key set` replaces it."
            )
        case _:
            error = CommandError(
                f"The key {_shown(found)} could not be checked with TwelveLabs.",
                next_step="Wait a moment, then run the command again. The embed service's log has the reason.",
            )
    session.terminal.error(error)
    return TROUBLE_EXIT_CODE


def _read_before_loop(session: Session, arguments: tuple[str, ...]) -> str:
    """Return the key. Call it before the event loop starts, which would intercept Ctrl-C at the prompt."""
    try:
        return _read_key(arguments)
    except KeyboardInterrupt:
        session.terminal.note("")
        raise SystemExit(INTERRUPTED_EXIT_CODE) from None
    except CommandError as error:
        _fail(session, error)


def _fail(session: Session, error: CommandError) -> NoReturn:
    session.terminal.error(error)
    raise SystemExit(TROUBLE_EXIT_CODE) from None


def _read_key(arguments: tuple[str, ...]) -> str:
    """Return the key from a prompt or a pipe.

    Args:
        arguments: The command-line arguments, where a key is not accepted.

    Raises:
        CommandError: There is an argument, no input, or input that is not a key. The error never quotes it.
        KeyboardInterrupt: Ctrl-C at the prompt.
    """
    if arguments:
        raise CommandError(
            "A key is not accepted as an argument: everyone on this machine can see the arguments of commands, and the "
            "shell records them.",
            next_step=f"{_HOW} If that was the key, delete it from the shell's history.",
        )
    text = _prompt() if sys.stdin.isatty() else _read_stdin()
    if not text.strip():
        raise CommandError("No key was entered.", next_step=_HOW)
    return text


def _prompt() -> str:
    with warnings.catch_warnings():
        # It warns if it cannot hide the input, which it would then show.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(PROMPT)
        except EOFError:
            return ""
        except getpass.GetPassWarning:
            raise CommandError(
                "This terminal cannot hide the input.", next_step="Use a file: `sage key set < FILE`."
            ) from None


def _read_stdin() -> str:
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CommandError(f"Standard input is longer than {MAX_BYTES} bytes, so it is not a key.", next_step=_HOW)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CommandError("Standard input is not text, so it is not a key.", next_step=_HOW) from None
