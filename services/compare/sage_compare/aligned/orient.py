"""Films in an order that does not depend on which is a, so that swapping them only swaps the answer."""

import zlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned.script import Change, ChangeSide, Edit, EditKind, Normalization
from sage_compare.aligned.tiling import Tile

SAMPLE = 61
"""Every 61st frame is enough to tell two films apart."""

_SWAPPED_KIND = {EditKind.INSERTED: EditKind.DELETED, EditKind.DELETED: EditKind.INSERTED}
_SWAPPED_SIDE = {ChangeSide.A: ChangeSide.B, ChangeSide.B: ChangeSide.A, None: None}


def key(fingerprint: Fingerprint) -> tuple[int, int, int]:
    """Return what the films are ordered by."""
    luma = np.ascontiguousarray(fingerprint.luma[::SAMPLE])
    chroma = np.ascontiguousarray(fingerprint.chroma[::SAMPLE])
    return len(fingerprint), zlib.crc32(luma.tobytes()), zlib.crc32(chroma.tobytes())


def swapped_tile(tile: Tile) -> Tile:
    """Return a tile with the roles of a and b swapped."""
    edit = tile.edit
    changes = tuple(_swapped_change(change) for change in edit.changes)
    rate = 1.0 / edit.rate if edit.rate else 0.0
    kind = _SWAPPED_KIND.get(edit.kind, edit.kind)
    swapped: Edit = replace(edit, kind=kind, a=edit.b, b=edit.a, rate=rate, changes=changes)
    shows = None if tile.shows is None or edit.a is None or edit.b is None else _inverse(tile.shows, edit)
    return Tile(swapped, None, shows)


def _inverse(shows: NDArray[np.int32], edit: Edit) -> NDArray[np.int32]:
    """Return for each frame of a the frame of b that shows it, or the next that is shown."""
    if edit.a is None or edit.b is None:
        return shows
    wanted = np.arange(edit.a.first, edit.a.end)
    at = np.minimum(np.searchsorted(shows, wanted), len(shows) - 1)
    inverse: NDArray[np.int32] = (at + edit.b.first).astype(np.int32)
    return inverse


def _swapped_change(change: Change) -> Change:
    return replace(change, a=change.b, b=change.a, side=_SWAPPED_SIDE[change.side])


def swapped_normalization(one: Normalization) -> Normalization:
    """Return a normalization with the two values swapped."""
    return replace(one, a=one.b, b=one.a)
