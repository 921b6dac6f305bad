"""A second look at what lies between two pieces of one line: the same frames mirrored, negative, or a part of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import crops, kernels
from sage_compare.aligned.edges import JUMP
from sage_compare.aligned.lines import NONE_COST, Line
from sage_compare.aligned.pictures import FLAT_DEVIATION
from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Edit, EditKind, Frames, Region
from sage_compare.aligned.tiling import Tile
from sage_compare.aligned.viterbi import Piece

LEAST: Final = 3
"""Frames of the shortest altered stretch."""
LEAST_CROP: Final = 6
"""Frames of the shortest stretch that is tested for a crop."""
REACH: Final = 24
"""Frames of the pieces on both sides that may belong to an altered stretch."""
LONGEST: Final = 4_000
"""Frames of the longest stretch that is looked at."""
MARGIN: Final = 1.0
"""Frames' worth that an alteration must save."""
MOST_CAP: Final = 240.0
"""Highest `Pair.cap` for parts of the picture: cells that are computed from others are off by more."""
PENALTY: Final = 0.01
"""Added to the cost of each altered frame: in a plain picture, an alteration changes nothing."""
STILL: Final = 0.5
"""Mean difference of luma between two frames of a still shot, in which any frame held explains all."""
STRENGTH: Final = 100.0
"""Strength of a change of the whole picture."""

Costs = NDArray[np.float64]
Pictures = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Altered:
    """Frames of b that show those of a on a line, altered as a whole.

    Attributes:
        b: The frames of b.
        line: The line.
        kind: What was done.
        side: The film that shows only a part, for a crop.
        region: The part.
    """

    b: Frames
    line: Line
    kind: ChangeKind
    side: ChangeSide | None = None
    region: Region | None = None


@dataclass(frozen=True)
class _Gap:
    """Frames ``[low, high)`` of b on a line, of which those in ``[first, end)`` have no piece on it."""

    low: int
    first: int
    end: int
    high: int
    line: Line


@dataclass(frozen=True)
class _Alteration:
    """What may have been done, and the pictures of both films that are the same then."""

    kind: ChangeKind
    a: Pictures
    b: Pictures
    compared: Mask
    side: ChangeSide | None = None
    region: Region | None = None


def find_altered(
    a: Fingerprint, b: Fingerprint, pair: kernels.Pair, pieces: Sequence[Piece]
) -> tuple[list[Piece], list[Altered]]:
    """Return the pieces, and what is altered as a whole in them.

    An altered stretch becomes a part of the pieces beside it, if it explains the frames better than what was found
    there before: frames without a counterpart, and chance hits on others.
    """
    current = np.concatenate([np.empty(0), *(_costs_of(pair, piece) for piece in pieces)])
    owner = np.repeat(np.arange(len(pieces)), [piece.end - piece.first for piece in pieces])
    held = np.array([piece.line is not None and piece.line.rate == 0.0 for piece in pieces])
    lines = list(pieces)
    compared = (pair.a[::31].any(axis=0) | pair.b[::31].any(axis=0)).reshape(9, 16)
    found: list[Altered] = []
    for gap in _gaps(pair, pieces):
        if (owner[gap.low : gap.high] >= len(pieces)).any():
            continue
        here = slice(gap.low, gap.high)
        look = _look(a, b, pair, gap, current[here], held[owner[here]], compared)
        if look is None:
            continue
        altered, first, end = look
        owner[first:end] = len(lines)
        lines.append(Piece(first, end, gap.line))
        found.append(altered)
    if not found:
        return list(pieces), found
    return _pieces(owner, lines), sorted(found, key=lambda one: one.b)


def apply(pair: kernels.Pair, tiles: Sequence[Tile], found: Sequence[Altered]) -> list[Tile]:
    """Return the tiles with those split that an altered stretch lies in."""
    split: list[Tile] = []
    for tile in tiles:
        edit = tile.edit
        if edit.kind is not EditKind.MATCHED or edit.a is None or edit.b is None:
            split.append(tile)
            continue
        rest: Edit | None = edit
        for one in found:
            if rest is None or rest.a is None or rest.b is None:
                break
            if one.b.end <= rest.b.first or one.b.first >= rest.b.end:
                continue
            before, inside = _cut(pair, rest, max(one.b.first, rest.b.first), one.line)
            if before:
                split.append(Tile(before, tile.line))
            if inside is None or inside.b is None:
                rest = None
                break
            changed, rest = _cut(pair, inside, min(one.b.end, inside.b.end), one.line)
            if changed and changed.a and changed.b:
                change = Change(one.kind, changed.a, changed.b, STRENGTH, region=one.region, side=one.side)
                split.append(Tile(replace(changed, kind=EditKind.CHANGED, changes=(change,)), tile.line))
        if rest:
            split.append(Tile(rest, tile.line))
    return split


