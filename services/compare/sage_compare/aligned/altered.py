"""A second look at what lies between two pieces of one line: the same frames, altered as a whole or with an overlay."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import kernels
from sage_compare.aligned.alterations import Costs, Mask, alike, alterations, cap_of, costs_of, is_plain, is_still
from sage_compare.aligned.edges import JUMP
from sage_compare.aligned.lines import NONE_COST, Line
from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Edit, EditKind, Frames, Region
from sage_compare.aligned.tiling import Tile
from sage_compare.aligned.viterbi import Piece

LEAST: Final = 3
"""Frames of the shortest altered stretch."""
REACH: Final = 24
"""Frames of the pieces on both sides that may belong to an altered stretch."""
SHORT: Final = 12
"""Frames of a piece on the line that may be a part of the gap around it."""
LONGEST: Final = 4_000
"""Frames of the longest stretch that is looked at."""
MARGIN: Final = 1.0
"""Frames' worth that an alteration must save."""
MOST_CAP: Final = 240.0
"""Highest `Pair.cap` for parts of the picture: cells that are computed from others are off by more."""
PENALTY: Final = 0.01
"""Added to the cost of each altered frame: in a plain picture, an alteration changes nothing."""
STRENGTH: Final = 100.0
"""Strength of a change of the whole picture."""


@dataclass(frozen=True)
class Altered:
    """Frames of b that show those of a on a line, altered as a whole.

    Attributes:
        b: The frames of b.
        line: The line.
        kind: What was done; `None` for another grade or something over the picture, which the small changes tell.
        side: The film that shows only a part, for a crop.
        region: The part.
    """

    b: Frames
    line: Line
    kind: ChangeKind | None
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
class _Look:
    """What is altered in a gap, the frames of the gap that are on its line then, and what that saves."""

    altered: Altered
    on_line: Frames
    saved: float


def find_altered(
    a: Fingerprint, b: Fingerprint, pair: kernels.Pair, pieces: Sequence[Piece]
) -> tuple[list[Piece], list[Altered]]:
    """Return the pieces, and what is altered as a whole in them.

    An altered stretch, or one with something over the picture, becomes a part of the pieces beside it, if that explains
    the frames better than what was found there before: frames without a counterpart, and chance hits on others.
    """
    current = np.concatenate([np.empty(0), *(_piece_costs(pair, piece) for piece in pieces)])
    owner = np.repeat(np.arange(len(pieces)), [piece.end - piece.first for piece in pieces])
    rates = np.array([piece.line.rate if piece.line else np.nan for piece in pieces])
    lines = list(pieces)
    compared = _compared(pair)
    looks = []
    for gap in _gaps(pair, pieces):
        here = slice(gap.low, gap.high)
        look = _look(a, b, pair, gap, current[here], rates[owner[here]], compared)
        if look:
            looks.append(look)
    found: list[Altered] = []
    for look in sorted(looks, key=lambda one: (-one.saved, one.on_line)):
        taken = owner[look.on_line.first : look.on_line.end]
        if (taken >= len(pieces)).any():
            continue
        taken[:] = len(lines)
        lines.append(Piece(look.on_line.first, look.on_line.end, look.altered.line))
        found.append(look.altered)
    if not found:
        return lines, found
    return _pieces(owner, lines), joined(sorted(found, key=lambda one: one.b), a, b, pair)


def joined(found: Sequence[Altered], a: Fingerprint, b: Fingerprint, pair: kernels.Pair) -> list[Altered]:
    """Return what is altered, with stretches that were altered the same way as one if at most plain frames part them.

    A mirrored black frame is a black frame.
    """
    runs = list[Altered]()
    for one in found:
        last = runs[-1] if runs else None
        if last and (last.kind, last.side, last.line) == (one.kind, one.side, one.line) and one.kind:
            # Two that were found in one shot may overlap.
            first = max(last.b.end, one.b.first)
            between = np.arange(last.b.end, first)
            shown = kernels.frames_along(pair, one.line.rate, one.line.start, last.b.end, first)
            if (shown >= 0).all() and (is_plain(a.luma[shown]) & is_plain(b.luma[between])).all():
                region = _around(last.region, one.region) if last.region and one.region else None
                runs[-1] = replace(last, b=Frames(last.b.first, max(last.b.end, one.b.end)), region=region)
                continue
        runs.append(one)
    return runs


def _around(one: Region, other: Region) -> Region:
    """Return the rectangle around two."""
    x, y = min(one.x, other.x), min(one.y, other.y)
    right, bottom = max(one.x + one.width, other.x + other.width), max(one.y + one.height, other.y + other.height)
    return Region(x, y, right - x, bottom - y)


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
            if one.kind is None or one.b.end <= rest.b.first or one.b.first >= rest.b.end:
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


