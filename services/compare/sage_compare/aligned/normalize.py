"""What differs between the two files as a whole and is taken out first: black bars, frame rate, dynamic range."""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned import kernels, pictures, resampled, turned, viterbi
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.lines import NONE_COST, LineFinder
from sage_compare.aligned.script import ChangeKind, Normalization, NormalizationKind, Region

FULL = Region(0.0, 0.0, 1.0, 1.0)
SAME_RATE = 1e-4
"""Relative difference of two frame rates that are the same."""
SAME_LENGTH = 0.005
"""Relative difference of two lengths that are the same."""
PROBES = 64
"""Frames of b by which two ways to compare are judged."""
BETTER = 1.03
"""How much better than the plain one another way to compare must explain the films."""
HARDLY = 0.2
"""Share of b below which the films are tried mirrored and as a negative, which must explain at least this much more."""


@dataclass(frozen=True)
class Normalized:
    """The two films, ready to be compared.

    Attributes:
        a: One film.
        b: The other.
        pair: Their pictures.
        step: Grid of offsets between them, in frames of a.
        found: What was taken out.
        bars: The parts of both pictures that are black bars in one film.
        turned: How b was turned, because it is mirrored or negative throughout.
    """

    a: Film
    b: Film
    pair: kernels.Pair
    step: float
    found: tuple[Normalization, ...]
    bars: tuple[Region, ...] = ()
    turned: ChangeKind | None = None


def normalize(a: Film, b: Film, options: Options) -> Normalized:
    """Return the films with what differs between the files as a whole taken out, if that explains them better."""
    weight = pictures.weight_of_cells(options.ignored_a + options.ignored_b)
    current = _turned(_plain(a, b, weight), weight)
    for attempt in (_without_bars, _same_tone):
        other = attempt(current, weight)
        if other is not None and _explained(other) > BETTER * _explained(current):
            current = other
    return _frame_rate(current)


def _plain(a: Film, b: Film, weight: NDArray[np.float32]) -> Normalized:
    pictures_a, pictures_b = pictures.measure_both(a.fingerprint, b.fingerprint, weight)
    return Normalized(a, b, pictures.make_pair(pictures_a, pictures_b, weight), 1.0, ())


def _turned(plain: Normalized, weight: NDArray[np.float32]) -> Normalized:
    """Return the films with b mirrored or as a negative if only that explains it."""
    explained = _explained(plain)
    if explained >= HARDLY:
        return plain
    for kind in turned.KINDS:
        film = replace(plain.b, fingerprint=turned.turned(plain.b.fingerprint, kind))
        other = replace(_plain(plain.a, film, weight), turned=kind)
        if _explained(other) >= explained + HARDLY:
            return other
    return plain


def _explained(normalized: Normalized) -> float:
    """Return how much of b the frames of a explain, by a few frames of b and what follows from them."""
    return _probed(normalized).explained() / (NONE_COST * len(normalized.pair.b))


