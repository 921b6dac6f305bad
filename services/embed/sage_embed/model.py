"""The embedding: what it is, and which states may follow each other."""

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

# A video may be without these; of all other tracks each has something.
SOUND_TRACKS = frozenset({"audio", "transcription"})


class State(StrEnum):
    """Where an embedding stands."""

    PENDING = "PENDING"
    """It waits for its first worker."""
    PROCESSING = "PROCESSING"
    """A worker works on it, or the next one is about to."""
    COMPLETED = "COMPLETED"
    """Its vectors are stored. Final."""
    FAILED = "FAILED"
    """It failed and holds no vectors. Final."""
    CANCELLED = "CANCELLED"
    """It was cancelled and holds no vectors. Final."""


# PROCESSING follows itself: that is a worker which takes over from one that was lost.
_NEXT: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.PROCESSING, State.FAILED, State.CANCELLED}),
    State.PROCESSING: frozenset({State.PROCESSING, State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}

UNFINISHED = frozenset(state for state, following in _NEXT.items() if following)


def states_before(state: State) -> list[str]:
    """Return the states that `state` may follow, as a store's guard on the change wants them."""
    return sorted(before for before, following in _NEXT.items() if state in following)


class WorkLostError(Exception):
    """The work belongs to somebody else now, or has come to its end: stop, and write no more."""


@dataclass(frozen=True)
class Video:
    """What embed needs to know of a video.

    Attributes:
        id: The video's id.
        duration_seconds: Length of its timeline.
        start_offset_seconds: The timestamp of the first frame in the container.
        has_audio: Whether it has sound.
        size_bytes: Size of the file; 0 where it is not known.
        width: Pixels of the coded picture, before rotation; 0 where it is not known.
        height: The same, from top to bottom.
    """

    id: str
    duration_seconds: float
    start_offset_seconds: float
    has_audio: bool = True
    size_bytes: int = 0
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Track:
    """What is stored of one track.

    Attributes:
        name: The track's name.
        segment_count: How many segments are stored.
        covered_start_seconds: Where the first one starts.
        covered_end_seconds: Where the last one ends.
    """

    name: str
    segment_count: int = 0
    covered_start_seconds: float = 0.0
    covered_end_seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How far the work is.

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
class Plan:
    """What an embedding is to become: everything that is settled when it is asked for.

    Attributes:
        video: The video as it was then.
        model: The model's name.
        model_revision: Version of weights and recipe.
        provider: Who computes.
        dimensions: Numbers in every vector.
        clip_seconds: Length of a clip.
        tracks: The tracks to make, in the order of the request.
    """

    video: Video
    model: str
    model_revision: str
    provider: str
    dimensions: int
    clip_seconds: float
    tracks: tuple[str, ...]


@dataclass(frozen=True)
class Embedding:
    """An embedding as it is now.

    Attributes:
        id: Its id.
        plan: What was asked for.
        state: Where it stands.
        progress: How far it is.
        tracks: What is stored of each track of the plan, in the plan's order. Once it has completed, only those
            that have segments: a video without sound has no audio track.
        provider_task_id: The provider's task, or empty.
        failure: Why it failed; None in every state but FAILED.
        create_time: When it was asked for.
        start_time: When work began; None while PENDING.
        finish_time: When it came to its end; None before.
        revision: Grows by one with every change.
        attempts: Runs that ended in trouble since the task or a segment was stored last.
        submitted_url: The URL that the provider was asked with for a task whose id is not known yet, or empty. It lets
            whoever has it read the video: it is kept no longer than that and shown to nobody.
        submitted_key: Fingerprint of the key that the provider was asked with last, or empty.
        submitted_at: When the provider was asked last; None where it never was.
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

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self.state not in UNFINISHED

    def track(self, name: str) -> Track | None:
        """Return the track of this name, if it has one."""
        return next((track for track in self.tracks if track.name == name), None)


def provider_name(provider: str) -> str:
    """Return a provider's name as people know it."""
    return _PROVIDER_NAMES.get(provider, provider)


def cancelled_message(embedding: Embedding) -> str:
    """Return what people are told when an embedding is cancelled that stands as this one."""
    if not embedding.provider_task_id and embedding.submitted_at is None:
        return "Cancelled."
    name = provider_name(embedding.plan.provider)
    return f"Cancelled. {name} has no way to stop a task, so it may still bill this one."


@dataclass(frozen=True)
class Filter:
    """Which embeddings a list shows. None: all.

    Attributes:
        video_id: Only those of this video.
        state: Only those in this state.
        model: Only those of this model.
    """

    video_id: str | None = None
    state: State | None = None
    model: str | None = None


@dataclass(frozen=True)
class StoredSegments:
    """Consecutive segments of one track as they are stored and sent.

    Attributes:
        first_index: Index of the first one.
        start_seconds: Where each starts, shape ``(n,)``, float64.
        end_seconds: Where each ends, shape ``(n,)``, float64.
        vectors: Rows of little-endian float32, `n` times `dimensions` of them.
    """

    first_index: int
    start_seconds: NDArray[np.float64] = field(repr=False)
    end_seconds: NDArray[np.float64] = field(repr=False)
    vectors: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.start_seconds)
