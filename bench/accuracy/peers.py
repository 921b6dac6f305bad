"""What SAGE is measured against: comparison at equal times, and ffmpeg's `signature` filter.

Comparison at equal times has one threshold. It gets the one that is best for these pairs, in hindsight.
"""

import asyncio
import re
import subprocess
from collections.abc import Sequence

import numpy as np
from embed import served
from numpy.typing import NDArray
from sage_compare.aligned.script import Change, ChangeKind, Edit, EditKind, Frames
from sage_compare.inputs.segments import Segments
from sage_compare.time_mode.compare import compare_segments
from sage_compare.time_mode.differences import Difference, TimeComparison, find_differences
from sage_compare.time_mode.distance import Metric
from sage_embed.config import LocalSettings
from sage_embed.engines.engine import EngineRequest, Resume, SegmentsProduced
from sage_embed.engines.local.engine import REVISION, LocalEngine

from accuracy.encoding import FFMPEG
from accuracy.pool import Scored, pool
from accuracy.score import scored
from accuracy.truth import Timeline, Truth

CLIP_SECONDS = 2.0
THRESHOLDS = np.geomspace(0.002, 0.8, 30)
_MATCH = re.compile(r"matching of video 0 at ([\d.]+) and 1 at ([\d.]+), (\d+) frames matching")


def at_equal_times(truths: Sequence[Truth]) -> tuple[list[Scored], float]:
    """Return the scores of comparison at equal times, and the threshold that makes them best."""
    engine = LocalEngine(LocalSettings(threads=2))
    compared = {truth.name: _compared(truth, engine) for truth in truths}
    rounds = {
        float(t): [scored(truth, _edits(truth, compared[truth.name], t), 0.0) for truth in truths] for t in THRESHOLDS
    }
    best = max(rounds, key=lambda threshold: pool(rounds[threshold]).diff_f1)
    return rounds[best], best


def _compared(truth: Truth, engine: LocalEngine) -> TimeComparison:
    a, b = (_segments(line, engine) for line in (truth.old, truth.new))
    return compare_segments(
        a, b, a_duration=truth.old.duration, b_duration=truth.new.duration, metric=Metric.COSINE, threshold=0.1
    )


def _segments(line: Timeline, engine: LocalEngine) -> Segments:
    """Return the embedding of a film, which is kept beside it."""
    kept = line.path.with_name(f"{line.path.stem}.{REVISION.replace('/', '-')}.npz")
    if not kept.exists():
        starts, ends, vectors = asyncio.run(_embedded(line, engine))
        part = kept.with_suffix(".part.npz")
        np.savez(part, starts=starts, ends=ends, vectors=vectors)
        part.rename(kept)
    with np.load(kept) as found:
        return Segments.of(found["starts"], found["ends"], found["vectors"])


async def _embedded(line: Timeline, engine: LocalEngine) -> tuple[list[float], list[float], NDArray[np.float32]]:
    with served(line.path) as url:

        async def video_url() -> str:
            return url

        request = EngineRequest(
            video_url=video_url,
            duration_seconds=line.duration,
            start_offset_seconds=0.0,
            has_audio=False,
            model="local",
            clip_seconds=CLIP_SECONDS,
            tracks=("visual",),
            resume=Resume(provider_task_id=None, submitted_url=None, submitted_at=None, segment_counts={}),
        )
        parts = [event.segments async for event in engine.embed(request) if isinstance(event, SegmentsProduced)]
    starts = [second for part in parts for second in part.start_seconds]
    ends = [second for part in parts for second in part.end_seconds]
    return starts, ends, np.concatenate([part.vectors for part in parts])


