"""The use cases of embeddings: create or reuse, get, list, cancel, delete, and read vectors."""

import hashlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np
from sage_runtime.api import make_page_token, new_id, page_size_of, read_page_token
from sage_runtime.errors import invalid_field

from sage_embed.embeddings.model import (
    DEFAULT_CLIP_SECONDS,
    DEFAULT_TRACK,
    SOUND_TRACKS,
    Embedding,
    Filter,
    Plan,
    Recipe,
    State,
    StoredSegments,
    Video,
    max_segments,
)
from sage_embed.embeddings.ports import EmbeddingRepository, VideoCatalog
from sage_embed.engines.engine import Engines, ModelInfo, Segments, check_limits
from sage_embed.errors import (
    embedding_finished,
    embedding_not_completed,
    embedding_not_found,
    limit_exceeded,
    track_missing,
)


@dataclass(frozen=True)
class CreateRequest:
    """What the client requests.

    Attributes:
        video_id: The video.
        model: The model's name; empty for the best usable one.
        clip_seconds: Length of a clip; zero for the default.
        tracks: The tracks to make, in any order; empty for the default.
        request_id: The client's idempotency key; empty for none.
        force: Whether to create an embedding even if one exists for the recipe.
    """

    video_id: str
    model: str = ""
    clip_seconds: float = 0.0
    tracks: tuple[str, ...] = ()
    request_id: str = ""
    force: bool = False

    def fingerprint(self) -> str:
        """Return a digest of the request without its ID. Defaults and the order of tracks make no difference."""
        fields: list[object] = [
            self.video_id,
            self.model,
            self.clip_seconds or DEFAULT_CLIP_SECONDS,
            _sorted_tracks(self.tracks),
        ]
        if self.force:
            fields.append("force")
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


async def create(
    request: CreateRequest,
    *,
    repository: EmbeddingRepository,
    videos: VideoCatalog,
    engines: Engines,
    max_unfinished: int,
) -> tuple[Embedding, bool]:
    """Return the embedding for a request, and whether it existed before.

    A known request ID returns the embedding of the first request, whatever its state. Otherwise an
    embedding of the same recipe is reused, unless the request forces a new one; only a new one counts towards
    `max_unfinished`.

    Raises:
        SageError: FIELD_INVALID, VIDEO_NOT_FOUND, MODEL_UNKNOWN, MODEL_UNAVAILABLE, API_KEY_MISSING,
            ENCRYPTION_KEY_MISSING, PROVIDER_REJECTED_VIDEO, REQUEST_ID_REUSED, LIMIT_EXCEEDED, STORE_UNAVAILABLE,
            SERVICE_UNAVAILABLE.
    """
    fingerprint = request.fingerprint()
    # Checked first: a repeated request returns its embedding even if the video or the model no longer exists.
    if request.request_id:
        known = await repository.find_request(request.request_id, fingerprint=fingerprint)
        if known is not None:
            return known, True
    model = await engines.choose(request.model)
    tracks = _sorted_tracks(request.tracks)
    _check_tracks(tracks, model)
    clip_seconds = request.clip_seconds or DEFAULT_CLIP_SECONDS
    _check_clip_seconds(clip_seconds, model)
    if not request.force:
        recipe = Recipe(request.video_id, model.name, model.revision, clip_seconds, tracks)
        existing = await repository.reuse(recipe, request_id=request.request_id, fingerprint=fingerprint)
        if existing is not None:
            return existing, True
    video = await videos.get(request.video_id)
    check_limits(video, model)
    _check_sound(tracks, video)
    # Concurrent calls may exceed the limit by a few: it bounds the queue, but not exactly.
    if await repository.count_unfinished() >= max_unfinished:
        raise limit_exceeded(
            limit="unfinished embeddings", maximum=max_unfinished, what_to_do="Wait for some to finish, or cancel some."
        )
    plan = Plan(
        video=video,
        model=model.name,
        model_revision=model.revision,
        provider=model.provider,
        dimensions=model.dimensions,
        clip_seconds=clip_seconds,
        tracks=tracks,
    )
    embedding_id = new_id("embed")
    embedding = await repository.create(
        embedding_id, plan, request_id=request.request_id, fingerprint=fingerprint, force=request.force
    )
    return embedding, embedding.id != embedding_id


def _sorted_tracks(requested: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(requested)) or (DEFAULT_TRACK,)


def _check_clip_seconds(value: float, model: ModelInfo) -> None:
    if not model.min_clip_seconds <= value <= model.max_clip_seconds:
        raise invalid_field(
            "clip_seconds",
            f"is {value:g}; model {model.name} accepts {model.min_clip_seconds:g} to {model.max_clip_seconds:g}.",
        )
    if model.whole_clip_seconds and not value.is_integer():
        raise invalid_field("clip_seconds", f"is {value:g}; model {model.name} accepts whole seconds only.")


