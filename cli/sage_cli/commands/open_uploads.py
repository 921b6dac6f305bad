"""`sage uploads`: the uploads that have begun and are not finished."""

import re
import sys

import click
import grpc
from rich.text import Text
from sage.ingest.v1 import ingest_pb2

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError, reason_of
from sage_cli.commands.options import OrderedGroup, json_option, limit_option, session_options
from sage_cli.commands.session import INTERRUPTED_EXIT_CODE, TROUBLE_EXIT_CODE, Session
from sage_cli.show.json_output import message_document
from sage_cli.show.progress import size_of
from sage_cli.show.tables import Column, print_table
from sage_cli.show.terminal import printable
from sage_cli.show.timecode import date_and_time

_ID = re.compile(r"upload_[0-9a-f]{32}")
# Far more than a server accepts by default.
_ALL = 1_000_000


@click.group(cls=OrderedGroup, invoke_without_command=True)
@limit_option
@json_option
@session_options
def uploads(session: Session, *, limit: int, as_json: bool) -> None:
    """List or drop uploads that are not finished.

    Lists uploads in parts, newest first. Their parts take room on the server until they are completed, dropped or
    expire. Small files are not uploaded in parts, and leave nothing behind.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        context.obj = session.address
        return

    async def run(client: Client) -> None:
        found = await client.list_uploads(limit=limit)
        terminal = session.terminal
        if as_json:
            terminal.print_json({"uploads": [message_document(upload) for upload in found]})
        elif not found:
            terminal.note("There are no open uploads.")
        else:
            print_table(terminal, _COLUMNS, [_row(upload) for upload in found])

    session.run(run)


@uploads.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "drop_all", is_flag=True, help="Drop every open upload, also those of other people.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before --all.")
@session_options
def drop(session: Session, ids: tuple[str, ...], *, drop_all: bool, yes: bool) -> None:
    """Drop uploads and the parts that have arrived.

    A command that is still uploading such a file starts again from the beginning.
    """
    if bool(ids) == drop_all:
        raise click.UsageError("Name the uploads to drop, or use --all.")
    if drop_all and not yes:
        _confirm(session)

    async def run(client: Client) -> None:
        # All IDs are read before anything is dropped, so that a typo in the last one costs nothing.
        for text in ids:
            if not _ID.fullmatch(text):
                raise CommandError(
                    f"{text} is not the ID of an upload.", next_step="`sage uploads` lists the open uploads."
                )
        chosen = ids or tuple(upload.id for upload in await client.list_uploads(limit=_ALL))
        for upload_id in chosen:
            try:
                await client.abort_upload(upload_id)
            except grpc.RpcError as error:
                # It has ended since it was listed.
                if drop_all and reason_of(error) in {"UPLOAD_CLOSED", "UPLOAD_NOT_FOUND"}:
                    continue
                raise
            if not session.quiet:
                session.terminal.print(Text(f"Dropped {upload_id}."))
        if not chosen:
            session.terminal.note("There are no open uploads.")

    session.run(run)


def _confirm(session: Session) -> None:
    """Ask whether to drop everything. Call it before the event loop starts, which would intercept Ctrl-C."""
    if not sys.stdin.isatty():
        session.terminal.error(
            CommandError("--all drops every open upload, also those of other people.", next_step="Confirm with --yes.")
        )
        raise SystemExit(TROUBLE_EXIT_CODE)
    try:
        confirmed = click.confirm("Drop every open upload, also those of other people?", err=True)
    except click.Abort:
        session.terminal.note("")
        raise SystemExit(INTERRUPTED_EXIT_CODE) from None
    if not confirmed:
        session.terminal.note("Nothing was dropped.")
        raise SystemExit(TROUBLE_EXIT_CODE)


_COLUMNS = (
    Column("id", style="cyan"),
    Column("name", elastic=True),
    Column("received", right=True, keep=4),
    Column("begun", style="dim", keep=1),
    Column("last part", style="dim", keep=2),
    Column("expires", style="dim", keep=0),
)


def _row(upload: ingest_pb2.Upload) -> tuple[str, ...]:
    return (
        upload.id,
        printable(upload.spec.filename),
        size_of(upload.received_bytes, upload.spec.size_bytes),
        date_and_time(upload.create_time),
        date_and_time(upload.active_time) if upload.received_bytes else "none",
        date_and_time(upload.expire_time),
    )
