"""`sage upload`, `videos`, `video`, `play` and `delete`: what is stored."""

import asyncio
from collections.abc import Iterator

import click
import grpc
from rich.text import Text
from sage.ingest.v1 import ingest_pb2, media_pb2

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError
from sage_cli.commands.options import json_option, limit_option, session_options, upload_options, video_track_option
from sage_cli.commands.session import SAME_EXIT_CODE, TROUBLE_EXIT_CODE, Session
from sage_cli.films.preparation import Preparation
from sage_cli.films.targets import is_id, read_file_target, read_video_id
from sage_cli.films.uploads import UploadOptions
from sage_cli.show.json_output import message_document
from sage_cli.show.progress import ProgressBoard, size
from sage_cli.show.remarks import picture_track
from sage_cli.show.tables import Column, print_table
from sage_cli.show.terminal import printable
from sage_cli.show.timecode import FrameRate, TimeNames, date_and_time, start_timecode

# More at once would share the same network and disk without a gain.
UPLOADS_IN_FLIGHT = 3
MAX_PLAY_MINUTES = 7 * 24 * 60


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@upload_options
@video_track_option
@json_option
@session_options
def upload(
    session: Session, files: tuple[str, ...], *, uploads: UploadOptions, video_track: int | None, as_json: bool
) -> None:
    """Upload video files and print their IDs.

    The IDs are in the order of the files. A file that SAGE already has, under any name, is not uploaded again.
    """

    async def run(client: Client) -> int:
        preparation = Preparation(client, uploads)
        slots = asyncio.Semaphore(UPLOADS_IN_FLIGHT)

        async def one(file: str, board: ProgressBoard) -> ingest_pb2.Video | CommandError:
            async with slots:
                try:
                    target = read_file_target(file, video_track=video_track)
                    preparation.media_type(target)
                    line = board.line(target.path.name)
                    video = await preparation.video(target, line)
                except (CommandError, grpc.RpcError) as error:
                    return session.explain(error)
                if track := picture_track(video.media):
                    line.note(f"the film is {track}; --video-track chooses another.")
                return video

        with ProgressBoard(session.terminal) as board:
            results = await asyncio.gather(*(one(file, board) for file in files))
        videos = [result for result in results if isinstance(result, ingest_pb2.Video)]
        if as_json:
            session.terminal.print_json({"videos": [message_document(video) for video in videos]})
        else:
            # People need the names next to the IDs; `sage embed $(sage upload film.mp4)` needs the IDs alone.
            named = session.terminal.out.is_terminal
            for video in videos:
                session.terminal.print(Text(f"{video.id}  {printable(video.filename)}" if named else video.id))
        for result in results:
            if isinstance(result, CommandError):
                session.terminal.error(result)
        return SAME_EXIT_CODE if len(videos) == len(files) else TROUBLE_EXIT_CODE

    session.run(run)


@click.command()
@click.option("--name", default="", metavar="TEXT", help="Only videos whose name contains TEXT, ignoring case.")
@limit_option
@json_option
@session_options
def videos(session: Session, *, name: str, limit: int, as_json: bool) -> None:
    """List the stored videos, newest first."""

    async def run(client: Client) -> None:
        found = await client.list_videos(filename_contains=name, limit=limit)
        terminal = session.terminal
        if as_json:
            terminal.print_json({"videos": [message_document(video) for video in found]})
        elif not found:
            none = f"No video's name contains {name}." if name else "There are no videos yet."
            terminal.note(f"{none} `sage upload FILE` adds one.")
        else:
            print_table(terminal, _COLUMNS, [_row(video) for video in found])

    session.run(run)


@click.command()
@click.argument("video")
@json_option
@session_options
def video(session: Session, video: str, *, as_json: bool) -> None:
    """Show the details of one video.

    Size, checksum, length, start timecode, picture and sound. VIDEO is the ID of a video.
    """

    async def run(client: Client) -> None:
        found = await client.get_video(read_video_id(video))
        if as_json:
            session.terminal.print_json(message_document(found))
            return
        for name, value in _facts(found):
            session.terminal.print(Text.assemble((f"{name:<9} ", "dim"), printable(value)))

    session.run(run)


