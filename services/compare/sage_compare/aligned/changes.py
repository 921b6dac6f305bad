"""Finds small changes of the picture where two films show the same frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import COLUMNS, ROWS

from sage_compare.aligned.blocks import Pairs, measure, pair_up
from sage_compare.aligned.components import Component, components, merged
from sage_compare.aligned.crops import find_crop
from sage_compare.aligned.grade import Graded, curves_of, find_grades
from sage_compare.aligned.inputs import Film, Options, Stretch
from sage_compare.aligned.kinds import kind_of, side_of
from sage_compare.aligned.noise import peaks_of, score
from sage_compare.aligned.regions import Mask, Sight, box_of, ends, ramp_ends, sample
from sage_compare.aligned.script import BurnIn, Change, ChangeKind, Frames, Noise, Sensitivity

LEVELS: Final = {Sensitivity.LOW: 2.0, Sensitivity.NORMAL: 1.0, Sensitivity.HIGH: 0.6}
"""The strength from which each sensitivity reports a change."""

# Weakest change that is returned at all, and the share of frames from which a change is a burn-in.
_WEAKEST: Final = 0.4
_BURNT_IN: Final = 0.8
# Share of the picture from which changes may be a crop.
_CROP_SHARE: Final = 0.15
# Blocks between two parts of a slow zoom that are not seen.
_NEAR_BLOCKS: Final = 2
# Frames beside a cut that another frame rate blends, or shows for longer.
_BLENDED: Final = 2


@dataclass(frozen=True)
class FoundChanges:
    """What differs where both films show the same frames.

    Attributes:
        changes: Changes in the order of b, each within one stretch.
        noise: How much the frames differ that have no change.
        residuals: How much each frame of b differs; -1 if no stretch covers it.
        burn_ins: Parts of the picture that differ almost everywhere. They are among the changes, too.
    """

    changes: tuple[Change, ...]
    noise: Noise
    residuals: NDArray[np.float32]
    burn_ins: tuple[BurnIn, ...]


def find_changes(
    a: Film, b: Film, stretches: Sequence[Stretch], options: Options, *, resampled: bool = False
) -> FoundChanges:
    """Return what differs on stretches of two films. Swapping the films swaps the sides and nothing else.

    Args:
        a: One film.
        b: The other film, on the same grid: black bars were taken out.
        stretches: Which frames belong together.
        options: How small a change may be, and what is not compared.
        resampled: Whether the cells of one film were computed from others to bring both onto one grid.
    """
    residuals = np.full(len(b.fingerprint), -1, np.float32)
    stretches = [stretch for stretch in stretches if len(stretch.b)]
    pairs = pair_up(a.fingerprint, b.fingerprint, stretches)
    if not pairs.blocks:
        return FoundChanges((), Noise(), residuals, ())
    grades, tone = list[Graded](), list[Graded]()
    if a.dynamic_range == b.dynamic_range:
        grades = find_grades(a.fingerprint, b.fingerprint, pairs)
    else:
        # One curve for all of the film is its tone, which is no change.
        tone = [Graded(0, pairs.blocks, strength=0.0, fades=False)]
    curves, curve = curves_of(a.fingerprint, b.fingerprint, pairs, tone or grades)
    sight = Sight(a.fingerprint, b.fingerprint, pairs, curves, curve)
    blocks = measure(a.fingerprint, b.fingerprint, pairs, curves, curve)
    level = options.min_strength if options.min_strength is not None else LEVELS[options.sensitivity]
    least = min(level, _WEAKEST) if options.include_weak_changes else level
    exact = _is_exact(pairs)
    scores = score(blocks, exact=exact, resampled=resampled, graded=curve > 0)
    compared = compared_cells(options)
    scores[:, ~compared] = 0
    regraded = [_graded(sight, grade, level) for grade in grades]
    for grade, (_, first, end) in zip(grades, regraded, strict=True):
        # No curve fits a fade, nor a block that is only partly graded.
        partly = _blocks_cut(pairs, grade, first, end)
        scores[slice(grade.first, grade.end) if grade.fades else partly] = 0
    found = components(scores, pairs.stretch, least)
    changes = [change for change, _, _ in regraded if change.strength >= least]
    burn_ins = []
    for one, is_crop in _with_crops(sight, found):
        change = _change(sight, one, level, is_crop=is_crop)
        if change.kind is ChangeKind.REPLACED and len(change.b) <= _BLENDED and not exact:
            continue
        changes.append(change)
        share = len(change.b) / max(1, len(pairs.b))
        if share >= _BURNT_IN and change.region and change.kind in (ChangeKind.OVERLAY, ChangeKind.TEXT):
            burn_ins.append(BurnIn(change.side, change.region, share))
    peaks = peaks_of(scores)
    residuals[pairs.b] = np.repeat(peaks, np.diff(pairs.starts))
    return FoundChanges(
        tuple(sorted(changes, key=lambda one: (one.b, one.a, one.kind.value, -one.strength))),
        _noise(peaks, found),
        residuals,
        tuple(burn_ins),
    )


def compared_cells(options: Options) -> Mask:
    """Return the cells that no ignored region touches."""
    compared = np.ones((ROWS, COLUMNS), np.bool_)
    for region in (*options.ignored_a, *options.ignored_b):
        left, right = int(region.x * COLUMNS), int(np.ceil((region.x + region.width) * COLUMNS - 1e-9))
        top, bottom = int(region.y * ROWS), int(np.ceil((region.y + region.height) * ROWS - 1e-9))
        compared[top:bottom, left:right] = False
    return compared


def _is_exact(pairs: Pairs) -> bool:
    """Return whether frames correspond one to one, so that nothing moves between the two frames of a pair."""
    steps = np.diff(pairs.a)
    return len(steps) == 0 or float((steps == 1).mean()) > 0.98


def _noise(peaks: NDArray[np.float32], found: Sequence[Component]) -> Noise:
    """Return how much blocks without a change differ."""
    quiet = np.ones(len(peaks), np.bool_)
    for one in found:
        quiet[one.first : one.end] = False
    chosen = peaks[quiet] if quiet.any() else peaks
    median, p95, p99 = (float(np.quantile(chosen, share)) for share in (0.5, 0.95, 0.99))
    return Noise(median, p95, p99)


def _with_crops(sight: Sight, found: Sequence[Component]) -> list[tuple[Component, bool]]:
    """Return components, and whether they are crops. Those that lie at the same time and together are a crop are one.

    A slow zoom begins at the edges of the picture.
    """
    clusters = list[list[Component]]()
    for one in found:
        near = clusters[-1] if clusters else []
        same = near and sight.pairs.stretch[near[0].first] == sight.pairs.stretch[one.first]
        if same and one.first <= max(other.end for other in near) + _NEAR_BLOCKS:
            near.append(one)
        else:
            clusters.append([one])
    joined = list[tuple[Component, bool]]()
    for near in clusters:
        whole = merged(near)
        first, end = sight.pairs.starts[whole.first], sight.pairs.starts[whole.end]
        frames = sight.pairs.a[first:end], sight.pairs.b[first:end]
        if (whole.counts > 0).mean() >= _CROP_SHARE and _is_cropped(sight, *frames):
            joined.append((whole, True))
        else:
            joined += [(one, False) for one in near]
    return joined


def _is_cropped(sight: Sight, frames_a: NDArray[np.int32], frames_b: NDArray[np.int32]) -> bool:
    of_a, of_b = sight.a.luma[frames_a].astype(np.float32), sight.b.luma[frames_b].astype(np.float32)
    return find_crop(of_a, of_b) is not None


def _change(sight: Sight, one: Component, level: float, *, is_crop: bool) -> Change:
    pairs, cells = sight.pairs, one.often
    around = _reach(pairs, one.first, one.end)
    first, end = ramp_ends(sight, *around) if is_crop else ends(sight, cells, *around)
    look = sample(sight, first, end)
    region, member = box_of(look, cells)
    kind, confidence = (ChangeKind.CROP, 0.9) if is_crop else kind_of(look, member, region)
    whole = kind in (ChangeKind.REPLACED, ChangeKind.CROP)
    return Change(
        kind,
        *_frames(pairs, first, end),
        strength=one.strength,
        confidence=confidence,
        region=None if whole else region,
        side=None if whole else side_of(kind, look, member),
        weak=one.strength < level,
    )


def _blocks_cut(pairs: Pairs, grade: Graded, first: int, end: int) -> NDArray[np.intp]:
    """Return the blocks around a graded range of pairs whose curves do not fit all of their pairs."""
    near = np.arange(max(0, grade.first - 2), min(pairs.blocks, grade.end + 2))
    starts, stops = pairs.starts[near], pairs.starts[near + 1]
    curved = (near >= grade.first) & (near < grade.end)
    inside, touched = (starts >= first) & (stops <= end), (starts < end) & (stops > first)
    return near[np.where(curved, ~inside, touched)]


def _graded(sight: Sight, grade: Graded, level: float) -> tuple[Change, int, int]:
    """Return the change of a graded range, and its pairs."""
    plain = Sight(sight.a, sight.b, sight.pairs, sight.curves, np.zeros_like(sight.curve))
    kind = ChangeKind.FADE if grade.fades else ChangeKind.GRADE
    around = _reach(sight.pairs, grade.first, grade.end)
    first, end = ramp_ends(plain, *around) if grade.fades else ends(plain, np.ones((ROWS, COLUMNS), np.bool_), *around)
    change = Change(
        kind,
        *_frames(sight.pairs, first, end),
        strength=grade.strength,
        confidence=0.9,
        weak=grade.strength < level,
    )
    return change, first, end


def _reach(pairs: Pairs, first: int, end: int) -> tuple[int, int, int, int, int]:
    """Return the pairs of some blocks, those of their stretch, and by how many pairs their ends may be off."""
    owner = pairs.stretch[first]
    low = int(pairs.starts[np.searchsorted(pairs.stretch, owner, side="left")])
    high = int(pairs.starts[np.searchsorted(pairs.stretch, owner, side="right")])
    reach = int(pairs.starts[first + 1] - pairs.starts[first]) + 1
    return int(pairs.starts[first]), int(pairs.starts[end]), low, high, reach


def _frames(pairs: Pairs, first: int, end: int) -> tuple[Frames, Frames]:
    return (
        Frames(int(pairs.a[first]), int(pairs.a[end - 1]) + 1),
        Frames(int(pairs.b[first]), int(pairs.b[end - 1]) + 1),
    )
