"""Converts between the messages of `sage.compare.v1` and the model."""

from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2
from sage_runtime.api import EnumTable

from sage_compare.beyond_tracks import MediaDifference, MediaDifferenceKind, NotCompared, NotComparedReason
from sage_compare.comparer import Comparison, Mode, Request, TrackComparison, TrackSpec
from sage_compare.inputs.embedding import Embedding, FrameClock, TimeRange
from sage_compare.time_mode.differences import Difference, DifferenceKind, Series, TimeComparison
from sage_compare.time_mode.distance import Metric

_DEFAULT_TRACKS = (TrackSpec("visual"),)

_MODES = EnumTable(Mode, compare_pb2.CompareMode)
_METRICS = EnumTable(Metric, compare_pb2.Metric)
_KINDS = EnumTable(DifferenceKind, compare_pb2.DifferenceKind)
_MEDIA_KINDS = EnumTable(MediaDifferenceKind, compare_pb2.MediaDifferenceKind)
_REASONS = EnumTable(NotComparedReason, compare_pb2.NotComparedReason)


def to_request(message: compare_pb2.CompareEmbeddingsRequest) -> Request:
    """Return what to compare, with defaults filled in. The message is valid: the server checks its annotations."""
    return Request(
        embedding_id_a=message.embedding_id_a,
        embedding_id_b=message.embedding_id_b,
        mode=_MODES.from_message(message.mode) or Mode.TIME,
        metric=_METRICS.from_message(message.metric) or Metric.COSINE,
        tracks=tuple(_track_spec(track) for track in message.tracks) or _DEFAULT_TRACKS,
    )


def _track_spec(message: compare_pb2.TrackSpec) -> TrackSpec:
    # `abs` because negative zero passes the check and should be reported as zero.
    return TrackSpec(message.name, abs(message.threshold) if message.HasField("threshold") else None)


def to_response(comparison: Comparison) -> compare_pb2.CompareEmbeddingsResponse:
    """Return the response for a comparison."""
    a, b = comparison.a, comparison.b
    return compare_pb2.CompareEmbeddingsResponse(
        mode=_MODES.to_message(comparison.mode),
        metric=_METRICS.to_message(comparison.metric),
        model=a.model,
        a=_side(a),
        b=_side(b),
        tracks=[_track_comparison(track, a.clock, b.clock) for track in comparison.tracks],
        media_differences=[_media_difference(one) for one in comparison.media_differences],
        not_compared=[_not_compared(one) for one in comparison.not_compared],
    )


def _side(embedding: Embedding) -> compare_pb2.Side:
    return compare_pb2.Side(
        embedding_id=embedding.id,
        video_id=embedding.video_id,
        media=media_pb2.Media.FromString(embedding.media_message),
    )


def _media_difference(difference: MediaDifference) -> compare_pb2.MediaDifference:
    return compare_pb2.MediaDifference(
        kind=_MEDIA_KINDS.to_message(difference.kind),
        audio_track=difference.audio_track,
        a=difference.a,
        b=difference.b,
        counts_as_difference=difference.counts_as_difference,
    )


def _not_compared(part: NotCompared) -> compare_pb2.NotCompared:
    return compare_pb2.NotCompared(track=part.track, reason=_REASONS.to_message(part.reason))


def _track_comparison(track: TrackComparison, a: FrameClock, b: FrameClock) -> compare_pb2.TrackComparison:
    return compare_pb2.TrackComparison(
        name=track.name,
        a_covered=_frame_range(track.a_covered, a),
        b_covered=_frame_range(track.b_covered, b),
        similarity_percent=track.result.similarity_percent,
        time=_time_comparison(track.result, a, b),
    )


def _time_comparison(result: TimeComparison, a: FrameClock, b: FrameClock) -> compare_pb2.TimeComparison:
    return compare_pb2.TimeComparison(
        threshold=result.threshold,
        compared_count=len(result.series),
        differing_count=result.differing_count,
        differences=[_difference(difference, a, b) for difference in result.differences],
        series=_series(result.series),
    )


def _difference(difference: Difference, a: FrameClock, b: FrameClock) -> compare_pb2.Difference:
    return compare_pb2.Difference(
        kind=_KINDS.to_message(difference.kind),
        a=_frame_range(difference.a, a),
        b=_frame_range(difference.b, b),
        max_distance=difference.max_distance,
        mean_distance=difference.mean_distance,
    )


def _frame_range(where: TimeRange | None, clock: FrameClock) -> compare_pb2.FrameRange | None:
    if where is None:
        return None
    return compare_pb2.FrameRange(
        first_frame=clock.frame_at(where.start),
        end_frame=clock.frame_at(where.end),
        start_seconds=where.start,
        end_seconds=where.end,
    )


def _series(series: Series) -> compare_pb2.Series:
    return compare_pb2.Series(
        a_start_seconds=series.a_starts.tolist(),
        b_start_seconds=series.b_starts.tolist(),
        length_seconds=series.lengths.tolist(),
        distances=series.distances.tolist(),
    )
