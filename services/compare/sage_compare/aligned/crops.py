"""Recognises that one film shows a part of the other's picture, which may move and grow evenly: a crop, pan or zoom."""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS

from sage_compare.aligned.compiled import kernel
from sage_compare.aligned.script import ChangeSide, Region

SMALLEST: Final = 0.4
"""Smallest width and height of the part."""
LARGEST: Final = 0.985
"""Parts that are larger all the time are the whole picture."""
LIKE: Final = 0.86
"""Correlation from which the part is found."""
LEFT: Final = 0.5
"""Most that a part may leave unexplained of what the pictures as they are do."""
# Frames that are looked at, and those whose parts must lie on one path.
_FRAMES: Final = 9
_ON_PATH: Final = 0.6
# How far a part may be from the path, in shares of the picture.
_AWAY: Final = 0.03

Pictures = NDArray[np.float32]
Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]
Path = NDArray[np.float64]
"""Size, left and top of the part in the first and in the last frame, as shares of the picture."""


@dataclass(frozen=True)
class Crop:
    """A part of the picture of one film that fills the picture of the other.

    Attributes:
        side: The film that shows only the part.
        path: The part in the first frame and in the last one.
    """

    side: ChangeSide
    path: Path

    @property
    def region(self) -> Region:
        """The rectangle around the parts of all frames."""
        size, left, top = self.path[:, 0], self.path[:, 1], self.path[:, 2]
        x, y = float(left.min()), float(top.min())
        return Region(x, y, float((left + size).max()) - x, float((top + size).max()) - y)


def find_crop(a: Pictures, b: Pictures) -> Crop | None:
    """Return the part of one film's picture that the other shows; `None` if it shows no part.

    Args:
        a: Luma of frames of one film, shape ``(frames, ROWS, COLUMNS)``.
        b: The same frames in the other film.
    """
    chosen = np.unique(np.linspace(0, len(a) - 1, _FRAMES).round().astype(int))
    at = chosen / max(len(a) - 1, 1)
    best: tuple[float, Crop] | None = None
    for side, whole, part in ((ChangeSide.B, a[chosen], b[chosen]), (ChangeSide.A, b[chosen], a[chosen])):
        places = _places(whole, part)
        if places is None:
            continue
        on_path = _path(places, at)
        if on_path is None:
            continue
        path, kept = on_path
        path = _refined(whole[kept], part[kept], at[kept], path)
        alike = _along(whole[kept], part[kept], at[kept], path)
        plain = np.array([_alike(whole[k], part[k], 1.0, 0.0, 0.0) for k in np.flatnonzero(kept)])
        typical = float(np.median(alike))
        if typical < LIKE or 1 - typical > LEFT * (1 - float(np.median(plain))) or path[:, 0].min() > LARGEST:
            continue
        if best is None or typical > best[0]:
            best = typical, Crop(side, path)
    return best[1] if best else None


