"""Compares one track at equal times, and defines the default thresholds."""

import math
from dataclasses import dataclass

import numpy as np

from sage_compare.inputs.embedding import TimeRange
from sage_compare.inputs.segments import Floats, Mask, Segments
from sage_compare.time_mode.differences import Difference, DifferenceKind, Series, TimeComparison, find_differences
from sage_compare.time_mode.distance import Metric, Rows, distances

# The largest cosine distance at which two segments count as the same, by model and track.
#
# `local`, `visual`, with 2 s clips, measured on three films of 204 to 480 lines: an H.264 re-encode at the same size
# moved no clip by more than 0.047 at crf 28 (median 0.004 to 0.015); at crf 33, or scaled to three quarters, the worst
# clips reached 0.08 to 0.11. A shot that was replaced in one half of its clip moved that clip by 0.097; one replaced
# throughout, by 0.24 or more. Small edits (a logo, a subtitle) are below: no threshold on the vector of a clip
# distinguishes them from encoding.
_COSINE_THRESHOLDS: dict[tuple[str, str], float] = {
    ("local", "visual"): 0.07,
}
_OTHER_COSINE_THRESHOLD = 0.1


def default_threshold(metric: Metric, *, model: str, track: str) -> float:
    """Return the default threshold for a metric, model and track.

    Both metrics mark the same segments: for vectors of length 1 the Euclidean distance is the root of twice the cosine
    distance, and so is its threshold.
    """
    cosine = _COSINE_THRESHOLDS.get((model, track), _OTHER_COSINE_THRESHOLD)
    return cosine if metric is Metric.COSINE else math.sqrt(2.0 * cosine)


def compare_segments(
    a: Segments,
    b: Segments,
    *,
    a_duration: float,
    b_duration: float,
    metric: Metric,
    threshold: float,
    same_video: bool = False,
    silence_seconds: float | None = None,
) -> TimeComparison:
    """Compare a track that both sides have.

    Args:
        a: Segments of one side.
        b: Segments of the other side, with the same dimensions.
        a_duration: Length of a's video in seconds.
        b_duration: Length of b's video in seconds.
        metric: How distances are measured.
        threshold: Distances above it are differences, in the unit of the metric.
        same_video: Whether both were made from the same video. If so, ranges without segments are the same.
        silence_seconds: Shortest gap between segments that is silence. `None` if a gap never means silence.
    """
    layout = lay_out(a, b, a_duration=a_duration, b_duration=b_duration, silence_seconds=silence_seconds)
    series = Series(
        a_starts=layout.a_starts,
        b_starts=layout.b_starts,
        lengths=layout.lengths,
        distances=distances(a, b, layout.a_rows, layout.b_rows, metric=metric),
    )
    unpaired = () if same_video else layout.unpaired
    return find_differences(series, unpaired=unpaired, threshold=threshold)


def compare_with_silence(a_duration: float | None, b_duration: float | None, *, threshold: float) -> TimeComparison:
    """Compare a track that at least one side lacks because it is silent: silence differs from everything but silence.

    Args:
        a_duration: Length of a's video in seconds. `None` if a is silent.
        b_duration: Length of b's video in seconds. `None` if b is silent.
        threshold: The threshold to report. No distance is compared with it.
    """
    nothing = np.zeros(0)
    unpaired = []
    if a_duration is not None:
        unpaired.append(Difference(DifferenceKind.ONLY_IN_A, a=TimeRange(0.0, a_duration), b=None))
    if b_duration is not None:
        unpaired.append(Difference(DifferenceKind.ONLY_IN_B, a=None, b=TimeRange(0.0, b_duration)))
    series = Series(nothing, nothing, nothing, np.zeros(0, np.float32))
    return find_differences(series, unpaired=unpaired, threshold=threshold)


TOLERANCE_SECONDS = 0.1


@dataclass(frozen=True)
class Layout:
    """Two aligned timelines: which segments overlap, and which ranges have no counterpart.

    Attributes:
        a_starts: Start of each interval on a, in seconds, shape ``(m,)``.
        b_starts: Start of each interval on b, in seconds, shape ``(m,)``.
        lengths: Length of each interval in seconds, greater than zero, shape ``(m,)``.
        a_rows: The segment of a that covers it, shape ``(m,)``.
        b_rows: The segment of b that covers it, shape ``(m,)``.
        unpaired: Ranges without a counterpart, which do not depend on the threshold.
    """

    a_starts: Floats
    b_starts: Floats
    lengths: Floats
    a_rows: Rows
    b_rows: Rows
    unpaired: tuple[Difference, ...]


