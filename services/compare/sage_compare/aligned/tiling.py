"""The edit script from the pieces: every frame of both films in one edit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned.chain import Matched, Order
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import Change, ChangeKind, Edit, EditKind, Frames

ALIKE = 1.5
"""An insertion beside a deletion is one replacement if neither is longer than this times the other."""


@dataclass(frozen=True)
class Tile:
    """An edit, and how its two ranges belong together if they show the same frames.

    Attributes:
        edit: The edit.
        line: The line.
        shows: For each frame of b the frame of a, never descending.
    """

    edit: Edit
    line: Line | None = None
    shows: NDArray[np.int32] | None = None


def tile(order: Order, frames_a: int, frames_b: int) -> list[Tile]:
    """Return tiles for every frame of both films.

    Between two pieces of the chain there may be frames of a, of b, or of both. If both, an editor would say that a shot
    was *replaced* if the two are of similar length (`ALIKE`), and that one thing was removed and another inserted if
    not.

    Args:
        order: The pieces.
        frames_a: Number of frames of a.
        frames_b: Number of frames of b.
    """
    tiles = [_in_order(piece) for piece in (*order.chain, *order.frozen)]
    tiles += [Tile(Edit(EditKind.MOVED, piece.a, piece.b, rate=piece.line.rate), piece.line) for piece in order.moved]
    tiles += [Tile(Edit(EditKind.INSERTED, None, piece.b, rate=0.0, repeats=piece.a)) for piece in order.repeats]
    holes_b = holes([one.edit.b for one in tiles if one.edit.b], frames_b)
    holes_a = holes([one.edit.a for one in tiles if one.edit.a], frames_a)
    in_order = [one.edit for one in tiles if one.edit.kind in (EditKind.MATCHED, EditKind.CHANGED) and one.edit.a]
    for gap_a, gap_b in _gaps(in_order, frames_a, frames_b):
        own_a = [hole for hole in holes_a if gap_a.first <= hole.first and hole.end <= gap_a.end]
        own_b = [hole for hole in holes_b if gap_b.first <= hole.first and hole.end <= gap_b.end]
        pair = _replacement(own_a, own_b)
        if pair:
            a, b = pair
            own_a.remove(a)
            own_b.remove(b)
            holes_a.remove(a)
            holes_b.remove(b)
            change = Change(ChangeKind.REPLACED, a, b, strength=0.0)
            tiles.append(Tile(Edit(EditKind.CHANGED, a, b, rate=1.0, changes=(change,))))
    tiles += [Tile(Edit(EditKind.DELETED, hole, None, rate=0.0)) for hole in holes_a]
    tiles += [Tile(Edit(EditKind.INSERTED, None, hole, rate=0.0)) for hole in holes_b]
    return in_script_order(_joined(tiles))


def _joined(tiles: Sequence[Tile]) -> list[Tile]:
    """Return the tiles with insertions that touch as one, and deletions too, unless they repeat something."""
    joined: list[Tile] = []
    for one in sorted(tiles, key=_place):
        edit, last = one.edit, joined[-1].edit if joined else None
        if last and last.kind is edit.kind and last.repeats is None and edit.repeats is None:
            if edit.kind is EditKind.INSERTED and last.b and edit.b and last.b.end == edit.b.first:
                joined[-1] = Tile(replace(last, b=Frames(last.b.first, edit.b.end)))
                continue
            if edit.kind is EditKind.DELETED and last.a and edit.a and last.a.end == edit.a.first:
                joined[-1] = Tile(replace(last, a=Frames(last.a.first, edit.a.end)))
                continue
        joined.append(one)
    return joined


def _place(one: Tile) -> tuple[bool, int]:
    """Order by place in b, then those that are only in a by place in a."""
    edit = one.edit
    return (edit.b is None, edit.b.first if edit.b else edit.a.first if edit.a else 0)


def _in_order(piece: Matched) -> Tile:
    rate = piece.line.rate
    if piece.change:
        altered = Change(piece.change, piece.a, piece.b, strength=100.0, side=piece.side)
        return Tile(Edit(EditKind.CHANGED, piece.a, piece.b, rate=rate, changes=(altered,)), piece.line)
    if rate == 1.0:
        return Tile(Edit(EditKind.MATCHED, piece.a, piece.b), piece.line)
    change = Change(ChangeKind.RETIMED, piece.a, piece.b, strength=100.0)
    return Tile(Edit(EditKind.CHANGED, piece.a, piece.b, rate=rate, changes=(change,)), piece.line)


def _replacement(holes_a: list[Frames], holes_b: list[Frames]) -> tuple[Frames, Frames] | None:
    if not holes_a or not holes_b:
        return None
    a, b = max(holes_a, key=len), max(holes_b, key=len)
    return (a, b) if max(len(a), len(b)) <= ALIKE * min(len(a), len(b)) else None


def _gaps(edits: list[Edit], frames_a: int, frames_b: int) -> list[tuple[Frames, Frames]]:
    """Return what lies between two edits that follow each other in both films."""
    gaps = []
    a = b = 0
    for edit in sorted(edits, key=lambda one: one.b.first if one.b else 0):
        if edit.a is None or edit.b is None:
            continue
        gaps.append((Frames(a, edit.a.first), Frames(b, edit.b.first)))
        a, b = edit.a.end, edit.b.end
    gaps.append((Frames(a, frames_a), Frames(b, frames_b)))
    return gaps


def holes(ranges: Sequence[Frames], frames: int) -> list[Frames]:
    """Return the frames of a film of `frames` frames that no range covers."""
    found, at = [], 0
    for one in sorted(ranges):
        if one.first > at:
            found.append(Frames(at, one.first))
        at = max(at, one.end)
    if at < frames:
        found.append(Frames(at, frames))
    return found


def in_script_order(tiles: Sequence[Tile]) -> list[Tile]:
    """Return tiles in the order of b, with each DELETED one after the tile that it follows in a."""
    ordered = sorted((one for one in tiles if one.edit.b), key=lambda one: one.edit.b.first if one.edit.b else 0)
    for deleted in sorted(
        (one for one in tiles if one.edit.b is None and one.edit.a),
        key=lambda one: one.edit.a.first if one.edit.a else 0,
    ):
        start = deleted.edit.a.first if deleted.edit.a else 0
        before = [k for k, one in enumerate(ordered) if one.edit.a and one.edit.a.end == start]
        ordered.insert(before[0] + 1 if before else 0, deleted)
    return ordered


def check(edits: Sequence[Edit], frames_a: int, frames_b: int) -> None:
    """Check that edits tile both films and are in order.

    Raises:
        ValueError: They are not; the message says where.
    """
    at = 0
    for edit in edits:
        if edit.b is not None:
            if edit.b.first != at or edit.b.end <= at:
                raise ValueError(f"b: {edit} does not begin at {at}")
            at = edit.b.end
        if (edit.a is None) != (edit.kind is EditKind.INSERTED) or (edit.b is None) != (edit.kind is EditKind.DELETED):
            raise ValueError(f"{edit} has a range too many or too few")
        if edit.kind is EditKind.CHANGED and not edit.changes:
            raise ValueError(f"{edit} has no change")
    if at != frames_b:
        raise ValueError(f"b ends at {at} instead of {frames_b}")
    at = 0
    for edit in sorted((one for one in edits if one.a), key=lambda one: one.a or Frames(0, 0)):
        if edit.a is None or edit.a.first != at or edit.a.end <= at:
            raise ValueError(f"a: {edit} does not begin at {at}")
        at = edit.a.end
    if at != frames_a:
        raise ValueError(f"a ends at {at} instead of {frames_a}")
    end_of = {edit.a.end: k for k, edit in enumerate(edits) if edit.a}
    for k, edit in enumerate(edits):
        if edit.kind is EditKind.DELETED and edit.a and edit.a.first and end_of.get(edit.a.first) != k - 1:
            raise ValueError(f"{edit} does not stand after the edit that it follows in a")
