"""`sage embed`, `sage watch`, `sage cancel`, `sage embeddings`, `sage models`: vectors and the work on them."""

import asyncio
import json

import click
from rich.text import Text
from sage.embed.v1 import embed_pb2

from sage_cli.client import Client
from sage_cli.commands.options import json_option, limit_option, recipe_options, session_options, upload_options
from sage_cli.comparison import DEFAULT_TRACK
from sage_cli.errors import Trouble
from sage_cli.json_output import message_document
from sage_cli.preparation import Preparation, choose_recipe
from sage_cli.progress import ProgressBoard
from sage_cli.session import SAME_EXIT_CODE, TROUBLE_EXIT_CODE, Session
from sage_cli.tables import Column, say_table
from sage_cli.targets import EmbeddingTarget, VideoTarget, read_target
from sage_cli.terminal import printable
from sage_cli.uploads import Sending
from sage_cli.watching import watch as watch_embedding

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
    show_default=True,
    metavar="NAME",
    help="Track to make, as the model has them; may be given several times.",
)
@click.option("--no-wait", is_flag=True, help="Print the id at once; `sage watch ID` follows the work.")
@upload_options
@json_option
@session_options
def embed(
    session: Session,
    video: str,
    *,
    model: str | None,
    clip_seconds: float | None,
    tracks: tuple[str, ...],
    no_wait: bool,
    sending: Sending,
    as_json: bool,
) -> None:
    """Embed a video and print the id of the embedding.

    VIDEO is a file or the id of a video. Where there is such an embedding already, it is that one.
    """

    async def run(client: Client) -> None:
        target = read_target(video)
        if isinstance(target, EmbeddingTarget):
            raise Trouble(f"{video} is an embedding already.", next_step="`sage watch` follows it.")
        preparation = Preparation(client, sending)
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
            cancelled = await preparation.cancel_begun()
            session.terminal.note("Interrupted. The embedding was cancelled." if cancelled else "Interrupted.")
            raise
        if as_json:
            session.terminal.say_json(message_document(embedding))
        else:
            session.terminal.say(Text(embedding.id))

    session.run(run)


@click.command()
@click.argument("embedding")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each change.")
@session_options
def watch(session: Session, embedding: str, *, as_json: bool) -> None:
    """Follow an embedding to its end.

    Exits with 0 where it completed, 2 where it failed or was cancelled. Ctrl-C stops the watching, not the work.
    """

    async def run(client: Client) -> int:
        embedding_id = _embedding_id(embedding)
        terminal = session.terminal
        bar = terminal.show_progress and not as_json
        state = embed_pb2.EMBEDDING_STATE_UNSPECIFIED
        try:
            with ProgressBoard(terminal) as board:
                line = board.line("embedding")
                line.begin_work("watching")
                async for now in watch_embedding(client, embedding_id):
                    state = now.state
                    if as_json:
                        terminal.out.file.write(json.dumps(message_document(now), ensure_ascii=False) + "\n")
                        terminal.out.file.flush()
                    elif bar:
                        line.report(now.progress.fraction, now.progress.message)
                    elif not session.quiet:
                        terminal.say(_change(now))
                    last = now
        except asyncio.CancelledError:
            terminal.note(f"The work goes on. `sage watch {embedding_id}` follows it again.")
            raise
        if bar:
            terminal.say(_change(last))
        return SAME_EXIT_CODE if state == embed_pb2.EMBEDDING_STATE_COMPLETED else TROUBLE_EXIT_CODE

    session.run(run)


@click.command()
@click.argument("embeddings", nargs=-1, required=True, metavar="EMBEDDING...")
@session_options
def cancel(session: Session, embeddings: tuple[str, ...]) -> None:
    """Cancel embeddings that are under way."""

    async def run(client: Client) -> None:
        for embedding_id in [_embedding_id(text) for text in embeddings]:
            await client.cancel_embedding(embedding_id)
            if not session.quiet:
                session.terminal.say(Text(f"{embedding_id} is cancelled"))

    session.run(run)


@click.command(name="embeddings")
@click.option("--video", default="", metavar="ID", help="Only those of this video.")
@click.option("--state", type=click.Choice(list(_STATES)), help="Only those in this state.")
@click.option("--model", default="", metavar="NAME", help="Only those of this model.")
@limit_option
@json_option
@session_options
def list_embeddings(session: Session, *, video: str, state: str | None, model: str, limit: int, as_json: bool) -> None:
    """List the embeddings that SAGE has, newest first."""

    async def run(client: Client) -> None:
        wanted = _STATES[state] if state else embed_pb2.EMBEDDING_STATE_UNSPECIFIED
        found = []
        async for embedding in client.list_embeddings(video_id=_video_id(video), model=model, state=wanted):
            found.append(embedding)
            if len(found) == limit:
                break
        terminal = session.terminal
        if as_json:
            terminal.say_json({"embeddings": [message_document(embedding) for embedding in found]})
        elif not found:
            terminal.note("There are no such embeddings. `sage embed VIDEO` makes one.")
        else:
            say_table(terminal, _EMBEDDING_COLUMNS, [_embedding_row(one) for one in found])

    session.run(run)


@click.command()
@json_option
@session_options
def models(session: Session, *, as_json: bool) -> None:
    """List the models that can embed, the best usable one first."""

    async def run(client: Client) -> None:
        found = await client.list_models()
        terminal = session.terminal
        if as_json:
            terminal.say_json({"models": [message_document(model) for model in found]})
            return
        say_table(terminal, _MODEL_COLUMNS, [_model_row(model) for model in found])

    session.run(run)


_EMBEDDING_COLUMNS = (
    Column("id", style="cyan"),
    Column("state"),
    Column("done", right=True, keep=4),
    Column("model", keep=3),
    Column("clips", right=True, keep=2),
    Column("video", style="dim", keep=0),
    Column("created", style="dim", keep=1),
)

_MODEL_COLUMNS = (
    Column("name", style="cyan"),
    Column("usable", elastic=True),
    Column("numbers", right=True, keep=2),
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
        embedding.video_id,
        embedding.create_time.ToDatetime().strftime("%Y-%m-%d %H:%MZ"),
    )


def _model_row(model: embed_pb2.Model) -> tuple[str, ...]:
    return (
        model.name,
        "yes" if model.usable else f"no: {printable(model.unusable_reason)}",
        str(model.dimensions),
        f"{model.min_clip_seconds:g} to {model.max_clip_seconds:g} s",
        ", ".join(model.tracks),
        model.provider,
    )


def _change(embedding: embed_pb2.Embedding) -> Text:
    sentence = embedding.failure.message or embedding.progress.message
    return Text(f"{_state(embedding):<10}  {embedding.progress.fraction:>4.0%}  {printable(sentence)}".rstrip())


def _state(embedding: embed_pb2.Embedding) -> str:
    return _STATE_NAMES.get(embedding.state, "unknown")


def _embedding_id(text: str) -> str:
    target = read_target(text)
    if not isinstance(target, EmbeddingTarget):
        raise Trouble(f"{text} is not the id of an embedding.", next_step="`sage embeddings` lists them.")
    return target.embedding_id


def _video_id(text: str) -> str:
    if not text:
        return ""
    target = read_target(text)
    if not isinstance(target, VideoTarget):
        raise Trouble(f"{text} is not the id of a video.", next_step="`sage videos` lists them.")
    return target.video_id
