"""Edits in words: what was done, where in the picture, and for how long."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import Film
from sage_cli.show.timecode import short_clock

EditKind: TypeAlias = compare_pb2.EditKind.ValueType
ChangeKind: TypeAlias = compare_pb2.ChangeKind.ValueType

# A symbol that is read without colour, a word and a style per kind.
KINDS: dict[EditKind, tuple[str, str, str]] = {
    compare_pb2.EDIT_KIND_INSERTED: ("+", "inserted", "green"),
    compare_pb2.EDIT_KIND_DELETED: ("-", "deleted", "red"),
    compare_pb2.EDIT_KIND_MOVED: (">", "moved", "magenta"),
    compare_pb2.EDIT_KIND_CHANGED: ("~", "changed", "yellow"),
}
_NOUNS: dict[ChangeKind, str] = {
    compare_pb2.CHANGE_KIND_REPLACED: "replaced",
    compare_pb2.CHANGE_KIND_BLUR: "blur",
    compare_pb2.CHANGE_KIND_CROP: "crop",
    compare_pb2.CHANGE_KIND_GRADE: "grade",
    compare_pb2.CHANGE_KIND_MIRRORED: "mirrored",
    compare_pb2.CHANGE_KIND_NEGATIVE: "negative",
    compare_pb2.CHANGE_KIND_BLACK: "black",
    compare_pb2.CHANGE_KIND_FROZEN: "freeze",
    compare_pb2.CHANGE_KIND_FADE: "fade",
    compare_pb2.CHANGE_KIND_DISSOLVE: "dissolve",
    compare_pb2.CHANGE_KIND_RETIMED: "retimed",
    compare_pb2.CHANGE_KIND_SOUND_REPLACED: "dubbed",
    compare_pb2.CHANGE_KIND_SOUND_SHIFTED: "shifted",
    compare_pb2.CHANGE_KIND_SOUND_LEVEL: "level",
    compare_pb2.CHANGE_KIND_SOUND_MISSING: "silent",
}
# What is added to a picture or taken from it, by its film's side.
ADDED = {
    compare_pb2.CHANGE_SIDE_UNSPECIFIED: "changed",
    compare_pb2.CHANGE_SIDE_A: "removed",
    compare_pb2.CHANGE_SIDE_B: "added",
}
_ADDITIONS = {compare_pb2.CHANGE_KIND_OVERLAY, compare_pb2.CHANGE_KIND_TEXT, compare_pb2.CHANGE_KIND_BLUR}
# A logo is small and in a corner; a subtitle is in the lowest third.
_LOGO_AREA = 0.06
_SUBTITLE_CENTRE_Y = 2 / 3
# A part wider or higher than this spans the picture in that direction.
_SPAN = 0.6


@dataclass(frozen=True)
class Change:
    """A change for people.

    Attributes:
        noun: What it is, such as `logo`: at most nine characters.
        details: How and where, such as `added, bottom right`. May be empty.
        message: The change in the response.
    """

    noun: str
    details: str
    message: compare_pb2.Change


def read_changes(edit: compare_pb2.Edit) -> Sequence[Change]:
    """Return the changes of an edit that count, strongest first."""
    return [
        Change(noun_of_change(change), _details(change, edit), change) for change in edit.changes if not change.weak
    ]


def noun_of_change(change: compare_pb2.Change) -> str:
    """Return what a change is. A kind of a newer server is `changed`."""
    if change.kind == compare_pb2.CHANGE_KIND_OVERLAY:
        where = place(change.region) if change.HasField("region") else ""
        small = change.region.width * change.region.height <= _LOGO_AREA
        return "logo" if small and where.startswith(("top ", "bottom ")) else "overlay"
    if change.kind == compare_pb2.CHANGE_KIND_TEXT:
        centre_y = change.region.y + change.region.height / 2
        return "subtitle" if change.HasField("region") and centre_y >= _SUBTITLE_CENTRE_Y else "title"
    return _NOUNS.get(change.kind, "changed")


def place(region: compare_pb2.Region) -> str:
    """Return where a part of the picture is: `bottom right`, `top`, `centre`; empty if it spans the picture."""
    if region.width > _SPAN and region.height > _SPAN:
        return ""
    column = _third(region.x, region.width, ("left", "", "right"))
    row = _third(region.y, region.height, ("top", "", "bottom"))
    return f"{row} {column}".strip() or "centre"


def _third(start: float, length: float, names: tuple[str, str, str]) -> str:
    return names[1] if length > _SPAN else names[min(2, int((start + length / 2) * 3))]


def _details(change: compare_pb2.Change, edit: compare_pb2.Edit) -> str:
    kind, side = change.kind, change.side
    parts: list[str] = []
    if kind in _ADDITIONS:
        parts.append(ADDED.get(side, "changed"))
    elif kind == compare_pb2.CHANGE_KIND_RETIMED:
        parts.append(speed(edit.rate))
    elif kind == compare_pb2.CHANGE_KIND_SOUND_SHIFTED:
        parts.append(shift(change.amount))
    elif kind == compare_pb2.CHANGE_KIND_SOUND_LEVEL:
        parts.append(level(change.amount))
    elif kind == compare_pb2.CHANGE_KIND_SOUND_MISSING:
        # The side is the film that still has the sound.
        parts.append("in old" if side == compare_pb2.CHANGE_SIDE_B else "in new")
    elif side == compare_pb2.CHANGE_SIDE_A:
        parts.append("in old")
    elif side == compare_pb2.CHANGE_SIDE_B:
        parts.append("in new")
    if change.HasField("region") and (where := place(change.region)):
        parts.append(where)
    return ", ".join(parts)


def speed(rate: float) -> str:
    """Return the speed of the new film relative to the old one: `at 125% speed`."""
    percent = rate * 100
    return f"at {percent:.0f}% speed" if abs(percent - round(percent)) < 0.05 else f"at {percent:.1f}% speed"


def shift(seconds: float) -> str:
    """Return by how much the sound of the new film is late: `by +80 ms`. If it is early, the number is negative."""
    return f"by {seconds * 1000:+.0f} ms" if abs(seconds) < 1 else f"by {seconds:+.2f} s"


def level(decibels: float) -> str:
    """Return how much louder the new film is: `6 dB louder`."""
    return f"{abs(decibels):.2g} dB {'softer' if decibels < 0 else 'louder'}"


def where_of(edit: compare_pb2.Edit) -> compare_pb2.FrameRange:
    """Return the range of an edit in the new film, or in the old one if only that has it."""
    return edit.b if edit.HasField("b") else edit.a


def seconds_of(where: compare_pb2.FrameRange) -> float:
    """Return the length of a range."""
    return where.end_seconds - where.start_seconds


def length(where: compare_pb2.FrameRange, film: Film) -> str:
    """Return the length of a range for a table: frames if it is shorter than a second, as far as they are known."""
    seconds, frames = seconds_of(where), where.end_frame - where.first_frame
    if seconds < 1 and film.frame_rate and frames:
        return f"{frames} f"
    return duration(seconds)


def duration(seconds: float) -> str:
    """Return a length in a sentence: `0.04 s`, `2.8 s`, `12 s` or `1:30`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 10:
        return f"{round(seconds, 1):g} s"
    return f"{round(seconds)} s" if round(seconds) < 60 else short_clock(round(seconds))
