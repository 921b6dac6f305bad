"""Conversions between the contract's messages and the model."""

from datetime import datetime
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp
from sage.embed.v1 import api_key_pb2, embed_pb2, fingerprint_pb2
from sage.errors.v1 import error_reason_pb2
from sage.ingest.v1 import media_pb2
from sage_runtime.api import EnumTable
from sage_runtime.errors import Reason
from sage_runtime.errors.catalogue import public_text

from sage_embed.embeddings.lifecycle import CreateRequest
from sage_embed.embeddings.model import Embedding, Failure, Filter, Progress, State, StoredSegments, Video
from sage_embed.engines.engine import ModelInfo
from sage_embed.fingerprints.model import Fingerprint
from sage_embed.keys.model import PROVIDER, KeyDescription, KeySource, KeyStatus

_STATES = EnumTable(State, embed_pb2.EmbeddingState)
_REASONS = EnumTable(Reason, error_reason_pb2.ErrorReason)
_KEY_SOURCES = EnumTable(KeySource, api_key_pb2.ApiKeySource)
_KEY_STATUSES = EnumTable(KeyStatus, api_key_pb2.ApiKeyStatus)


def to_create_request(request: embed_pb2.CreateEmbeddingRequest) -> CreateRequest:
    """Return what the client requests."""
    return CreateRequest(
        video_id=request.video_id,
        model=request.model,
        clip_seconds=request.clip_seconds,
        tracks=tuple(request.tracks),
        request_id=request.request_id,
        force=request.force,
    )


def to_filter(request: embed_pb2.ListEmbeddingsRequest) -> Filter:
    """Return which embeddings the client requests."""
    return Filter(
        video_id=request.video_id or None, state=_STATES.from_message(request.state), model=request.model or None
    )


def from_embedding(embedding: Embedding) -> embed_pb2.Embedding:
    """Return the message of an embedding."""
    plan = embedding.plan
    return embed_pb2.Embedding(
        id=embedding.id,
        video_id=plan.video.id,
        media=_media(plan.video),
        model=plan.model,
        model_revision=plan.model_revision,
        provider=plan.provider,
        dimensions=plan.dimensions,
        clip_seconds=plan.clip_seconds,
        requested_tracks=plan.tracks,
        state=_STATES.to_message(embedding.state),
        progress=_progress(embedding.progress),
        tracks=[
            embed_pb2.Track(
                name=track.name,
                segment_count=track.segment_count,
                covered_start_seconds=track.covered_start_seconds,
                covered_end_seconds=track.covered_end_seconds,
            )
            for track in embedding.tracks
        ],
        provider_task_id=embedding.provider_task_id,
        failure=_failure(embedding.failure),
        create_time=_timestamp(embedding.create_time),
        start_time=_timestamp(embedding.start_time),
        finish_time=_timestamp(embedding.finish_time),
        revision=embedding.revision,
    )


@lru_cache(maxsize=256)
def to_watch_response(embedding: Embedding | None) -> embed_pb2.WatchEmbeddingResponse:
    """Return the message of a watch; `None` is a heartbeat.

    All watches of an embedding share one message object, which is built once. It must not be modified.
    """
    if embedding is None:
        return embed_pb2.WatchEmbeddingResponse(heartbeat=embed_pb2.Heartbeat())
    return embed_pb2.WatchEmbeddingResponse(embedding=from_embedding(embedding), last=embedding.finished)


def from_fingerprint(fingerprint: Fingerprint) -> fingerprint_pb2.Fingerprint:
    """Return the message of a fingerprint."""
    completed = fingerprint.state is State.COMPLETED
    return fingerprint_pb2.Fingerprint(
        video_id=fingerprint.id,
        version=fingerprint.version,
        state=_STATES.to_message(fingerprint.state),
        progress=_progress(fingerprint.progress),
        failure=_failure(fingerprint.failure),
        frame_count=fingerprint.frame_count if completed else 0,
        size_bytes=fingerprint.size_bytes if completed else 0,
        create_time=_timestamp(fingerprint.create_time),
        start_time=_timestamp(fingerprint.start_time),
        finish_time=_timestamp(fingerprint.finish_time),
        revision=fingerprint.revision,
    )


def to_fingerprint_watch_response(fingerprint: Fingerprint | None) -> fingerprint_pb2.WatchFingerprintResponse:
    """Return the message of a watch; `None` is a heartbeat."""
    if fingerprint is None:
        return fingerprint_pb2.WatchFingerprintResponse(heartbeat=embed_pb2.Heartbeat())
    return fingerprint_pb2.WatchFingerprintResponse(
        fingerprint=from_fingerprint(fingerprint), last=fingerprint.finished
    )


def from_segments(segments: StoredSegments, dimensions: int) -> embed_pb2.ReadSegmentsResponse:
    """Return the message of consecutive segments."""
    return embed_pb2.ReadSegmentsResponse(
        first_index=segments.first_index,
        start_seconds=segments.start_seconds.tolist(),
        end_seconds=segments.end_seconds.tolist(),
        dimensions=dimensions,
        vectors=segments.vectors,
    )


def from_model(model: ModelInfo) -> embed_pb2.Model:
    """Return the message of a model."""
    return embed_pb2.Model(
        name=model.name,
        revision=model.revision,
        provider=model.provider,
        dimensions=model.dimensions,
        tracks=model.tracks,
        min_clip_seconds=model.min_clip_seconds,
        max_clip_seconds=model.max_clip_seconds,
        max_video_seconds=model.max_video_seconds or 0.0,
        usable=model.unusable is None,
        unusable_reason="" if model.unusable is None else public_text(model.unusable),
        min_video_seconds=model.min_video_seconds,
        max_video_bytes=model.max_video_bytes or 0,
        min_resolution=_resolution(model.min_resolution),
        max_resolution=_resolution(model.max_resolution),
    )


def from_key(key: KeyDescription) -> api_key_pb2.ApiKey:
    """Return the message that describes the provider's key."""
    message = api_key_pb2.ApiKey(provider=PROVIDER, present=key.source is not None)
    if key.source is not None:
        message.source = _KEY_SOURCES.to_message(key.source)
    if key.facts is not None:
        message.last_four = key.facts.last_four
        if key.facts.status is not None:
            message.status = _KEY_STATUSES.to_message(key.facts.status)
        if key.facts.check_time is not None:
            message.check_time.FromDatetime(key.facts.check_time)
    return message


def _progress(progress: Progress) -> embed_pb2.Progress:
    return embed_pb2.Progress(fraction=progress.fraction, message=progress.message)


def _failure(failure: Failure | None) -> embed_pb2.Failure | None:
    if failure is None:
        return None
    return embed_pb2.Failure(reason=_REASONS.to_message(failure.reason), message=failure.message)


def _media(video: Video) -> media_pb2.Media:
    if not video.media:
        return media_pb2.Media(duration_seconds=video.duration_seconds)
    return media_pb2.Media.FromString(video.media)


def _resolution(size: tuple[int, int] | None) -> embed_pb2.Resolution | None:
    return None if size is None else embed_pb2.Resolution(width=size[0], height=size[1])


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
