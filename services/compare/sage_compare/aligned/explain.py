"""What happened in a stretch that both films have and that looks different: black, a crop and others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import altered, kernels
from sage_compare.aligned.grade import towards_middle
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Edit, EditKind, Frames, Region
from sage_compare.aligned.tiling import Tile

ALIKE = 0.9
"""Correlation of two pictures from which one is the other, apart from brightness and contrast."""
GRADED = 0.97
"""Correlation from which only brightness, contrast or colour differ."""
DIM = 4.0
"""A frame with less deviation of luma than this does not tell which picture it shows."""
LEFT = 0.25
"""Share of the difference that a curve may leave."""
NEAR = 48.0
"""Levels between two frames without a picture from which one is not the other in another grade."""
ONE_COLOR = 0.75
"""A frame with less deviation of luma than this is of one colour; dark shots have 1 and more."""
BLACK_LEVEL = 26.0
"""Black is darker than this."""
STILL = 0.5
"""Mean difference of luma between two frames of a held picture."""
STRENGTH = 100.0
"""Strength of a change of the whole picture."""

Pictures = NDArray[np.float32]


@dataclass(frozen=True)
class _Stretch:
    """Frames of b and the frames of a that the line through the stretch has there."""

    a: Pictures
    b: Pictures
    first_a: int
    first_b: int
    line: Line


def explain(a: Fingerprint, b: Fingerprint, pair: kernels.Pair, tiles: Sequence[Tile]) -> list[Tile]:
    """Return the tiles with the kind of each change; some are split, and some are matched after all."""
    explained: list[Tile] = []
    for k, tile in enumerate(tiles):
        edit = tile.edit
        if edit.kind is not EditKind.CHANGED or edit.a is None or edit.b is None or tile.line is not None:
            explained.append(tile)
            continue
        line = _line_through(tiles, k)
        black = _black(a, b, edit.a, edit.b)
        if black:
            explained.append(replace(tile, edit=replace(edit, changes=(black,))))
            continue
        if line is not None:
            stretch = _stretch(a, b, pair, edit, line)
            found = _whole_picture(stretch, edit)
            if not found and 0 < k < len(tiles) - 1:
                over = altered.looked_at(a, b, pair, tiles[k - 1].edit, edit, tiles[k + 1].edit, line)
                found = [over] if over else None
            if found:
                explained.extend(found)
                continue
        explained.append(tile)
    return _joined(_as_one_black(a, b, explained))


def _joined(tiles: Sequence[Tile]) -> list[Tile]:
    """Return the tiles with those that match on one line, one after the other, as one."""
    joined: list[Tile] = []
    for tile in tiles:
        last = joined[-1] if joined else None
        if last and last.line and last.line == tile.line and EditKind.MATCHED == last.edit.kind == tile.edit.kind:
            a, b = _spanned(last.edit.a, tile.edit.a), _spanned(last.edit.b, tile.edit.b)
            if a and b:
                joined[-1] = Tile(replace(last.edit, a=a, b=b), last.line)
                continue
        joined.append(tile)
    return joined


def _spanned(one: Frames | None, other: Frames | None) -> Frames | None:
    """Return two ranges that touch as one; `None` if they do not."""
    return Frames(one.first, other.end) if one and other and one.end == other.first else None


def _as_one_black(a: Fingerprint, b: Fingerprint, tiles: Sequence[Tile]) -> list[Tile]:
    """Return the tiles with one change for black that reaches over frames which are black in the other film too."""
    joined: list[Tile] = []
    for one in tiles:
        joined.append(one)
        if len(joined) < 3:
            continue
        edits = [tile.edit for tile in joined[-3:]]
        before, between, after = edits
        sides = [edit.changes[0].side for edit in (before, after) if _is_black(edit)]
        if len(sides) < 2 or sides[0] is not sides[1] or between.kind is not EditKind.MATCHED:
            continue
        if not all(edit.a and edit.b for edit in edits) or not between.a or not between.b:
            continue
        if not _plain(a, between.a)[0] or not _plain(b, between.b)[0]:
            continue
        in_a, in_b = (
            Frames(first.first, last.end)
            for first, last in ((before.a, after.a), (before.b, after.b))
            if first and last
        )
        change = replace(before.changes[0], a=in_a, b=in_b)
        joined[-3:] = [Tile(replace(before, a=in_a, b=in_b, changes=(change,)))]
    return joined


def _is_black(edit: Edit) -> bool:
    return edit.kind is EditKind.CHANGED and edit.changes[0].kind is ChangeKind.BLACK


def _line_through(tiles: Sequence[Tile], k: int) -> Line | None:
    """Return the line of the tiles on both sides if it is the same, or of the only one at an end of the film."""
    before = tiles[k - 1].line if k else None
    after = tiles[k + 1].line if k + 1 < len(tiles) else None
    edit = tiles[k].edit
    if edit.a is None or edit.b is None:
        return None
    if before and after:
        return before if (before.rate, before.start) == (after.rate, after.start) else None
    if len(edit.a) != len(edit.b):
        return None
    return before if k == len(tiles) - 1 else after if k == 0 else None


def _stretch(a: Fingerprint, b: Fingerprint, pair: kernels.Pair, edit: Edit, line: Line) -> _Stretch:
    frames_a, frames_b = edit.a or Frames(0, 0), edit.b or Frames(0, 0)
    numbers = [kernels.frame_at(pair, line.rate, line.start, j) for j in range(frames_b.first, frames_b.end)]
    numbers = np.clip(numbers, frames_a.first, frames_a.end - 1).tolist()
    return _Stretch(
        a.luma[numbers].reshape(len(numbers), -1).astype(np.float32),
        b.luma[frames_b.first : frames_b.end].reshape(len(numbers), -1).astype(np.float32),
        frames_a.first,
        frames_b.first,
        line,
    )


def fit(x: Pictures, y: Pictures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return for each frame the gain of ``y = gain x + offset``, and the correlation."""
    x = x - x.mean(1, keepdims=True)
    y = y - y.mean(1, keepdims=True)
    xx, yy, xy = (x * x).mean(1), (y * y).mean(1), (x * y).mean(1)
    return xy / (xx + 1.0), xy / np.sqrt((xx + 1.0) * (yy + 1.0))


