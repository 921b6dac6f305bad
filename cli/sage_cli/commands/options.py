"""Options that several commands share."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from sage_cli.channel import DEFAULT_ADDRESS
from sage_cli.comparison import DEFAULT_TRACK
from sage_cli.session import Session
from sage_cli.terminal import open_terminal
from sage_cli.uploads import PARTS_OVER_MIB, Sending

MAX_THRESHOLD = 2.0
# What SAGE knows; a server may know others, and `sage models` asks it.
MODELS = "marengo3.0, marengo3.5, Marengo-retrieval-2.7, local"
WHOLE_VIDEO_TRACK = "video"


class OrderedGroup(click.Group):
    """A group that lists its commands in the order of their use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


class FiniteFloat(click.ParamType[float]):
    """A number that is neither infinite nor NaN, above `low` (or at it) and not above `high`."""

    name = "number"

    def __init__(self, low: float, high: float | None = None, *, low_open: bool = False) -> None:
        self._low = low
        self._high = high
        self._low_open = low_open

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or end with the rule that it breaks."""
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


def session_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --address and --quiet, and give the command a `session` in their place."""

    @click.option("--address", metavar="HOST:PORT", help=f"Where SAGE is. [default: {DEFAULT_ADDRESS}]")
    @click.option("-q", "--quiet", is_flag=True, help="Print ids, tables and JSON only: no progress, no report.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(context: click.Context, /, *, address: str | None, quiet: bool, **arguments: Any) -> Any:
        session = Session(terminal=open_terminal(quiet=quiet), address=address or context.obj, quiet=quiet)
        return command(session, **arguments)

    return wrapped


limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=50,
    show_default=True,
    help="How many to list at the most.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def upload_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how files are uploaded, and give the command `sending` in their place."""

    @click.option(
        "--content-type", metavar="TYPE", help="Media type of the files, such as video/mp4. [default: guessed]"
    )
    @click.option(
        "--parts-over",
        type=click.IntRange(min=0),
        metavar="MIB",
        default=PARTS_OVER_MIB,
        envvar="SAGE_PARTS_OVER_MIB",
        show_default=True,
        show_envvar=True,
        help="Size over which a file is sent in parts, so that an upload that was interrupted can go on.",
    )
    @functools.wraps(command)
    def wrapped(*positional: Any, content_type: str | None, parts_over: int, **arguments: Any) -> Any:
        return command(*positional, sending=Sending(content_type, parts_over * 1024 * 1024), **arguments)

    return wrapped


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a video is embedded."""
    model = click.option(
        "--model",
        metavar="NAME",
        help=f"Model to embed with: {MODELS}; `sage models` says which can be used. [default: the best of those]",
    )
    clip_seconds = click.option(
        "--clip-seconds",
        type=FiniteFloat(0, low_open=True),
        metavar="S",
        help="Length of a clip in seconds. [default: 2]",
    )
    return model(clip_seconds(command))


@dataclass(frozen=True)
class Measure:
    """How two embeddings are to be compared. None leaves it to the server.

    Attributes:
        threshold: Distance above which clips differ.
        metric: How distance is measured.
        track: The track to compare.
        second_track: Another track beside it; empty for none.
        second_threshold: The threshold for that one.
    """

    threshold: float | None
    metric: str | None
    track: str
    second_track: str
    second_threshold: float | None

    @property
    def tracks(self) -> tuple[str, ...]:
        """The tracks that both embeddings must have."""
        return (self.track, self.second_track) if self.second_track else (self.track,)

    def check(self) -> None:
        """Refuse what does not go together, before anything is uploaded for it.

        Raises:
            click.UsageError: One option rules out another.
        """
        if WHOLE_VIDEO_TRACK in self.tracks:
            raise click.UsageError("The track video is one vector for the whole and has no clips to compare.")
        if self.second_track == self.track:
            raise click.UsageError(f"--second-track {self.track} is compared already; name another track.")
        if self.second_threshold is not None and not self.second_track:
            raise click.UsageError("--second-threshold needs a --second-track.")


def measure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how two embeddings are compared, and give the command a `measure` in their place."""
    threshold_type = FiniteFloat(0, MAX_THRESHOLD)

    @click.option(
        "--threshold",
        type=threshold_type,
        metavar="X",
        help="Distance above which clips differ, 0 to 2. [default: the model's]",
    )
    @click.option(
        "--metric", type=click.Choice(["cosine", "euclidean"]), help="How distance is measured. [default: cosine]"
    )
    @click.option(
        "--track",
        default=DEFAULT_TRACK,
        show_default=True,
        metavar="NAME",
        help="Track to compare: visual, audio, transcription, as the model makes them.",
    )
    @click.option(
        "--second-track",
        default="",
        metavar="NAME",
        help="Another track beside it, such as audio where the picture may be the same and the dub is not.",
    )
    @click.option(
        "--second-threshold", type=threshold_type, metavar="X", help="Its threshold, 0 to 2. [default: the model's]"
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        threshold: float | None,
        metric: str | None,
        track: str,
        second_track: str,
        second_threshold: float | None,
        **arguments: Any,
    ) -> Any:
        measure = Measure(threshold, metric, track, second_track, second_threshold)
        measure.check()
        return command(*args, measure=measure, **arguments)

    return wrapped
