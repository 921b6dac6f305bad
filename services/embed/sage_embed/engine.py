"""The engine port: what computes vectors, whoever it is.

An engine is an asynchronous generator of events. The caller stores each event before it asks for the next, so order is
a guarantee that engines build on: a provider's task id that was yielded is stored before the engine waits on the task,
and segments that were yielded are never computed again.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sage_runtime.errors import SageError

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ModelInfo:
    """A model that an engine offers.

    Attributes:
        name: What users ask for it by.
        revision: Version of weights and recipe; vectors of different revisions are not comparable.
        provider: Who computes.
        dimensions: Numbers in every vector.
        tracks: The tracks that it can make.
        min_clip_seconds: The shortest clip.
        max_clip_seconds: The longest clip.
        whole_clip_seconds: Whether the length of a clip has to be a whole number of seconds.
        min_video_seconds: The shortest video.
        max_video_seconds: The longest video; None where there is no limit.
        max_video_bytes: The largest file; None where there is no limit.
        min_resolution: Width and height that the picture has to have at least; None where there is no limit.
        max_resolution: Width and height of the largest picture, whichever way it is turned; None where there is no
            limit.
        unusable: Why it cannot be used now, as the error that asking for it raises; None where it can.
    """

    name: str
    revision: str
    provider: str
    dimensions: int
    tracks: tuple[str, ...]
    min_clip_seconds: float
    max_clip_seconds: float
    whole_clip_seconds: bool = False
    min_video_seconds: float = 0.0
    max_video_seconds: float | None = None
    max_video_bytes: int | None = None
    min_resolution: tuple[int, int] | None = None
    max_resolution: tuple[int, int] | None = None
    unusable: SageError | None = None


@dataclass(frozen=True)
class Resume:
    """How far earlier work on the same embedding came, all of it stored.

    Attributes:
        provider_task_id: The provider's task, where one was started.
        submitted_url: The URL that the provider was asked with last, where no task id followed: there may be a task
            whose id was never heard. No other submission has the same URL.
        submitted_at: When it was asked with it.
        segment_counts: For each track, how many segments are stored: the index of the next.
        submitted_key: Fingerprint of the key that it was asked with, where that is known: to another account the
            provider shows no such task.
    """

    provider_task_id: str | None
    submitted_url: str | None = field(repr=False)
    submitted_at: datetime | None
    segment_counts: Mapping[str, int]
    submitted_key: str | None = None


@dataclass(frozen=True)
class EngineRequest:
    """What to embed.

    Attributes:
        video_url: Makes a fresh URL that the video can be read from with ranged requests.
        duration_seconds: Length of the video's timeline.
        start_offset_seconds: The timestamp of the first frame in the container; the timeline counts from there.
        has_audio: Whether the video has sound.
        model: One of the engine's models.
        clip_seconds: Length of a clip. The last one may be shorter.
        tracks: The tracks to make.
        resume: How far earlier work came.
    """

    video_url: Callable[[], Awaitable[str]]
    duration_seconds: float
    start_offset_seconds: float
    has_audio: bool
    model: str
    clip_seconds: float
    tracks: tuple[str, ...]
    resume: Resume


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of one track.

    Attributes:
        track: The track's name.
        first_index: Index of the first one, from 0.
        start_seconds: Where each starts.
        end_seconds: Where each ends.
        vectors: One row for each, shape ``(len(start_seconds), dimensions)``, float32.
    """

    track: str
    first_index: int
    start_seconds: Sequence[float]
    end_seconds: Sequence[float]
    vectors: Vectors


@dataclass(frozen=True)
class Submitting:
    """The provider is about to be asked for a task. Where its answer is lost, this tells which task is this one.

    Attributes:
        source_url: The URL that it is asked with.
        key_fingerprint: Of the key that it is asked with; empty where there is none.
    """

    source_url: str = field(repr=False)
    key_fingerprint: str = ""


@dataclass(frozen=True)
class TaskStarted:
    """The provider has a task; it is to be taken up again, never started twice."""

    provider_task_id: str


@dataclass(frozen=True)
class Progressed:
    """The work came further.

    Attributes:
        fraction: From 0 to 1.
        message: A sentence for people.
        lasting: Whether it may stay like this for long: then people are told at once.
    """

    fraction: float
    message: str
    lasting: bool = False


@dataclass(frozen=True)
class SegmentsProduced:
    """Segments that are ready to be stored."""

    segments: Segments


EngineEvent = Submitting | TaskStarted | Progressed | SegmentsProduced


class Engine(Protocol):
    """Computes vectors.

    Failures are raised as `SageError`: PROVIDER_UNREACHABLE and STORE_UNAVAILABLE may be tried again from the
    resume point; every other reason is final.
    """

    async def models(self) -> Sequence[ModelInfo]:
        """Return the models that it offers, usable or not, the best first."""
        ...

    def embed(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Return the events of the work. Closing the generator stops the work and frees what it holds."""
        ...

    async def aclose(self) -> None:
        """Free what it holds from one embedding to the next. It embeds no more."""
        ...
