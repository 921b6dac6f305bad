"""`sage embed`, `watch`, `cancel`, `embeddings` and `models`: embeddings and the work on them."""

import asyncio

import click
from rich.text import Text
from sage.embed.v1 import embed_pb2

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError, in_commands, next_step_for
from sage_cli.commands.options import (
    force_option,
    json_option,
    limit_option,
    recipe_options,
    session_options,
    upload_options,
    video_track_option,
)
from sage_cli.commands.session import SAME_EXIT_CODE, TROUBLE_EXIT_CODE, Session
from sage_cli.films.preparation import Preparation, choose_recipe
from sage_cli.films.targets import EmbeddingTarget, read_embedding_id, read_target, read_video_id
from sage_cli.films.uploads import UploadOptions
from sage_cli.films.watching import watch as watch_embedding
from sage_cli.show.comparison import DEFAULT_TRACK
from sage_cli.show.json_output import message_document
from sage_cli.show.progress import ProgressBoard
from sage_cli.show.tables import Column, print_table
from sage_cli.show.terminal import printable
from sage_cli.show.timecode import date_and_time

_STATES = {
    name.removeprefix("EMBEDDING_STATE_").lower(): value
    for name, value in embed_pb2.EmbeddingState.items()
    if value != embed_pb2.EMBEDDING_STATE_UNSPECIFIED
}
_STATE_NAMES = {value: name for name, value in _STATES.items()}


@click.command()
@click.argument("video")
@recipe_options
@click.option(
    "--track",
    "tracks",
    multiple=True,
    default=(DEFAULT_TRACK,),
    metavar="NAME",
    help=f"Track to make; `sage models` lists those of each model. May be repeated.  [default: {DEFAULT_TRACK}]",
)
@force_option
@click.option("--no-wait", is_flag=True, help="Print the ID at once and exit; `sage watch ID` shows the progress.")
@upload_options
@video_track_option
@json_option
@session_options
def embed(
    session: Session,
    video: str,
    *,
    model: str | None,
    clip_seconds: float | None,
    tracks: tuple[str, ...],
    force: bool,
    no_wait: bool,
    uploads: UploadOptions,
    video_track: int | None,
    as_json: bool,
) -> None:
    """Embed a video and print the ID of the embedding.

    VIDEO is a file or the ID of a video. An existing embedding with the same model, clip length and tracks is reused,
    even while it is in progress.
    """

    async def run(client: Client) -> None:
        target = read_target(video, video_track=video_track)
        if isinstance(target, EmbeddingTarget):
            raise CommandError(f"{video} is already an embedding.", next_step="`sage watch` follows it.")
        preparation = Preparation(client, uploads, force=force)
        preparation.media_type(target)
        recipe = await choose_recipe(client, model=model, clip_seconds=clip_seconds, tracks=tracks)
        try:
            with ProgressBoard(session.terminal) as board:
                line = board.line(video.rpartition("/")[2])
                if no_wait:
                    embedding = await preparation.begin(await preparation.video(target, line), recipe)
                else:
                    embedding = await preparation.embedding(target, recipe, line)
        except asyncio.CancelledError:
            session.terminal.note(await preparation.interrupted())
            raise
        if as_json:
            session.terminal.print_json(message_document(embedding))
        else:
            session.terminal.print(Text(embedding.id))

    session.run(run)


@click.command()
@click.argument("embedding")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per change.")
@session_options
def watch(session: Session, embedding: str, *, as_json: bool) -> None:
    """Watch an embedding until it finishes.

    EMBEDDING is the ID of an embedding. Ctrl-C stops watching; the work continues.

    Exit code: 0 if it completed, 2 if it failed or was cancelled.
    """

    async def run(client: Client) -> int:
        embedding_id = read_embedding_id(embedding)
        terminal = session.terminal
        bar = terminal.show_progress and not as_json
        now = embed_pb2.Embedding()
        try:
            with ProgressBoard(terminal, shown=bar) as board:
                line = board.line("embedding")
                line.begin_work("watching")
                async for now in watch_embedding(client, embedding_id):
                    if as_json:
                        terminal.print_json(message_document(now), indent=None)
                    elif bar:
                        line.report(now.progress.fraction, now.progress.message)
                    elif not session.quiet:
                        terminal.print(_change(now))
        except asyncio.CancelledError:
            terminal.note(f"The work continues. `sage watch {embedding_id}` follows it again.")
            raise
        if bar:
            terminal.print(_change(now))
        return SAME_EXIT_CODE if now.state == embed_pb2.EMBEDDING_STATE_COMPLETED else TROUBLE_EXIT_CODE

    session.run(run)