def _cut(pair: kernels.Pair, edit: Edit, at: int, line: Line) -> tuple[Edit | None, Edit | None]:
    """Return the parts of an edit before and from a frame of b on; `None` for one without frames."""
    if edit.a is None or edit.b is None or at <= edit.b.first:
        return None, edit
    if at >= edit.b.end:
        return edit, None
    frame = kernels.frame_at(pair, line.rate, line.start, at)
    if not edit.a.first < frame < edit.a.end:
        return edit, None
    return (
        replace(edit, a=Frames(edit.a.first, frame), b=Frames(edit.b.first, at)),
        replace(edit, a=Frames(frame, edit.a.end), b=Frames(at, edit.b.end)),
    )


def _gaps(pair: kernels.Pair, pieces: Sequence[Piece]) -> list[_Gap]:
    """Return what lies between two pieces of one line, before the first piece, and after the last one."""
    on_line = [k for k, piece in enumerate(pieces) if piece.line and piece.line.rate == 1.0]
    if not on_line:
        return []
    gaps = list[_Gap]()
    last = dict[float, int]()
    for k in on_line:
        line = pieces[k].line
        if line is None:
            continue
        before = last.get(line.start)
        last[line.start] = k
        if before is not None:
            gaps.append(_gap(pieces[before], pieces[k], line))
    start, stop = pieces[on_line[0]], pieces[on_line[-1]]
    if start.line and start.first:
        gaps.append(_gap(Piece(0, 0, None), start, start.line))
    if stop.line and stop.end < len(pair.b):
        gaps.append(_gap(stop, Piece(len(pair.b), len(pair.b), None), stop.line))
    inside = [one for one in gaps if LEAST <= one.end - one.first <= LONGEST]
    return sorted(inside, key=lambda one: (one.end - one.first, one.first))


def _gap(before: Piece, after: Piece, line: Line) -> _Gap:
    low, high = max(before.first, before.end - REACH), min(after.end, after.first + REACH)
    return _Gap(low, before.end, after.first, high, line)


def _look(
    a: Fingerprint, b: Fingerprint, pair: kernels.Pair, gap: _Gap, current: Costs, held: Mask, compared: Mask
) -> tuple[Altered, int, int] | None:
    """Return what is altered in a gap, and the frames of b that are on its line now.

    Args:
        a: One film.
        b: The other.
        pair: Their pictures.
        gap: The gap.
        current: What each frame costs now, from `gap.low` to `gap.high`.
        held: Whether it is explained by a picture of a that is held.
        compared: Cells that are compared.
    """
    numbers = kernels.frames_along(pair, gap.line.rate, gap.line.start, gap.low, gap.high)
    if (numbers[gap.first - gap.low : gap.end - gap.low] < 0).any():
        return None
    of_a = a.luma[np.maximum(numbers, 0)].astype(np.float32)
    of_b = b.luma[gap.low : gap.high].astype(np.float32)
    still = np.append(np.abs(np.diff(of_a, axis=0)).mean((1, 2)) < STILL, False)
    current = np.where(held & still, NONE_COST, current)
    inside = slice(gap.first - gap.low, gap.end - gap.low)
    on_line = np.ones(len(current), np.bool_)
    on_line[inside] = False
    best: tuple[Altered, int, int] | None = None
    most = MARGIN * NONE_COST
    for one in _alterations(of_a, of_b, inside, compared):
        highest = MOST_CAP if one.kind is ChangeKind.CROP else pair.cap
        cap = _cap(one.a[inside], one.b[inside], one.compared, (pair.cap, highest))
        costs = np.where(numbers < 0, 1.0, _costs(one.a, one.b, one.compared, cap) + PENALTY)
        plain = np.where(numbers < 0, 1.0, _costs(of_a, of_b, one.compared, cap))
        before = np.where(on_line, plain, current)
        total, first, end, from_first, to_end = _ends(costs, plain, before)
        saved = float(before.sum()) - total - 2 * JUMP * NONE_COST
        if saved > most and end - first >= LEAST:
            most = saved
            frames = Frames(gap.low + first, gap.low + end)
            from_first, to_end = max(from_first, min(first, inside.start)), min(to_end, max(end, inside.stop))
            best = Altered(frames, gap.line, one.kind, one.side, one.region), gap.low + from_first, gap.low + to_end
    return best


