"""Films that are mirrored, or negative, from beginning to end."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned.script import Change, ChangeKind, Edit, EditKind
from sage_compare.aligned.tiling import Tile

KINDS = (ChangeKind.MIRRORED, ChangeKind.NEGATIVE)
STRENGTH = 100.0
"""Strength of a change of the whole picture."""


def turned(film: Fingerprint, kind: ChangeKind) -> Fingerprint:
    """Return a film mirrored, or as a negative."""
    if kind is ChangeKind.MIRRORED:
        luma, texture, chroma = (
            np.ascontiguousarray(cells[..., ::-1]) for cells in (film.luma, film.texture, film.chroma)
        )
        return replace(film, luma=luma, texture=texture, chroma=chroma)
    return replace(film, luma=255 - film.luma, chroma=255 - film.chroma)


def as_changes(tiles: Sequence[Tile], kind: ChangeKind) -> list[Tile]:
    """Return the tiles of two films of which b was turned before they were compared.

    What matches was turned. What was found to be turned the other way is as it was.
    """
    changed = list[Tile]()
    for tile in tiles:
        edit = tile.edit
        kinds = {change.kind for change in edit.changes}
        if kind in kinds:
            tile = Tile(replace(edit, kind=EditKind.MATCHED, changes=()), tile.line)
        elif edit.kind in {EditKind.MATCHED, EditKind.MOVED} or ChangeKind.RETIMED in kinds:
            tile = Tile(_with(edit, kind), tile.line)
        changed.append(tile)
    return changed


def _with(edit: Edit, kind: ChangeKind) -> Edit:
    if edit.a is None or edit.b is None:
        return edit
    change = Change(kind, edit.a, edit.b, STRENGTH)
    changed = EditKind.MOVED if edit.kind is EditKind.MOVED else EditKind.CHANGED
    return replace(edit, kind=changed, changes=(change, *edit.changes))