def _black(a: Fingerprint, b: Fingerprint, frames_a: Frames, frames_b: Frames) -> Change | None:
    """Return the change if one of the films is of one colour, or of a darker one than the other."""
    plain_a, level_a = _plain(a, frames_a)
    plain_b, level_b = _plain(b, frames_b)
    if not plain_a and not plain_b:
        return None
    if plain_a and plain_b and min(level_a, level_b) > BLACK_LEVEL:
        return None
    side = ChangeSide.A if plain_a and (not plain_b or level_a < level_b) else ChangeSide.B
    return Change(ChangeKind.BLACK, frames_a, frames_b, STRENGTH, side=side)


def _plain(film: Fingerprint, frames: Frames) -> tuple[bool, float]:
    """Return whether nearly all frames of a range are of one colour, and how bright they are."""
    pictures = film.luma[frames.first : frames.end].reshape(len(frames), -1)
    return bool((pictures.std(1) < ONE_COLOR).mean() > 0.9), float(pictures.mean())


def _whole_picture(stretch: _Stretch, edit: Edit) -> list[Tile] | None:
    """Return tiles for a stretch whose pictures are those of the other film, altered as a whole."""
    frozen = _frozen(stretch, edit)
    if frozen:
        return frozen
    if _is_graded(stretch.a, stretch.b):
        # The same pictures with another grade: the small changes tell which.
        return [Tile(replace(edit, kind=EditKind.MATCHED, changes=(), rate=stretch.line.rate), stretch.line)]
    return None


def _is_graded(a: Pictures, b: Pictures) -> bool:
    """Return whether pictures are the same apart from brightness and contrast."""
    deviation = np.maximum(a.std(1), b.std(1))
    telling = deviation >= DIM
    if (np.abs(a.mean(1) - b.mean(1))[~telling] > NEAR).any():
        return False
    if not telling.any():
        return True
    typical = float(np.median(fit(a[telling], b[telling])[1]))
    return typical > GRADED or (typical > ALIKE and _left_by_curve(a[telling], b[telling]) < LEFT)


def _left_by_curve(a: Pictures, b: Pictures) -> float:
    """Return the share of the difference that one curve for all pictures leaves: dark parts may have become black."""
    of_a, of_b = a.astype(np.uint8), b.astype(np.uint8)
    curve_a, curve_b = towards_middle(of_a, of_b)
    left = np.abs(curve_a[of_a].astype(np.int16) - curve_b[of_b]).mean()
    return float(left / max(1.0, np.abs(a - b).mean()))


def _changed(
    edit: Edit, kind: ChangeKind, line: Line, side: ChangeSide | None = None, region: Region | None = None
) -> Tile:
    frames_a, frames_b = edit.a or Frames(0, 0), edit.b or Frames(0, 0)
    change = Change(kind, frames_a, frames_b, STRENGTH, side=side, region=region)
    return Tile(replace(edit, changes=(change,), rate=line.rate), line)


def _frozen(stretch: _Stretch, edit: Edit) -> list[Tile] | None:
    """Return a tile if one film holds one of the first pictures of the other, which moves on."""
    for side, held, moves in ((ChangeSide.B, stretch.b, stretch.a), (ChangeSide.A, stretch.a, stretch.b)):
        if len(held) < 2 or np.median(np.abs(np.diff(held, axis=0)).mean(1)) > STILL:
            continue
        middle = held[len(held) // 2]
        near = min(float(np.abs(middle - moves[k]).mean()) for k in (*range(min(4, len(moves))), len(moves) - 1))
        far = float(np.abs(moves - middle).mean(1).max())
        if far > 1.5 * near + 0.5 and near < 6.0:
            return [_changed(edit, ChangeKind.FROZEN, stretch.line, side)]
    return None
