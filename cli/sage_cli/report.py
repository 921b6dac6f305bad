"""A comparison for people: a summary, the differences, the timeline."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from sage_cli.comparison import Comparison, Difference, Kind, Side, TimeRange
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
    if comparison.differences:
        parts += [Text(), *(_wide_table if width >= WIDE else _narrow_table)(comparison)]
    timeline = draw_timeline(comparison, width=width, glyphs=ASCII if ascii_only else UNICODE)
    if timeline:
        parts += [Text(), *timeline]
    return Group(*(Text(_to_ascii(part.plain)) if ascii_only else part for part in parts))


def _headline(comparison: Comparison) -> Text:
    similarity = f"{percent(comparison.similarity_percent)} the same"
    if not comparison.differ:
        return Text.assemble(("No differences", "bold green"), f", {similarity}.")
    return Text.assemble((_count(len(comparison.differences), "difference"), "bold yellow"), f", {similarity}.")


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
    yield _fact("clips", f"{comparison.differing_count} of {comparison.compared_count} differ")
    threshold = f"{comparison.threshold:.4g}"
    yield _fact("measure", f"{comparison.metric} distance, threshold {threshold}, model {comparison.model}")


def _fact(name: str, value: str) -> Text:
    return Text.assemble((f"{name:<{_FACT_WIDTH}}", "dim"), value)


def _format(side: Side) -> Iterator[str]:
    if side.frame_rate:
        yield str(side.frame_rate)
    if side.width and side.height:
        yield f"{side.width}×{side.height}"


def _wide_table(comparison: Comparison) -> Iterator[Text]:
    """Yield a header, then one line for each difference, which `grep` and `awk` can read."""
    rows = [_Row.read(difference, comparison) for difference in comparison.differences]
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


def _narrow_table(comparison: Comparison) -> Iterator[Text]:
    """Yield two lines for each difference that both films have, one for any other."""
    rows = [_Row.read(difference, comparison) for difference in comparison.differences]
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
