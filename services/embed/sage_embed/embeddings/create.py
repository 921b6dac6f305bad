"""Creating an embedding, or reusing the existing one for the same recipe."""

import hashlib
import json
from dataclasses import dataclass

from sage_runtime.api import new_id
from sage_runtime.errors import invalid_field

from sage_embed.embeddings.model import (
    DEFAULT_CLIP_SECONDS,
    DEFAULT_TRACK,
    SOUND_TRACKS,
    Embedding,
    Plan,
    Recipe,
    Video,
)
from sage_embed.embeddings.ports import EmbeddingRepository, VideoCatalog
from sage_embed.engines.engine import ModelInfo
from sage_embed.engines.registry import Engines, check_limits
from sage_embed.errors import limit_exceeded


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
