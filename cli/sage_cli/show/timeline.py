"""The two films as lanes across the terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from rich.text import Text
from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import KIND_NAMES, Comparison, Kind, kind_of, noun_of, over_threshold
from sage_cli.show.timecode import short_clock

LABEL_WIDTH = 5
MIN_COLUMNS = 10
# Seconds between two marks of the ruler.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800)
_MIN_COLUMNS_PER_MARK = 10

# A column of a lane: the kind of difference, or None if both are the same.
_Cell: TypeAlias = Kind | None

_STYLES: dict[_Cell, str] = {
    None: "dim",
    compare_pb2.DIFFERENCE_KIND_CHANGED: "bold yellow",
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_A: "bold red",
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_B: "bold green",
    compare_pb2.DIFFERENCE_KIND_NOT_COMPARED: "blue",
}


@dataclass(frozen=True)
class Glyphs:
    """The characters of a lane: one per kind, so that it can be read without colour.

    Attributes:
        kinds: A character per kind of difference; None has the one for what is the same.
        levels: Eight characters from low to high; the last four are above the threshold.
        mark: Begins a mark of the ruler.
    """

    kinds: dict[_Cell, str]
    levels: str
    mark: str


def _kinds(glyphs: str) -> dict[_Cell, str]:
    """Return the glyphs for what is the same and for each kind, in the order of `KIND_NAMES`."""
    return dict(zip((None, *KIND_NAMES), glyphs, strict=True))


UNICODE = Glyphs(_kinds("─█x+?"), "▁▂▃▄▅▆▇█", "╷")
ASCII = Glyphs(_kinds("-#x+?"), "_.,-=+*#", "|")


def draw_timeline(comparison: Comparison, *, width: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Return the lines of the picture: a ruler, per track a lane per film and the distances, and the legend.

    All lanes have one scale. A difference is at least one column wide. If there are several tracks, each is named above
    its lanes.

    Args:
        comparison: What to draw.
        width: Columns to fill. Returns nothing if there is no room or nothing to draw.
        glyphs: The characters to use.
    """
    columns = width - LABEL_WIDTH
    total_seconds = max(comparison.old.duration_seconds, comparison.new.duration_seconds)
    if columns < MIN_COLUMNS or total_seconds <= 0:
        return []
    scale = Scale(columns, total_seconds)
    lines = [labelled("", Text(draw_ruler(scale, glyphs.mark), style="dim"))]
    for track in comparison.tracks:
        if len(comparison.tracks) > 1:
            lines.append(labelled("", Text(noun_of(track)[:columns], style="bold")))
        lines += _track_lines(comparison, track, scale, glyphs)
    return [*lines, Text(), labelled("", _legend(comparison, glyphs))]


def _track_lines(
    comparison: Comparison, track: compare_pb2.TrackComparison, scale: "Scale", glyphs: Glyphs
) -> Iterator[Text]:
    differences = track.time.differences
    old = [(kind_of(one), one.a) for one in differences if one.HasField("a")]
    new = [(kind_of(one), one.b) for one in differences if one.HasField("b")]
    yield labelled("old", _paint(_lane(old, comparison.old.duration_seconds, scale), glyphs))
    yield labelled("new", _paint(_lane(new, comparison.new.duration_seconds, scale), glyphs))
    if track.time.series.distances:
        yield labelled("dist", _distances(track.time, scale, glyphs))


@dataclass(frozen=True)
class Scale:
    """How seconds become columns."""

    columns: int
    total_seconds: float

    def column(self, seconds: float) -> int:
        """Return the column border nearest to a time; the last one for times after the end."""
        if seconds >= self.total_seconds:
            return self.columns
        return round(seconds / self.total_seconds * self.columns)

    def span(self, start_seconds: float, end_seconds: float) -> range:
        """Return the columns of a range, at least one."""
        first = min(self.column(start_seconds), self.columns - 1)
        return range(first, max(first + 1, min(self.column(end_seconds), self.columns)))


def _lane(marks: Sequence[tuple[Kind, compare_pb2.FrameRange]], duration_seconds: float, scale: Scale) -> list[_Cell]:
    cells: list[_Cell] = [None] * scale.column(duration_seconds)
    for kind, where in marks:
        for column in scale.span(where.start_seconds, where.end_seconds):
            # In a shared column, a change matters more than a part that was not compared.
            if column < len(cells) and (cells[column] is None or kind != compare_pb2.DIFFERENCE_KIND_NOT_COMPARED):
                cells[column] = kind
    return cells


def _paint(cells: Sequence[_Cell], glyphs: Glyphs) -> Text:
    text = Text()
    for kind, run in groupby(cells):
        text.append(glyphs.kinds[kind] * sum(1 for _ in run), style=_STYLES[kind])
    return text


def _distances(time: compare_pb2.TimeComparison, scale: Scale, glyphs: Glyphs) -> Text:
    """Draw the largest distance in each column. Half height is the threshold."""
    highest: list[float | None] = [None] * scale.columns
    series = time.series
    for start, length, distance in zip(series.a_start_seconds, series.length_seconds, series.distances, strict=True):
        for column in scale.span(start, start + length):
            before = highest[column]
            highest[column] = distance if before is None else max(before, distance)
    threshold, top = time.threshold, max(series.distances)
    text = Text()
    for highest_here in highest:
        if highest_here is None:
            text.append(" ")
        elif over_threshold(highest_here, threshold):
            level = 4 + math.ceil((highest_here - threshold) / (top - threshold) * 4) - 1
            text.append(glyphs.levels[min(max(level, 4), 7)], style="yellow")
        else:
            level = int(highest_here / threshold * 4) if threshold > 0 else 0
            text.append(glyphs.levels[min(max(level, 0), 3)], style="dim")
    return text


def draw_ruler(scale: Scale, mark_glyph: str) -> str:
    """Return a ruler with marks at round times."""
    longest = _STEPS[-1]
    step = next(
        (step for step in _STEPS if scale.columns * step / scale.total_seconds >= _MIN_COLUMNS_PER_MARK), longest
    )
    line = ""
    for mark in range(math.floor(scale.total_seconds / step) + 1):
        column = scale.column(mark * step)
        label = f"{mark_glyph}{short_clock(mark * step)}"
        if column + len(label) > scale.columns:
            break
        line = line.ljust(column) + label
    return line


def _legend(comparison: Comparison, glyphs: Glyphs) -> Text:
    """Explain the glyphs that the picture contains."""
    present = {kind_of(difference) for track in comparison.tracks for difference in track.time.differences}
    entries = [
        Text.assemble((glyph, _STYLES[kind]), f" {KIND_NAMES[kind] if kind else 'same'}")
        for kind, glyph in glyphs.kinds.items()
        if kind is None or kind in present
    ]
    if compare_pb2.DIFFERENCE_KIND_CHANGED in present:
        entries.append(Text.assemble((glyphs.levels[4], "yellow"), " over the threshold"))
    return Text("  ").join(entries)


def labelled(label: str, content: Text) -> Text:
    """Return a line of the picture with its label."""
    line = Text.assemble((label.ljust(LABEL_WIDTH), "bold"), content)
    line.rstrip()
    return line
