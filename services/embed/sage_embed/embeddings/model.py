"""The embedding: its parts, and the transitions between its states."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from sage_runtime.errors import Reason

DEFAULT_CLIP_SECONDS = 2.0
DEFAULT_TRACK = "visual"

LOCAL_PROVIDER = "local"
_PROVIDER_NAMES = {LOCAL_PROVIDER: "The local engine", "twelvelabs": "TwelveLabs"}

# A video may lack these tracks. It always has every other one.
SOUND_TRACKS = frozenset({"audio", "transcription"})

# Bytes of segments in one message: below the 1 MiB that the contract promises, with room for the other fields.
_MAX_SEGMENT_BYTES = 768 * 1024


class State(StrEnum):
    """State of an embedding."""

    PENDING = "PENDING"
    """It is waiting for its first worker."""
    PROCESSING = "PROCESSING"
    """A worker is working on it, or the next one is about to."""
    COMPLETED = "COMPLETED"
    """Its vectors are stored. Final."""
    FAILED = "FAILED"
    """It failed and holds no vectors. Final."""
    CANCELLED = "CANCELLED"
    """It was cancelled and holds no vectors. Final."""


# PROCESSING may follow PROCESSING: a worker takes over from one that was lost.
_NEXT: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.PROCESSING, State.FAILED, State.CANCELLED}),
    State.PROCESSING: frozenset({State.PROCESSING, State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}

UNFINISHED = frozenset(state for state, following in _NEXT.items() if following)


def states_before(state: State) -> list[str]:
    """Return the states that `state` may follow, for the guard of a conditional update."""
    return sorted(before for before, following in _NEXT.items() if state in following)


class WorkLostError(Exception):
    """The job no longer owns the embedding, or the embedding is finished: stop and write nothing more."""


@dataclass(frozen=True)
class Picture:
    """The picture track of a video that is the film.

    Attributes:
        track: Its index among the picture tracks; `None`: unknown, and chosen as ingest does.
        is_default: Whether it is the one that is used if none is chosen.
        timestamps_jump: Whether the file's timestamps do not tell a frame's place on the timeline.
    """

    track: int | None = None
    is_default: bool = True
    timestamps_jump: bool = False


@dataclass(frozen=True)
class Video:
    """A video, as far as embed needs to know it.

    Attributes:
        id: The video's ID.
        duration_seconds: Length of its timeline.
        start_offset_seconds: Timestamp of the first frame in the container.
        has_audio: Whether it has sound.
        size_bytes: Size of the file; 0 if unknown.
        width: Width of the coded picture in pixels, before rotation; 0 if unknown.
        height: Height of the coded picture in pixels, before rotation; 0 if unknown.
        picture: Its picture track.
        media: Ingest's full description of the file, serialized, for the adapters. Empty for embeddings requested
            before it was recorded.
    """

    id: str
    duration_seconds: float
    start_offset_seconds: float
    has_audio: bool = True
    size_bytes: int = 0
    width: int = 0
    height: int = 0
    picture: Picture = field(default_factory=Picture)
    media: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Track:
    """What is stored of one track.

    Attributes:
        name: The track's name.
        segment_count: Number of stored segments.
        covered_start_seconds: Start of the first segment.
        covered_end_seconds: End of the last segment.
    """

    name: str
    segment_count: int = 0
    covered_start_seconds: float = 0.0
    covered_end_seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Progress of the work.

    Attributes:
        fraction: From 0 to 1.
        message: A sentence for people.
    """

    fraction: float
    message: str


@dataclass(frozen=True)
class Failure:
    """Why an embedding failed.

    Attributes:
        reason: For programs.
        message: For people, as a sentence.
    """

    reason: Reason
    message: str