def _places(whole: Pictures, part: Pictures) -> NDArray[np.float64] | None:
    """Return the correlation, size, left and top of the part of each picture; `None` if most have none."""
    coarse = [one.reshape(len(one), ROWS // 2, 2, COLUMNS // 2, 2).mean((2, 4)) for one in (whole, part)]
    found = np.full((len(whole), 4), -2.0)
    # Two frames of three without such a part are enough to give up.
    order = sorted(range(len(whole)), key=lambda k: (k % 3 != 1, k))
    for tried, k in enumerate(order):
        if tried in (2, 3) and np.count_nonzero(found[order[:tried], 0] < LIKE - 0.1) >= 2:
            return None
        found[k] = _refine(whole[k], part[k], *_search(coarse[0][k], coarse[1][k]))
    return found


def shown(whole: Pictures, path: Path, at: NDArray[np.float64]) -> Pictures:
    """Return the parts of pictures along a path.

    Args:
        whole: The pictures.
        path: The part in the first frame and in the last one.
        at: Where each picture is on the path: 0 at the first frame, 1 at the last one. It may lie beyond them.
    """
    made = np.empty_like(whole)
    for number, (size, left, top) in enumerate(_inside(path[0] + (path[1] - path[0]) * at[:, None])):
        _cut(whole[number], size, left, top, made[number])
    return made


def _inside(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return parts that do not reach beyond the picture."""
    size = np.clip(parts[:, 0], SMALLEST, 1)
    return np.stack([size, *(np.clip(parts[:, k], 0, 1 - size) for k in (1, 2))], axis=1)


def _path(found: NDArray[np.float64], at: NDArray[np.float64]) -> tuple[Path, Mask] | None:
    """Return the straight path of most parts that were found one by one, and which those are; `None` if absent."""
    good = found[:, 0] >= LIKE - 0.1
    points = np.column_stack([found[:, 1], found[:, 2:] + found[:, 1:2] / 2])
    most, best = 0, None
    pairs = list(itertools.combinations(np.flatnonzero(good).tolist(), 2)) or [(0, 0)]
    for one, other in sorted(pairs, key=lambda p: at[p[0]] - at[p[1]]):
        way = (points[other] - points[one]) / (at[other] - at[one]) if other != one else np.zeros(3)
        on_path = good & (np.abs(points[one] + way * (at[:, None] - at[one]) - points) < _AWAY).all(axis=1)
        if on_path.sum() > most:
            most, best = int(on_path.sum()), on_path
    if best is None or most < _ON_PATH * len(found):
        return None
    slope = np.column_stack([np.ones(most), at[best]])
    first, way = np.linalg.lstsq(slope, points[best], rcond=None)[0] if most > 1 else (points[best][0], np.zeros(3))
    ends = np.stack([first, first + way])
    ends[:, 1:] -= ends[:, :1] / 2
    return _inside(ends), best


def _refined(whole: Pictures, part: Pictures, at: NDArray[np.float64], path: Path) -> Path:
    """Return the path near this one along which the parts look most alike."""
    best = float(_along(whole, part, at, path).mean())
    step = 0.02
    while step >= 0.005:
        better = False
        for end, field, way in itertools.product(range(2), range(3), (-step, step)):
            tried = path.copy()
            tried[end, field] += way
            if field == 0:
                tried[end, 1:] -= way / 2
            tried = _inside(tried)
            alike = float(_along(whole, part, at, tried).mean())
            if alike > best + 1e-4:
                best, path, better = alike, tried, True
        if not better:
            step /= 2
    return path


def _along(whole: Pictures, part: Pictures, at: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """Return the correlation of each picture with the part of the other on the path."""
    parts = _inside(path[0] + (path[1] - path[0]) * at[:, None])
    return np.array([_alike(one, other, *place) for one, other, place in zip(whole, part, parts, strict=True)])


@kernel
def _search(whole: Picture, part: Picture) -> tuple[float, float, float]:
    """Return the size, left and top of the part of `whole` that is most like `part`, to about a cell."""
    rows, columns = part.shape
    best, size, x, y = -2.0, 1.0, 0.0, 0.0
    for number in range(14):
        tried = 0.97 - 0.044 * number
        across, down = int((1 - tried) * columns * 1.5) + 1, int((1 - tried) * rows * 1.5) + 1
        for i in range(across + 1):
            for j in range(down + 1):
                left, top = i * (1 - tried) / across, j * (1 - tried) / down
                found = _alike(whole, part, tried, left, top)
                if found > best:
                    best, size, x, y = found, tried, left, top
    return size, x, y


@kernel
def _refine(whole: Picture, part: Picture, size: float, x: float, y: float) -> tuple[float, float, float, float]:
    """Return the correlation, size, left and top of the part near this one that is most like `part`."""
    best = _alike(whole, part, size, x, y)
    for step in (0.03, 0.02, 0.01, 0.005):
        size_0, x_0, y_0 = size, x, y
        for move in range(27):
            tried = size_0 + step * (move // 9 - 1)
            left, top = x_0 + step * (move // 3 % 3 - 1), y_0 + step * (move % 3 - 1)
            if SMALLEST <= tried <= 1 and 0 <= left <= 1 - tried and 0 <= top <= 1 - tried:
                found = _alike(whole, part, tried, left, top)
                if found > best:
                    best, size, x, y = found, tried, left, top
    return best, size, x, y


@kernel
def _alike(whole: Picture, part: Picture, size: float, x: float, y: float) -> float:
    """Return the correlation of a picture with the rectangle of another that is enlarged to it."""
    enlarged = np.empty(part.shape, np.float32)
    _cut(whole, size, x, y, enlarged)
    one = other = square = power = both = 0.0
    for row in range(part.shape[0]):
        for column in range(part.shape[1]):
            value, target = enlarged[row, column], part[row, column]
            one += value
            other += target
            square += value * value
            power += target * target
            both += value * target
    count = part.size
    spread = (square / count - (one / count) ** 2 + 1) * (power / count - (other / count) ** 2 + 1)
    return float((both / count - one / count * other / count) / np.sqrt(spread))


@kernel
def _cut(whole: Picture, size: float, x: float, y: float, made: Picture) -> None:
    """Enlarge a rectangle of a picture to all of it."""
    rows, columns = whole.shape
    for row in range(rows):
        at_y = min(max((y + size * (row + 0.5) / rows) * rows - 0.5, 0.0), rows - 1.001)
        top = int(at_y)
        down = np.float32(at_y - top)
        for column in range(columns):
            at_x = min(max((x + size * (column + 0.5) / columns) * columns - 0.5, 0.0), columns - 1.001)
            left = int(at_x)
            across = np.float32(at_x - left)
            upper = whole[top, left] * (1 - across) + whole[top, left + 1] * across
            lower = whole[top + 1, left] * (1 - across) + whole[top + 1, left + 1] * across
            made[row, column] = upper * (1 - down) + lower * down
