"""Converts between the messages of `sage.compare.v1` and the model."""

from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2
from sage_runtime.api import EnumTable

from sage_compare.aligned.changes import LEVELS
from sage_compare.aligned.comparison import AlignedComparison, FilmTimes
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.script import (
    Change,
    ChangeKind,
    ChangeSide,
    Edit,
    EditKind,
    Frames,
    NormalizationKind,
    Region,
    Sensitivity,
)
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
_EDITS = EnumTable(EditKind, compare_pb2.EditKind)
_CHANGES = EnumTable(ChangeKind, compare_pb2.ChangeKind)
_SIDES = EnumTable(ChangeSide, compare_pb2.ChangeSide)
_NORMALIZATIONS = EnumTable(NormalizationKind, compare_pb2.NormalizationKind)
_SENSITIVITIES = EnumTable(Sensitivity, compare_pb2.Sensitivity)
_REASONS = EnumTable(NotComparedReason, compare_pb2.NotComparedReason)


def to_request(message: compare_pb2.CompareEmbeddingsRequest) -> Request:
    """Return what to compare, with defaults filled in. The message is valid: the server checks its annotations."""
    return Request(
        embedding_id_a=message.embedding_id_a,
        embedding_id_b=message.embedding_id_b,
        mode=_MODES.from_message(message.mode) or Mode.ALIGNED,
        metric=_METRICS.from_message(message.metric) or Metric.COSINE,
        tracks=tuple(_track_spec(track) for track in message.tracks) or _DEFAULT_TRACKS,
        options=Options(
            sensitivity=_SENSITIVITIES.from_message(message.sensitivity) or Sensitivity.NORMAL,
            min_strength=message.min_strength if message.HasField("min_strength") else None,
            include_weak_changes=message.include_weak_changes,
            ignored_a=tuple(_region(region) for region in message.ignored_regions_a),
            ignored_b=tuple(_region(region) for region in message.ignored_regions_b),
        ),
    )


def _region(message: compare_pb2.Region) -> Region:
    return Region(message.x, message.y, message.width, message.height)


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
    message = compare_pb2.TrackComparison(name=track.name, similarity_percent=track.result.similarity_percent)
    if isinstance(track.result, AlignedComparison):
        message.a_covered.CopyFrom(_frames(track.result.a.whole, track.result.a))
        message.b_covered.CopyFrom(_frames(track.result.b.whole, track.result.b))
        message.script.CopyFrom(_edit_script(track.result))
    else:
        if track.a_covered is not None:
            message.a_covered.CopyFrom(_frame_range(track.a_covered, a))
        if track.b_covered is not None:
            message.b_covered.CopyFrom(_frame_range(track.b_covered, b))
        message.time.CopyFrom(_time_comparison(track.result, a, b))
    return message


def _edit_script(comparison: AlignedComparison) -> compare_pb2.EditScript:
    script = comparison.script
    distances = comparison.semantic_distances or (None,) * len(script.edits)
    return compare_pb2.EditScript(
        edits=[
            _edit(edit, distance, comparison.a, comparison.b)
            for edit, distance in zip(script.edits, distances, strict=True)
        ],
        normalizations=[
            compare_pb2.Normalization(kind=_NORMALIZATIONS.to_message(one.kind), a=one.a, b=one.b)
            for one in script.normalizations
        ],
        noise=compare_pb2.Noise(median=script.noise.median, p95=script.noise.p95, p99=script.noise.p99),
        residuals=script.residuals.tolist(),
        residual_step_frames=script.residual_step_frames,
        min_strength=comparison.min_strength,
        levels=compare_pb2.SensitivityLevels(**{name.name.lower(): value for name, value in LEVELS.items()}),
        burn_ins=[
            compare_pb2.BurnIn(
                side=_side_of(one.side),
                region=_region_message(one.region),
                frame_share=one.frame_share,
            )
            for one in script.burn_ins
        ],
    )


def _edit(edit: Edit, distance: float | None, a: FilmTimes, b: FilmTimes) -> compare_pb2.Edit:
    return compare_pb2.Edit(
        kind=_EDITS.to_message(edit.kind),
        a=_frames(edit.a, a) if edit.a else None,
        b=_frames(edit.b, b) if edit.b else None,
        rate=edit.rate,
        confidence=edit.confidence,
        changes=[_change(change, a, b) for change in edit.changes],
        repeats=_frames(edit.repeats, a if edit.kind is EditKind.INSERTED else b) if edit.repeats else None,
        semantic_distance=distance,
    )


def _change(change: Change, a: FilmTimes, b: FilmTimes) -> compare_pb2.Change:
    return compare_pb2.Change(
        kind=_CHANGES.to_message(change.kind),
        a=_frames(change.a, a),
        b=_frames(change.b, b),
        region=_region_message(change.region) if change.region else None,
        strength=change.strength,
        confidence=change.confidence,
        side=_side_of(change.side),
        amount=change.amount,
        weak=change.weak,
    )


def _side_of(side: ChangeSide | None) -> compare_pb2.ChangeSide.ValueType:
    return _SIDES.to_message(side) if side else compare_pb2.CHANGE_SIDE_UNSPECIFIED


def _region_message(region: Region) -> compare_pb2.Region:
    return compare_pb2.Region(x=region.x, y=region.y, width=region.width, height=region.height)


def _frames(frames: Frames, times: FilmTimes) -> compare_pb2.FrameRange:
    return compare_pb2.FrameRange(
        first_frame=frames.first,
        end_frame=frames.end,
        start_seconds=times.at(frames.first),
        end_seconds=times.at(frames.end),
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
        a=_frame_range(difference.a, a) if difference.a else None,
        b=_frame_range(difference.b, b) if difference.b else None,
        max_distance=difference.max_distance,
        mean_distance=difference.mean_distance,
    )


def _frame_range(where: TimeRange, clock: FrameClock) -> compare_pb2.FrameRange:
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
