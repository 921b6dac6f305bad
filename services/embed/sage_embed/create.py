"""Creating an embedding: check, record, queue."""

import hashlib
import json
import math
from dataclasses import dataclass

from sage_runtime.errors import check_all, invalid_field
from sage_runtime.fields import check_request_id
from sage_runtime.ids import check_id, new_id

from sage_embed.engine import ModelInfo
from sage_embed.engines import Engines
from sage_embed.errors import limit_exceeded
from sage_embed.limits import check_limits
from sage_embed.model import DEFAULT_CLIP_SECONDS, DEFAULT_TRACK, SOUND_TRACKS, Embedding, Plan, Video
from sage_embed.ports import EmbeddingStore, VideoCatalog


@dataclass(frozen=True)
class CreateRequest:
    """What the client asks for.

    Attributes:
        video_id: The video.
        model: The model's name; empty for the best that is usable.
        clip_seconds: Length of a clip; zero for the default.
        tracks: The tracks to make; empty for the default.
        request_id: The client's idempotency key; empty for none.
    """

    video_id: str
    model: str = ""
    clip_seconds: float = 0.0
    tracks: tuple[str, ...] = ()
    request_id: str = ""

    def fingerprint(self) -> str:
        """Return a digest that is the same for the same request, defaults written out."""
        wanted = [self.video_id, self.model, self.clip_seconds or DEFAULT_CLIP_SECONDS, self.tracks or (DEFAULT_TRACK,)]
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


async def create(
    request: CreateRequest, *, store: EmbeddingStore, videos: VideoCatalog, engines: Engines, max_unfinished: int
) -> Embedding:
    """Record an embedding, queue its work and return it; the same request id returns the same embedding.

    Raises:
        SageError: FIELD_INVALID, VIDEO_NOT_FOUND, VIDEO_NOT_READY, MODEL_UNKNOWN, MODEL_UNAVAILABLE, API_KEY_MISSING,
            ENCRYPTION_KEY_MISSING, PROVIDER_REJECTED_VIDEO, REQUEST_ID_REUSED, LIMIT_EXCEEDED, STORE_UNAVAILABLE,
            SERVICE_UNAVAILABLE.
    """
    check_all(
        lambda: check_id(request.video_id, prefix="video", field="video_id"),
        lambda: check_request_id(request.request_id),
        lambda: _check_clip_seconds(request.clip_seconds),
    )
    fingerprint = request.fingerprint()
    # Looked up first: the same request answers the same embedding even where the video or the model is gone by now.
    if request.request_id and (known := await store.find_request(request.request_id, fingerprint=fingerprint)):
        return known
    model = await engines.choose(request.model)
    tracks = _check_tracks(request.tracks or (DEFAULT_TRACK,), model)
    clip_seconds = _check_clip_bounds(request.clip_seconds or DEFAULT_CLIP_SECONDS, model)
    video = await videos.get(request.video_id)
    check_limits(video, model)
    _check_sound(tracks, video)
    # Two callers at once may both pass: the limit keeps the queue from growing without end, not to the last one.
    if await store.count_unfinished() >= max_unfinished:
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
    return await store.create(new_id("embed"), plan, request_id=request.request_id, fingerprint=fingerprint)


def _check_clip_seconds(value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise invalid_field("clip_seconds", f"must be a positive number of seconds, or 0 for {DEFAULT_CLIP_SECONDS:g}.")


def _check_clip_bounds(value: float, model: ModelInfo) -> float:
    if not model.min_clip_seconds <= value <= model.max_clip_seconds:
        raise invalid_field(
            "clip_seconds",
            f"is {value:g}; model {model.name} takes {model.min_clip_seconds:g} to {model.max_clip_seconds:g}.",
        )
    if model.whole_clip_seconds and not value.is_integer():
        raise invalid_field("clip_seconds", f"is {value:g}; model {model.name} takes whole seconds.")
    return value


def _check_tracks(wanted: tuple[str, ...], model: ModelInfo) -> tuple[str, ...]:
    allowed = ", ".join(model.tracks)
    for track in wanted:
        if track not in model.tracks:
            raise invalid_field("tracks", f"has {track[:64]!r}; model {model.name} makes {allowed}.")
    if len(set(wanted)) != len(wanted):
        raise invalid_field("tracks", "must name each track once.")
    return wanted


def _check_sound(tracks: tuple[str, ...], video: Video) -> None:
    if not video.has_audio and SOUND_TRACKS.issuperset(tracks):
        raise invalid_field(
            "tracks", f"asks for {' and '.join(tracks)} alone, and the video has no sound. Ask for {DEFAULT_TRACK} too."
        )
