"""Options that several commands share."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from sage.compare.v1 import compare_pb2

from sage_cli.api.channel import DEFAULT_ADDRESS
from sage_cli.commands.session import Session
from sage_cli.films.uploads import RESUMABLE_OVER_MIB, UploadOptions
from sage_cli.show.comparison import DEFAULT_TRACK, METRIC_NAMES
from sage_cli.show.terminal import open_terminal

MAX_THRESHOLD = 2.0
# Models of this version of SAGE; `sage models` lists those of the server.
MODELS = "marengo3.0, marengo3.5, Marengo-retrieval-2.7, local"
WHOLE_VIDEO_TRACK = "video"
_METRICS = {name: value for value, name in METRIC_NAMES.items()}


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


_THRESHOLD = FiniteFloat(0, MAX_THRESHOLD)


MAX_VIDEO_TRACK = 99
_SIDES = ("old", "new")


class SidedVideoTrackType(click.ParamType[tuple[str, int]]):
    """A picture track of both films, `N`, or of one of them, `old:N` or `new:N`."""

    name = "track"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return the side, empty for both, and the track; or fail with the rule that is broken."""
        if isinstance(value, tuple):
            return value
        side, colon, number = str(value).rpartition(":")
        if colon and side not in _SIDES:
            self.fail(f"{value!r} is neither N, old:N nor new:N.", param, ctx)
        return side, int(_VIDEO_TRACK(number, param, ctx))


_VIDEO_TRACK = click.IntRange(0, MAX_VIDEO_TRACK)


class TrackType(click.ParamType[compare_pb2.TrackSpec]):
    """A track to compare, `NAME` or `NAME:THRESHOLD`."""

    name = "track"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> compare_pb2.TrackSpec:
        """Return the track, or fail with the rule that it breaks."""
        if isinstance(value, compare_pb2.TrackSpec):
            return value
        name, colon, threshold = str(value).partition(":")
        if not name:
            self.fail(f"{value!r} does not name a track.", param, ctx)
        if name == WHOLE_VIDEO_TRACK:
            self.fail("the track video is one vector for the entire film and has no clips to compare.", param, ctx)
        return compare_pb2.TrackSpec(name=name, threshold=_THRESHOLD.convert(threshold, param, ctx) if colon else None)


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
force_option = click.option("--force", is_flag=True, help="Make a new embedding even if one exists.")


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
            for name in (side,) if side else _SIDES:
                if name in chosen:
                    raise click.UsageError(f"--video-track is specified twice for {name}.")
                chosen[name] = track
        return command(*positional, video_tracks=tuple(chosen.get(name) for name in _SIDES), **arguments)

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


@dataclass(frozen=True)
class CompareOptions:
    """How two embeddings are compared.

    Attributes:
        metric: How distances are measured. If unspecified, the server chooses it.
        tracks: The tracks to compare. If one has no threshold, the server chooses it.
        from_zero: Whether printed times are counted from 0, whatever the timecode of the files.
    """

    metric: compare_pb2.Metric.ValueType
    tracks: tuple[compare_pb2.TrackSpec, ...]
    from_zero: bool = False

    @property
    def track_names(self) -> tuple[str, ...]:
        """The tracks that both embeddings must have."""
        return tuple(track.name for track in self.tracks)


def compare_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for a comparison and its report, and pass the command `comparing` instead of them."""

    @click.option(
        "--track",
        "tracks",
        type=TrackType(),
        multiple=True,
        default=[DEFAULT_TRACK],
        metavar="NAME[:THRESHOLD]",
        help="Track to compare: visual, audio or transcription, if the model makes it; optionally with its own "
        f"threshold. May be repeated.  [default: {DEFAULT_TRACK}]",
    )
    @click.option(
        "--threshold",
        type=_THRESHOLD,
        metavar="X",
        help="Distance above which clips differ, 0 to 2, for tracks without their own.  [default: set by the server "
        "for each model and track]",
    )
    @click.option("--metric", type=click.Choice(list(_METRICS)), help="How distance is measured.  [default: cosine]")
    @click.option(
        "--timecode",
        type=click.Choice(["file", "zero"]),
        default="file",
        show_default=True,
        help="Where printed times start: at the timecode of each file's first frame, or at zero.",
    )
    @functools.wraps(command)
    def wrapped(
        *positional: Any,
        tracks: tuple[compare_pb2.TrackSpec, ...],
        threshold: float | None,
        metric: str | None,
        timecode: str,
        **arguments: Any,
    ) -> Any:
        names = [track.name for track in tracks]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise click.UsageError(f"--track {repeated} is specified twice.")
        chosen = tuple(
            compare_pb2.TrackSpec(
                name=track.name, threshold=track.threshold if track.HasField("threshold") else threshold
            )
            for track in tracks
        )
        comparing = CompareOptions(
            metric=_METRICS[metric] if metric else compare_pb2.METRIC_UNSPECIFIED,
            tracks=chosen,
            from_zero=timecode == "zero",
        )
        return command(*positional, comparing=comparing, **arguments)

    return wrapped
