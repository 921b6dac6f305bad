"""Options that several commands share."""

import functools
import math
from collections.abc import Callable
from typing import Any

import click

from sage_cli.api.channel import DEFAULT_ADDRESS
from sage_cli.commands.session import Session
from sage_cli.films.uploads import RESUMABLE_OVER_MIB, UploadOptions
from sage_cli.show.terminal import open_terminal

# Models of this version of SAGE; `sage models` lists those of the server.
MODELS = "marengo3.0, marengo3.5, Marengo-retrieval-2.7, local"


class OrderedGroup(click.Group):
    """A group that lists its commands in the order in which they were added, not alphabetically."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


class FiniteFloat(click.ParamType[float]):
    """A finite number above `low` (or equal to it) and not above `high`."""

    name = "number"

    def __init__(self, low: float, high: float | None = None, *, low_open: bool = False) -> None:
        self._low = low
        self._high = high
        self._low_open = low_open

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail with the rule that it breaks."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number.", param, ctx)
        too_low = number <= self._low if self._low_open else number < self._low
        if not math.isfinite(number) or too_low or (self._high is not None and number > self._high):
            self.fail(f"{value} is not {self._rule()}.", param, ctx)
        return number

    def _rule(self) -> str:
        if self._high is not None:
            return f"from {self._low:g} to {self._high:g}"
        return f"more than {self._low:g}" if self._low_open else f"at least {self._low:g}"


MAX_VIDEO_TRACK = 99
SIDES = ("old", "new")


class SidedVideoTrackType(click.ParamType[tuple[str, int]]):
    """A picture track of both films, `N`, or of one of them, `old:N` or `new:N`."""

    name = "track"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return the side, empty for both, and the track; or fail with the rule that is broken."""
        if isinstance(value, tuple):
            return value
        side, colon, number = str(value).rpartition(":")
        if colon and side not in SIDES:
            self.fail(f"{value!r} is neither N, old:N nor new:N.", param, ctx)
        return side, int(_VIDEO_TRACK(number, param, ctx))


_VIDEO_TRACK = click.IntRange(0, MAX_VIDEO_TRACK)


def session_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --address and --quiet, and pass the command a `session` instead of them."""

    @click.option("--address", metavar="HOST:PORT", help=f"Address of SAGE.  [default: {DEFAULT_ADDRESS}]")
    @click.option("-q", "--quiet", is_flag=True, help="Print only IDs, tables and JSON: no progress, no report.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(context: click.Context, /, *, address: str | None, quiet: bool, **arguments: Any) -> Any:
        session = Session(terminal=open_terminal(quiet=quiet), address=address or context.obj, quiet=quiet)
        return command(session, **arguments)

    return wrapped


video_track_option = click.option(
    "--video-track",
    type=_VIDEO_TRACK,
    metavar="N",
    help="Picture track that is the film, counted from 0.  [default: chosen by the server]",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=50,
    show_default=True,
    help="List at most N.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
force_option = click.option(
    "--force", is_flag=True, help="Make a new embedding even if one exists; `sage diff` also a new fingerprint."
)


def upload_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for uploading files, and pass the command `uploads` instead of them."""

    @click.option(
        "--content-type", metavar="TYPE", help="Media type of the files, such as video/mp4.  [default: detected]"
    )
    @click.option(
        "--parts-over",
        type=click.IntRange(min=0),
        metavar="MIB",
        default=RESUMABLE_OVER_MIB,
        envvar="SAGE_PARTS_OVER_MIB",
        show_default=True,
        show_envvar=True,
        help="Upload files larger than this in parts, so that an interrupted upload can be resumed.",
    )
    @functools.wraps(command)
    def wrapped(*positional: Any, content_type: str | None, parts_over: int, **arguments: Any) -> Any:
        return command(*positional, uploads=UploadOptions(content_type, parts_over * 1024 * 1024), **arguments)

    return wrapped


def sided_video_track_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --video-track for two films, and pass the command `video_tracks`: one per film, None if none is chosen."""

    @click.option(
        "--video-track",
        "video_tracks",
        type=SidedVideoTrackType(),
        multiple=True,
        metavar="[old:|new:]N",
        help="Picture track that is the film, counted from 0, in both files or in one: --video-track old:0 "
        "--video-track new:1.  [default: chosen by the server]",
    )
    @functools.wraps(command)
    def wrapped(*positional: Any, video_tracks: tuple[tuple[str, int], ...], **arguments: Any) -> Any:
        chosen: dict[str, int] = {}
        for side, track in video_tracks:
            for name in (side,) if side else SIDES:
                if name in chosen:
                    raise click.UsageError(f"--video-track is specified twice for {name}.")
                chosen[name] = track
        return command(*positional, video_tracks=tuple(chosen.get(name) for name in SIDES), **arguments)

    return wrapped


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for embedding a video."""
    model = click.option(
        "--model",
        metavar="NAME",
        help=f"Model to embed with: {MODELS}. `sage models` shows which are usable.  [default: the best usable one]",
    )
    clip_seconds = click.option(
        "--clip-seconds",
        type=FiniteFloat(0, low_open=True),
        metavar="S",
        help="Length of a clip in seconds.  [default: 2]",
    )
    return model(clip_seconds(command))
