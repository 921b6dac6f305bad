"""Between messages and the model."""

import math

import numpy as np
import pytest
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import embed_pb2
from sage_compare.compare import compare_clips
from sage_compare.config import CompareSettings
from sage_compare.convert import SegmentRows, to_embedding, to_request, to_response
from sage_compare.distance import to_clips
from sage_compare.model import Comparison, Embedding, Metric, Mode, TrackComparison
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id

A, B = new_id("embed"), new_id("embed")


def message(**fields: object) -> compare_pb2.CompareEmbeddingsRequest:
    """Return a request for two embeddings with more fields."""
    return compare_pb2.CompareEmbeddingsRequest(**{"embedding_id_a": A, "embedding_id_b": B, **fields})


def test_what_is_left_open_gets_its_default():
    """A request with two ids alone compares visual tracks by time and cosine with the default threshold."""
    request = to_request(message())
    assert (request.mode, request.metric, request.threshold, request.track) == (
        Mode.TIME,
        Metric.COSINE,
        None,
        "visual",
    )
    assert (request.second_track, request.second_threshold) == ("", None)


def test_second_track_has_a_threshold_of_its_own():
    """The second track and its threshold are read beside the first, 0 not taken for unset."""
    request = to_request(message(track="audio", second_track="visual", threshold=0.5, second_threshold=0))
    assert (request.track, request.threshold) == ("audio", 0.5)
    assert (request.second_track, request.second_threshold) == ("visual", 0.0)


@pytest.mark.parametrize("threshold", [0.0, 0.25, 2.0])
def test_threshold_within_its_bounds_is_taken(threshold):
    """Both ends of the range are allowed, and 0 is not taken for unset."""
    assert to_request(message(threshold=threshold)).threshold == threshold


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *(({"threshold": bad}, "threshold") for bad in (math.nan, -0.001, 2.0001, math.inf, -math.inf)),
        ({"embedding_id_a": ""}, "embedding_id_a"),
        ({"embedding_id_b": "embed_12"}, "embedding_id_b"),
        ({"embedding_id_b": new_id("video")}, "embedding_id_b"),
        ({"mode": compare_pb2.COMPARE_MODE_ALIGNED}, "mode"),
        ({"mode": 99}, "mode"),
        ({"metric": 99}, "metric"),
        ({"metric": -1}, "metric"),
        ({"track": "video"}, "track"),
        ({"track": "a\nb"}, "track"),
        ({"track": "x" * 65}, "track"),
        ({"second_track": "video"}, "second_track"),
        ({"second_track": "a\nb"}, "second_track"),
        ({"second_track": "visual"}, "second_track"),
        ({"track": "audio", "second_track": "audio"}, "second_track"),
        ({"second_track": "audio", "second_threshold": math.nan}, "second_threshold"),
        ({"second_track": "audio", "second_threshold": 2.5}, "second_threshold"),
        ({"second_threshold": 0.5}, "second_threshold"),
    ],
)
def test_field_that_breaks_a_rule_is_named(fields, field):
    """Each bad field is FIELD_INVALID on that field alone."""
    with pytest.raises(SageError) as refused:
        to_request(message(**fields))
    assert refused.value.reason is Reason.FIELD_INVALID
    assert [violation.field for violation in refused.value.violations] == [field]


def test_all_bad_fields_are_named_at_once():
    """A request with several faults names each, so that one more try is enough."""
    with pytest.raises(SageError) as refused:
        to_request(compare_pb2.CompareEmbeddingsRequest(mode=99, metric=99, threshold=3, track="video"))
    fields = {violation.field for violation in refused.value.violations}
    assert fields == {"embedding_id_a", "embedding_id_b", "mode", "metric", "track", "threshold"}


def test_unknown_state_is_not_completed():
    """A state that a later embed service adds reads as not completed."""
    embedding = to_embedding(embed_pb2.Embedding(id=A, state=77))
    assert (embedding.completed, embedding.state) == (False, "77")


def rows_message(first: int, count: int, *, dimensions: int = 2, width: int = 2) -> embed_pb2.ReadSegmentsResponse:
    """Return segments whose vectors are all ones, `width` numbers a row."""
    return embed_pb2.ReadSegmentsResponse(
        first_index=first,
        start_seconds=[2.0 * i for i in range(first, first + count)],
        end_seconds=[2.0 * i + 2 for i in range(first, first + count)],
        dimensions=dimensions,
        vectors=b"\x00\x00\x80\x3f" * width * count,
    )


def test_segment_rows_are_put_together():
    """Messages become one array, little-endian float32 whatever the machine."""
    rows = SegmentRows(count=3, dimensions=2)
    rows.add(rows_message(0, 2))
    rows.add(rows_message(2, 1))
    rows.check_complete()
    assert rows.starts.tolist() == [0, 2, 4]
    assert rows.vectors.tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    "bad",
    [rows_message(1, 1), rows_message(0, 4), rows_message(0, 1, dimensions=3), rows_message(0, 1, width=3)],
    ids=["not the next", "too many", "other dimensions", "too many bytes"],
)
def test_segments_that_are_not_due_are_refused(bad):
    """What the embedding did not announce is not compared as if it had."""
    with pytest.raises(ValueError, match=r"due|dimensions"):
        SegmentRows(count=3, dimensions=2).add(bad)


def test_track_that_ended_early_is_refused():
    """A stream that brought fewer segments than the track has is not taken for the track."""
    rows = SegmentRows(count=3, dimensions=2)
    rows.add(rows_message(0, 2))
    with pytest.raises(ValueError, match="2 of 3"):
        rows.check_complete()


def test_answer_to_the_largest_tracks_fits_in_a_message():
    """The default limit of segments keeps even the largest answer under the 4 MiB that gRPC clients take."""
    count = CompareSettings.model_fields["max_segments"].default
    # Grids half a clip apart and every second interval differing: the most intervals and the most differences.
    starts = np.arange(count) * 2.0
    vectors = np.where(np.arange(count) % 2, 1, -1)[:, np.newaxis].astype(np.float32)
    a, b = to_clips(starts, starts + 2.0, vectors), to_clips(starts + 1.0, starts + 3.0, vectors)
    duration = 2.0 * count
    series, findings = compare_clips(
        a, b, a_duration=duration, b_duration=duration, mode=Mode.TIME, metric=Metric.COSINE, threshold=0.1
    )
    assert (len(series), findings.differing_count) == (2 * count - 1, count - 1)
    side = Embedding(A, new_id("video"), duration, "local", "1", 1, 2.0, "COMPLETED", ("visual",), (), 1)
    compared = TrackComparison("visual", 0.1, None, None, series, findings)
    answer = to_response(Comparison(Mode.TIME, Metric.COSINE, side, side, compared))
    assert len(answer.differences) == count
    assert answer.ByteSize() < 4 * 1024 * 1024
