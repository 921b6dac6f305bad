"""`sage diff` and `sage compare`: where two cuts differ."""

import asyncio

import click
import grpc
from sage.embed.v1 import embed_pb2

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError, reason_of
from sage_cli.commands.compare_options import CompareOptions, compare_options
from sage_cli.commands.options import (
    force_option,
    json_option,
    recipe_options,
    session_options,
    sided_video_track_option,
    upload_options,
)
from sage_cli.commands.session import DIFFER_EXIT_CODE, SAME_EXIT_CODE, Session
from sage_cli.commands.stills import print_stills, stills_option
from sage_cli.films.preparation import Preparation, Recipe, choose_recipe, find_completed, missing_tracks
from sage_cli.films.targets import EmbeddingTarget, FileTarget, Target, is_id, read_target
from sage_cli.films.uploads import UploadOptions
from sage_cli.show.comparison import DEFAULT_TRACK, Comparison, Film
from sage_cli.show.json_output import comparison_document
from sage_cli.show.progress import ProgressBoard
from sage_cli.show.readings import listed
from sage_cli.show.report import draw_report
from sage_cli.show.script.report import draw_script_report


@click.command()
@click.argument("old")
@click.argument("new")
@compare_options
@recipe_options
@force_option
@upload_options
@sided_video_track_option
@stills_option
@json_option
@session_options
def diff(
    session: Session,
    old: str,
    new: str,
    *,
    comparing: CompareOptions,
    model: str | None,
    clip_seconds: float | None,
    force: bool,
    uploads: UploadOptions,
    video_tracks: tuple[int | None, int | None],
    stills: str,
    as_json: bool,
) -> None:
    """Show where two cuts of a film differ.

    OLD and NEW are video files, or IDs of stored videos or embeddings. Files that SAGE does not have yet are uploaded
    and analysed; what exists is reused.

    The films are aligned to the frame, so that an inserted shot does not disturb what follows. The result is an edit
    script: what was inserted, deleted, moved and changed, and where in the picture.

    \b
    Examples:
      sage diff old.mp4 new.mp4
      sage diff old.mp4 new.mp4 --track visual
      sage diff old.mp4 new.mp4 --sensitivity high --ignore-region new:5%,4%,20%,6%
      sage diff old.mp4 new.mp4 --time --threshold 0.2

    The picture is compared, and the sound if both films have any; --track names what to compare instead. The report
    says what was not compared.

    Exit code: 0 if no compared track differs, 1 if any does, even if it is only the sound, or the files differ in their
    audio tracks (number, channels or language), 2 on errors. With --time, some models leave out an end that is shorter
    than a clip. If both films have such an end, it is reported as not compared and does not count as a difference.
    """  # noqa: D301 - click keeps the lines after \b as they are

    async def run(client: Client) -> int:
        targets = (read_target(old, video_track=video_tracks[0]), read_target(new, video_track=video_tracks[1]))
        preparation = Preparation(client, uploads, force=force)
        for target in targets:
            preparation.media_type(target)
        recipe = await _recipe(client, targets, comparing, model=model, clip_seconds=clip_seconds)
        prepare = preparation.film if comparing.aligned else preparation.embedding
        try:
            with ProgressBoard(session.terminal) as board:
                # A narrow line has room only for the last part of a path.
                lines = [board.line(name.rstrip("/").rpartition("/")[2]) for name in (old, new)]
                async with asyncio.TaskGroup() as group:
                    a, b = (
                        group.create_task(prepare(target, recipe, line))
                        for target, line in zip(targets, lines, strict=True)
                    )
        except asyncio.CancelledError:
            session.terminal.note(await preparation.interrupted())
            raise
        comparison = await _compare(
            session, client, (a.result(), b.result()), comparing, names=(old, new), as_json=as_json
        )
        if not as_json and not session.quiet:
            await print_stills(session.terminal, comparison, targets, choice=stills)
        return _exit_code(comparison)

    session.run(run)


@click.command()
@click.argument("a")
@click.argument("b")
@compare_options
@click.option(
    "--model", metavar="NAME", help="For videos: compare their embeddings of this model.  [default: the newest ones]"
)
@json_option
@session_options
def compare(session: Session, a: str, b: str, *, comparing: CompareOptions, model: str | None, as_json: bool) -> None:
    """Compare two existing embeddings.

    A and B are IDs of embeddings, or of videos that have been embedded. Nothing is uploaded or embedded; `sage diff`
    does that. Missing fingerprints are made, unless --time compares without them.

    Exit code: 0 if nothing differs, 1 if anything does, 2 on errors, as for `sage diff`.
    """

    async def run(client: Client) -> int:
        # If the films are aligned, their sound comes from the fingerprints.
        tracks = (DEFAULT_TRACK,) if comparing.aligned else comparing.track_names
        first = await _completed(client, read_target(a), tracks, recipe=None, model=model)
        second = await _completed(client, read_target(b), tracks, recipe=Recipe.of(first, tracks), model=model)
        if comparing.aligned:
            preparation = Preparation(client, UploadOptions())
            try:
                with ProgressBoard(session.terminal) as board:
                    async with asyncio.TaskGroup() as group:
                        for name, embedding in ((a, first), (b, second)):
                            group.create_task(preparation.fingerprint(embedding, board.line(name)))
            except asyncio.CancelledError:
                session.terminal.note(await preparation.interrupted())
                raise
        return _exit_code(await _compare(session, client, (first, second), comparing, names=(a, b), as_json=as_json))

    session.run(run)


