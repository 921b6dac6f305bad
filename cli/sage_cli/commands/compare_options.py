"""The options of a comparison: its mode, and how small a difference is reported in that mode."""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import embed_pb2

from sage_cli.commands.options import SIDES, FiniteFloat
from sage_cli.show.comparison import DEFAULT_TRACK, METRIC_NAMES, SOUND_TRACK

MAX_THRESHOLD = 2.0
WHOLE_VIDEO_TRACK = "video"
# The tracks that are aligned: by the fingerprints of the picture and of the sound.
ALIGNED_TRACKS = (DEFAULT_TRACK, SOUND_TRACK)
# The contract's limit, for each film.
MAX_IGNORED_REGIONS = 16
_METRICS = {name: value for value, name in METRIC_NAMES.items()}
_SENSITIVITIES = {
    "low": compare_pb2.SENSITIVITY_LOW,
    "normal": compare_pb2.SENSITIVITY_NORMAL,
    "high": compare_pb2.SENSITIVITY_HIGH,
}
_THRESHOLD = FiniteFloat(0, MAX_THRESHOLD)
# A region may end this much outside the picture, because shares are rounded.
_ROUNDING = 1e-6


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


class RegionType(click.ParamType[tuple[str, compare_pb2.Region]]):
    """A part of the picture of both films, `X,Y,W,H`, or of one of them, `old:X,Y,W,H` or `new:X,Y,W,H`."""

    name = "region"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, compare_pb2.Region]:
        """Return the side, empty for both, and the part; or fail with the rule that is broken."""
        if isinstance(value, tuple):
            return value
        side, colon, numbers = str(value).rpartition(":")
        if colon and side not in SIDES:
            self.fail(f"{value!r} begins with neither old: nor new:.", param, ctx)
        texts = [text.strip() for text in numbers.split(",")]
        try:
            shares = _shares(texts)
        except ValueError:
            self.fail(f"{value!r} is not four numbers: left edge, top edge, width and height.", param, ctx)
        x, y, width, height = shares
        if width <= 0 or height <= 0:
            self.fail(f"{value!r} is empty: its width and height must be more than 0.", param, ctx)
        if min(x, y) < 0 or max(x + width, y + height) > 1 + _ROUNDING:
            self.fail(f"{value!r} is not within the picture, which is 100% wide and high.", param, ctx)
        return side, compare_pb2.Region(x=x, y=y, width=min(width, 1 - x), height=min(height, 1 - y))


def _shares(texts: Sequence[str]) -> Sequence[float]:
    """Return four numbers as shares: numbers with % are percent, and so are all of them if one is above 1.

    Raises:
        ValueError: There are not four finite numbers.
    """
    numbers = [float(text.removesuffix("%")) for text in texts]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError
    marked = [text.endswith("%") for text in texts]
    percent = not any(marked) and max(numbers) > 1
    return [number / 100 if percent or mark else number for number, mark in zip(numbers, marked, strict=True)]


@dataclass(frozen=True)
class CompareOptions:
    """How two embeddings are compared.

    Attributes:
        tracks: The tracks to compare. If one has no threshold, the server chooses it.
        mode: How the timelines are aligned.
        metric: How distances are measured. If unspecified, the server chooses it.
        sensitivity: How small a change is reported. If unspecified, the server chooses it.
        min_strength: The strength from which changes are reported; None for that of the sensitivity.
        ignored: The parts of the picture of each film that are not compared.
        from_zero: Whether printed times are counted from 0, whatever the timecode of the files.
        sound_too: Whether the sound is compared beside `tracks` if both films have any.
    """

    tracks: tuple[compare_pb2.TrackSpec, ...]
    mode: compare_pb2.CompareMode.ValueType = compare_pb2.COMPARE_MODE_ALIGNED
    metric: compare_pb2.Metric.ValueType = compare_pb2.METRIC_UNSPECIFIED
    sensitivity: compare_pb2.Sensitivity.ValueType = compare_pb2.SENSITIVITY_UNSPECIFIED
    min_strength: float | None = None
    ignored: tuple[tuple[compare_pb2.Region, ...], tuple[compare_pb2.Region, ...]] = ((), ())
    from_zero: bool = False
    sound_too: bool = False

    @property
    def aligned(self) -> bool:
        """Whether the films are aligned, which needs their fingerprints."""
        return self.mode == compare_pb2.COMPARE_MODE_ALIGNED

    @property
    def track_names(self) -> tuple[str, ...]:
        """The tracks that are compared."""
        return tuple(track.name for track in self.tracks)

    def request(self, a: embed_pb2.Embedding, b: embed_pb2.Embedding) -> compare_pb2.CompareEmbeddingsRequest:
        """Return the request for a comparison of two embeddings."""
        heard = self.sound_too and a.media.audio_tracks and b.media.audio_tracks
        sound = (compare_pb2.TrackSpec(name=SOUND_TRACK),) if heard else ()
        return compare_pb2.CompareEmbeddingsRequest(
            embedding_id_a=a.id,
            embedding_id_b=b.id,
            mode=self.mode,
            metric=self.metric,
            tracks=(*self.tracks, *sound),
            sensitivity=self.sensitivity,
            min_strength=self.min_strength,
            ignored_regions_a=self.ignored[0],
            ignored_regions_b=self.ignored[1],
        )


