"""How much the content of two ranges differs, by the embeddings of both films."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned.comparison import FilmTimes
from sage_compare.aligned.script import EditKind, EditScript, Frames
from sage_compare.inputs.segments import Segments
from sage_compare.time_mode.distance import Metric


def semantic_distances(
    script: EditScript, a: tuple[FilmTimes, Segments], b: tuple[FilmTimes, Segments], *, metric: Metric
) -> tuple[float | None, ...]:
    """Return a distance for each edit that is CHANGED, and `None` for the others and where no segment covers a range.

    The vectors of a range are averaged by how much of it each segment covers. The distance between the two averages is
    measured as in mode TIME.
    """

    def distances() -> Iterator[float | None]:
        for edit in script.edits:
            if edit.kind is not EditKind.CHANGED or edit.a is None or edit.b is None:
                yield None
                continue
            one, other = _mean(edit.a, *a), _mean(edit.b, *b)
            yield None if one is None or other is None else _distance(one, other, metric)

    return tuple(distances())


def _mean(frames: Frames, times: FilmTimes, segments: Segments) -> NDArray[np.float64] | None:
    """Return the mean vector of a range with length 1, or `None` if it has none."""
    start, end = times.at(frames.first), times.at(frames.end)
    first = int(np.searchsorted(segments.ends, start, side="right"))
    last = int(np.searchsorted(segments.starts, end, side="left"))
    if last <= first:
        return None
    covered = np.minimum(segments.ends[first:last], end) - np.maximum(segments.starts[first:last], start)
    mean = np.clip(covered, 0, None) @ segments.units[first:last].astype(np.float64)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 0 else None


def _distance(one: NDArray[np.float64], other: NDArray[np.float64], metric: Metric) -> float:
    cosine = float(np.clip(one @ other, -1.0, 1.0))
    return 1.0 - cosine if metric is Metric.COSINE else float(np.sqrt(2.0 - 2.0 * cosine))