def looked_at(
    a: Fingerprint, b: Fingerprint, pair: kernels.Pair, before: Edit, edit: Edit, after: Edit, line: Line
) -> Tile | None:
    """Return a tile for an edit between two on one line, if it shows the frames of the line altered.

    Shorter pieces than the path has may have been found beside it since.
    """
    if before.b is None or edit.a is None or edit.b is None or after.b is None:
        return None
    if line.rate != 1.0 or not LEAST <= len(edit.b) <= LONGEST or len(edit.a) != len(edit.b):
        return None
    gap = _gap(Piece(before.b.first, before.b.end, line), Piece(after.b.first, after.b.end, line), line)
    pieces = [Piece(gap.low, gap.first, line), Piece(gap.first, gap.end, None), Piece(gap.end, gap.high, line)]
    current = np.concatenate([_piece_costs(pair, piece) for piece in pieces])
    rates = np.repeat([1.0, np.nan, 1.0], [piece.end - piece.first for piece in pieces])
    look = _look(a, b, pair, gap, current, rates, _compared(pair))
    if look is None or look.on_line != edit.b:
        return None
    altered = look.altered
    matched = replace(edit, kind=EditKind.MATCHED, changes=(), rate=line.rate)
    if altered.kind is None:
        return Tile(matched, line)
    change = Change(altered.kind, edit.a, edit.b, STRENGTH, region=altered.region, side=altered.side)
    return Tile(replace(matched, kind=EditKind.CHANGED, changes=(change,)), line)


def _compared(pair: kernels.Pair) -> Mask:
    """Return the cells that are compared."""
    return (pair.a[::31].any(axis=0) | pair.b[::31].any(axis=0)).reshape(9, 16)


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
    # What lies over the picture leaves a few frames on the line here and there.
    for least in (0, SHORT):
        last = dict[float, Piece]()
        for piece in pieces:
            if piece.line is None or piece.line.rate != 1.0 or piece.end - piece.first < least:
                continue
            if piece.line.start in last:
                gaps.append(_gap(last[piece.line.start], piece, piece.line))
            last[piece.line.start] = piece
    start, stop = pieces[on_line[0]], pieces[on_line[-1]]
    if start.line and start.first:
        gaps.append(_gap(Piece(0, 0, None), start, start.line))
    if stop.line and stop.end < len(pair.b):
        gaps.append(_gap(stop, Piece(len(pair.b), len(pair.b), None), stop.line))
    inside = [one for one in gaps if LEAST <= one.end - one.first <= LONGEST]
    return list(dict.fromkeys(inside))


def _gap(before: Piece, after: Piece, line: Line) -> _Gap:
    low, high = max(before.first, before.end - REACH), min(after.end, after.first + REACH)
    return _Gap(low, before.end, after.first, high, line)


def _look(
    a: Fingerprint, b: Fingerprint, pair: kernels.Pair, gap: _Gap, current: Costs, rates: Costs, compared: Mask
) -> _Look | None:
    """Return what is altered in a gap.

    Args:
        a: One film.
        b: The other.
        pair: Their pictures.
        gap: The gap.
        current: What each frame costs now, from `gap.low` to `gap.high`.
        rates: Rate of the line that it is on now: 0 for a picture of a that is held, `nan` if it is on none.
        compared: Cells that are compared.
    """
    numbers = kernels.frames_along(pair, gap.line.rate, gap.line.start, gap.low, gap.high)
    if (numbers[gap.first - gap.low : gap.end - gap.low] < 0).any():
        return None
    of_a = a.luma[np.maximum(numbers, 0)].astype(np.float32)
    of_b = b.luma[gap.low : gap.high].astype(np.float32)
    nothing = (rates == 0) & is_still(of_a)
    colourless = (numbers >= 0) & is_plain(of_a) & is_plain(of_b)
    current = np.where(nothing, NONE_COST, current)
    matched = ~nothing & ~np.isnan(rates)
    inside = slice(gap.first - gap.low, gap.end - gap.low)
    on_line = np.ones(len(current), np.bool_)
    on_line[inside] = False
    best: _Look | None = None
    most = MARGIN * NONE_COST
    for one in alterations(of_a, of_b, inside, compared):
        highest = MOST_CAP if one.kind is ChangeKind.CROP else pair.cap
        cap = cap_of(one.a[inside], one.b[inside], one.compared, (pair.cap, highest))
        cells = one.compared if one.kind else alike(one.a, one.b, one.compared)
        costs = np.where(numbers < 0, 1.0, costs_of(one.a, one.b, cells, cap) + PENALTY)
        plain = np.where(numbers < 0, 1.0, costs_of(of_a, of_b, one.compared, cap))
        # Other frames that leave out the cells that differ most would be as much alike.
        now = np.where(matched, 0.0, current) if one.kind is None else current
        before = np.where(on_line, plain, now)
        # A frame of one colour does not tell what was done to it.
        costs = np.where(colourless, np.minimum(costs, before + PENALTY), costs)
        if one.kind is None:
            # It only joins the pieces beside the gap.
            costs = np.where(on_line, plain, costs)
        total, first, end, from_first, to_end = _ends(costs, plain, before)
        saved = float(before.sum()) - total - 2 * JUMP * NONE_COST
        on_it = Frames(max(gap.low + from_first, gap.first), min(gap.low + to_end, gap.end))
        fills = on_it == Frames(gap.first, gap.end)
        if saved > most and end - first >= LEAST and (one.kind or fills):
            most = saved
            frames = Frames(gap.low + first, gap.low + end)
            best = _Look(Altered(frames, gap.line, one.kind, one.side, one.region), on_it, saved)
    return best


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


def _piece_costs(pair: kernels.Pair, piece: Piece) -> Costs:
    """Return the cost of the frames of a piece, with that of the change to it."""
    if piece.line is None:
        costs = np.full(piece.end - piece.first, 0.0 if piece.black else NONE_COST)
    else:
        costs = kernels.costs_along(pair, piece.line.row(len(pair.a)), piece.first, piece.end).astype(np.float64)
    if piece.first and len(costs):
        costs[0] += JUMP * NONE_COST
    return costs


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
