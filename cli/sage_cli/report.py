"""A comparison for people: a summary, the differences, the timeline."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from sage_cli.comparison import DEFAULT_TRACK, Comparison, Difference, Kind, Side, TimeRange, TrackComparison
from sage_cli.reading import describe, read_together, summarize
from sage_cli.terminal import printable
from sage_cli.timeline_view import ASCII, UNICODE, draw_timeline

# What one row with both ranges side by side needs.
WIDE = 78
_FACT_WIDTH = 9

_STYLES = {
    Kind.CHANGED: "yellow",
    Kind.ONLY_IN_OLD: "red",
    Kind.ONLY_IN_NEW: "green",
    Kind.NOT_COMPARED: "blue",
}


def draw_report(comparison: Comparison, *, width: int, ascii_only: bool = False) -> Group:
    """Return the whole report.

    Args:
        comparison: What to tell.
        width: Columns there are.
        ascii_only: Whether the output can show ASCII only.
    """
    parts = [_headline(comparison), Text(), *_summary(comparison, width)]
    if comparison.second:
        parts += _readings(comparison, comparison.second)
    for track in comparison.tracks:
        if track.differences:
            parts.append(Text(f"\n{track.noun}" if comparison.second else "", style="bold"))
            parts += (_wide_table if width >= WIDE else _narrow_table)(comparison, track)
    timeline = draw_timeline(comparison, width=width, glyphs=ASCII if ascii_only else UNICODE)
    if timeline:
        parts += [Text(), *timeline]
    return Group(*(Text(_to_ascii(part.plain)) if ascii_only else part for part in parts))


def _headline(comparison: Comparison) -> Text:
    style = "bold yellow" if comparison.differ else "bold green"
    if comparison.second:
        return Text(f"{summarize(comparison)}.", style=style)
    found, rest = _verdict(comparison, comparison.first)
    return Text.assemble((found[0].upper() + found[1:], style), f"{rest}.")


def _verdict(comparison: Comparison, track: TrackComparison) -> tuple[str, str]:
    """Return how many differences a track has, and how much is the same and what was not compared.

    Where nothing differs and the tail was not compared, a percentage under 100 would say otherwise.
    """
    found, tail = comparison.found_in(track), comparison.tail_of(track)
    rest = f", {percent(track.similarity_percent)} the same" if found or not tail else ""
    if tail and tail.old:
        rest += f"; the last {tail.old.end_seconds - tail.old.start_seconds:.1f} s were not compared"
    return _count(len(found), "difference") if found else "no differences", rest


def _readings(comparison: Comparison, second: TrackComparison) -> Iterator[Text]:
    """Yield where the two tracks differ and how, after an empty line."""
    readings = read_together(comparison.first, second)
    if readings:
        yield Text()
    for reading in readings:
        side = comparison.old if reading.end_seconds <= comparison.old.duration_seconds else comparison.new
        where = _range(TimeRange(reading.start_seconds, reading.end_seconds), side)
        yield Text.assemble((where, "dim"), f"  {describe(reading, comparison)}")


def _summary(comparison: Comparison, width: int) -> Iterator[Text]:
    films = [
        (printable(side.label), "  ".join([side.time_name(side.duration_seconds), *_format(side)]))
        for side in (comparison.old, comparison.new)
    ]
    label_width = max(cell_len(label) for label, _ in films)
    facts_width = max(len(facts) for _, facts in films)
    one_line = _FACT_WIDTH + label_width + 2 + facts_width <= width
    for name, (label, facts) in zip(("old", "new"), films, strict=True):
        if one_line:
            yield _fact(name, f"{label}{' ' * (label_width - cell_len(label))}  {facts}")
        else:
            yield _fact(name, label)
            yield _fact("", facts)
    for track in comparison.tracks:
        if comparison.second:
            found, rest = _verdict(comparison, track)
            yield _fact(track.noun, f"{found}{rest}; {_clips(track)}")
        else:
            yield _fact("clips", _clips(track))
    yield from _measure(comparison)


def _clips(track: TrackComparison) -> str:
    if track.silent:
        return f"no {track.noun} in {' and '.join(track.silent)}"
    return f"{track.differing_count} of {track.compared_count} differ"


def _measure(comparison: Comparison) -> Iterator[Text]:
    first, distance = comparison.first, f"{comparison.metric} distance"
    if comparison.second:
        thresholds = " and ".join(f"{track.threshold:.4g} ({track.noun})" for track in comparison.tracks)
        yield _fact("measure", f"{distance}, model {comparison.model}")
        yield _fact("", f"thresholds {thresholds}")
    else:
        track = "" if first.track == DEFAULT_TRACK else f", track {first.track}"
        yield _fact("measure", f"{distance}, threshold {first.threshold:.4g}, model {comparison.model}{track}")


def _fact(name: str, value: str) -> Text:
    return Text.assemble((f"{name:<{_FACT_WIDTH - 1}} ", "dim"), value)


def _format(side: Side) -> Iterator[str]:
    if side.frame_rate:
        yield str(side.frame_rate)
    if side.width and side.height:
        yield f"{side.width}×{side.height}"


def _wide_table(comparison: Comparison, track: TrackComparison) -> Iterator[Text]:
    """Yield a header, then one line for each difference, which `grep` and `awk` can read."""
    rows = [_Row.read(difference, comparison) for difference in track.differences]
    number_width = len(str(len(rows)))
    old_width = max(len("old"), *(len(row.old) for row in rows))
    new_width = max(len("new"), *(len(row.new) for row in rows))
    yield Text(
        f"{'#':>{number_width}}  {'what':<{_KIND_WIDTH}}  {'old':<{old_width}}  {'new':<{new_width}}  distance",
        style="bold",
    )
    for number, row in enumerate(rows, 1):
        ranges = f"  {row.old:<{old_width}}  {row.new:<{new_width}}  {row.distance}".rstrip()
        yield Text.assemble((f"{number:>{number_width}}  ", "dim"), row.kind_cell(), ranges)


def _narrow_table(comparison: Comparison, track: TrackComparison) -> Iterator[Text]:
    """Yield two lines for each difference that both films have, one for any other."""
    rows = [_Row.read(difference, comparison) for difference in track.differences]
    number_width = len(str(len(rows)))
    margin = " " * (number_width + 2 + _KIND_WIDTH)
    for number, row in enumerate(rows, 1):
        sides = [f"  {name} {value}" for name, value in (("old", row.old), ("new", row.new)) if value != _NOWHERE]
        sides[0] = f"{sides[0]}  {row.distance}".rstrip()
        yield Text.assemble((f"{number:>{number_width}}  ", "dim"), row.kind_cell(), sides[0])
        for side in sides[1:]:
            yield Text(margin + side)


_NOWHERE = "-"
_KIND_WIDTH = max(len(kind.value) for kind in Kind)


@dataclass(frozen=True)
class _Row:
    kind: Kind
    old: str
    new: str
    distance: str

    @classmethod
    def read(cls, difference: Difference, comparison: Comparison) -> Self:
        return cls(
            kind=difference.kind,
            old=_range(difference.old, comparison.old),
            new=_range(difference.new, comparison.new),
            distance="" if difference.max_distance is None else f"{difference.max_distance:.3f}",
        )

    def kind_cell(self) -> tuple[str, str]:
        return f"{self.kind.value:<{_KIND_WIDTH}}", _STYLES[self.kind]


def _range(time_range: TimeRange | None, side: Side) -> str:
    if time_range is None:
        return _NOWHERE
    return f"{side.time_name(time_range.start_seconds)}-{side.time_name(time_range.end_seconds)}"


def percent(value: float) -> str:
    """Return a percentage with one decimal, never rounded up: only what is the same all through is 100%."""
    floored = math.floor(value * 10) / 10
    return f"{floored:.0f}%" if floored == int(floored) else f"{floored:.1f}%"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _to_ascii(text: str) -> str:
    return text.replace("×", "x").encode("ascii", "backslashreplace").decode("ascii")
