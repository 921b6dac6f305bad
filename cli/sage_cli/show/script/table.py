"""The edits as a table: a line per edit, and under it what does not fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from rich.text import Text
from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import Comparison, replaced_together
from sage_cli.show.script.words import KINDS, Change, duration, length, read_changes, seconds_of, where_of

# Columns of a row with both ranges side by side, and of one that has the details at its end too.
WIDE = 78
WIDEST = 100
_ABSENT = "-"
_WORD_WIDTH = 10
_LENGTH_WIDTH = 6


@dataclass(frozen=True)
class Row:
    """An edit for people.

    Attributes:
        symbol: Tells the kind of edit without colour.
        word: What was done, such as `inserted`, or what changed, such as `logo`.
        style: Colour of both.
        old: Where it is in the old film; `-` if it is not there.
        new: Where it is in the new film; `-` if it is not there.
        length: How long it is in the new film, or in the old one if only that has it.
        details: What else there is to say about it, each in a few words.
    """

    symbol: str
    word: str
    style: str
    old: str
    new: str
    length: str
    details: tuple[str, ...]

    @classmethod
    def read(cls, edit: compare_pb2.Edit, comparison: Comparison, *, rate: float, sound_too: bool = False) -> Self:
        """Return the row of an edit. A kind of a newer server counts as a change.

        Args:
            edit: The edit.
            comparison: The films.
            rate: Seconds of the old film per second of the new one in what both have.
            sound_too: Whether the sound is another because the picture is.
        """
        symbol, word, style = KINDS.get(edit.kind, KINDS[compare_pb2.EDIT_KIND_CHANGED])
        changes = read_changes(edit)
        details = [_describe(change, edit, comparison) for change in changes]
        if edit.kind not in {compare_pb2.EDIT_KIND_INSERTED, compare_pb2.EDIT_KIND_DELETED} and changes:
            if edit.kind == compare_pb2.EDIT_KIND_CHANGED:
                word = changes[0].noun
                details[0] = details[0].removeprefix(word).removeprefix(" ")
            else:
                details[0] = f"with {details[0]}"
            details[1:] = [f"also {also}" for also in details[1:]]
        if sound_too:
            details.append("with its sound")
        if edit.HasField("repeats"):
            inserted = edit.kind == compare_pb2.EDIT_KIND_INSERTED
            start, end = (comparison.old if inserted else comparison.new).times.ends_of(edit.repeats)
            details.append(f"repeats {start}-{end} of old" if inserted else f"new has it once, at {start}-{end}")
        if edit.HasField("a") and edit.HasField("b") and _other_length(edit, comparison, rate):
            details.append(f"{duration(seconds_of(edit.a))} in old")
        film = comparison.new if edit.HasField("b") else comparison.old
        return cls(
            symbol=symbol,
            word=word,
            style=style,
            old="-".join(comparison.old.times.ends_of(edit.a)) if edit.HasField("a") else _ABSENT,
            new="-".join(comparison.new.times.ends_of(edit.b)) if edit.HasField("b") else _ABSENT,
            length=length(where_of(edit), film),
            details=tuple(detail for detail in details if detail),
        )


def _describe(change: Change, edit: compare_pb2.Edit, comparison: Comparison) -> str:
    """Return a change in words, with its own time if it is only in a part of the edit."""
    words = f"{change.noun} {change.details}".strip()
    where = change.message.b
    if change.message.HasField("b") and edit.HasField("b") and where != edit.b:
        start, end = comparison.new.times.ends_of(where)
        whole_start, whole_end = comparison.new.times.ends_of(edit.b)
        if (start, end) != (whole_start, whole_end):
            words += f" ({start}-{end})"
    return words


def _other_length(edit: compare_pb2.Edit, comparison: Comparison, rate: float) -> bool:
    """Whether an edit is longer or shorter in the old film, by more than a frame."""
    frame_rate = comparison.new.frame_rate
    frame = float(1 / frame_rate.frames_per_second) if frame_rate else 0.04
    return abs(seconds_of(edit.a) - rate * seconds_of(edit.b)) > 1.5 * frame


def _usual_rate(edits: Sequence[compare_pb2.Edit]) -> float:
    """Return the rate of the longest match: that of the whole film, if it was conformed to another frame rate."""
    matched = [edit for edit in edits if edit.kind == compare_pb2.EDIT_KIND_MATCHED]
    return max(matched, key=lambda edit: seconds_of(edit.b)).rate if matched else 1.0


def draw_table(
    edits: Sequence[compare_pb2.Edit],
    comparison: Comparison,
    *,
    width: int,
    beside: Sequence[compare_pb2.TrackComparison] = (),
) -> Iterator[Text]:
    """Yield a header and the rows, suitable for `grep` and `awk`.

    Args:
        edits: The edits to list.
        comparison: The films.
        width: Columns of the terminal.
        beside: The other tracks, whose edits in the same place are not listed again.
    """
    sounds = [sound for track in beside for sound in track.script.edits]
    rate = _usual_rate(comparison.tracks[0].script.edits)
    rows = [
        Row.read(edit, comparison, rate=rate, sound_too=any(replaced_together(edit, sound) for sound in sounds))
        for edit in edits
    ]
    number_width = len(str(len(rows)))
    margin = number_width + 2
    if width < WIDE:
        yield from _narrow(rows, number_width)
        return
    old_width = max(len("old"), *(len(row.old) for row in rows))
    new_width = max(len("new"), *(len(row.new) for row in rows))
    sides = f"{'old':<{old_width}}  {'new':<{new_width}}"
    yield Text(f"{'#':>{number_width}}  {'what':<{_WORD_WIDTH + 2}} {sides}  length", style="bold")
    for number, row in enumerate(rows, 1):
        line = Text.assemble(
            (f"{number:>{number_width}}  ", "dim"),
            (f"{row.symbol} {row.word:<{_WORD_WIDTH}}", row.style),
            f" {row.old:<{old_width}}  {row.new:<{new_width}}  {row.length:>{_LENGTH_WIDTH}}",
        )
        if width >= WIDEST and row.details:
            line.append(f"  {'; '.join(row.details)}", style="dim")
            yield line
            continue
        yield line
        for detail in row.details:
            yield Text(" " * (margin + 2) + detail, style=f"{row.style} dim")


def _narrow(rows: Sequence[Row], number_width: int) -> Iterator[Text]:
    """Yield a line for what was done, one for each side, and one for each detail."""
    margin = " " * (number_width + 4)
    for number, row in enumerate(rows, 1):
        yield Text.assemble(
            (f"{number:>{number_width}}  ", "dim"), (f"{row.symbol} {row.word}", row.style), f"  {row.length}"
        )
        for detail in row.details:
            yield Text(margin + detail, style=f"{row.style} dim")
        for name, where in (("old", row.old), ("new", row.new)):
            if where != _ABSENT:
                yield Text(f"{margin}{name} {where}")