async def _recipe(
    client: Client,
    targets: tuple[Target, Target],
    comparing: CompareOptions,
    *,
    model: str | None,
    clip_seconds: float | None,
) -> Recipe:
    """Return how to embed the videos: like the named embedding, if there is one.

    Raises:
        CommandError: That embedding contradicts the options, so nothing comparable could be embedded.
    """
    # If the films are aligned, their sound comes from the fingerprints.
    tracks = (DEFAULT_TRACK,) if comparing.aligned else comparing.track_names
    recipe: Recipe | None = None
    for target in targets:
        if not isinstance(target, EmbeddingTarget):
            continue
        given = await client.get_embedding(target.embedding_id)
        made_with = {"--model": (model, given.model), "--clip-seconds": (clip_seconds, given.clip_seconds)}
        for option, (requested, made) in made_with.items():
            if requested is not None and requested != made:
                raise CommandError(
                    f"{given.id} was made with {option} {_shown(made)}, not {_shown(requested)}.",
                    next_step=f"Omit {option}, or use the video instead: {given.video_id}.",
                )
        if missing := missing_tracks(given, tracks):
            raise CommandError(
                f"{given.id} was made without the track {missing[0]}.",
                next_step=f"Use the video instead, to embed it with that track: {given.video_id}.",
            )
        recipe = recipe or Recipe.of(given, tracks)
    return recipe or await choose_recipe(client, model=model, clip_seconds=clip_seconds, tracks=tracks)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


async def _completed(
    client: Client, target: Target, tracks: tuple[str, ...], *, recipe: Recipe | None, model: str | None
) -> embed_pb2.Embedding:
    """Return an embedding by its ID, or a completed embedding of a video with these tracks."""
    if isinstance(target, FileTarget):
        raise CommandError(
            f"{target.path} is a file, and `sage compare` accepts only IDs.", next_step="`sage diff` accepts files."
        )
    if isinstance(target, EmbeddingTarget):
        return await client.get_embedding(target.embedding_id)
    found = await find_completed(client, target.video_id, tracks, model=model or "", recipe=recipe)
    if found is None:
        of_model = f" of model {model}" if model else ""
        options = "".join(f" --track {track}" for track in tracks) if tracks != (DEFAULT_TRACK,) else ""
        with_tracks = f" with {listed(tracks)}" if options else ""
        raise CommandError(
            f"{target.video_id} has no completed embedding{of_model}{with_tracks}.",
            next_step=f"`sage embed {target.video_id}{f' --model {model}' if model else ''}{options}` makes one.",
        )
    return found


async def _compare(
    session: Session,
    client: Client,
    embeddings: tuple[embed_pb2.Embedding, embed_pb2.Embedding],
    comparing: CompareOptions,
    *,
    names: tuple[str, str],
    as_json: bool,
) -> Comparison:
    """Compare two embeddings, print the report, and return the comparison."""
    a, b = embeddings
    response = await client.compare(comparing.request(a, b))
    result = "script" if comparing.aligned else "time"
    if response.mode != comparing.mode or any(track.WhichOneof("result") != result for track in response.tracks):
        raise CommandError(
            "The server sent a kind of comparison that this command does not know.", next_step="Update sage."
        )
    comparison = Comparison(
        response=response,
        old=Film(await _label(client, names[0], a.video_id), response.a.media, comparing.from_zero),
        new=Film(await _label(client, names[1], b.video_id), response.b.media, comparing.from_zero),
        clip_seconds=a.clip_seconds,
    )
    out = session.terminal.out
    if as_json:
        session.terminal.print_json(comparison_document(comparison))
    elif not session.quiet:
        draw = draw_script_report if comparison.aligned else draw_report
        session.terminal.print(draw(comparison, width=out.width, ascii_only=not out.encoding.lower().startswith("utf")))
    return comparison


def _exit_code(comparison: Comparison) -> int:
    return DIFFER_EXIT_CODE if comparison.differ else SAME_EXIT_CODE


async def _label(client: Client, name: str, video_id: str) -> str:
    """Return the label of a film: the name that its video was uploaded under says more to people than an ID."""
    if not is_id(name):
        return name
    try:
        return (await client.get_video(video_id)).filename
    except grpc.RpcError as error:
        if reason_of(error) == "VIDEO_NOT_FOUND":
            return name  # Embeddings may outlive their videos.
        raise