def lay_out(
    a: Segments, b: Segments, *, a_duration: float, b_duration: float, silence_seconds: float | None = None
) -> Layout:
    """Align two timelines, second by second.

    Intervals and unpaired ranges together tile the union of both timelines: from 0 to the longer duration, or to the
    shorter one if the two durations count as equal. Ranges that are silent in both are left out.

    Args:
        a: Segments of one side.
        b: Segments of the other side.
        a_duration: Length of a's video in seconds, however much of it the segments cover.
        b_duration: Length of b's video in seconds.
        silence_seconds: Shortest gap between segments that is silence: there is no speech, or the sound has ended.
            `None` if a gap never means silence, as in the picture.
    """
    end = min(a_duration, b_duration)
    a_starts, a_ends, a_rows = _fit(a.starts, a.ends, end=end)
    b_starts, b_ends, b_rows = _fit(b.starts, b.ends, end=end)
    moments = _union(a_starts, a_ends)
    b_starts, b_ends = _snap(b_starts, onto=moments), _snap(b_ends, onto=moments)
    edges = _union(moments, b_starts, b_ends, np.array([0.0, end]))
    starts, ends = edges[:-1], edges[1:]
    a_cover, b_cover = _cover(starts, a_starts, a_ends), _cover(starts, b_starts, b_ends)
    a_present, b_present = a_cover >= 0, b_cover >= 0
    paired = a_present & b_present
    a_silent = _silent(starts, a_starts, a_ends, duration=a_duration, at_least=silence_seconds)
    b_silent = _silent(starts, b_starts, b_ends, duration=b_duration, at_least=silence_seconds)
    only_a, only_b = a_present & b_silent, b_present & a_silent
    unknown = ~(paired | only_a | only_b | a_silent & b_silent)
    return Layout(
        a_starts=starts[paired],
        b_starts=starts[paired],
        lengths=(ends - starts)[paired],
        a_rows=a_rows[a_cover[paired]],
        b_rows=b_rows[b_cover[paired]],
        unpaired=(
            *(Difference(DifferenceKind.NOT_COMPARED, r, r) for r in _ranges(starts[unknown], ends[unknown])),
            *(Difference(DifferenceKind.ONLY_IN_A, r, None) for r in _ranges(starts[only_a], ends[only_a])),
            *(Difference(DifferenceKind.ONLY_IN_B, None, r) for r in _ranges(starts[only_b], ends[only_b])),
            *_ending(a_duration, b_duration),
        ),
    )


def _fit(starts: Floats, ends: Floats, *, end: float) -> tuple[Floats, Floats, Rows]:
    """Return the segments cut off at `end`, with gaps within the tolerance closed, and their rows.

    If two segments overlap, the later one gets the overlap: no time belongs to two segments. A segment that the cut
    shortens to less than the tolerance is dropped, because it would be compared with what the other timeline shows just
    before.
    """
    sliver = (ends > end) & (starts > max(0.0, end - TOLERANCE_SECONDS))
    kept = np.flatnonzero((starts < end) & ~sliver)
    starts, ends = starts[kept], ends[kept]
    if not len(kept):
        return starts, ends, kept
    if starts[0] <= TOLERANCE_SECONDS:
        starts[0] = 0.0
    following = np.append(starts[1:], end)
    ends = np.where(ends >= following - TOLERANCE_SECONDS, following, ends)
    return starts, ends, kept


def _snap(times: Floats, *, onto: Floats) -> Floats:
    """Return the times, each moved to the nearest time of `onto` that is within the tolerance.

    Order is kept: no other time of `onto` lies between a time and the one that it moves to.
    """
    if not len(onto):
        return times
    after = np.clip(np.searchsorted(onto, times), 1, len(onto) - 1)
    nearest = np.where(times - onto[after - 1] <= onto[after] - times, onto[after - 1], onto[after])
    return np.where(np.abs(nearest - times) <= TOLERANCE_SECONDS, nearest, times)


def _union(*times: Floats) -> Floats:
    """Return every distinct time, in order."""
    # The input is a few sorted runs, which a merge sort only has to merge.
    merged = np.sort(np.concatenate(times), kind="stable")
    return merged[np.append(True, merged[1:] != merged[:-1])] if len(merged) else merged


def _cover(moments: Floats, starts: Floats, ends: Floats) -> Rows:
    """Return the segment that covers each time, -1 if none does."""
    # A segment that snapping emptied starts where the next one does: of equal starts, only the last has a length.
    at = np.searchsorted(starts, moments, side="right") - 1
    covered = at >= 0
    covered[covered] = moments[covered] < ends[at[covered]]
    return np.where(covered, at, -1)


def _silent(moments: Floats, starts: Floats, ends: Floats, *, duration: float, at_least: float | None) -> Mask:
    """Return for each time whether it lies in a gap between segments that is long enough to be silence.

    A shorter gap at the end may be the remainder that models leave out because it does not fill a clip.
    """
    if at_least is None:
        return np.zeros(len(moments), np.bool_)
    since, until = np.append(0.0, ends), np.append(starts, duration)
    at = np.searchsorted(starts, moments, side="right")
    long_enough: Mask = until[at] - since[at] >= at_least - TOLERANCE_SECONDS
    return (moments >= since[at]) & long_enough


def _ranges(starts: Floats, ends: Floats) -> list[TimeRange]:
    """Return intervals as ranges, with neighbours merged."""
    if not len(starts):
        return []
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = starts[np.append(0, breaks + 1)], ends[np.append(breaks, len(ends) - 1)]
    return [TimeRange(first, last) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]


def _ending(a_duration: float, b_duration: float) -> list[Difference]:
    """Return the part of the longer one after the end of the shorter one."""
    if abs(a_duration - b_duration) <= TOLERANCE_SECONDS:
        return []
    if a_duration > b_duration:
        return [Difference(DifferenceKind.ONLY_IN_A, a=TimeRange(b_duration, a_duration), b=None)]
    return [Difference(DifferenceKind.ONLY_IN_B, a=None, b=TimeRange(a_duration, b_duration))]
