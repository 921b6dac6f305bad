"""Both films as bars, the old one above the new one, and between them what corresponds to what.

What both films have is a ribbon from one bar to the other. An insertion pushes the ribbons apart, a deletion draws them
together, and what moved crosses the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from rich.text import Text
from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import Comparison, edits_in
from sage_cli.show.script.words import KINDS, EditKind
from sage_cli.show.timeline import LABEL_WIDTH, MIN_COLUMNS, Scale, draw_ruler, labelled

_MATCHED = compare_pb2.EDIT_KIND_MATCHED
_CHANGED = compare_pb2.EDIT_KIND_CHANGED
_MOVED = compare_pb2.EDIT_KIND_MOVED
_INSERTED = compare_pb2.EDIT_KIND_INSERTED
_DELETED = compare_pb2.EDIT_KIND_DELETED

# What is seen if several share a column, the last one first.
_RANK: dict[EditKind, int] = {_MATCHED: 0, _CHANGED: 1, _INSERTED: 2, _DELETED: 2, _MOVED: 3}
_RIBBON_ROWS = 4
# Dots of a Braille character.
_DOTS_X, _DOTS_Y = 2, 4
_DOT_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800

_Dots: TypeAlias = list[list[EditKind | None]]


@dataclass(frozen=True)
class _Ribbon:
    """What corresponds: a range of each bar, as shares of the width. Either may be a point."""

    kind: EditKind
    old: tuple[float, float]
    new: tuple[float, float]

    def at(self, down: float) -> tuple[float, float]:
        """Return its left and right edge at a height, 0 at the old bar and 1 at the new one."""
        eased = down * down * (3 - 2 * down)
        left, right = (old + (new - old) * eased for old, new in zip(self.old, self.new, strict=True))
        return left, right


def draw_timelines(comparison: Comparison, *, width: int, ascii_only: bool = False) -> list[Text]:
    """Return the lines: a ruler, the old film, the ribbons, the new film, the sound if it differs too, the legend.

    Args:
        comparison: What to draw.
        width: Columns to fill. Returns nothing if there is no room or nothing to draw.
        ascii_only: Whether the output can show only ASCII.
    """
    columns = width - LABEL_WIDTH
    total_seconds = max(comparison.old.duration_seconds, comparison.new.duration_seconds)
    if columns < MIN_COLUMNS or total_seconds <= 0:
        return []
    scale = Scale(columns, total_seconds)
    main, *others = comparison.tracks
    edits = main.script.edits
    ribbons = list(_ribbons(edits, total_seconds))
    rows = _ascii_rows(ribbons, columns) if ascii_only else _braille_rows(ribbons, columns)
    same = "=" if ascii_only else "█"
    bars = [
        _bar([(edit.kind, edit.a) for edit in edits if edit.HasField("a")], comparison.old.duration_seconds, scale),
        _bar([(edit.kind, edit.b) for edit in edits if edit.HasField("b")], comparison.new.duration_seconds, scale),
    ]
    old, new = (_paint(bar, same) for bar in bars)
    lines = [
        labelled("", Text(draw_ruler(scale, "|" if ascii_only else "╷"), style="dim")),
        labelled("old", old),
        *(labelled("", row) for row in rows),
        labelled("new", new),
    ]
    for track in others:
        marks = [(edit.kind, edit.b) for edit in edits_in(track, beside=main) if edit.HasField("b")]
        if not marks:
            continue
        lane = _bar(marks, comparison.new.duration_seconds, scale)
        lines.append(labelled("snd" if track.name == "audio" else track.name[:3], _paint(lane, same)))
    present = {edit.kind for track in comparison.tracks for edit in track.script.edits}
    return [*lines, Text(), *(labelled("", line) for line in _legend(present, same, columns))]


def _ribbons(edits: Sequence[compare_pb2.Edit], total_seconds: float) -> Iterator[_Ribbon]:
    """Yield the ribbons, those in front last. What only one film has ends in a point of the other."""
    found = []
    old_point, new_point = {}, {}
    last = 0.0
    for index, edit in enumerate(edits):  # In the order of the new film.
        old_point[index] = last
        if edit.HasField("a") and edit.kind != _MOVED:
            last = edit.a.end_seconds
    last = 0.0
    for index, edit in sorted(enumerate(edits), key=lambda pair: pair[1].a.start_seconds):
        if not edit.HasField("a"):
            continue
        new_point[index] = last
        if edit.HasField("b") and edit.kind != _MOVED:
            last = edit.b.end_seconds
    for index, edit in enumerate(edits):
        old = (edit.a.start_seconds, edit.a.end_seconds) if edit.HasField("a") else (old_point[index],) * 2
        new = (edit.b.start_seconds, edit.b.end_seconds) if edit.HasField("b") else (new_point[index],) * 2
        found.append(
            _Ribbon(
                edit.kind,
                (old[0] / total_seconds, old[1] / total_seconds),
                (new[0] / total_seconds, new[1] / total_seconds),
            )
        )
    yield from sorted(found, key=lambda ribbon: _RANK.get(ribbon.kind, 1))


def _braille_rows(ribbons: Sequence[_Ribbon], columns: int) -> Iterator[Text]:
    wide, high = columns * _DOTS_X, _RIBBON_ROWS * _DOTS_Y
    dots: _Dots = [[None] * wide for _ in range(high)]
    for ribbon in ribbons:
        for y in range(high):
            left, right = (edge * wide for edge in ribbon.at((y + 0.5) / high))
            first, end = round(left), round(right)
            if ribbon.kind == _MOVED:
                end = max(end, first + 1)
            for x in range(max(first, 0), min(end, wide)):
                if _is_dot(ribbon.kind, x, y, edge=x in {first, end - 1}):
                    dots[y][x] = ribbon.kind
                elif ribbon.kind == _MOVED:
                    dots[y][x] = None
    for row in range(_RIBBON_ROWS):
        text = Text()
        for column in range(columns):
            bits, kinds = 0, []
            for y in range(_DOTS_Y):
                for x in range(_DOTS_X):
                    kind = dots[row * _DOTS_Y + y][column * _DOTS_X + x]
                    if kind is not None:
                        bits |= _DOT_BITS[y][x]
                        kinds.append(kind)
            top = max(kinds, key=lambda kind: _RANK.get(kind, 1), default=None)
            text.append(chr(_BRAILLE | bits) if bits else " ", style=_style(top))
        yield text


def _is_dot(kind: EditKind, x: int, y: int, *, edge: bool) -> bool:
    """Whether a ribbon has a dot there: the kinds differ in density, so that they can be told without colour."""
    if kind == _MATCHED:
        return (x + 2 * (y % 2)) % 4 == 0
    if kind in {_INSERTED, _DELETED}:
        return edge
    if kind == _CHANGED:
        return (x + y) % 2 == 0
    return True


def _ascii_rows(ribbons: Sequence[_Ribbon], columns: int) -> Iterator[Text]:
    for row in range(_RIBBON_ROWS):
        cells: list[tuple[str, EditKind | None]] = [(" ", None)] * columns
        for ribbon in ribbons:
            above, below = ribbon.at(row / _RIBBON_ROWS), ribbon.at((row + 1) / _RIBBON_ROWS)
            if ribbon.kind == _MOVED:
                left, right = min(above[0], below[0]) * columns, max(above[1], below[1]) * columns
                for column in range(round(left), min(max(round(right), round(left) + 1), columns)):
                    cells[column] = (KINDS[_MOVED][0], _MOVED)
            elif ribbon.kind not in {_INSERTED, _DELETED}:
                for edge in (0, 1):
                    _line(cells, above[edge] * columns, below[edge] * columns, ribbon.kind)
        text = Text()
        for glyph, kind in cells:
            text.append(glyph, style=_style(kind))
        yield text


def _line(cells: list[tuple[str, EditKind | None]], above: float, below: float, kind: EditKind) -> None:
    """Draw one row of an edge of a ribbon."""
    first, last = sorted((above, below))
    glyph = "|" if last - first < 0.5 else "\\" if below > above else "/"
    for column in range(round(first), max(round(last), round(first) + 1)):
        if column < len(cells):
            cells[column] = (glyph, kind)


def _bar(
    marks: Sequence[tuple[EditKind, compare_pb2.FrameRange]], duration_seconds: float, scale: Scale
) -> list[EditKind]:
    cells: list[EditKind] = [_MATCHED] * scale.column(duration_seconds)
    for kind, where in sorted(marks, key=lambda mark: _RANK.get(mark[0], 1)):
        if kind == _MATCHED:
            continue
        for column in scale.span(where.start_seconds, where.end_seconds):
            if column < len(cells):
                cells[column] = kind
    return cells


def _paint(cells: Sequence[EditKind], same: str) -> Text:
    text = Text()
    for kind, run in groupby(cells):
        count = sum(1 for _ in run)
        if kind == _MATCHED:
            text.append(same * count, style=_style(kind))
        else:
            symbol, _, style = KINDS.get(kind, KINDS[_CHANGED])
            text.append(symbol * count, style=f"bold reverse {style}")
    return text


def _style(kind: EditKind | None) -> str:
    if kind is None:
        return ""
    return "bright_black" if kind == _MATCHED else KINDS.get(kind, KINDS[_CHANGED])[2]


def _legend(present: set[EditKind], same: str, columns: int) -> Iterator[Text]:
    """Explain the glyphs of the bars, on as many lines as it takes."""
    entries = [Text.assemble((same, _style(_MATCHED)), " same")] if _MATCHED in present else []
    entries += [
        Text.assemble((symbol, f"bold reverse {style}"), f" {word}")
        for kind, (symbol, word, style) in KINDS.items()
        if kind in present
    ]
    line = Text()
    for entry in entries:
        if line and len(line) + 2 + len(entry) > columns:
            yield line
            line = Text()
        line = Text("  ").join([line, entry]) if line else entry
    yield line