@dataclass(frozen=True)
class Recipe:
    """Identifies interchangeable embeddings: two embeddings of one recipe hold the same vectors.

    Attributes:
        video_id: The video.
        model: The model's name.
        model_revision: Version of the weights and the model's own recipe.
        clip_seconds: Length of a clip.
        tracks: The tracks, sorted.
    """

    video_id: str
    model: str
    model_revision: str
    clip_seconds: float
    tracks: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What an embedding will contain, as decided when it is requested.

    Attributes:
        video: The video at that time.
        model: The model's name.
        model_revision: Version of the weights and the model's own recipe.
        provider: Who computes.
        dimensions: Numbers per vector.
        clip_seconds: Length of a clip.
        tracks: The tracks to make, sorted, so that the order in a request makes no difference.
    """

    video: Video
    model: str
    model_revision: str
    provider: str
    dimensions: int
    clip_seconds: float
    tracks: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe under which the embedding can be reused."""
        return Recipe(self.video.id, self.model, self.model_revision, self.clip_seconds, self.tracks)


@dataclass(frozen=True)
class Embedding:
    """An embedding in its current state.

    Attributes:
        id: Its ID.
        plan: What was requested.
        state: State of the work.
        progress: Progress of the work.
        tracks: What is stored of each track of the plan, sorted by name. Once it is COMPLETED, only the tracks that
            have segments: a video without sound has no audio track.
        provider_task_id: ID of the provider's task; empty if there is none.
        failure: Why it failed; `None` in every state but FAILED.
        create_time: When it was requested.
        start_time: When work began; `None` while PENDING.
        finish_time: When it reached its final state; `None` before.
        revision: Grows by one with every change.
        attempts: Failed runs since a task or a segment was last stored.
        submitted_url: URL of the last submission to the provider, without its signature; empty if there was none.
        submitted_key: Fingerprint of the key of that submission; empty if there was none.
        submitted_at: Time of that submission; `None` if there was none.
        task_adopted: Whether the submission was that of an earlier embedding of the recipe, which failed or was
            cancelled.
        claim_time: When the worker claimed it, by the clock that made all the other times. Only `claim` returns it.
    """

    id: str
    plan: Plan
    state: State
    progress: Progress
    tracks: tuple[Track, ...]
    provider_task_id: str
    failure: Failure | None
    create_time: datetime
    start_time: datetime | None
    finish_time: datetime | None
    revision: int
    attempts: int = 0
    submitted_url: str = field(default="", repr=False)
    submitted_key: str = ""
    submitted_at: datetime | None = None
    task_adopted: bool = False
    claim_time: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether its state is final."""
        return self.state not in UNFINISHED

    def track(self, name: str) -> Track | None:
        """Return the track with this name, or `None`."""
        return next((track for track in self.tracks if track.name == name), None)


def provider_name(provider: str) -> str:
    """Return a provider's display name."""
    return _PROVIDER_NAMES.get(provider, provider)


def cancelled_message(embedding: Embedding) -> str:
    """Return the progress message of an embedding that is cancelled in its current state."""
    if not embedding.provider_task_id and embedding.submitted_at is None:
        return "Cancelled."
    name = provider_name(embedding.plan.provider)
    return f"Cancelled. {name} has no way to stop a task, so it may still bill this one."


@dataclass(frozen=True)
class Filter:
    """Which embeddings a list contains. `None`: no restriction.

    Attributes:
        video_id: Only embeddings of this video.
        state: Only embeddings in this state.
        model: Only embeddings by this model.
    """

    video_id: str | None = None
    state: State | None = None
    model: str | None = None


@dataclass(frozen=True)
class StoredSegments:
    """Consecutive segments of one track as they are stored and sent.

    Attributes:
        first_index: Index of the first segment.
        start_seconds: Start of each segment, shape ``(n,)``, float64.
        end_seconds: End of each segment, shape ``(n,)``, float64.
        vectors: `n` rows of `dimensions` little-endian float32 numbers.
    """

    first_index: int
    start_seconds: NDArray[np.float64] = field(repr=False)
    end_seconds: NDArray[np.float64] = field(repr=False)
    vectors: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.start_seconds)


def max_segments(dimensions: int) -> int:
    """Return how many segments fit into one message: each is a row of float32 and two float64 times."""
    return max(1, _MAX_SEGMENT_BYTES // (4 * dimensions + 16))
