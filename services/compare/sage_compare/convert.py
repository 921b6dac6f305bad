"""Between protobuf messages and the model: the only module that reads or builds messages."""

from collections.abc import Sequence

import numpy as np
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import embed_pb2
from sage_runtime.errors import FieldViolation, SageError, invalid
from sage_runtime.fields import check_label
from sage_runtime.ids import check_id

from sage_compare.model import (
    Comparison,
    Difference,
    Embedding,
    Kind,
    Metric,
    Mode,
    Request,
    Series,
    TimeRange,
    Track,
    TrackComparison,
    Vectors,
)

_MAX_THRESHOLD = 2.0
_DEFAULT_TRACK = "visual"
# One vector for a whole video is no clip, and has no place on a timeline.
_WHOLE_VIDEO_TRACK = "video"

_MODES = {
    compare_pb2.COMPARE_MODE_UNSPECIFIED: Mode.TIME,
    compare_pb2.COMPARE_MODE_TIME: Mode.TIME,
}
_METRICS = {
    compare_pb2.METRIC_UNSPECIFIED: Metric.COSINE,
    compare_pb2.METRIC_COSINE: Metric.COSINE,
    compare_pb2.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}
_MODE_MESSAGES = {Mode.TIME: compare_pb2.COMPARE_MODE_TIME}
_METRIC_MESSAGES = {Metric.COSINE: compare_pb2.METRIC_COSINE, Metric.EUCLIDEAN: compare_pb2.METRIC_EUCLIDEAN}
_KIND_MESSAGES = {
    Kind.CHANGED: compare_pb2.DIFFERENCE_KIND_CHANGED,
    Kind.ONLY_IN_A: compare_pb2.DIFFERENCE_KIND_ONLY_IN_A,
    Kind.ONLY_IN_B: compare_pb2.DIFFERENCE_KIND_ONLY_IN_B,
    Kind.NOT_COMPARED: compare_pb2.DIFFERENCE_KIND_NOT_COMPARED,
}


def to_request(message: compare_pb2.CompareEmbeddingsRequest) -> Request:
    """Return what is asked for.

    Raises:
        SageError: FIELD_INVALID, naming every field that breaks a rule.
    """
    violations = [
        *_id_violations(message.embedding_id_a, field="embedding_id_a"),
        *_id_violations(message.embedding_id_b, field="embedding_id_b"),
        *_mode_violations(message.mode),
        *_metric_violations(message.metric),
        *_track_violations(message.track, field="track"),
        *_track_violations(message.second_track, field="second_track"),
    ]
    threshold = message.threshold if message.HasField("threshold") else None
    second_threshold = message.second_threshold if message.HasField("second_threshold") else None
    violations += _threshold_violations(threshold, field="threshold")
    violations += _threshold_violations(second_threshold, field="second_threshold")
    track = message.track or _DEFAULT_TRACK
    if message.second_track == track:
        violations.append(FieldViolation("second_track", f"`{track}` is compared already; name another track."))
    if second_threshold is not None and not message.second_track:
        violations.append(FieldViolation("second_threshold", "must be unset where second_track is empty."))
    if violations:
        raise invalid(*violations)
    return Request(
        embedding_id_a=message.embedding_id_a,
        embedding_id_b=message.embedding_id_b,
        mode=_MODES[message.mode],
        metric=_METRICS[message.metric],
        # Negative zero is zero, and answered as such.
        threshold=None if threshold is None else abs(threshold),
        track=track,
        second_track=message.second_track,
        second_threshold=None if second_threshold is None else abs(second_threshold),
    )


def to_response(comparison: Comparison) -> compare_pb2.CompareEmbeddingsResponse:
    """Return the answer."""
    first, second = comparison.first, comparison.second
    return compare_pb2.CompareEmbeddingsResponse(
        mode=_MODE_MESSAGES[comparison.mode],
        metric=_METRIC_MESSAGES[comparison.metric],
        threshold=first.threshold,
        track=first.track,
        model=comparison.a.model,
        a=_side(comparison.a, first.a_covered),
        b=_side(comparison.b, first.b_covered),
        similarity_percent=first.findings.similarity_percent,
        compared_count=len(first.series),
        differing_count=first.findings.differing_count,
        differences=_differences(first),
        series=_series(first.series),
        second=_track_comparison(second) if second else None,
    )


def to_embedding(message: embed_pb2.Embedding) -> Embedding:
    """Return an embedding as the embed service describes it."""
    return Embedding(
        id=message.id,
        video_id=message.video_id,
        duration=message.video_duration_seconds,
        model=message.model,
        model_revision=message.model_revision,
        dimensions=message.dimensions,
        clip_seconds=message.clip_seconds,
        state=_state_name(message.state),
        requested_tracks=tuple(message.requested_tracks),
        tracks=tuple(_track(track) for track in message.tracks),
        revision=message.revision,
    )


