"""Messages to the model and back."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from sage.compare.v1 import compare_pb2
from sage_compare.comparer import Comparison, Mode, TrackComparison, TrackSpec
from sage_compare.config import CompareSettings
from sage_compare.convert import to_request, to_response
from sage_compare.inputs.embedding import Embedding, FrameClock, TimeRange
from sage_compare.inputs.media import Media
from sage_compare.inputs.segments import Segments
from sage_compare.time_mode.compare import compare_segments
from sage_compare.time_mode.differences import Difference, DifferenceKind, Series, TimeComparison
from sage_compare.time_mode.distance import Metric
from sage_runtime.api import new_id

A, B = new_id("embed"), new_id("embed")
RATES = [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60)]


def message(**fields: object) -> compare_pb2.CompareEmbeddingsRequest:
    """Return a request for two embeddings."""
    return compare_pb2.CompareEmbeddingsRequest(**{"embedding_id_a": A, "embedding_id_b": B, **fields})


def embedding(clock: FrameClock) -> Embedding:
    """Return an embedding of a video."""
    return Embedding(A, new_id("video"), clock, Media(), b"", "local", "1", 1, 2.0, "COMPLETED", ("visual",), (), 1)


def test_omitted_fields_have_their_defaults():
    request = to_request(message())
    assert (request.embedding_id_a, request.embedding_id_b) == (A, B)
    assert (request.mode, request.metric, request.tracks) == (Mode.ALIGNED, Metric.COSINE, (TrackSpec("visual"),))


def test_tracks_keep_their_order_and_thresholds():
    tracks = [
        compare_pb2.TrackSpec(name="audio", threshold=0.5),
        compare_pb2.TrackSpec(name="visual"),
        compare_pb2.TrackSpec(name="transcription", threshold=0),
    ]
    request = to_request(message(metric=compare_pb2.METRIC_EUCLIDEAN, tracks=tracks))
    assert request.tracks == (TrackSpec("audio", 0.5), TrackSpec("visual", None), TrackSpec("transcription", 0.0))
    assert request.metric is Metric.EUCLIDEAN


def test_negative_zero_is_zero():
    (track,) = to_request(message(tracks=[compare_pb2.TrackSpec(name="visual", threshold=-0.0)])).tracks
    assert math.copysign(1.0, track.threshold) == 1.0


@pytest.mark.parametrize("rate", RATES)
def test_neighbouring_differences_share_a_frame_and_the_last_ends_with_the_film(rate):
    duration = float(241 / rate)
    edges = [0.0, 1.0, 2.0, 3.3, duration]
    ranges = [TimeRange(start, end) for start, end in itertools.pairwise(edges)]
    none = np.zeros(0)
    result = TimeComparison(
        threshold=0.1,
        series=Series(none, none, none, np.zeros(0, np.float32)),
        differing_count=0,
        differences=tuple(Difference(DifferenceKind.NOT_COMPARED, where, where) for where in ranges),
        similarity_percent=0.0,
    )
    whole = TimeRange(0.0, duration)
    a, b = embedding(FrameClock(duration, rate)), embedding(FrameClock(duration, None))
    comparison = Comparison(Mode.TIME, Metric.COSINE, a, b, (TrackComparison("visual", whole, whole, result),))
    (track,) = to_response(comparison).tracks
    found = [difference.a for difference in track.time.differences]
    assert [(one.start_seconds, one.end_seconds) for one in found] == [(one.start, one.end) for one in ranges]
    assert found[0].first_frame == 0
    assert [one.end_frame for one in found[:-1]] == [one.first_frame for one in found[1:]]
    assert found[-1].end_frame == track.a_covered.end_frame == 241
    assert {(one.b.first_frame, one.b.end_frame) for one in track.time.differences} == {(0, 0)}


def test_largest_response_fits_in_a_message():
    """The default limit of segments keeps it below the 4 MiB that gRPC clients accept by default."""
    count = CompareSettings.model_fields["max_segments"].default
    # Grids half a segment apart of which every second interval differs: the most intervals and the most differences.
    starts = np.arange(count) * 2.0
    vectors = np.where(np.arange(count) % 2, 1, -1)[:, np.newaxis].astype(np.float32)
    a, b = Segments.of(starts, starts + 2.0, vectors), Segments.of(starts + 1.0, starts + 3.0, vectors)
    duration = 2.0 * count
    result = compare_segments(a, b, a_duration=duration, b_duration=duration, metric=Metric.COSINE, threshold=0.1)
    assert (len(result.series), result.differing_count) == (2 * count - 1, count - 1)
    # At 240 frames per second, so that frame numbers are long as well.
    side = embedding(FrameClock(duration, Fraction(240)))
    track = TrackComparison("visual", TimeRange(0.0, duration), TimeRange(0.0, duration), result)
    response = to_response(Comparison(Mode.TIME, Metric.COSINE, side, side, (track,)))
    assert len(response.tracks[0].time.differences) == count
    assert response.ByteSize() < 4 * 1024 * 1024