def _check_tracks(tracks: tuple[str, ...], model: ModelInfo) -> None:
    for track in tracks:
        if track not in model.tracks:
            raise invalid_field("tracks", f"has {track!r}; model {model.name} makes {', '.join(model.tracks)}.")


def _check_sound(tracks: tuple[str, ...], video: Video) -> None:
    if not video.has_audio and SOUND_TRACKS.issuperset(tracks):
        raise invalid_field(
            "tracks",
            f"has only {' and '.join(tracks)}, but the video has no sound. Request {DEFAULT_TRACK} as well.",
        )


async def get(embedding_id: str, *, repository: EmbeddingRepository) -> Embedding:
    """Return one embedding in its current state.

    Raises:
        SageError: EMBEDDING_NOT_FOUND, STORE_UNAVAILABLE.
    """
    embedding = await repository.get(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    return embedding


async def list_page(
    matching: Filter, *, page_size: int, page_token: str, repository: EmbeddingRepository
) -> tuple[list[Embedding], str]:
    """Return a page of embeddings, newest first, and the token of the next page (empty on the last).

    Raises:
        SageError: PAGE_TOKEN_INVALID, STORE_UNAVAILABLE.
    """
    limit = page_size_of(page_size)
    scope = f"embeddings\n{matching.video_id}\n{matching.state}\n{matching.model}"
    before_id = read_page_token(page_token, scope=scope)
    # One extra entry shows whether there is a next page.
    found = await repository.list_page(matching, before_id=before_id, limit=limit + 1)
    page = found[:limit]
    return page, make_page_token(page[-1].id, scope=scope) if len(found) > limit else ""


async def cancel(embedding_id: str, *, withdrawing: str, repository: EmbeddingRepository) -> Embedding:
    """Cancel an embedding and return it. Cancelling it again returns it unchanged.

    With a request ID to withdraw, it is cancelled only if no other request has received it and no client watches it;
    finished ones are returned as they are.

    Raises:
        SageError: EMBEDDING_NOT_FOUND, EMBEDDING_FINISHED, STORE_UNAVAILABLE.
    """
    embedding = await repository.cancel(embedding_id, withdrawing=withdrawing)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    if embedding.state is not State.CANCELLED and not withdrawing:
        raise embedding_finished(embedding)
    return embedding


async def delete(embedding_id: str, *, repository: EmbeddingRepository) -> None:
    """Delete an embedding with its vectors and stop its work.

    Raises:
        SageError: EMBEDDING_NOT_FOUND, STORE_UNAVAILABLE.
    """
    if not await repository.delete(embedding_id):
        raise embedding_not_found(embedding_id)


async def read_segments(
    embedding_id: str, *, track: str, first_index: int, repository: EmbeddingRepository
) -> AsyncGenerator[tuple[StoredSegments, int], None]:
    """Yield the segments of a track in order of time, starting at `first_index`, in chunks with their dimensions.

    A range without segments yields one empty entry. No database connection is held between entries, however slow the
    caller is.

    Raises:
        SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND, EMBEDDING_NOT_COMPLETED, TRACK_MISSING, STORE_UNAVAILABLE.
    """
    embedding = await repository.get(embedding_id)
    if embedding is None:
        raise embedding_not_found(embedding_id)
    if embedding.state is not State.COMPLETED:
        raise embedding_not_completed(embedding)
    name = track or DEFAULT_TRACK
    stored = embedding.track(name)
    if stored is None:
        raise track_missing(embedding, name)
    if first_index > stored.segment_count:
        raise invalid_field("first_index", f"must be at most {stored.segment_count}, the number of segments.")
    dimensions = embedding.plan.dimensions
    if first_index == stored.segment_count:
        yield StoredSegments(first_index, np.empty(0), np.empty(0), b""), dimensions
    while first_index < stored.segment_count:
        segments = await repository.read_segments(
            embedding_id, name, first_index=first_index, max_segments=max_segments(dimensions)
        )
        # A completed embedding never changes, so a gap means that it has been deleted meanwhile.
        if segments is None:
            raise embedding_not_found(embedding_id)
        yield segments, dimensions
        first_index += len(segments)


def to_stored(segments: Segments) -> list[StoredSegments]:
    """Return segments in the chunks in which they are stored and sent."""
    size = max_segments(segments.vectors.shape[1])
    vectors = np.ascontiguousarray(segments.vectors, dtype="<f4")
    starts = np.asarray(segments.start_seconds, dtype=np.float64)
    ends = np.asarray(segments.end_seconds, dtype=np.float64)
    return [
        StoredSegments(
            first_index=segments.first_index + begin,
            start_seconds=starts[begin : begin + size],
            end_seconds=ends[begin : begin + size],
            vectors=vectors[begin : begin + size].tobytes(),
        )
        for begin in range(0, len(starts), size)
    ]
