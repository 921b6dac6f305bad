"""`sage upload`, `sage videos`, `sage play`: what is stored."""

import asyncio

import click
import grpc
from rich.text import Text
from sage.ingest.v1 import ingest_pb2

from sage_cli.client import Client
from sage_cli.commands.options import json_option, limit_option, session_options, upload_options
from sage_cli.comparison import read_frame_rate
from sage_cli.errors import Trouble
from sage_cli.json_output import message_document
from sage_cli.preparation import Preparation
from sage_cli.progress import ProgressBoard, size
from sage_cli.session import SAME_EXIT_CODE, TROUBLE_EXIT_CODE, Session
from sage_cli.tables import Column, say_table
from sage_cli.targets import VideoTarget, read_file_target, read_target
from sage_cli.terminal import printable
from sage_cli.timecode import clock, timecode
from sage_cli.uploads import Sending

# More at once would share one network and one disk, and gain nothing.
UPLOADS_AT_ONCE = 3
MAX_PLAY_MINUTES = 7 * 24 * 60


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@upload_options
@json_option
@session_options
def upload(session: Session, files: tuple[str, ...], *, sending: Sending, as_json: bool) -> None:
    """Upload video files and print their ids, in the order of the files.

    A file that SAGE has already under the same name is not sent again.
    """

    async def run(client: Client) -> int:
        preparation = Preparation(client, sending)
        slots = asyncio.Semaphore(UPLOADS_AT_ONCE)

        async def one(file: str, board: ProgressBoard) -> ingest_pb2.Video | Trouble:
            async with slots:
                try:
                    target = read_file_target(file)
                    preparation.media_type(target)
                    return await preparation.video(target, board.line(target.path.name))
                except (Trouble, grpc.RpcError) as error:
                    return session.explain(error)

        with ProgressBoard(session.terminal) as board:
            results = await asyncio.gather(*(one(file, board) for file in files))
        videos = [result for result in results if isinstance(result, ingest_pb2.Video)]
        if as_json:
            session.terminal.say_json({"videos": [message_document(video) for video in videos]})
        else:
            # People want to know which is which; a script wants `sage embed $(sage upload film.mp4)`.
            named = session.terminal.out.is_terminal
            for video in videos:
                session.terminal.say(Text(f"{video.id}  {printable(video.filename)}" if named else video.id))
        for result in results:
            if isinstance(result, Trouble):
                session.terminal.complain(result)
        return SAME_EXIT_CODE if len(videos) == len(files) else TROUBLE_EXIT_CODE

    session.run(run)


@click.command()
@click.option("--name", default="", metavar="TEXT", help="Only videos with this in their name.")
@limit_option
@json_option
@session_options
def videos(session: Session, *, name: str, limit: int, as_json: bool) -> None:
    """List the videos that SAGE has, newest first."""

    async def run(client: Client) -> None:
        found = []
        async for video in client.list_videos(filename_contains=name):
            found.append(video)
            if len(found) == limit:
                break
        terminal = session.terminal
        if as_json:
            terminal.say_json({"videos": [message_document(video) for video in found]})
        elif not found:
            terminal.note("There are no videos. `sage upload FILE` brings one in.")
        else:
            say_table(terminal, _COLUMNS, [_row(video) for video in found])

    session.run(run)


_COLUMNS = (
    Column("id", style="cyan"),
    Column("name", elastic=True),
    Column("length", right=True, keep=3),
    Column("picture", keep=1),
    Column("size", right=True, keep=2),
    Column("uploaded", style="dim", keep=0),
)


def _row(video: ingest_pb2.Video) -> tuple[str, ...]:
    media = video.media
    rate = read_frame_rate(media)
    uploaded = video.create_time.ToDatetime().strftime("%Y-%m-%d %H:%MZ")
    if video.state != ingest_pb2.VIDEO_STATE_READY:
        return video.id, printable(video.filename), "", "being checked", size(video.size_bytes), uploaded
    length = timecode(media.duration_seconds, rate) if rate else clock(media.duration_seconds)
    picture = f"{media.width}×{media.height} {rate or ''} {media.video_codec}"
    return video.id, printable(video.filename), length, " ".join(picture.split()), size(video.size_bytes), uploaded


@click.command()
@click.argument("video")
@click.option(
    "--minutes",
    type=click.IntRange(1, MAX_PLAY_MINUTES),
    metavar="N",
    default=60,
    show_default=True,
    help="How many minutes the URL holds.",
)
@session_options
def play(session: Session, video: str, *, minutes: int) -> None:
    """Print a URL that plays a video: `mpv $(sage play ID)`.

    Whoever has the URL can watch the video until it expires.
    """

    async def run(client: Client) -> None:
        target = read_target(video)
        if not isinstance(target, VideoTarget):
            raise Trouble(f"{video} is not the id of a video.", next_step="`sage videos` lists them.")
        answer = await client.get_playback_url(target.video_id, validity_s=minutes * 60)
        session.terminal.say(Text(answer.url))

    session.run(run)
