"""`sage diff` and `sage compare`: where two cuts differ."""

import asyncio

import click
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import embed_pb2

from sage_cli.client import Client
from sage_cli.commands.options import (
    Measure,
    json_option,
    measure_options,
    recipe_options,
    session_options,
    upload_options,
)
from sage_cli.comparison import DEFAULT_TRACK, read_comparison
from sage_cli.errors import Trouble
from sage_cli.json_output import comparison_document
from sage_cli.preparation import Preparation, Recipe, choose_recipe, find_video_of, missing_tracks
from sage_cli.progress import Line, ProgressBoard
from sage_cli.report import draw_report
from sage_cli.session import DIFFER_EXIT_CODE, SAME_EXIT_CODE, Session
from sage_cli.targets import EmbeddingTarget, FileTarget, Target, read_target
from sage_cli.uploads import Sending

_METRICS = {
    None: compare_pb2.METRIC_UNSPECIFIED,
    "cosine": compare_pb2.METRIC_COSINE,
    "euclidean": compare_pb2.METRIC_EUCLIDEAN,
}


@click.command()
@click.argument("old")
@click.argument("new")
@measure_options
@recipe_options
@upload_options
@json_option
@session_options
def diff(
    session: Session,
    old: str,
    new: str,
    *,
    measure: Measure,
    model: str | None,
    clip_seconds: float | None,
    sending: Sending,
    as_json: bool,
) -> None:
    """Show where two cuts of a film differ.

    OLD and NEW are video files, or ids of videos or embeddings. Files are uploaded and embedded where SAGE does not
    have them already. With --second-track two tracks are compared, and embedded where they are not yet.

    Exits with 0 where the two do not differ, 1 where any track does, 2 on trouble. Some models leave out an end that is
    shorter than a clip. Where both films have such an end it is reported as not compared, and does not count.
    """

    async def run(client: Client) -> int:
        targets = (read_target(old), read_target(new))
        preparation = Preparation(client, sending)
        for target in targets:
            preparation.media_type(target)
        recipe = await _recipe(client, targets, measure.tracks, model=model, clip_seconds=clip_seconds)
        try:
            with ProgressBoard(session.terminal) as board:
                lines = (board.line(_label(old)), board.line(_label(new)))
                a, b = await _embed_both(preparation, targets, recipe, lines)
        except asyncio.CancelledError:
            await _tidy_up(session, preparation)
            raise
        return await _compare(session, client, (a, b), measure, labels=(old, new), as_json=as_json)

    session.run(run)


@click.command()
@click.argument("a")
@click.argument("b")
@measure_options
@click.option("--model", metavar="NAME", help="For videos: which model's embeddings to compare. [default: the newest]")
@json_option
@session_options
def compare(
    session: Session,
    a: str,
    b: str,
    *,
    measure: Measure,
    model: str | None,
    as_json: bool,
) -> None:
    """Compare two embeddings that are there.

    A and B are ids of embeddings, or of videos that have been embedded. Nothing is uploaded or embedded; `sage diff`
    does that.

    Exits with 0 where the two do not differ, 1 where any track does, 2 on trouble, as `sage diff` does.
    """

    async def run(client: Client) -> int:
        first = await _completed(client, read_target(a), measure.tracks, like=None, model=model)
        second = await _completed(client, read_target(b), measure.tracks, like=first, model=model)
        return await _compare(session, client, (first, second), measure, labels=(a, b), as_json=as_json)

    session.run(run)


async def _recipe(
    client: Client,
    targets: tuple[Target, Target],
    tracks: tuple[str, ...],
    *,
    model: str | None,
    clip_seconds: float | None,
) -> Recipe:
    """Return how to embed what is not embedded: like the embedding that was named, where there is one.

    Raises:
        Trouble: That embedding was not made as it is asked for now: nothing that is embedded could be compared with it.
    """
    recipe: Recipe | None = None
    for target in targets:
        if not isinstance(target, EmbeddingTarget):
            continue
        given = await client.get_embedding(target.embedding_id)
        made_with = {"--model": (model, given.model), "--clip-seconds": (clip_seconds, given.clip_seconds)}
        for option, (asked_for, made) in made_with.items():
            if asked_for is not None and asked_for != made:
                raise Trouble(
                    f"{given.id} was made with {option} {made}, not {asked_for}.",
                    next_step=f"Leave {option} out, or name the video instead: {given.video_id}.",
                )
        if missing := missing_tracks(given, tracks):
            raise Trouble(
                f"{given.id} was not asked for the track {missing[0]}.",
                next_step=f"Name the video instead, and it is embedded with it: {given.video_id}.",
            )
        recipe = recipe or Recipe(given.model, given.model_revision, given.clip_seconds, tracks)
    return recipe or await choose_recipe(client, model=model, clip_seconds=clip_seconds, tracks=tracks)


