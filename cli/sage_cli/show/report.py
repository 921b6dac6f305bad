"""A comparison for people: a summary, the differences of each track, the timeline."""

import math
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, Self

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text
from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import (
    DEFAULT_TRACK,
    KIND_NAMES,
    METRIC_NAMES,
    Comparison,
    Film,
    Kind,
    kind_of,
    noun_of,
)
from sage_cli.show.readings import AUDIO_TRACKS_DIFFER, describe, listed, read_together, summarize
from sage_cli.show.remarks import describe_media_difference, describe_not_compared, describe_picture_tracks
from sage_cli.show.terminal import printable
from sage_cli.show.timeline import ASCII, UNICODE, draw_timeline

# Columns needed by a row with both ranges side by side.
WIDE = 78
_FACT_WIDTH = 9
_ABSENT = "-"
_KIND_WIDTH = max(len(name) for name in KIND_NAMES.values())

_STYLES: dict[Kind, str] = {
    compare_pb2.DIFFERENCE_KIND_CHANGED: "yellow",
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_A: "red",
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_B: "green",
    compare_pb2.DIFFERENCE_KIND_NOT_COMPARED: "blue",
}
# What needs no telling because it was taken out.
_NORMALIZES = {
    compare_pb2.MEDIA_DIFFERENCE_KIND_BLACK_BARS: compare_pb2.NORMALIZATION_KIND_BLACK_BARS,
    compare_pb2.MEDIA_DIFFERENCE_KIND_DYNAMIC_RANGE: compare_pb2.NORMALIZATION_KIND_TONE,
}


def draw_report(comparison: Comparison, *, width: int, ascii_only: bool = False) -> Group:
    """Return the whole report.

    Args:
        comparison: What to report.
        width: Columns of the terminal.
        ascii_only: Whether the output can show only ASCII.
    """
    several = len(comparison.tracks) > 1
    parts = [_headline(comparison), *draw_remarks(comparison), Text(), *_summary(comparison, width)]
    if several:
        parts += _readings(comparison)
    for track in comparison.tracks:
        if track.time.differences:
            parts.append(Text(f"\n{noun_of(track)}" if several else "", style="bold"))
            parts += (_wide_table if width >= WIDE else _narrow_table)(comparison, track)
    timeline = draw_timeline(comparison, width=width, glyphs=ASCII if ascii_only else UNICODE)
    if timeline:
        parts += [Text(), *timeline]
    return Group(*(Text(to_ascii(part.plain)) if ascii_only else part for part in parts))


def _headline(comparison: Comparison) -> Text:
    style = "bold yellow" if comparison.differ else "bold green"
    if len(comparison.tracks) > 1:
        return Text(f"{summarize(comparison)}.", style=style)
    (track,) = comparison.tracks
    found, tail = comparison.found_in(track), _tail(comparison, track)
    # If nothing differs and the tail was not compared, a percentage below 100 would be misleading.
    same = "the same" if tail and not found else f"{percent(track.similarity_percent)} the same"
    rest = f": {count(len(found), 'difference')}" if found else ""
    if comparison.counted_media_differences:
        tail += f"; {AUDIO_TRACKS_DIFFER}"
    return Text.assemble((f"The {noun_of(track)} is {same}", style), f"{rest}{tail}.")


def draw_remarks(
    comparison: Comparison, *, normalized: Collection[compare_pb2.NormalizationKind.ValueType] = ()
) -> Iterator[Text]:
    """Yield a line for each difference between the files, and for what was not compared.

    Args:
        comparison: What to report.
        normalized: What was taken out before the films were compared, so that it explains nothing.
    """
    differences = [one for one in comparison.response.media_differences if _NORMALIZES.get(one.kind) not in normalized]
    for difference in differences:
        if difference.counts_as_difference:
            yield Text(printable(describe_media_difference(difference)), style="yellow")
    for sentence in describe_not_compared(comparison):
        yield Text(printable(sentence), style="blue")
    for difference in differences:
        if not difference.counts_as_difference:
            yield Text(printable(describe_media_difference(difference, explains=not comparison.aligned)))
    for sentence in describe_picture_tracks(comparison):
        yield Text(printable(sentence))