def _alterations(a: Pictures, b: Pictures, inside: slice, compared: Mask) -> list[_Alteration]:
    """Return what may have been done."""
    found = [
        _Alteration(ChangeKind.MIRRORED, a[:, :, ::-1], b, compared & compared[:, ::-1]),
        _Alteration(ChangeKind.NEGATIVE, 255 - a, b, compared),
    ]
    count = inside.stop - inside.start
    crop = crops.find_crop(a[inside], b[inside]) if count >= LEAST_CROP else None
    if crop:
        at = (np.arange(len(a)) - inside.start) / (count - 1)
        part = crops.shown(a if crop.side is ChangeSide.B else b, crop.path, at)
        of_a, of_b = (part, b) if crop.side is ChangeSide.B else (a, part)
        found.append(_Alteration(ChangeKind.CROP, of_a, of_b, compared, crop.side, crop.region))
    return found


def _ends(costs: Costs, plain: Costs, current: Costs) -> tuple[float, int, int, int, int]:
    """Return where an altered stretch begins and ends at the lowest cost.

    Beside it, frames are on the line as they are, or what they were.

    Returns:
        The cost, the first frame and the end of the stretch, and those of what is on the line.
    """
    sums, on_line, before = (np.concatenate([[0.0], np.cumsum(one)]) for one in (costs, plain, current))
    jump = JUMP * NONE_COST
    left = np.minimum(on_line, before + jump) - sums
    right = np.minimum(on_line[-1] - on_line, before[-1] - before + jump) + sums
    lowest = np.minimum.accumulate(left)
    end = int(np.argmin(right + lowest))
    first = int(np.argmin(left[: end + 1]))
    total = float(right[end] + left[first])
    from_first = 0 if on_line[first] <= before[first] + jump else first
    to_end = len(costs) if on_line[-1] - on_line[end] <= before[-1] - before[end] + jump else end
    return total, first, end, from_first, to_end


def _costs_of(pair: kernels.Pair, piece: Piece) -> Costs:
    """Return the cost of the frames of a piece, with that of the change to it."""
    if piece.line is None:
        costs = np.full(piece.end - piece.first, 0.0 if piece.black else NONE_COST)
    else:
        costs = kernels.costs_along(pair, piece.line.row(len(pair.a)), piece.first, piece.end).astype(np.float64)
    if piece.first and len(costs):
        costs[0] += JUMP * NONE_COST
    return costs


def _cap(a: Pictures, b: Pictures, compared: Mask, limits: tuple[float, float]) -> float:
    """Return `Pair.cap` for altered pictures: five times the difference that 10% of the cells exceed."""
    apart = np.abs(_rows(a, compared)[0] - _rows(b, compared)[0])
    return float(np.clip(5 * np.percentile(apart, 90), *limits))


def _costs(a: Pictures, b: Pictures, compared: Mask, cap: float) -> Costs:
    """Return how much pictures differ, on the scale of `kernels.pair_cost`."""
    (rows_a, level_a, flat_a), (rows_b, level_b, flat_b) = _rows(a, compared), _rows(b, compared)
    apart = np.minimum(np.abs(rows_a - rows_b), cap).sum(axis=1) / (cap * max(compared.sum(), 1))
    costs: Costs = np.minimum(apart + flat_a * flat_b * np.minimum(np.abs(level_a - level_b) / 48, 1), 1.0)
    return costs


def _rows(pictures: Pictures, compared: Mask) -> tuple[Pictures, Pictures, Pictures]:
    """Return normalised cells of luma, the mean luma, and whether they are of one colour."""
    cells = pictures.reshape(len(pictures), 9, 2, 16, 2).mean((2, 4))[:, compared]
    level, deviation = cells.mean(axis=1), cells.std(axis=1)
    rows = (cells - level[:, None]) * (kernels.SCALE / (deviation + 9))[:, None]
    return rows, level, np.clip(2 - deviation / FLAT_DEVIATION, 0, 1)


def _pieces(owner: NDArray[np.intp], lines: Sequence[Piece]) -> list[Piece]:
    """Return the pieces by the one that each frame of b belongs to; those on one line that touch are one."""
    pieces = list[Piece]()
    edges = np.flatnonzero(np.diff(owner)) + 1
    for first, end in zip([0, *edges.tolist()], [*edges.tolist(), len(owner)], strict=True):
        piece = replace(lines[int(owner[first])], first=first, end=end)
        last = pieces[-1] if pieces else None
        if last and last.line and piece.line and _key(last.line) == _key(piece.line):
            pieces[-1] = replace(last, end=end)
        else:
            pieces.append(piece)
    return pieces


def _key(line: Line) -> tuple[float, float]:
    return line.rate, line.start
