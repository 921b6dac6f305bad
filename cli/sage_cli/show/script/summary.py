"""The summary of an edit script, as a person would write it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import Film
from sage_cli.show.script.words import (
    ADDED,
    Change,
    ChangeKind,
    duration,
    level,
    place,
    read_changes,
    seconds_of,
    shift,
    speed,
    where_of,
)

_Found: TypeAlias = tuple[Change, compare_pb2.Edit]

# More places than this of one noun are counted, not listed.
_MAX_PLACES = 2
# A change that is shorter than this is at a time; a longer one lasts from it.
_LONG_SECONDS = 10.0
# A change over this share of the film is everywhere.
_EVERYWHERE = 0.95

# What happens to a number of shots. The singular, then the plural.
_SHOTS: dict[ChangeKind, tuple[str, str]] = {
    compare_pb2.CHANGE_KIND_REPLACED: ("1 shot replaced", "{} shots replaced"),
    compare_pb2.CHANGE_KIND_MIRRORED: ("1 shot mirrored", "{} shots mirrored"),
    compare_pb2.CHANGE_KIND_NEGATIVE: ("1 shot in negative", "{} shots in negative"),
    compare_pb2.CHANGE_KIND_BLACK: ("1 shot black", "{} shots black"),
    compare_pb2.CHANGE_KIND_FROZEN: ("1 freeze", "{} freezes"),
    compare_pb2.CHANGE_KIND_FADE: ("1 fade", "{} fades"),
    compare_pb2.CHANGE_KIND_DISSOLVE: ("1 dissolve", "{} dissolves"),
}
# What happens to the picture. The rest of the sentence says where.
_PICTURE: dict[ChangeKind, str] = {
    compare_pb2.CHANGE_KIND_CROP: "the framing changes",
    compare_pb2.CHANGE_KIND_GRADE: "the grade changes",
}
_ADDITIONS: dict[str, tuple[str, str]] = {
    "logo": ("a logo", "logos"),
    "overlay": ("an overlay", "overlays"),
    "subtitle": ("a subtitle", "subtitles"),
    "title": ("a title", "titles"),
    "blur": ("a blur", "blurs"),
}


def summarize_edits(edits: Sequence[compare_pb2.Edit], new: Film, *, beside: Sequence[compare_pb2.Edit] = ()) -> str:
    """Return what the edits do, as a sentence: `3 inserted (12 s), 1 shot replaced, a logo added bottom right …`.

    Args:
        edits: The edits that differ.
        new: The new film, in whose time the sentence says where.
        beside: Edits of other tracks, cut like the first, of which only the changes are told.
    """
    sentence = ", ".join([*_structure(edits), *_changes([*edits, *beside], new)])
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def _structure(edits: Sequence[compare_pb2.Edit]) -> Iterator[str]:
    groups = (
        (compare_pb2.EDIT_KIND_INSERTED, False, "inserted"),
        (compare_pb2.EDIT_KIND_INSERTED, True, "repeated"),
        (compare_pb2.EDIT_KIND_DELETED, False, "deleted"),
        (compare_pb2.EDIT_KIND_DELETED, True, "no longer repeated"),
        (compare_pb2.EDIT_KIND_MOVED, False, "moved"),
    )
    for kind, repeats, verb in groups:
        found = [edit for edit in edits if edit.kind == kind and edit.HasField("repeats") == repeats]
        if found:
            total = sum(seconds_of(where_of(edit)) for edit in found)
            yield f"{len(found)} {verb} ({duration(total)})"


def _changes(edits: Sequence[compare_pb2.Edit], new: Film) -> Iterator[str]:
    found: dict[ChangeKind, list[_Found]] = defaultdict(list)
    unknown = 0
    for edit in edits:
        changes = read_changes(edit)
        # A script of a newer server may have a kind of edit, or of change, that has no words here.
        unknown += edit.kind not in compare_pb2.EditKind.values() or (
            edit.kind == compare_pb2.EDIT_KIND_CHANGED and not changes
        )
        for change in changes:
            found[change.message.kind].append((change, edit))
    # In the order of the contract, which begins with what matters most.
    for kind in sorted(found):
        yield from _phrases(kind, found[kind], new)
    if unknown:
        yield f"{unknown} changed"


def _phrases(kind: ChangeKind, found: Sequence[_Found], new: Film) -> Iterator[str]:
    changes = [change.message for change, _ in found]
    if kind in _SHOTS:
        one, several = _SHOTS[kind]
        yield one if len(found) == 1 else several.format(len(found))
    elif kind == compare_pb2.CHANGE_KIND_RETIMED:
        if len(found) == 1:
            yield f"1 shot {speed(found[0][1].rate)}"
        else:
            yield f"{len(found)} shots retimed"
    elif kind in _PICTURE:
        yield f"{_PICTURE[kind]} {_when(changes, new, noun='shot')}"
    elif kind in {compare_pb2.CHANGE_KIND_OVERLAY, compare_pb2.CHANGE_KIND_TEXT, compare_pb2.CHANGE_KIND_BLUR}:
        yield from _additions([change for change, _ in found], new)
    elif kind == compare_pb2.CHANGE_KIND_SOUND_REPLACED:
        yield f"the sound is dubbed {_span(changes, new)}"
    elif kind == compare_pb2.CHANGE_KIND_SOUND_MISSING:
        # The side is the film that still has the sound.
        films = ["in old" if change.side == compare_pb2.CHANGE_SIDE_B else "in new" for change in changes]
        yield f"the sound is missing {_spread(films, 'in one film')} {_span(changes, new)}"
    elif kind == compare_pb2.CHANGE_KIND_SOUND_SHIFTED:
        shifts = [f"shifted {shift(change.amount)}" for change in changes]
        yield f"the sound is {_spread(shifts, 'shifted')} {_span(changes, new)}"
    elif kind == compare_pb2.CHANGE_KIND_SOUND_LEVEL:
        levels = [level(change.amount) for change in changes]
        yield f"the sound is {_spread(levels, 'louder or softer')} {_span(changes, new)}"
    else:
        yield f"{len(found)} changed"


def _additions(changes: Sequence[Change], new: Film) -> Iterator[str]:
    """Yield what was added and removed: alike changes together, and only counted if they are in many places."""
    nouns: dict[str, dict[tuple[str, str], list[compare_pb2.Change]]] = defaultdict(lambda: defaultdict(list))
    for change in changes:
        message = change.message
        where = place(message.region) if message.HasField("region") else ""
        verb = ADDED.get(message.side, "changed")
        # Subtitles are where subtitles are.
        key = verb, "" if change.noun in {"subtitle", "title"} else where
        nouns[change.noun][key].append(message)
    for noun, places in nouns.items():
        one, several = _ADDITIONS[noun]
        if len(places) > _MAX_PLACES:
            yield f"{sum(len(alike) for alike in places.values())} {several} added, changed or removed"
            continue
        for (verb, where), alike in places.items():
            at = f" {where}" if where else ""
            if len(alike) == 1 or where:
                yield f"{one} {verb}{at} {_when(alike, new)}"
            else:
                yield f"{len(alike)} {several} {verb}"


def _when(changes: Sequence[compare_pb2.Change], new: Film, *, noun: str = "place") -> str:
    """Return when the new film has these changes: `at` or `from` a time, `throughout`, `in 2 shots`."""
    if new.duration_seconds and _total(changes) >= _EVERYWHERE * new.duration_seconds:
        return "throughout"
    start, _ = new.times.ends_of(changes[0].b)
    if len(changes) > 1:
        return f"in {len(changes)} {noun}s" + ("" if noun == "shot" else f" from {start}")
    return f"{'from' if _total(changes) >= _LONG_SECONDS else 'at'} {start}"


def _span(changes: Sequence[compare_pb2.Change], new: Film) -> str:
    """Return from when to when the new film has a change; if there are several, where they begin and for how long."""
    when = _when(changes, new)
    if when == "throughout":
        return when
    if len(changes) == 1:
        return "from {} to {}".format(*new.times.ends_of(changes[0].b))
    return f"{when} ({duration(_total(changes))})"


def _total(changes: Sequence[compare_pb2.Change]) -> float:
    return sum(seconds_of(change.b) for change in changes)


def _spread(words: Sequence[str], otherwise: str) -> str:
    """Return the words if all are the same."""
    return words[0] if len({*words}) == 1 else otherwise
