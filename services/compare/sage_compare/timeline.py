"""Same time: second n of a beside second n of b.

All ranges are half open. The grid of the comparison is the common refinement of both grids of clips: each of its
intervals lies in exactly one clip of a and one of b. Mostly the two grids are the same, and interval i is clip i of
both.

Moments that lie within `TOLERANCE_SECONDS` are one moment. A re-encode of the same cut seldom has exactly the same
length: a frame more or less is 0.04 s, the priming and padding of an audio track up to 0.05 s, and containers round.
None of that is an edit, and a `diff` that said so would say it of every re-encode. In return a trim of less than a
tenth of a second at the very end goes unnoticed.
"""

import numpy as np

from sage_compare.model import Clips, Difference, Floats, Kind, Layout, Mask, Rows, TimeRange

TOLERANCE_SECONDS = 0.1


def lay_out(
    a: Clips, b: Clips, *, a_duration: float, b_duration: float, silence_seconds: float | None = None
) -> Layout:
    """Lay two timelines on each other, second by second.

    Intervals and unpaired ranges together tile the union of both timelines: from 0 to the longer duration, or to the
    shorter one where the two durations are one moment. What is silent in both is left out.

    Args:
        a: The clips of the one.
        b: The clips of the other.
        a_duration: The length of a's video in seconds, whatever its clips cover.
        b_duration: The length of b's video.
        silence_seconds: How long a stretch without clips has to be to be silence: nobody speaks there, or the sound has
            ended. None where clips are left out for other reasons alone, as with the picture.
    """
    end = min(a_duration, b_duration)
    a_starts, a_ends, a_rows = _fit(a.starts, a.ends, end=end)
    b_starts, b_ends, b_rows = _fit(b.starts, b.ends, end=end)
    moments = _union(a_starts, a_ends)
    b_starts, b_ends = _snap(b_starts, onto=moments), _snap(b_ends, onto=moments)
    edges = _union(moments, b_starts, b_ends, np.array([0.0, end]))
    starts, ends = edges[:-1], edges[1:]
    a_cover, b_cover = _cover(starts, a_starts, a_ends), _cover(starts, b_starts, b_ends)
    a_there, b_there = a_cover >= 0, b_cover >= 0
    paired = a_there & b_there
    a_silent = _silent(starts, a_starts, a_ends, duration=a_duration, at_least=silence_seconds)
    b_silent = _silent(starts, b_starts, b_ends, duration=b_duration, at_least=silence_seconds)
    only_a, only_b = a_there & b_silent, b_there & a_silent
    unknown = ~(paired | only_a | only_b | a_silent & b_silent)
    return Layout(
        a_starts=starts[paired],
        b_starts=starts[paired],
        lengths=(ends - starts)[paired],
        a_rows=a_rows[a_cover[paired]],
        b_rows=b_rows[b_cover[paired]],
        unpaired=(
            *(Difference(Kind.NOT_COMPARED, a=where, b=where) for where in _ranges(starts[unknown], ends[unknown])),
            *(Difference(Kind.ONLY_IN_A, a=where, b=None) for where in _ranges(starts[only_a], ends[only_a])),
            *(Difference(Kind.ONLY_IN_B, a=None, b=where) for where in _ranges(starts[only_b], ends[only_b])),
            *_ending(a_duration, b_duration),
        ),
    )


def _fit(starts: Floats, ends: Floats, *, end: float) -> tuple[Floats, Floats, Rows]:
    """Return the clips cut off at `end`, gaps within the tolerance closed, with their rows.

    Where two clips overlap, the later one has what both cover: no moment belongs to two clips. A clip of which the cut
    leaves next to nothing goes: it would be compared with what the other timeline has a moment before.
    """
    scrap = (ends > end) & (starts > max(0.0, end - TOLERANCE_SECONDS))
    kept = np.flatnonzero((starts < end) & ~scrap)
    starts, ends = starts[kept], ends[kept]
    if not len(kept):
        return starts, ends, kept
    if starts[0] <= TOLERANCE_SECONDS:
        starts[0] = 0.0
    following = np.append(starts[1:], end)
    ends = np.where(ends >= following - TOLERANCE_SECONDS, following, ends)
    return starts, ends, kept


def _snap(times: Floats, *, onto: Floats) -> Floats:
    """Return the times, each moved onto the nearest moment of `onto` that is within the tolerance.

    Order is kept: a moved time has only the stretch to its nearest moment behind it.
    """
    if not len(onto):
        return times
    after = np.clip(np.searchsorted(onto, times), 1, len(onto) - 1)
    nearest = np.where(times - onto[after - 1] <= onto[after] - times, onto[after - 1], onto[after])
    return np.where(np.abs(nearest - times) <= TOLERANCE_SECONDS, nearest, times)


def _union(*times: Floats) -> Floats:
    """Return every moment once, in order."""
    # What comes in is a few runs that are in order already, which a merge sort only merges.
    merged = np.sort(np.concatenate(times), kind="stable")
    return merged[np.append(True, merged[1:] != merged[:-1])] if len(merged) else merged


def _cover(moments: Floats, starts: Floats, ends: Floats) -> Rows:
    """Return for each moment the clip that covers it, -1 where none does."""
    # A clip that snapping has emptied starts where the next one does: of equal starts the last is the one that lasts.
    at = np.searchsorted(starts, moments, side="right") - 1
    covered = at >= 0
    covered[covered] = moments[covered] < ends[at[covered]]
    return np.where(covered, at, -1)


def _silent(moments: Floats, starts: Floats, ends: Floats, *, duration: float, at_least: float | None) -> Mask:
    """Return for each moment whether it lies in a stretch without clips that is long enough to be silence.

    A shorter one at the end may be the rest that models leave out because it does not make a clip.
    """
    if at_least is None:
        return np.zeros(len(moments), np.bool_)
    since, until = np.append(0.0, ends), np.append(starts, duration)
    at = np.searchsorted(starts, moments, side="right")
    long_enough: Mask = until[at] - since[at] >= at_least - TOLERANCE_SECONDS
    return (moments >= since[at]) & long_enough


def _ranges(starts: Floats, ends: Floats) -> list[TimeRange]:
    """Return intervals as ranges, neighbours as one."""
    if not len(starts):
        return []
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = starts[np.append(0, breaks + 1)], ends[np.append(breaks, len(ends) - 1)]
    return [TimeRange(first, last) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]


def _ending(a_duration: float, b_duration: float) -> list[Difference]:
    """Return what only the longer one has."""
    if abs(a_duration - b_duration) <= TOLERANCE_SECONDS:
        return []
    if a_duration > b_duration:
        return [Difference(Kind.ONLY_IN_A, a=TimeRange(b_duration, a_duration), b=None)]
    return [Difference(Kind.ONLY_IN_B, a=None, b=TimeRange(a_duration, b_duration))]
