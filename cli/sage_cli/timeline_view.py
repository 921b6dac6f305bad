"""The two films as lanes across the terminal."""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from sage_cli.comparison import Comparison, Kind, TimeRange, TrackComparison

LABEL_WIDTH = 5
MIN_COLUMNS = 10
# Seconds between two marks of the ruler.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800)
_MIN_COLUMNS_PER_MARK = 10

_STYLES = {
    None: "dim",
    Kind.CHANGED: "bold yellow",
    Kind.ONLY_IN_OLD: "bold red",
    Kind.ONLY_IN_NEW: "bold green",
    Kind.NOT_COMPARED: "blue",
}


@dataclass(frozen=True)
class Glyphs:
    """The characters of a lane: one for each kind, so that it can be read without colour.

    Attributes:
        kinds: A character for each kind, and under None the one for what is the same.
        levels: Eight characters from low to high; the upper four are above the threshold.
        mark: Begins a mark of the ruler.
    """

    kinds: dict[Kind | None, str]
    levels: str
    mark: str


UNICODE = Glyphs(
    {None: "─", Kind.CHANGED: "█", Kind.ONLY_IN_OLD: "x", Kind.ONLY_IN_NEW: "+", Kind.NOT_COMPARED: "?"},
    "▁▂▃▄▅▆▇█",
    "╷",
)
ASCII = Glyphs(
    {None: "-", Kind.CHANGED: "#", Kind.ONLY_IN_OLD: "x", Kind.ONLY_IN_NEW: "+", Kind.NOT_COMPARED: "?"},
    "_.,-=+*#",
    "|",
)


def draw_timeline(comparison: Comparison, *, width: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Return the lines of the picture: a ruler, for each track a lane for each film and the distances, the legend.

    All lanes have one scale. A difference is drawn where it is, and never less than one column wide. Where there are
    two tracks, each is named above its lanes.

    Args:
        comparison: What to draw.
        width: Columns to fill. No lines are drawn where there is no room, or nothing to draw.
        glyphs: What to draw with.
    """
    columns = width - LABEL_WIDTH
    total_seconds = max(comparison.old.duration_seconds, comparison.new.duration_seconds)
    if columns < MIN_COLUMNS or total_seconds <= 0:
        return []
    scale = _Scale(columns, total_seconds)
    lines = [_labelled("", Text(_ruler(scale, glyphs), style="dim"))]
    for track in comparison.tracks:
        if comparison.second:
            lines.append(_labelled("", Text(track.noun[:columns], style="bold")))
        lines += _track_lines(comparison, track, scale, glyphs)
    return [*lines, Text(), _labelled("", _legend(comparison, glyphs))]


def _track_lines(comparison: Comparison, track: TrackComparison, scale: "_Scale", glyphs: Glyphs) -> Iterator[Text]:
    old = _lane([(d.kind, d.old) for d in track.differences], comparison.old.duration_seconds, scale)
    new = _lane([(d.kind, d.new) for d in track.differences], comparison.new.duration_seconds, scale)
    yield _labelled("old", _paint(old, glyphs))
    yield _labelled("new", _paint(new, glyphs))
    if track.intervals:
        yield _labelled("dist", _distances(track, scale, glyphs))


@dataclass(frozen=True)
class _Scale:
    columns: int
    total_seconds: float

    def column(self, seconds: float) -> int:
        """Return the column border that lies nearest to a time; the last one for what lies behind the end."""
        if seconds >= self.total_seconds:
            return self.columns
        return round(seconds / self.total_seconds * self.columns)

    def span(self, time_range: TimeRange) -> range:
        """Return the columns of a range, at least one."""
        first = min(self.column(time_range.start_seconds), self.columns - 1)
        return range(first, max(first + 1, min(self.column(time_range.end_seconds), self.columns)))


_Cell = Kind | None


def _lane(marks: Sequence[tuple[Kind, TimeRange | None]], duration_seconds: float, scale: _Scale) -> list[_Cell]:
    cells: list[_Cell] = [None] * scale.column(duration_seconds)
    for kind, time_range in marks:
        if time_range is None:
            continue
        for column in scale.span(time_range):
            # Where two share a column, a change says more than a part that was not looked at.
            if column < len(cells) and (cells[column] is None or kind is not Kind.NOT_COMPARED):
                cells[column] = kind
    return cells


def _paint(cells: Sequence[_Cell], glyphs: Glyphs) -> Text:
    text = Text()
    for kind, run in groupby(cells):
        text.append(glyphs.kinds[kind] * sum(1 for _ in run), style=_STYLES[kind])
    return text


def _distances(track: TrackComparison, scale: _Scale, glyphs: Glyphs) -> Text:
    """Draw the largest distance in each column. Half height is the threshold."""
    highest: list[float | None] = [None] * scale.columns
    for interval in track.intervals:
        start, end = interval.old_start_seconds, interval.old_start_seconds + interval.length_seconds
        for column in scale.span(TimeRange(start, end)):
            before = highest[column]
            highest[column] = interval.distance if before is None else max(before, interval.distance)
    # The service compares float32 with float32, and a distance that equals the threshold does not differ.
    threshold: float = struct.unpack("f", struct.pack("f", track.threshold))[0]
    top = max(interval.distance for interval in track.intervals)
    text = Text()
    for distance in highest:
        if distance is None:
            text.append(" ")
        elif distance > threshold:
            level = 4 + math.ceil((distance - threshold) / (top - threshold) * 4) - 1
            text.append(glyphs.levels[level], style="yellow")
        else:
            level = min(3, int(distance / threshold * 4)) if threshold > 0 else 0
            text.append(glyphs.levels[max(0, level)], style="dim")
    return text


def _ruler(scale: _Scale, glyphs: Glyphs) -> str:
    longest = _STEPS[-1]
    step = next(
        (step for step in _STEPS if scale.columns * step / scale.total_seconds >= _MIN_COLUMNS_PER_MARK), longest
    )
    line = ""
    for mark in range(math.floor(scale.total_seconds / step) + 1):
        column = scale.column(mark * step)
        label = f"{glyphs.mark}{_clock(mark * step)}"
        if column + len(label) > scale.columns:
            break
        line = line.ljust(column) + label
    return line


def _clock(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _legend(comparison: Comparison, glyphs: Glyphs) -> Text:
    """Explain what the picture has, and nothing else."""
    present = {difference.kind for track in comparison.tracks for difference in track.differences}
    entries = [
        Text.assemble((glyph, _STYLES[kind]), f" {kind.value if kind else 'same'}")
        for kind, glyph in glyphs.kinds.items()
        if kind is None or kind in present
    ]
    if Kind.CHANGED in present:
        entries.append(Text.assemble((glyphs.levels[4], "yellow"), " over the threshold"))
    return Text("  ").join(entries)


def _labelled(label: str, content: Text) -> Text:
    line = Text.assemble((label.ljust(LABEL_WIDTH), "bold"), content)
    line.rstrip()
    return line