def _tail(comparison: Comparison, track: compare_pb2.TrackComparison) -> str:
    tail = comparison.tail_of(track)
    return f"; the last {tail.a.end_seconds - tail.a.start_seconds:.1f} s were not compared" if tail else ""


def _verdict(comparison: Comparison, track: compare_pb2.TrackComparison) -> str:
    """Return how many differences a track has, how much is the same, and what was not compared.

    If nothing differs and the tail was not compared, a percentage below 100 would be misleading and is omitted.
    """
    found, tail = comparison.found_in(track), _tail(comparison, track)
    same = f", {percent(track.similarity_percent)} the same" if found or not tail else ""
    return f"{count(len(found), 'difference') if found else 'no differences'}{same}{tail}"


def _readings(comparison: Comparison) -> Iterator[Text]:
    """Yield where the tracks differ and how, after an empty line."""
    readings = read_together(comparison.tracks)
    if readings:
        yield Text()
    old, new = _edge_names(comparison, "a"), _edge_names(comparison, "b")
    for reading in readings:
        edges = (reading.start_seconds, reading.end_seconds)
        film, names = (comparison.old, old) if old.keys() >= {*edges} else (comparison.new, new)
        # The other film may be the only one that has an edge: where its sound ends, for example.
        where = "-".join(names.get(edge) or film.times.at(edge) for edge in edges)
        yield Text.assemble((where, "dim"), f"  {describe(reading, comparison)}")


def _edge_names(comparison: Comparison, side: Literal["a", "b"]) -> dict[float, str]:
    """Return the timecode of each time at which a difference starts or ends: that of the frame in the response."""
    film = comparison.old if side == "a" else comparison.new
    names: dict[float, str] = {}
    for track in comparison.tracks:
        for difference in track.time.differences:
            if difference.HasField(side):
                where: compare_pb2.FrameRange = getattr(difference, side)
                names |= zip((where.start_seconds, where.end_seconds), film.times.ends_of(where), strict=True)
    return names


def wrap(sentence: str, width: int, *, style: str = "") -> Iterator[Text]:
    """Yield a sentence in lines that fit."""
    for line in textwrap.wrap(printable(sentence), max(width, _FACT_WIDTH), break_on_hyphens=False):
        yield Text(line, style=style)


def draw_films(comparison: Comparison, width: int) -> Iterator[Text]:
    """Yield what the films are called, and how they are made."""
    films = [(printable(film.label), "  ".join(_format(film))) for film in comparison.films]
    label_width = max(cell_len(label) for label, _ in films)
    facts_width = max(len(facts) for _, facts in films)
    one_line = _FACT_WIDTH + label_width + 2 + facts_width <= width
    for name, (label, facts) in zip(("old", "new"), films, strict=True):
        if one_line:
            yield fact(name, f"{label}{' ' * (label_width - cell_len(label))}  {facts}")
        else:
            yield fact(name, label)
            yield fact("", facts)


def _summary(comparison: Comparison, width: int) -> Iterator[Text]:
    yield from draw_films(comparison, width)
    for track in comparison.tracks:
        if len(comparison.tracks) > 1:
            yield fact(noun_of(track), f"{_verdict(comparison, track)}; {_clips(track)}")
        else:
            yield fact("clips", _clips(track))
            yield from _compared(comparison, track, width)
    yield from _measure(comparison)


def _clips(track: compare_pb2.TrackComparison) -> str:
    covered = {"old": track.HasField("a_covered"), "new": track.HasField("b_covered")}
    silent = [name for name, there in covered.items() if not there]
    if silent:
        return f"no {noun_of(track)} in {listed(silent)}"
    return f"{track.time.differing_count} of {track.time.compared_count} differ"