def compare_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for a comparison and its report, and pass the command `comparing` instead of them."""

    @click.option(
        "--track",
        "tracks",
        type=TrackType(),
        multiple=True,
        metavar="NAME[:THRESHOLD]",
        help="Track to compare: visual or audio; with --time every track that the model makes, optionally with its "
        f"own threshold. May be repeated.  [default: {DEFAULT_TRACK}, and {SOUND_TRACK} if both films have sound; with "
        f"--time: {DEFAULT_TRACK}]",
    )
    @click.option(
        "--sensitivity",
        type=click.Choice(list(_SENSITIVITIES)),
        help="How small a change is reported: low for what is plain to see, high also for faint changes and some "
        "noise.  [default: normal]",
    )
    @click.option(
        "--min-strength",
        type=FiniteFloat(0),
        metavar="X",
        help="Report changes from this strength on, instead of --sensitivity. The report names the strength in use.",
    )
    @click.option(
        "--ignore-region",
        "regions",
        type=RegionType(),
        multiple=True,
        metavar="[old:|new:]X,Y,W,H",
        help="Part of the picture that is not compared, such as a burnt-in timecode, in both films or in one: left "
        "edge, top edge, width and height in percent (5%,4%,20%,6%) or as shares (0.05,0.04,0.2,0.06). May be "
        "repeated.",
    )
    @click.option(
        "--time",
        "by_time",
        is_flag=True,
        help="Compare second n of one film with second n of the other, clip by clip, instead of aligning the films.",
    )
    @click.option(
        "--threshold",
        type=_THRESHOLD,
        metavar="X",
        help="With --time: distance above which clips differ, 0 to 2, for tracks without their own.  [default: set by "
        "the server for each model and track]",
    )
    @click.option(
        "--metric",
        type=click.Choice(list(_METRICS)),
        help="With --time: how distance is measured.  [default: cosine]",
    )
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
        sensitivity: str | None,
        min_strength: float | None,
        regions: tuple[tuple[str, compare_pb2.Region], ...],
        by_time: bool,
        threshold: float | None,
        metric: str | None,
        timecode: str,
        **arguments: Any,
    ) -> Any:
        names = [track.name for track in tracks]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise click.UsageError(f"--track {repeated} is specified twice.")
        if by_time:
            _refuse_with_time(sensitivity, min_strength, regions)
        else:
            _refuse_without_time(tracks, threshold, metric)
        if sensitivity is not None and min_strength is not None:
            raise click.UsageError("--min-strength replaces --sensitivity: specify one of them.")
        chosen = tuple(
            compare_pb2.TrackSpec(
                name=track.name, threshold=track.threshold if track.HasField("threshold") else threshold
            )
            for track in tracks or [compare_pb2.TrackSpec(name=DEFAULT_TRACK)]
        )
        comparing = CompareOptions(
            tracks=chosen,
            mode=compare_pb2.COMPARE_MODE_TIME if by_time else compare_pb2.COMPARE_MODE_ALIGNED,
            metric=_METRICS[metric] if metric else compare_pb2.METRIC_UNSPECIFIED,
            sensitivity=_SENSITIVITIES[sensitivity] if sensitivity else compare_pb2.SENSITIVITY_UNSPECIFIED,
            min_strength=min_strength,
            ignored=_by_film(regions),
            from_zero=timecode == "zero",
            sound_too=not tracks and not by_time,
        )
        return command(*positional, comparing=comparing, **arguments)

    return wrapped


def _refuse_with_time(
    sensitivity: str | None, min_strength: float | None, regions: Sequence[tuple[str, compare_pb2.Region]]
) -> None:
    given = {"--sensitivity": sensitivity, "--min-strength": min_strength, "--ignore-region": regions or None}
    for option, value in given.items():
        if value is not None:
            raise click.UsageError(f"{option} does not work with --time, which has --threshold instead.")


def _refuse_without_time(tracks: Sequence[compare_pb2.TrackSpec], threshold: float | None, metric: str | None) -> None:
    instead = "--sensitivity or --min-strength set how small a change is reported"
    if threshold is not None:
        raise click.UsageError(f"--threshold needs --time. Without it, {instead}.")
    if metric is not None:
        raise click.UsageError("--metric needs --time: films are aligned by their pictures, not by vectors.")
    for track in tracks:
        if track.HasField("threshold"):
            raise click.UsageError(f"The threshold in --track {track.name}:... needs --time. Without it, {instead}.")
        if track.name not in ALIGNED_TRACKS:
            raise click.UsageError(
                f"--track {track.name} needs --time. Without it, the tracks are {' and '.join(ALIGNED_TRACKS)}."
            )


def _by_film(
    regions: Sequence[tuple[str, compare_pb2.Region]],
) -> tuple[tuple[compare_pb2.Region, ...], tuple[compare_pb2.Region, ...]]:
    ignored: dict[str, list[compare_pb2.Region]] = defaultdict(list)
    for side, region in regions:
        for name in (side,) if side else SIDES:
            ignored[name].append(region)
    for name in SIDES:
        if len(ignored[name]) > MAX_IGNORED_REGIONS:
            raise click.UsageError(f"--ignore-region: at most {MAX_IGNORED_REGIONS} in {name}.")
    return tuple(ignored["old"]), tuple(ignored["new"])
