"""The small changes put into the edit script."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import resampled
from sage_compare.aligned.inputs import Stretch
from sage_compare.aligned.script import Change, Edit, EditKind, Frames
from sage_compare.aligned.tiling import Tile


def stretches(tiles: Sequence[Tile], a: Fingerprint, b: Fingerprint, *, exact: bool) -> list[Stretch]:
    """Return the frames of a and b that show the same, in which small changes are looked for.

    Args:
        tiles: The tiles.
        a: One film.
        b: The other film.
        exact: Whether frames correspond one to one where the speed is the same.
    """
    found = []
    for tile in tiles:
        if tile.shows is None or tile.edit.b is None:
            continue
        stretch = Stretch(tile.shows, np.arange(tile.edit.b.first, tile.edit.b.end, dtype=np.int32))
        found.append(stretch if exact and tile.edit.rate == 1.0 else resampled.of_one_moment(a, b, stretch))
    return found


def split(tiles: Sequence[Tile], changes: Sequence[Change]) -> list[Edit]:
    """Return the edits with their small changes: MATCHED ones are split where changes begin and end.

    Changes that overlap make one CHANGED edit together. Weak changes are only listed.

    Args:
        tiles: The tiles.
        changes: Changes within the stretches of the tiles.
    """
    edits: list[Edit] = []
    for tile in tiles:
        edit = tile.edit
        if tile.shows is None or edit.a is None or edit.b is None:
            edits.append(edit)
            continue
        own = [change for change in changes if change.b.first < edit.b.end and change.b.end > edit.b.first]
        if edit.kind is not EditKind.MATCHED:
            edits.append(_with(edit, edit.a, edit.b, own))
            continue
        cuts = _cuts(own, edit.b, edit.a, tile.shows)
        for k, (b_first, a_first) in enumerate(cuts):
            b_end, a_end = cuts[k + 1] if k + 1 < len(cuts) else (edit.b.end, edit.a.end)
            a, b = Frames(a_first, a_end), Frames(b_first, b_end)
            edits.append(_with(edit, a, b, [change for change in own if _overlap(change.b, b) > 0]))
    return edits


def _cuts(changes: Sequence[Change], b: Frames, a: Frames, shows: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Return where the parts of a stretch begin, in b and in a. Each part has at least one frame of both."""
    wanted: list[int] = []
    end = b.first
    for change in sorted((one for one in changes if not one.weak), key=lambda one: (one.b.first, one.b.end)):
        if change.b.first >= end:
            wanted += [end, change.b.first]
        end = max(end, change.b.end)
    cuts = [(b.first, a.first)]
    for cut in sorted({*wanted, end}):
        if not b.first < cut < b.end:
            continue
        at = int(shows[cut - b.first])
        if at > cuts[-1][1] and cut > cuts[-1][0] and at < a.end:
            cuts.append((cut, at))
    return cuts


def _overlap(one: Frames, other: Frames) -> int:
    return min(one.end, other.end) - max(one.first, other.first)


def _with(edit: Edit, a: Frames, b: Frames, changes: Sequence[Change]) -> Edit:
    """Return the part of an edit at these ranges, with the changes in it."""
    inside = []
    for change in changes:
        # A cut may have been put beside the end of a change, for a frame of a that is shown twice.
        if not change.weak and _overlap(change.b, b) * 2 < min(len(change.b), len(b)):
            continue
        within_a = Frames(max(change.a.first, a.first), min(change.a.end, a.end))
        within_b = Frames(max(change.b.first, b.first), min(change.b.end, b.end))
        if len(within_a) > 0 and len(within_b) > 0:
            inside.append(replace(change, a=within_a, b=within_b))
    kind = edit.kind
    if kind is EditKind.MATCHED and any(not change.weak for change in inside):
        kind = EditKind.CHANGED
    listed = tuple(sorted((*edit.changes, *inside), key=lambda one: (one.weak, -one.strength)))
    return replace(edit, kind=kind, a=a, b=b, changes=listed)
