"""`sage key`: the key for TwelveLabs. It goes in and never comes out."""

from typing import NoReturn

import click
from rich.text import Text
from sage.embed.v1 import api_key_pb2

from sage_cli.client import Client
from sage_cli.commands.options import OrderedGroup, json_option, session_options
from sage_cli.errors import Trouble
from sage_cli.json_output import message_document
from sage_cli.key_input import read_key
from sage_cli.session import INTERRUPTED_EXIT_CODE, SAME_EXIT_CODE, TROUBLE_EXIT_CODE, Session
from sage_cli.tables import Column, say_table
from sage_cli.terminal import printable

_SET_ONE = "`sage key set` sets one."


@click.group(cls=OrderedGroup)
def key() -> None:
    """Set, show and remove the key for TwelveLabs, which its models want.

    SAGE keeps the key encrypted and never answers it.
    """


@key.command(
    name="set",
    # Whatever is given as an argument may be the key, also what begins with a dash.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.option("--check", "check_only", is_flag=True, help="Only ask TwelveLabs whether it takes the key.")
@json_option
@session_options
def set_key(session: Session, arguments: tuple[str, ...], *, check_only: bool, as_json: bool) -> None:
    """Set the key, in place of the one before.

    The key is asked for, or read from standard input: `sage key set < FILE`. It is checked with TwelveLabs first; one
    that TwelveLabs refuses is not stored.
    """
    text = _read(session, arguments)

    async def run(client: Client) -> int:
        found = await client.set_api_key(text, validate_only=check_only)
        if check_only:
            return _report_check(session, found, as_json=as_json)
        terminal = session.terminal
        if as_json:
            terminal.say_json(message_document(found))
        elif not session.quiet:
            terminal.say(Text(f"The key {_shown(found)} is set."))
        if found.status != api_key_pb2.API_KEY_STATUS_VALID and not session.quiet:
            terminal.note("TwelveLabs could not be asked about it. `sage key check` asks again.")
        return SAME_EXIT_CODE

    session.run(run)


@key.command()
@json_option
@session_options
def check(session: Session, *, as_json: bool) -> None:
    """Ask TwelveLabs whether it takes the key that is in use.

    Exits with 0 where it does, 2 where it refuses the key or does not tell.
    """

    async def run(client: Client) -> int:
        found = await client.set_api_key("", validate_only=True)
        if not found.present:
            raise Trouble("There is no key to check.", next_step=_SET_ONE)
        return _report_check(session, found, as_json=as_json)

    session.run(run)


@key.command()
@json_option
@session_options
def show(session: Session, *, as_json: bool) -> None:
    """Show what is known of the key, which is not the key itself."""

    async def run(client: Client) -> None:
        found = await client.get_api_key()
        terminal = session.terminal
        if as_json:
            terminal.say_json(message_document(found))
        elif not found.present:
            terminal.note(f"There is no key. {_SET_ONE}")
        else:
            say_table(terminal, _COLUMNS, [_row(found)])

    session.run(run)


@key.command()
@session_options
def remove(session: Session) -> None:
    """Remove the key that was set, where there is one.

    Work that was begun with it may fail.
    """

    async def run(client: Client) -> None:
        await client.delete_api_key()
        left = await client.get_api_key()
        if session.quiet:
            return
        session.terminal.say(Text("No key is stored."))
        if left.present:
            session.terminal.note(f"The server goes on with {_shown(left)}, which it was started with.")

    session.run(run)


_STATUSES = {
    api_key_pb2.API_KEY_STATUS_UNSPECIFIED: "not checked",
    api_key_pb2.API_KEY_STATUS_VALID: "valid",
    api_key_pb2.API_KEY_STATUS_INVALID: "refused",
    api_key_pb2.API_KEY_STATUS_UNKNOWN: "not known",
}
_SOURCES = {
    api_key_pb2.API_KEY_SOURCE_STORED: "sage key set",
    api_key_pb2.API_KEY_SOURCE_ENVIRONMENT: "the server's environment",
}
_COLUMNS = (
    Column("key", style="cyan"),
    Column("status"),
    Column("checked", style="dim", keep=2),
    Column("set by", keep=1),
    Column("provider", keep=0),
)


def _row(found: api_key_pb2.ApiKey) -> tuple[str, ...]:
    checked = found.check_time.ToDatetime().strftime("%Y-%m-%d %H:%MZ") if found.HasField("check_time") else "never"
    return (
        _shown(found),
        _STATUSES.get(found.status, "not known"),
        checked,
        _SOURCES.get(found.source, "not known"),
        printable(found.provider),
    )


def _shown(found: api_key_pb2.ApiKey) -> str:
    return f"…{printable(found.last_four)}"


def _report_check(session: Session, found: api_key_pb2.ApiKey, *, as_json: bool) -> int:
    """Tell what came of a check and return the exit code."""
    if as_json:
        session.terminal.say_json(message_document(found))
    match found.status:
        case api_key_pb2.API_KEY_STATUS_VALID:
            if not as_json and not session.quiet:
                session.terminal.say(Text(f"TwelveLabs takes the key {_shown(found)}."))
            return SAME_EXIT_CODE
        case api_key_pb2.API_KEY_STATUS_INVALID:
            trouble = Trouble(f"TwelveLabs refuses the key {_shown(found)}.", next_step="`sage key set` sets another.")
        case _:
            trouble = Trouble(
                f"TwelveLabs could not be asked about the key {_shown(found)}.",
                next_step="Wait a moment and run the command again. The log of embed says what was in the way.",
            )
    session.terminal.complain(trouble)
    return TROUBLE_EXIT_CODE


def _read(session: Session, arguments: tuple[str, ...]) -> str:
    """Return the key, before there is a loop: one would keep Ctrl-C from the prompt."""
    try:
        return read_key(arguments)
    except KeyboardInterrupt:
        session.terminal.note("")
        raise SystemExit(INTERRUPTED_EXIT_CODE) from None
    except Trouble as trouble:
        _end(session, trouble)


def _end(session: Session, trouble: Trouble) -> NoReturn:
    session.terminal.complain(trouble)
    raise SystemExit(TROUBLE_EXIT_CODE) from None