async def _embed_both(
    preparation: Preparation, targets: tuple[Target, Target], recipe: Recipe, lines: tuple[Line, Line]
) -> tuple[embed_pb2.Embedding, embed_pb2.Embedding]:
    async with asyncio.TaskGroup() as group:
        first, second = (
            group.create_task(preparation.embedding(target, recipe, line))
            for target, line in zip(targets, lines, strict=True)
        )
    return first.result(), second.result()


async def _tidy_up(session: Session, preparation: Preparation) -> None:
    cancelled = await preparation.cancel_begun()
    what = {0: "", 1: " One embedding was cancelled."}.get(cancelled, f" {cancelled} embeddings were cancelled.")
    session.terminal.note(f"Interrupted.{what}")


async def _completed(
    client: Client, target: Target, tracks: tuple[str, ...], *, like: embed_pb2.Embedding | None, model: str | None
) -> embed_pb2.Embedding:
    """Return an embedding by its id, or a completed one of a video that was asked for these tracks.

    It is one that was made like `like` if possible, else the newest.
    """
    if isinstance(target, FileTarget):
        raise Trouble(
            f"{target.path} is a file, and `sage compare` takes ids.", next_step="`sage diff` takes files as well."
        )
    if isinstance(target, EmbeddingTarget):
        return await client.get_embedding(target.embedding_id)
    newest: embed_pb2.Embedding | None = None
    async for embedding in client.list_embeddings(
        video_id=target.video_id, model=model or "", state=embed_pb2.EMBEDDING_STATE_COMPLETED
    ):
        if missing_tracks(embedding, tracks):
            continue
        if like is None or Recipe(like.model, like.model_revision, like.clip_seconds, tracks).made(embedding):
            return embedding
        newest = newest or embedding
    if newest is None:
        of_model = f" of model {model}" if model else ""
        options = "".join(f" --track {track}" for track in tracks) if tracks != (DEFAULT_TRACK,) else ""
        with_tracks = f" with {' and '.join(tracks)}" if options else ""
        raise Trouble(
            f"{target.video_id} has no completed embedding{of_model}{with_tracks}.",
            next_step=f"`sage embed {target.video_id}{f' --model {model}' if model else ''}{options}` makes one.",
        )
    return newest


async def _compare(
    session: Session,
    client: Client,
    embeddings: tuple[embed_pb2.Embedding, embed_pb2.Embedding],
    measure: Measure,
    *,
    labels: tuple[str, str],
    as_json: bool,
) -> int:
    a, b = embeddings
    request = compare_pb2.CompareEmbeddingsRequest(
        embedding_id_a=a.id,
        embedding_id_b=b.id,
        metric=_METRICS[measure.metric],
        threshold=measure.threshold,
        track=measure.track,
        second_track=measure.second_track,
        second_threshold=measure.second_threshold,
    )
    response = await client.compare(request)
    videos = [await find_video_of(client, embedding.video_id) for embedding in embeddings]
    # Ids say little to people; the name that a video was uploaded under says more.
    old, new = (
        (video.filename if video and label.startswith(("video_", "embed_")) else label, video)
        for label, video in zip(labels, videos, strict=True)
    )
    comparison = read_comparison(response, old=old, new=new, clip_seconds=a.clip_seconds)
    out = session.terminal.out
    if as_json:
        session.terminal.say_json(comparison_document(response, comparison))
    elif not session.quiet:
        session.terminal.say(
            draw_report(comparison, width=out.width, ascii_only=not out.encoding.lower().startswith("utf"))
        )
    return DIFFER_EXIT_CODE if comparison.differ else SAME_EXIT_CODE


def _label(text: str) -> str:
    """Return the last part of a path, which is what a narrow line has room for."""
    return text.rstrip("/").rpartition("/")[2]
