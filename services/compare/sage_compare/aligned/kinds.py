"""Names what changed, and the film that has it."""

from typing import Final

import numpy as np
from sage_fingerprint.model import COLUMNS, ROWS

from sage_compare.aligned.regions import Look, Map, Mask, grown
from sage_compare.aligned.script import ChangeKind, ChangeSide, Region

WHOLE: Final = 0.3
"""Share of the picture from which a change is no longer something that lies over it."""

_ASPECT: Final = 16 / 9
# Text is this much wider than high.
_WIDE: Final = 2.5
_HIGH: Final = 0.4
# Texture of a cell with letters.
_LETTERS: Final = 25.0


def kind_of(look: Look, cells: Mask, region: Region) -> tuple[ChangeKind, float]:
    """Return what changed, and how certain that is."""
    if is_text(look, cells, region):
        return ChangeKind.TEXT, 0.9
    if is_blurred(look, cells):
        return ChangeKind.BLUR, 0.9
    if float(cells.mean()) > WHOLE:
        return ChangeKind.REPLACED, 0.7
    return ChangeKind.OVERLAY, 0.8


def is_text(look: Look, cells: Mask, region: Region) -> bool:
    """Return whether a change is wide and low, and has the edges that letters have, in one film at least."""
    if region.width * _ASPECT < _WIDE * region.height or region.height > _HIGH:
        return False
    most = max(float(look.texture_a[cells].mean()), float(look.texture_b[cells].mean()))
    ring = grown(grown(cells)) & ~cells
    around = float(max(look.texture_a[ring].mean(), look.texture_b[ring].mean())) if ring.any() else 0.0
    return most >= _LETTERS and most >= 1.3 * around


def is_blurred(look: Look, cells: Mask) -> bool:
    """Return whether texture is gone from one film, and the brightness of the surroundings of each cell is the same."""
    a, b = look.texture_a[cells], look.texture_b[cells]
    fall = float((a - b).mean())
    if abs(fall) < 0.25 * max(float(a.mean()), float(b.mean())):
        return False
    same_way = float((np.sign(a - b) == np.sign(fall)).mean())
    shift = float(np.abs(_smooth(look.luma, cells)).mean())
    return same_way >= 0.75 and shift < 0.13 * abs(fall)


def side_of(kind: ChangeKind, look: Look, cells: Mask) -> ChangeSide | None:
    """Return the film that has what was added."""
    a, b = float(look.texture_a[cells].mean()), float(look.texture_b[cells].mean())
    if abs(a - b) < 0.1 * max(a, b, 1.0):
        return None
    if kind is ChangeKind.TEXT:
        return ChangeSide.A if a > b else ChangeSide.B
    if kind is ChangeKind.BLUR:
        return ChangeSide.A if a < b else ChangeSide.B
    return _stands_out(look, cells)


def _stands_out(look: Look, cells: Mask) -> ChangeSide | None:
    """Return the film whose texture is less like that of the cells around."""
    ring = grown(grown(cells)) & ~cells
    if not ring.any():
        return None
    away = [
        abs(float(np.log((texture[cells].mean() + 4) / (texture[ring].mean() + 4))))
        for texture in (look.texture_a, look.texture_b)
    ]
    if abs(away[0] - away[1]) < 0.1:
        return None
    return ChangeSide.A if away[0] > away[1] else ChangeSide.B


def _smooth(values: Map, cells: Mask) -> Map:
    """Return the mean over the cells of a change within three by three cells, for each of its cells."""
    total, count = np.zeros((ROWS, COLUMNS)), np.zeros((ROWS, COLUMNS))
    weight = np.pad(cells.astype(np.float64), 1)
    padded = np.pad(np.where(cells, values, 0).astype(np.float64), 1)
    for row in range(3):
        for column in range(3):
            total += padded[row : row + ROWS, column : column + COLUMNS]
            count += weight[row : row + ROWS, column : column + COLUMNS]
    smooth: Map = (total[cells] / np.maximum(count[cells], 1)).astype(np.float32)
    return smooth
