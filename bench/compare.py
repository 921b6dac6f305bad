"""`make bench-compare`: compares two embeddings of two hours.

- The comparison itself, from the segments in memory to distances, differences and similarity, compared with the usual
  method: a loop over the timeline that looks each segment up in a list and passes Python lists to numpy.
- The same compared with one numpy pass over the same memory: the minimum cost of reading both matrices.
- The whole call through the stack (Envoy, compare, embed, PostgreSQL), with the segments in compare's cache.

What a service computes once when it reads an embedding, and keeps, is not part of a comparison: vectors scaled to
length 1 here, Python lists there. It is printed separately. Times are the best of many turns, in which the methods
alternate: other work on the machine can only make a turn slower.

    python bench/compare.py [--without-stack]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from harness import Result, report
from numpy.typing import NDArray
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage_compare.inputs.segments import Segments
from sage_compare.time_mode.compare import compare_segments
from sage_compare.time_mode.differences import TimeComparison
from sage_compare.time_mode.distance import Metric
from sage_local.stack import running_stack
from stored_embeddings import TRACK, store_embedding

SEGMENTS = 3_600
DIMENSIONS = 1_024
CLIP_SECONDS = 2.0
DURATION = SEGMENTS * CLIP_SECONDS
THRESHOLD = 0.1

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ListedSegment:
    """A segment as an API returns it."""

    start: float
    end: float
    vector: list[float]


def two_cuts() -> tuple[Vectors, Vectors]:
    """Return the vectors of a film and of a re-encode of it in which every tenth minute was replaced."""
    random = np.random.default_rng(20260101)
    old = random.standard_normal((SEGMENTS, DIMENSIONS), np.float32)
    new = old + 0.1 * random.standard_normal((SEGMENTS, DIMENSIONS), np.float32)
    minutes = np.arange(SEGMENTS) // 30
    replaced = minutes % 10 == 9
    new[replaced] = random.standard_normal((int(replaced.sum()), DIMENSIONS), np.float32)
    return old, new


def as_segments(vectors: Vectors) -> Segments:
    """Return an embedding as the service caches it."""
    starts = np.arange(SEGMENTS) * CLIP_SECONDS
    return Segments.of(starts, starts + CLIP_SECONDS, vectors)


def as_list(vectors: Vectors) -> list[ListedSegment]:
    """Return the input of the loop."""
    rows = vectors.tolist()
    return [ListedSegment(i * CLIP_SECONDS, (i + 1) * CLIP_SECONDS, row) for i, row in enumerate(rows)]


def compare(a: Segments, b: Segments) -> TimeComparison:
    """Compare as the service does."""
    return compare_segments(a, b, a_duration=DURATION, b_duration=DURATION, metric=Metric.COSINE, threshold=THRESHOLD)


def compare_in_a_loop(a: Sequence[ListedSegment], b: Sequence[ListedSegment]) -> list[tuple[float, float]]:
    """Compare segment by segment in Python and return the ranges that differ."""
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


def segment_at(segments: Sequence[ListedSegment], at: float) -> ListedSegment | None:
    """Return the segment at a time, searching from the first one."""
    for segment in segments:
        if segment.start <= at < segment.end:
            return segment
    return None


def cosine_distance(one: list[float], other: list[float]) -> float:
    """Return the distance between two vectors that are lists."""
    u, v = np.array(one), np.array(other)
    return float(1.0 - np.dot(u, v) / (np.linalg.norm(u) * np.linalg.norm(v)))


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def check_same(compared: TimeComparison, ranges: Sequence[tuple[float, float]]) -> None:
    """Refuse to measure methods whose results differ."""
    ours = [(difference.a.start, difference.a.end) for difference in compared.differences if difference.a]
    if ours != list(ranges):
        raise SystemExit(f"The methods disagree: {len(ours)} ranges and {len(ranges)} ranges.")


def measure_comparison(old: Vectors, new: Vectors) -> list[Result]:
    """Return the figures of the comparison itself, in turns with its peers."""
    a, b = as_segments(old), as_segments(new)
    a_list, b_list = as_list(old), as_list(new)
    check_same(compare(a, b), compare_in_a_loop(a_list, b_list))
    ours, passes, loops = [], [], []
    for turn in range(45):
        ours.append(seconds_of(lambda: compare(a, b)))
        passes.append(seconds_of(lambda: a.units.sum() + b.units.sum()))
        if turn % 9 == 0:
            loops.append(seconds_of(lambda: compare_in_a_loop(a_list, b_list)))
    scaling = min(seconds_of(lambda: as_segments(old)) for _ in range(3))
    compared, passed, looped = min(ours), min(passes), min(loops)
    return [
        Result("comparison", compared * 1e3, "ms", better="lower"),
        Result("python_loop", looped * 1e3, "ms", better="lower"),
        Result("numpy_pass", passed * 1e3, "ms", better="lower"),
        Result("speedup_over_python_loop", looped / compared, "ratio", bar=200.0),
        Result("time_over_numpy_pass", compared / passed, "ratio", bar=3.0, better="lower"),
        Result("scaling_one_embedding_once", scaling * 1e3, "ms", better="lower"),
    ]


def measure_calls(old: Vectors, new: Vectors) -> list[Result]:
    """Return the figures of whole calls through the stack."""
    with running_stack(workers=0) as stack:
        ids = [
            store_embedding(
                stack.database_urls["embed"],
                state="COMPLETED",
                duration_seconds=DURATION,
                segment_count=SEGMENTS,
                dimensions=DIMENSIONS,
                clip_seconds=CLIP_SECONDS,
                vectors=vectors,
            )
            for vectors in (old, new)
        ]
        request = compare_pb2.CompareEmbeddingsRequest(
            embedding_id_a=ids[0],
            embedding_id_b=ids[1],
            tracks=[compare_pb2.TrackSpec(name=TRACK, threshold=THRESHOLD)],
        )
        with grpc.insecure_channel(stack.address) as channel:
            stub = compare_pb2_grpc.CompareServiceStub(channel)

            def call() -> None:
                (track,) = stub.CompareEmbeddings(request, timeout=60).tracks
                if track.time.compared_count != SEGMENTS:
                    raise SystemExit(f"{track.time.compared_count} of {SEGMENTS} segments were compared.")

            cold = seconds_of(call)
            warm = [seconds_of(call) for _ in range(100)]
    return [
        Result("call_reading_both_embeddings", cold * 1e3, "ms", better="lower"),
        Result("call_with_warm_cache_median", statistics.median(warm) * 1e3, "ms", better="lower"),
        Result("call_with_warm_cache_p95", statistics.quantiles(warm, n=20)[-1] * 1e3, "ms", better="lower"),
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Compares two embeddings of two hours.")
    parser.add_argument("--without-stack", action="store_true", help="measure the comparison itself only")
    arguments = parser.parse_args()
    old, new = two_cuts()
    results = measure_comparison(old, new)
    if not arguments.without_stack:
        results += measure_calls(old, new)
    report("compare", results)


if __name__ == "__main__":
    main()
