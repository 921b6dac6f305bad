"""`make bench-compare`: two embeddings of two hours, compared.

- The comparison itself (from the clips in memory to distances, differences and similarity) beside the method that is
  usual for it: a loop over the clips that looks each time's segment up in a list and hands Python lists to numpy.
- The same beside one pass of numpy over the same memory: the least that reading both matrices can cost.
- The whole call through the stack: Envoy, compare, embed, PostgreSQL, with the clips in compare's cache.

What a service computes once when it reads an embedding, and keeps with it, is no part of a comparison: vectors scaled
to length 1, here, and Python lists there. It is printed on its own. Times are the best of many turns, in which the
methods follow each other: what a machine does besides only ever adds.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import psycopg
from numpy.typing import NDArray
from report import Result, report
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage_compare.compare import compare_clips
from sage_compare.distance import to_clips
from sage_compare.model import Clips, Findings, Metric, Mode, Series
from sage_local.background import running_stack
from sage_runtime.ids import new_id

CLIPS = 3_600
DIMENSIONS = 1_024
CLIP_SECONDS = 2.0
DURATION = CLIPS * CLIP_SECONDS
THRESHOLD = 0.1
# How many clips the embed service gets into one row of its table.
CLIPS_PER_ROW = 64

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """A segment as an API hands it out."""

    start: float
    end: float
    vector: list[float]


def two_cuts() -> tuple[Vectors, Vectors]:
    """Return the vectors of a film and of a re-encode of it in which every tenth minute was exchanged."""
    random = np.random.default_rng(20260101)
    old = random.standard_normal((CLIPS, DIMENSIONS), np.float32)
    new = old + 0.1 * random.standard_normal((CLIPS, DIMENSIONS), np.float32)
    minutes = np.arange(CLIPS) // 30
    exchanged = minutes % 10 == 9
    new[exchanged] = random.standard_normal((int(exchanged.sum()), DIMENSIONS), np.float32)
    return old, new


def as_clips(vectors: Vectors) -> Clips:
    """Return what the service keeps of an embedding."""
    starts = np.arange(CLIPS) * CLIP_SECONDS
    return to_clips(starts, starts + CLIP_SECONDS, vectors)


def as_segments(vectors: Vectors) -> list[Segment]:
    """Return what the loop works on."""
    rows = vectors.tolist()
    return [Segment(i * CLIP_SECONDS, (i + 1) * CLIP_SECONDS, row) for i, row in enumerate(rows)]


def compare(a: Clips, b: Clips) -> tuple[Series, Findings]:
    """Compare as the service does."""
    return compare_clips(
        a,
        b,
        a_duration=DURATION,
        b_duration=DURATION,
        mode=Mode.TIME,
        metric=Metric.COSINE,
        threshold=THRESHOLD,
    )


def compare_in_a_loop(a: Sequence[Segment], b: Sequence[Segment]) -> list[tuple[float, float]]:
    """Compare clip by clip in Python, and return the ranges that differ."""
    ranges: list[tuple[float, float]] = []
    at = 0.0
    while at < DURATION:
        one, other = segment_at(a, at), segment_at(b, at)
        if one is not None and other is not None and cosine_distance(one.vector, other.vector) > THRESHOLD:
            if ranges and ranges[-1][1] == at:
                ranges[-1] = (ranges[-1][0], at + CLIP_SECONDS)
            else:
                ranges.append((at, at + CLIP_SECONDS))
        at += CLIP_SECONDS
    return ranges


def segment_at(segments: Sequence[Segment], at: float) -> Segment | None:
    """Return the segment at a time, looked for from the first one on."""
    for segment in segments:
        if segment.start <= at < segment.end:
            return segment
    return None


def cosine_distance(one: list[float], other: list[float]) -> float:
    """Return the distance of two vectors that are lists."""
    u, v = np.array(one), np.array(other)
    return float(1.0 - np.dot(u, v) / (np.linalg.norm(u) * np.linalg.norm(v)))


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def check_same(findings: Findings, ranges: Sequence[tuple[float, float]]) -> None:
    """Refuse to measure methods that do not find the same."""
    ours = [(difference.a.start, difference.a.end) for difference in findings.differences if difference.a]
    if ours != list(ranges):
        raise SystemExit(f"The methods disagree: {len(ours)} ranges and {len(ranges)} ranges.")


def measure_comparison(old: Vectors, new: Vectors) -> list[Result]:
    """Return the figures of the comparison itself, the peers taking turns with it."""
    a, b = as_clips(old), as_clips(new)
    a_segments, b_segments = as_segments(old), as_segments(new)
    _, findings = compare(a, b)
    check_same(findings, compare_in_a_loop(a_segments, b_segments))
    ours, passes, loops = [], [], []
    for turn in range(45):
        ours.append(seconds_of(lambda: compare(a, b)))
        passes.append(seconds_of(lambda: a.units.sum() + b.units.sum()))
        if turn % 9 == 0:
            loops.append(seconds_of(lambda: compare_in_a_loop(a_segments, b_segments)))
    loading = min(seconds_of(lambda: as_clips(old)) for _ in range(3))
    compared, passed, looped = min(ours), min(passes), min(loops)
    return [
        Result("comparison", compared * 1e3, "ms", better="lower"),
        Result("python_loop", looped * 1e3, "ms", better="lower"),
        Result("numpy_pass", passed * 1e3, "ms", better="lower"),
        Result("speedup_over_python_loop", looped / compared, "ratio", bar=200.0),
        Result("time_over_numpy_pass", compared / passed, "ratio", bar=3.0, better="lower"),
        Result("scaling_one_embedding_once", loading * 1e3, "ms", better="lower"),
    ]


def measure_calls(old: Vectors, new: Vectors) -> list[Result]:
    """Return the figures of whole calls through the stack."""
    with running_stack(workers=0) as stack:
        ids = [store_embedding(stack.database_urls["embed"], vectors) for vectors in (old, new)]
        request = compare_pb2.CompareEmbeddingsRequest(
            embedding_id_a=ids[0], embedding_id_b=ids[1], threshold=THRESHOLD
        )
        with grpc.insecure_channel(stack.address) as channel:
            stub = compare_pb2_grpc.CompareServiceStub(channel)

            def call() -> None:
                answer = stub.CompareEmbeddings(request, timeout=60)
                if answer.compared_count != CLIPS:
                    raise SystemExit(f"{answer.compared_count} of {CLIPS} clips were compared.")

            cold = seconds_of(call)
            warm = [seconds_of(call) for _ in range(100)]
    return [
        Result("call_reading_both_embeddings", cold * 1e3, "ms", better="lower"),
        Result("call_with_warm_cache_median", statistics.median(warm) * 1e3, "ms", better="lower"),
        Result("call_with_warm_cache_p95", statistics.quantiles(warm, n=20)[-1] * 1e3, "ms", better="lower"),
    ]


def store_embedding(database_url: str, vectors: Vectors) -> str:
    """Put a completed embedding where the embed service keeps them, as if a worker had made it, and return its id.

    No model here makes vectors of this size, so none can be asked to.
    """
    embedding_id = new_id("embed")
    starts = np.arange(CLIPS) * CLIP_SECONDS
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """
            INSERT INTO embed.embeddings (
                id, request_fingerprint, video_id, video_duration_seconds, video_start_offset_seconds, model,
                model_revision, provider, dimensions, clip_seconds, state, progress, finish_time, job_id,
                requested_tracks
            ) VALUES (%s, '', %s, %s, 0, 'bench', '1', 'bench', %s, %s, 'COMPLETED', 1, now(), 0, '{visual}')
            """,
            (embedding_id, new_id("video"), DURATION, DIMENSIONS, CLIP_SECONDS),
        )
        connection.execute(
            "INSERT INTO embed.tracks VALUES (%s, 'visual', 0, %s, 0, %s)", (embedding_id, CLIPS, DURATION)
        )
        for first in range(0, CLIPS, CLIPS_PER_ROW):
            rows = slice(first, first + CLIPS_PER_ROW)
            connection.execute(
                "INSERT INTO embed.segment_chunks VALUES (%s, 'visual', %s, %s, %s, %s, %b)",
                (
                    embedding_id,
                    first,
                    len(vectors[rows]),
                    starts[rows].tobytes(),
                    (starts[rows] + CLIP_SECONDS).tobytes(),
                    vectors[rows].tobytes(),
                ),
            )
    return embedding_id


def main() -> None:
    """Measure and report."""
    old, new = two_cuts()
    report("compare", [*measure_comparison(old, new), *measure_calls(old, new)])


if __name__ == "__main__":
    main()