@click.command()
@click.argument("video")
@click.option(
    "--minutes",
    type=click.IntRange(1, MAX_PLAY_MINUTES),
    metavar="N",
    default=60,
    show_default=True,
    help="Minutes for which the URL is valid.",
)
@session_options
def play(session: Session, video: str, *, minutes: int) -> None:
    """Print a URL that plays a video: `mpv $(sage play ID)`.

    VIDEO is the ID of a video. Anyone who has the URL can watch the video until it expires.
    """

    async def run(client: Client) -> None:
        url = await client.get_playback_url(read_video_id(video), validity_s=minutes * 60)
        session.terminal.print(Text(url))

    session.run(run)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@session_options
def delete(session: Session, ids: tuple[str, ...]) -> None:
    """Delete videos and embeddings by their IDs.

    The embeddings of a deleted video are kept and can still be compared.
    """

    async def run(client: Client) -> None:
        # All IDs are read before anything is deleted, so that a typo in the last one costs nothing.
        for text in ids:
            if not is_id(text):
                raise CommandError(
                    f"{text} is not an ID. `sage delete` never deletes files.",
                    next_step="`sage videos` and `sage embeddings` list the IDs.",
                )
        for text in ids:
            await (client.delete_video(text) if text.startswith("video_") else client.delete_embedding(text))
            if not session.quiet:
                session.terminal.print(Text(f"Deleted {text}."))

    session.run(run)


_COLUMNS = (
    Column("id", style="cyan"),
    Column("name", elastic=True),
    Column("length", right=True, keep=4),
    Column("picture", keep=2),
    Column("sound", keep=1),
    Column("size", right=True, keep=3),
    Column("uploaded", style="dim", keep=0),
)


def _row(video: ingest_pb2.Video) -> tuple[str, ...]:
    media = video.media
    return (
        video.id,
        printable(video.filename),
        TimeNames.read(media).length(media.duration_seconds),
        _picture(media),
        ", ".join(_sound(track) for track in media.audio_tracks) or "none",
        size(video.size_bytes),
        _uploaded(video),
    )


def _facts(video: ingest_pb2.Video) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each fact about a video that is known."""
    media = video.media
    yield "id", video.id
    yield "name", video.filename
    yield "type", f"{video.content_type}, {size(video.size_bytes)}"
    yield "sha256", video.sha256
    yield "uploaded", _uploaded(video)
    yield "length", TimeNames.read(media).length(media.duration_seconds)
    if start := start_timecode(media):
        yield "starts at", start
    yield "picture", ", ".join([_picture(media), *_picture_details(media)])
    if media.HasField("color"):
        yield "colour", " ".join(filter(None, (media.color.primaries, media.color.transfer, media.color.matrix)))
    for track in media.audio_tracks:
        yield "sound", _sound(track, details=True)
    if not media.audio_tracks:
        yield "sound", "none"


def _picture(media: media_pb2.Media) -> str:
    rate = FrameRate.read(media)
    return " ".join(f"{media.display_width}×{media.display_height} {rate or ''} {media.video_codec}".split())


def _picture_details(media: media_pb2.Media) -> Iterator[str]:
    if (media.width, media.height) != (media.display_width, media.display_height):
        yield f"stored as {media.width}×{media.height}"
    if track := picture_track(media):
        yield track
    if media.frame_rate_mode == media_pb2.FRAME_RATE_MODE_VARIABLE:
        yield "variable frame rate"
    if media.field_order in {media_pb2.FIELD_ORDER_TOP_FIRST, media_pb2.FIELD_ORDER_BOTTOM_FIRST}:
        yield "interlaced"


def _sound(track: media_pb2.AudioTrack, *, details: bool = False) -> str:
    channels = track.layout or f"{track.channels} channels"
    rate = f"{track.sample_rate / 1000:g} kHz" if details and track.sample_rate else ""
    return " ".join(filter(None, (track.codec, channels, rate, track.language)))


def _uploaded(video: ingest_pb2.Video) -> str:
    return date_and_time(video.create_time)