def _probed(normalized: Normalized) -> LineFinder:
    """Return the lines through a few frames of b."""
    finder = LineFinder(normalized.pair, normalized.step)
    frames = len(normalized.pair.b)
    finder.query(range(frames // (2 * PROBES), frames, max(frames // PROBES, 1)))
    return finder


def _by_one_path(normalized: Normalized) -> float:
    """Return how much of b one path along few lines explains: each change of line costs."""
    pair = normalized.pair
    finder = _probed(normalized)
    pieces = viterbi.choose(pair, finder.lines, np.zeros(len(pair.b), np.bool_))
    on_lines = [piece for piece in pieces if piece.line is not None]
    explained = sum(
        float((NONE_COST - kernels.costs_along(pair, piece.line.row(len(pair.a)), piece.first, piece.end)).sum())
        for piece in on_lines
        if piece.line is not None
    )
    starts = np.array([piece.line.start for piece in on_lines if piece.line is not None])
    jumps = int((np.abs(np.diff(starts)) > resampled.slack_of(pair)).sum())
    return (explained - viterbi.FORWARD * jumps) / (NONE_COST * len(pair.b))


# Frame rate.


def _frame_rate(plain: Normalized) -> Normalized:
    """Return the films with frames compared by number or by time, whichever explains more if the rates differ."""
    rate_a, rate_b = _rate(plain.a), _rate(plain.b)
    if rate_a is None or rate_b is None:
        return plain
    differ = abs(float(rate_a / rate_b) - 1.0) > SAME_RATE
    if not differ and not (_varies(plain.a) or _varies(plain.b)):
        return plain
    timed = replace(plain, pair=_by_time(plain, float(rate_a)), step=0.5)
    converted = _by_one_path(timed) > _needed(plain) * _by_one_path(plain)
    chosen = timed if converted else plain
    if not differ:
        return chosen
    kind = NormalizationKind.FRAME_RATE_CONVERTED if converted else NormalizationKind.FRAME_RATE_CONFORMED
    found = Normalization(kind, _text(rate_a), _text(rate_b))
    return replace(chosen, found=(*chosen.found, found))


def _needed(plain: Normalized) -> float:
    """Return how much better the frames must be explained by time than by number to be compared by time.

    Films as long as each other, with another number of frames, were most likely converted.
    """
    a, b = plain.a.fingerprint, plain.b.fingerprint
    as_long = abs(a.duration_seconds - b.duration_seconds) <= SAME_LENGTH * max(a.duration_seconds, b.duration_seconds)
    as_many = abs(len(a) - len(b)) <= SAME_LENGTH * max(len(a), len(b))
    return 1.0 / BETTER if as_long and not as_many else BETTER


def _rate(film: Film) -> Fraction | None:
    if film.frame_rate is not None and film.frame_rate > 0:
        return film.frame_rate
    seconds = film.fingerprint.frame_seconds
    if len(seconds) < 3 or seconds[-1] <= seconds[0]:
        return None
    return Fraction(float((len(seconds) - 1) / (seconds[-1] - seconds[0]))).limit_denominator(1001)


def _varies(film: Film) -> bool:
    """Return whether frames are shown for different times, by more than rounding."""
    lengths = np.diff(film.fingerprint.frame_seconds)
    return len(lengths) > 1 and bool(np.percentile(lengths, 98) > 1.4 * np.percentile(lengths, 2))


def _by_time(normalized: Normalized, rate_a: float) -> kernels.Pair:
    """Return the pair with the frames of b at their time, in frames of a."""
    seconds_a, seconds_b = normalized.a.fingerprint.frame_seconds, normalized.b.fingerprint.frame_seconds
    end = normalized.a.fingerprint.duration_seconds * rate_a
    entries = (np.arange(int(end * kernels.LUT_STEPS) + 1) + 0.2) / kernels.LUT_STEPS / rate_a
    shown = np.clip(np.searchsorted(seconds_a, entries, side="right") - 1, 0, len(seconds_a) - 1)
    return normalized.pair._replace(u=seconds_b * rate_a, shown=shown.astype(np.int32))


def _text(rate: Fraction) -> str:
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


# Black bars.


def _without_bars(plain: Normalized, weight: NDArray[np.float32]) -> Normalized | None:
    """Return the films with the larger picture put into the layout of the one inside bars; `None` if both are alike."""
    active_a, active_b = plain.a.active or FULL, plain.b.active or FULL
    if abs(active_a.width - active_b.width) < 0.03 and abs(active_a.height - active_b.height) < 0.03:
        return None
    a, b = plain.a, plain.b
    if active_a.width * active_a.height > active_b.width * active_b.height:
        a, layout = replace(a, fingerprint=_into(a.fingerprint, active_a, active_b), active=active_b), active_b
    else:
        b, layout = replace(b, fingerprint=_into(b.fingerprint, active_b, active_a), active=active_a), active_a
    inside = _coverage(16, layout.x, layout.width)[None, :] * _coverage(9, layout.y, layout.height)[:, None]
    weight = weight * (inside.ravel() > 0.99).astype(np.float32)
    if not weight.any():
        return None
    found = Normalization(NormalizationKind.BLACK_BARS, _bars(active_a), _bars(active_b))
    return replace(_plain(a, b, weight), found=(*plain.found, found), bars=_outside(layout), turned=plain.turned)


def _outside(layout: Region) -> tuple[Region, ...]:
    """Return the parts of a picture around its active picture."""
    right, bottom = layout.x + layout.width, layout.y + layout.height
    around = (
        Region(0.0, 0.0, 1.0, layout.y),
        Region(0.0, bottom, 1.0, 1.0 - bottom),
        Region(0.0, 0.0, layout.x, 1.0),
        Region(right, 0.0, 1.0 - right, 1.0),
    )
    return tuple(one for one in around if one.width > 1e-6 and one.height > 1e-6)


def _bars(active: Region) -> str:
    across, down = active.width < 0.985, active.height < 0.985
    return "windowbox" if across and down else "letterbox" if down else "pillarbox" if across else "none"


def _coverage(cells: int, start: float, size: float) -> NDArray[np.float64]:
    """Return the share of each of `cells` cells that ``[start, start + size)`` covers."""
    edges = np.arange(cells + 1) / cells
    covered: NDArray[np.float64] = np.clip(
        np.minimum(edges[1:], start + size) - np.maximum(edges[:-1], start), 0.0, None
    )
    return covered * cells


def _into(fingerprint: Fingerprint, active: Region, layout: Region) -> Fingerprint:
    """Return a fingerprint whose active picture is put into the place of another layout, with black around it."""
    return replace(
        fingerprint,
        luma=_placed(fingerprint.luma, active, layout, 16),
        texture=_placed(fingerprint.texture, active, layout, 0),
        chroma=_placed(fingerprint.chroma, active, layout, 128),
    )


def _placed(cells: NDArray[np.uint8], active: Region, layout: Region, outside: int) -> NDArray[np.uint8]:
    down = _weights(cells.shape[-2], active.y, active.height, layout.y, layout.height)
    across = _weights(cells.shape[-1], active.x, active.width, layout.x, layout.width)
    rest = outside * (1.0 - down.sum(1)[:, None] * across.sum(1)[None, :])
    placed = np.empty_like(cells)
    for first in range(0, len(cells), 4096):
        block = cells[first : first + 4096].astype(np.float32)
        placed[first : first + 4096] = np.rint(down @ block @ across.T + rest)
    return placed


def _weights(cells: int, start: float, size: float, at: float, width: float) -> NDArray[np.float32]:
    """Return how much of each cell goes into each cell of the new layout, shape ``(new, old)``."""
    weights = np.zeros((cells, cells), np.float32)
    edges = np.arange(cells + 1) / cells
    # Edges of the old cells in the new layout.
    moved = at + (edges - start) / size * width
    for new in range(cells):
        low, high = max(edges[new], at), min(edges[new + 1], at + width)
        if high <= low:
            continue
        covered = np.clip(np.minimum(moved[1:], high) - np.maximum(moved[:-1], low), 0.0, None)
        weights[new] = covered * cells
    return weights


# Dynamic range.


def _same_tone(plain: Normalized, weight: NDArray[np.float32]) -> Normalized | None:
    """Return the films with the luma of a on the scale of b, if their dynamic ranges differ."""
    if plain.a.dynamic_range == plain.b.dynamic_range:
        return None
    luma_a, luma_b = plain.a.fingerprint.luma, plain.b.fingerprint.luma
    counts_a, counts_b = (np.bincount(luma[::5].ravel(), minlength=256) for luma in (luma_a, luma_b))
    shares_a, shares_b = np.cumsum(counts_a) / counts_a.sum(), np.cumsum(counts_b) / counts_b.sum()
    # The monotone curve by which both films have the same share of cells below each value.
    curve = np.clip(np.searchsorted(shares_b, shares_a - 1e-12), 0, 255).astype(np.uint8)
    a = replace(plain.a, fingerprint=replace(plain.a.fingerprint, luma=curve[luma_a]))
    found = Normalization(NormalizationKind.TONE, plain.a.dynamic_range, plain.b.dynamic_range)
    return replace(_plain(a, plain.b, weight), found=(*plain.found, found), bars=plain.bars, turned=plain.turned)