@click.command()
@click.argument("embeddings", nargs=-1, required=True, metavar="EMBEDDING...")
@session_options
def cancel(session: Session, embeddings: tuple[str, ...]) -> None:
    """Cancel embeddings that are in progress, by their IDs.

    They are cancelled for everyone who waits for them.
    """

    async def run(client: Client) -> None:
        for embedding_id in [read_embedding_id(text) for text in embeddings]:
            await client.cancel_embedding(embedding_id)
            if not session.quiet:
                session.terminal.print(Text(f"Cancelled {embedding_id}."))

    session.run(run)


@click.command(name="embeddings")
@click.option("--video", default="", metavar="ID", help="Only embeddings of this video.")
@click.option("--state", type=click.Choice(list(_STATES)), help="Only embeddings in this state.")
@click.option("--model", default="", metavar="NAME", help="Only embeddings of this model.")
@limit_option
@json_option
@session_options
def list_embeddings(session: Session, *, video: str, state: str | None, model: str, limit: int, as_json: bool) -> None:
    """List the stored embeddings, newest first."""

    async def run(client: Client) -> None:
        video_id = read_video_id(video) if video else ""
        chosen = _STATES[state] if state else embed_pb2.EMBEDDING_STATE_UNSPECIFIED
        found = []
        async for embedding in client.list_embeddings(video_id=video_id, model=model, state=chosen):
            found.append(embedding)
            if len(found) == limit:
                break
        terminal = session.terminal
        if as_json:
            terminal.print_json({"embeddings": [message_document(embedding) for embedding in found]})
        elif not found:
            filtered = video_id or model or state
            none = "No embedding matches." if filtered else "There are no embeddings yet."
            terminal.note(f"{none} `sage embed VIDEO` makes one.")
        else:
            print_table(terminal, _EMBEDDING_COLUMNS, [_embedding_row(one) for one in found])

    session.run(run)


@click.command()
@json_option
@session_options
def models(session: Session, *, as_json: bool) -> None:
    """List the models, the best usable one first."""

    async def run(client: Client) -> None:
        found = await client.list_models()
        terminal = session.terminal
        if as_json:
            terminal.print_json({"models": [message_document(model) for model in found]})
            return
        print_table(terminal, _MODEL_COLUMNS, [_model_row(model) for model in found])

    session.run(run)


_EMBEDDING_COLUMNS = (
    Column("id", style="cyan"),
    Column("state"),
    Column("done", right=True, keep=4),
    Column("model", keep=3),
    Column("clips", right=True, keep=2),
    Column("tracks", keep=1),
    Column("video", style="dim", keep=0),
    Column("created", style="dim", keep=1),
)

_MODEL_COLUMNS = (
    Column("name", style="cyan"),
    Column("usable", elastic=True),
    Column("dimensions", right=True, keep=2),
    Column("clips", keep=3),
    Column("tracks", keep=1),
    Column("provider", keep=0),
)


def _embedding_row(embedding: embed_pb2.Embedding) -> tuple[str, ...]:
    return (
        embedding.id,
        _state(embedding),
        f"{embedding.progress.fraction:.0%}",
        embedding.model,
        f"{embedding.clip_seconds:g} s",
        ", ".join(embedding.requested_tracks),
        embedding.video_id,
        date_and_time(embedding.create_time),
    )


def _model_row(model: embed_pb2.Model) -> tuple[str, ...]:
    return (
        model.name,
        "yes" if model.usable else f"no: {printable(in_commands(model.unusable_reason))}",
        str(model.dimensions),
        f"{model.min_clip_seconds:g} to {model.max_clip_seconds:g} s",
        ", ".join(model.tracks),
        model.provider,
    )


def _change(embedding: embed_pb2.Embedding) -> Text:
    failure = in_commands(embedding.failure.message, next_step=next_step_for(embedding.failure.reason))
    message = printable(failure or in_commands(embedding.progress.message))
    return Text(f"{_state(embedding):<10}  {embedding.progress.fraction:>4.0%}  {message}".rstrip())


def _state(embedding: embed_pb2.Embedding) -> str:
    return _STATE_NAMES.get(embedding.state, "unknown")
