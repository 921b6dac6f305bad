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
# Least share of the texture that a blur takes.
_LEAST_FALL: Final = 0.15
# Correlation of the way that cells moved with the way to their surroundings, less the share of it. On films to tune on,
# blurs have 0.38 and more, what is painted out 0.24 at most, and logos 0.1.
_EVEN: Final = 0.31


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
    """Return whether texture is gone from one film, and each cell came closer to those around it, all by one share.

    What is painted out or lies over the picture moves cells to other values than those around them. A blur over a
    third of a cell moves them by a quarter of the way, one over a whole cell by half.
    """
    a, b = look.texture_a[cells], look.texture_b[cells]
    fall = float((a - b).mean())
    if abs(fall) < _LEAST_FALL * max(float(a.mean()), float(b.mean())):
        return False
    sharp, blurred = (look.pictures_a, look.pictures_b) if fall > 0 else (look.pictures_b, look.pictures_a)
    moved, way = (blurred - sharp)[:, cells], (_around(sharp) - sharp)[:, cells]
    both, length, square = (float((one * other).sum()) for one, other in ((moved, way), (way, way), (moved, moved)))
    if min(length, square) <= 0:
        return False
    return bool(both / (length * square) ** 0.5 - both / length >= _EVEN)


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


def _around(pictures: Map) -> Map:
    """Return the mean of the five by five cells around each cell."""
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2)), mode="edge")
    total = np.zeros_like(pictures)
    for row in range(5):
        for column in range(5):
            total += padded[:, row : row + ROWS, column : column + COLUMNS]
    around: Map = total / np.float32(25)
    return around
