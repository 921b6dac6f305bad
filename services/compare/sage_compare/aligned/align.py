"""The alignment of two films: which frames of b show which frames of a, and what was done to the rest."""

from dataclasses import replace

import numpy as np

from sage_compare.aligned import (
    altered,
    edges,
    explain,
    gaps,
    holds,
    kernels,
    misfits,
    offsets,
    orient,
    pictures,
    resampled,
    retime,
    speeds,
    split,
    transitions,
    turned,
    viterbi,
)
from sage_compare.aligned.chain import order_of
from sage_compare.aligned.changes import find_changes
from sage_compare.aligned.end_frames import without_end_frames
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.lines import LineFinder
from sage_compare.aligned.normalize import Normalized, normalize
from sage_compare.aligned.script import ChangeKind, EditKind, EditScript
from sage_compare.aligned.tiling import Tile, check, in_script_order, tile


def align(a: Film, b: Film, options: Options) -> EditScript:
    """Return what was done to a to make b.

    The same films give the same script, to the bit. With a and b swapped, INSERTED and DELETED are swapped and the rest
    is the same.
    """
    swapped = orient.key(b.fingerprint) < orient.key(a.fingerprint)
    normal = normalize(b, a, options) if swapped else normalize(a, b, options)
    tiles = structure(normal)
    if normal.turned:
        tiles = turned.as_changes(tiles, normal.turned)
    films, normalizations = (normal.a, normal.b), normal.found
    if swapped:
        tiles = in_script_order([orient.swapped_tile(one) for one in tiles])
        films = films[1], films[0]
        normalizations = tuple(orient.swapped_normalization(one) for one in normalizations)
    if normal.bars:
        options = replace(options, ignored_a=(*options.ignored_a, *normal.bars))
    exact = not resampled.resampled(normal.pair)
    stretches = split.stretches(tiles, films[0].fingerprint, films[1].fingerprint, exact=exact)
    found = find_changes(*films, stretches, options, resampled=bool(normal.bars))
    edits, ignored = without_end_frames(split.split(tiles, found.changes))
    check(edits, len(a.fingerprint), len(b.fingerprint))
    return EditScript(
        tuple(edits),
        # Where frames do not correspond one to one, one more is part of the conversion.
        normalizations=(*normalizations, *ignored) if exact else normalizations,
        noise=found.noise,
        residuals=found.residuals,
        burn_ins=found.burn_ins,
    )


def structure(normal: Normalized) -> list[Tile]:
    """Return the tiles without small changes."""
    pair, step = normal.pair, normal.step
    fingerprint_a, fingerprint_b = normal.a.fingerprint, normal.b.fingerprint
    if not len(pair.a) or not len(pair.b):
        return tile(order_of(pair, []), len(pair.a), len(pair.b))
    finder = LineFinder(pair, step)
    lines = finder.search()
    pair = finder.pair
    black = pictures.black_frames(fingerprint_b)
    pieces = viterbi.choose(pair, lines, black)
    more = edges.nudged(pair, pieces, step) + retime.retimed(finder, pieces) + retime.held(pair, pieces)
    if more:
        pieces = viterbi.choose(pair, lines + more, black)
    pieces = edges.refine(pair, edges.straighten(pair, pieces))
    pieces, alterations = altered.find_altered(fingerprint_a, fingerprint_b, pair, pieces)
    if resampled.resampled(pair):
        pieces = resampled.joined(pair, fingerprint_a, fingerprint_b, pieces)
    order = offsets.settled(pair, fingerprint_a, fingerprint_b, order_of(pair, pieces))
    order = misfits.settled(pair, fingerprint_a, fingerprint_b, order)
    order = transitions.find(pair, fingerprint_a, fingerprint_b, order)
    order = holds.holds(fingerprint_a, fingerprint_b, pair, order)
    order = speeds.joined(pair, order)
    filled = gaps.fill(pair, order, step)
    order = transitions.find(pair, fingerprint_a, fingerprint_b, filled, known=frozenset(order.chain))
    if resampled.resampled(pair):
        order = resampled.closed(pair, order)
    tiles = altered.apply(pair, tile(order, len(pair.a), len(pair.b)), alterations)
    tiles = explain.explain(fingerprint_a, fingerprint_b, pair, tiles)
    return [_with_map(pair, one) for one in tiles]


def _with_map(pair: kernels.Pair, one: Tile) -> Tile:
    """Return the tile with the frame of a that each of its frames of b shows."""
    line, a, b = one.line, one.edit.a, one.edit.b
    altered = one.edit.kind is EditKind.CHANGED and one.edit.changes[0].kind is not ChangeKind.RETIMED
    if line is None or a is None or b is None or altered:
        return one
    along = resampled.frames_near if resampled.resampled(pair) else kernels.frames_along
    numbers = along(pair, line.rate, line.start, b.first, b.end)
    if one.edit.kind is EditKind.CHANGED and not resampled.resampled(pair):
        numbers = speeds.shown_along(pair, numbers, b.first)
    return Tile(one.edit, line, np.clip(numbers, a.first, a.end - 1))