def _compared(comparison: Comparison, track: compare_pb2.TrackComparison, width: int) -> Iterator[Text]:
    """Yield the range of each film that was compared: on one line if both are called the same, or if there is room."""
    series = track.time.series
    if not series.distances:
        return
    starts = (series.a_start_seconds, series.b_start_seconds)
    ranges = [
        f"{film.times.at(times[0])}-{film.times.at(times[-1] + series.length_seconds[-1])}"
        for film, times in zip(comparison.films, starts, strict=True)
    ]
    if ranges[0] == ranges[1]:
        yield fact("compared", f"{noun_of(track)}, {ranges[0]}")
        return
    old, new = f"{noun_of(track)}, {ranges[0]} of old", f"{ranges[1]} of new"
    if _FACT_WIDTH + len(old) + 2 + len(new) <= width:
        yield fact("compared", f"{old}, {new}")
    else:
        yield fact("compared", f"{old},")
        yield fact("", new)


def _measure(comparison: Comparison) -> Iterator[Text]:
    response = comparison.response
    distance = f"{METRIC_NAMES.get(response.metric, 'unknown')} distance"
    first, *others = comparison.tracks
    if others:
        thresholds = [f"{track.time.threshold:.4g} ({noun_of(track)})" for track in comparison.tracks]
        yield fact("measure", f"{distance}, model {response.model}")
        yield fact("", f"thresholds {listed(thresholds)}")
    else:
        track = "" if first.name == DEFAULT_TRACK else f", track {first.name}"
        yield fact("measure", f"{distance}, threshold {first.time.threshold:.4g}, model {response.model}{track}")


def fact(name: str, value: str) -> Text:
    """Return a line with a name and a value."""
    return Text.assemble((f"{name:<{_FACT_WIDTH - 1}} ", "dim"), value)


def _format(film: Film) -> Iterator[str]:
    yield film.times.length(film.duration_seconds)
    if film.frame_rate:
        yield str(film.frame_rate)
    if film.media.display_width and film.media.display_height:
        yield f"{film.media.display_width}×{film.media.display_height}"
    if start := film.times.start:
        yield f"from {start}"


def _wide_table(comparison: Comparison, track: compare_pb2.TrackComparison) -> Iterator[Text]:
    """Yield a header, then one line per difference, suitable for `grep` and `awk`."""
    rows = [_Row.read(difference, comparison) for difference in track.time.differences]
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


def _narrow_table(comparison: Comparison, track: compare_pb2.TrackComparison) -> Iterator[Text]:
    """Yield two lines per difference that both films have, one for any other."""
    rows = [_Row.read(difference, comparison) for difference in track.time.differences]
    number_width = len(str(len(rows)))
    margin = " " * (number_width + 2 + _KIND_WIDTH)
    for number, row in enumerate(rows, 1):
        sides = [f"  {name} {value}" for name, value in (("old", row.old), ("new", row.new)) if value != _ABSENT]
        sides[:1] = [f"{sides[0] if sides else ''}  {row.distance}".rstrip()]
        yield Text.assemble((f"{number:>{number_width}}  ", "dim"), row.kind_cell(), sides[0])
        for side in sides[1:]:
            yield Text(margin + side)


@dataclass(frozen=True)
class _Row:
    kind: Kind
    old: str
    new: str
    distance: str

    @classmethod
    def read(cls, difference: compare_pb2.Difference, comparison: Comparison) -> Self:
        return cls(
            kind=kind_of(difference),
            old="-".join(comparison.old.times.ends_of(difference.a)) if difference.HasField("a") else _ABSENT,
            new="-".join(comparison.new.times.ends_of(difference.b)) if difference.HasField("b") else _ABSENT,
            distance=f"{difference.max_distance:.3f}" if difference.HasField("max_distance") else "",
        )

    def kind_cell(self) -> tuple[str, str]:
        return f"{KIND_NAMES[self.kind]:<{_KIND_WIDTH}}", _STYLES[self.kind]


def percent(value: float) -> str:
    """Return a percentage with one decimal, never rounded up: only identical films are 100% the same."""
    floored = math.floor(value * 10) / 10
    return f"{floored:.0f}%" if floored == int(floored) else f"{floored:.1f}%"


def count(number: int, noun: str) -> str:
    """Return a number and a noun, in the plural if there is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def to_ascii(text: str) -> str:
    """Return a text in ASCII, with escapes for what it lacks."""
    return text.replace("×", "x").encode("ascii", "backslashreplace").decode("ascii")