def _edits(truth: Truth, compared: TimeComparison, threshold: float) -> list[Edit]:
    """Return an edit script: what differs is replaced, what is left over at the end is only in one cut."""
    unpaired = [d for d in compared.differences if d.mean_distance is None]
    found = find_differences(compared.series, unpaired=unpaired, threshold=threshold).differences
    edits = [_edit(truth, difference) for difference in found]
    at = 0.0
    for difference in [*found, None]:
        end = min(truth.old.duration, truth.new.duration)
        if difference is not None and difference.a and difference.b:
            end = difference.a.start
        if end > at:
            edits.append(_edit_of(EditKind.MATCHED, truth, (at, end), (at, end)))
        if difference is not None and difference.a and difference.b:
            at = difference.a.end
    kept = [e for e in edits if (e.a and len(e.a)) or (e.b and len(e.b))]
    return sorted(kept, key=lambda e: e.b or e.a or Frames(0, 0))


def _edit(truth: Truth, difference: Difference) -> Edit:
    a = (difference.a.start, difference.a.end) if difference.a else None
    b = (difference.b.start, difference.b.end) if difference.b else None
    kind = EditKind.CHANGED if a and b else EditKind.DELETED if a else EditKind.INSERTED
    return _edit_of(kind, truth, a, b)


def _edit_of(kind: EditKind, truth: Truth, a: tuple[float, float] | None, b: tuple[float, float] | None) -> Edit:
    frames_a = Frames(truth.old.frame(a[0]), truth.old.frame(a[1])) if a else None
    frames_b = Frames(truth.new.frame(b[0]), truth.new.frame(b[1])) if b else None
    changes: tuple[Change, ...] = ()
    if kind is EditKind.CHANGED and frames_a and frames_b:
        changes = (Change(ChangeKind.REPLACED, frames_a, frames_b, 1.0),)
    return Edit(kind, frames_a, frames_b, changes=changes)


def by_signature(truths: Sequence[Truth]) -> list[Scored]:
    """Return the scores of ffmpeg's `signature` filter: it finds one stretch that matches, and nothing else.

    It states one place on the stretch and the number of frames, but not on which side of the place they lie. The side
    that scores better counts.
    """
    found = []
    for truth in truths:
        tried = [scored(truth, edits, 0.0) for edits in _signature(truth)]
        found.append(max(tried, key=lambda result: result.score.diff_f1))
    return found


def _signature(truth: Truth) -> list[list[Edit]]:
    """Return the edit scripts that the filter's answer may mean."""
    command = [FFMPEG, "-hide_banner", "-nostats", "-i", str(truth.old.path), "-i", str(truth.new.path)]
    # With the default limits it does not even find that a film of 20 s matches itself.
    options = "nb_inputs=2:detectmode=full:th_d=20000:th_dc=100000"
    command += ["-filter_complex", f"[0:v][1:v]signature={options}", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = _MATCH.search(done.stderr)
    frames_a, frames_b = len(truth.old), len(truth.new)
    if match is None:
        return [_around(0, 0, 0, frames_a, frames_b)]
    if "whole video matching" in done.stderr:
        return [[Edit(EditKind.MATCHED, Frames(0, frames_a), Frames(0, frames_b))]]
    a, b, count = truth.old.frame(float(match[1])), truth.new.frame(float(match[2])), int(match[3])
    back = min(count, a, b)
    ahead = min(count, frames_a - a, frames_b - b)
    return [
        _around(a, b, ahead, frames_a, frames_b),
        _around(a - back, b - back, back, frames_a, frames_b),
        _around(a - back // 2, b - back // 2, min(count, back // 2 + ahead), frames_a, frames_b),
    ]


def _around(a: int, b: int, count: int, frames_a: int, frames_b: int) -> list[Edit]:
    """Return an edit script in which nothing matches but one stretch."""
    edits = [
        Edit(EditKind.DELETED, Frames(0, a), None),
        Edit(EditKind.INSERTED, None, Frames(0, b)),
        Edit(EditKind.MATCHED, Frames(a, a + count), Frames(b, b + count)),
        Edit(EditKind.DELETED, Frames(a + count, frames_a), None),
        Edit(EditKind.INSERTED, None, Frames(b + count, frames_b)),
    ]
    return [edit for edit in edits if len(edit.a or edit.b or ())]