class SegmentRows:
    """Gathers the messages of `ReadSegments` into arrays that were made for all of them.

    Args:
        count: How many segments the track has.
        dimensions: Numbers in every vector.
    """

    def __init__(self, *, count: int, dimensions: int) -> None:
        self._next = 0
        self.starts = np.empty(count, np.float64)
        self.ends = np.empty(count, np.float64)
        self.vectors: Vectors = np.empty((count, dimensions), np.float32)

    def add(self, message: embed_pb2.ReadSegmentsResponse) -> None:
        """Take the next segments.

        Raises:
            ValueError: They are not the next ones, or not what the track was said to have.
        """
        first, last = self._next, self._next + len(message.start_seconds)
        if last == first:
            return
        if message.first_index != first or last > len(self.starts):
            raise ValueError(f"segments {message.first_index} and on came where {first} to {len(self.starts)} were due")
        dimensions = self.vectors.shape[1]
        if message.dimensions != dimensions or len(message.vectors) != (last - first) * dimensions * 4:
            raise ValueError(f"the vectors do not have {dimensions} dimensions")
        self.starts[first:last] = message.start_seconds
        self.ends[first:last] = message.end_seconds
        self.vectors[first:last] = np.frombuffer(message.vectors, "<f4").reshape(-1, dimensions)
        self._next = last

    def check_complete(self) -> None:
        """Refuse a track that ended early.

        Raises:
            ValueError: Segments are missing.
        """
        if self._next != len(self.starts):
            raise ValueError(f"{self._next} of {len(self.starts)} segments came")


def _id_violations(value: str, *, field: str) -> Sequence[FieldViolation]:
    try:
        check_id(value, prefix="embed", field=field)
    except SageError as error:
        return error.violations
    return ()


def _mode_violations(mode: int) -> Sequence[FieldViolation]:
    if mode in _MODES:
        return ()
    if mode == compare_pb2.COMPARE_MODE_ALIGNED:
        return (FieldViolation("mode", "COMPARE_MODE_ALIGNED is not offered yet; use COMPARE_MODE_TIME."),)
    return (FieldViolation("mode", f"{mode} is not a mode; use COMPARE_MODE_TIME."),)


def _metric_violations(metric: int) -> Sequence[FieldViolation]:
    if metric in _METRICS:
        return ()
    return (FieldViolation("metric", f"{metric} is not a metric; use METRIC_COSINE or METRIC_EUCLIDEAN."),)


def _threshold_violations(threshold: float | None, *, field: str) -> Sequence[FieldViolation]:
    # Written so that NaN, which is in no order with anything, is refused.
    if threshold is None or 0.0 <= threshold <= _MAX_THRESHOLD:
        return ()
    return (FieldViolation(field, f"must be a number from 0 to {_MAX_THRESHOLD:g}."),)


def _track_violations(track: str, *, field: str) -> Sequence[FieldViolation]:
    if not track:
        return ()
    if track == _WHOLE_VIDEO_TRACK:
        return (FieldViolation(field, "`video` is one vector for the whole and has no clips to compare."),)
    try:
        check_label(track, field=field, max_length=64)
    except SageError as error:
        return error.violations
    return ()


def _state_name(state: int) -> str:
    """Return a state's name without its prefix; one that this build does not know yet by its number."""
    if state not in embed_pb2.EmbeddingState.values():
        return str(state)
    return embed_pb2.EmbeddingState.Name(embed_pb2.EmbeddingState.ValueType(state)).removeprefix("EMBEDDING_STATE_")


def _track(message: embed_pb2.Track) -> Track:
    covered = TimeRange(message.covered_start_seconds, message.covered_end_seconds) if message.segment_count else None
    return Track(message.name, message.segment_count, covered)


def _side(embedding: Embedding, covered: TimeRange | None) -> compare_pb2.Side:
    return compare_pb2.Side(
        embedding_id=embedding.id,
        video_id=embedding.video_id,
        duration_seconds=embedding.duration,
        covered=_range(covered),
    )


def _track_comparison(compared: TrackComparison) -> compare_pb2.TrackComparison:
    return compare_pb2.TrackComparison(
        track=compared.track,
        threshold=compared.threshold,
        a_covered=_range(compared.a_covered),
        b_covered=_range(compared.b_covered),
        similarity_percent=compared.findings.similarity_percent,
        compared_count=len(compared.series),
        differing_count=compared.findings.differing_count,
        differences=_differences(compared),
        series=_series(compared.series),
    )


def _range(where: TimeRange | None) -> compare_pb2.TimeRange | None:
    return None if where is None else compare_pb2.TimeRange(start_seconds=where.start, end_seconds=where.end)


def _differences(compared: TrackComparison) -> Sequence[compare_pb2.Difference]:
    return [_difference(difference) for difference in compared.findings.differences]


def _difference(difference: Difference) -> compare_pb2.Difference:
    return compare_pb2.Difference(
        kind=_KIND_MESSAGES[difference.kind],
        a=_range(difference.a),
        b=_range(difference.b),
        max_distance=difference.max_distance,
        mean_distance=difference.mean_distance,
    )


def _series(series: Series) -> compare_pb2.Series:
    return compare_pb2.Series(
        a_start_seconds=series.a_starts.tolist(),
        b_start_seconds=series.b_starts.tolist(),
        length_seconds=series.lengths.tolist(),
        distances=series.distances.tolist(),
    )
