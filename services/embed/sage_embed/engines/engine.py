"""The engine port, which computes the vectors of a video, and the choice between the models of all engines.

An engine is an asynchronous generator of events. The caller stores each event before it asks for the next one, and
engines rely on that order: once an engine has yielded a provider's task ID, the ID is stored before the engine waits
for the task, and segments that were yielded are never computed again.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sage_runtime.errors import Reason, SageError

from sage_embed.embeddings.model import LOCAL_PROVIDER, Picture, Progress, Video
from sage_embed.errors import model_unavailable, model_unknown, video_rejected
from sage_embed.fingerprints.model import Block

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ModelInfo:
    """A model that an engine offers.

    Attributes:
        name: The name by which users request it.
        revision: Version of the weights and the preprocessing. Vectors of different revisions are not comparable.
        provider: Who computes the vectors.
        dimensions: Length of every vector.
        tracks: The tracks that it can make.
        min_clip_seconds: The shortest clip.
        max_clip_seconds: The longest clip.
        whole_clip_seconds: Whether clip lengths must be whole seconds.
        min_video_seconds: The shortest video.
        max_video_seconds: The longest video; None if unlimited.
        max_video_bytes: The largest file; None if unlimited.
        min_resolution: Smallest width and height of the picture; None if unlimited.
        max_resolution: Largest width and height of the picture, in landscape or portrait; None if unlimited.
        unusable: Why it cannot be used now, as the error that requesting it raises; None if it can be used.
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
    """The stored results of earlier work on the same embedding.

    Attributes:
        provider_task_id: The provider's task, if one was started.
        submitted_url: The URL of the last submission, without its signature. Without a task ID there may be a task
            whose ID never arrived. No other submission used the same URL.
        submitted_at: When it was submitted, by PostgreSQL's clock, like every time here.
        segment_counts: For each track, the number of stored segments, which is the index of the next one.
        submitted_key: Fingerprint of the key of that submission, if known. Another account does not see the task.
        adopted: Whether the submission was that of an earlier embedding, which failed or was cancelled. If its task
            cannot be used, another one is submitted.
        waiting_since: Since when this embedding waits for the task.
    """

    provider_task_id: str | None
    submitted_url: str | None = field(repr=False)
    submitted_at: datetime | None
    segment_counts: Mapping[str, int]
    submitted_key: str | None = None
    adopted: bool = False
    waiting_since: datetime | None = None


async def _ignore(_: "Progressed") -> None:
    return


@dataclass(frozen=True)
class EngineRequest:
    """What to embed.

    Attributes:
        video_url: Makes a fresh URL from which the video can be read with range requests.
        duration_seconds: Length of the video's timeline.
        start_offset_seconds: Timestamp of the first frame in the container, which is 0 on the timeline.
        has_audio: Whether the video has sound.
        model: One of the engine's models.
        clip_seconds: Length of a clip. The last one may be shorter.
        tracks: The tracks to make.
        resume: The results of earlier work.
        picture: The track to decode, and how.
        now: The time when the work began. With results of earlier work it is PostgreSQL's: engines compare the times
            of `resume` with it and not with the clock of this machine, which may be wrong.
        report: Stores progress while the engine waits and cannot yield.
        first_block: The video's fingerprint is to be made in the same pass of decoding, starting with this block;
            `None` if it is not. Only the local engine does that.
    """

    video_url: Callable[[], Awaitable[str]]
    duration_seconds: float
    start_offset_seconds: float
    has_audio: bool
    model: str
    clip_seconds: float
    tracks: tuple[str, ...]
    resume: Resume
    picture: Picture = field(default_factory=Picture)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    report: Callable[["Progressed"], Awaitable[None]] = _ignore
    first_block: int | None = None


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of one track.

    Attributes:
        track: The track's name.
        first_index: Index of the first one, counted from 0.
        start_seconds: Start of each.
        end_seconds: End of each.
        vectors: One row for each, shape ``(len(start_seconds), dimensions)``, float32.
    """

    track: str
    first_index: int
    start_seconds: Sequence[float]
    end_seconds: Sequence[float]
    vectors: Vectors


@dataclass(frozen=True)
class Submitting:
    """The engine is about to submit a task. If the response is lost, this identifies the task.

    Attributes:
        source_url: The URL that is submitted, without its signature.
        key_fingerprint: Fingerprint of the key in use; empty if the provider needs none.
    """

    source_url: str = field(repr=False)
    key_fingerprint: str = ""


@dataclass(frozen=True)
class SubmissionRefused:
    """The provider refused the last submission, so there is no task and nothing to pay."""


@dataclass(frozen=True)
class TaskStarted:
    """The provider has a task. From now on it is resumed, never started again, unless it proves to be another's."""

    provider_task_id: str


@dataclass(frozen=True)
class Progressed:
    """Progress without new segments.

    Attributes:
        fraction: From 0 to 1.
        message: A sentence for users.
        lasting: Whether this may remain unchanged for a long time. If so, it is stored at once.
    """

    fraction: float
    message: str
    lasting: bool = False


@dataclass(frozen=True)
class SegmentsProduced:
    """Segments that are ready to be stored.

    Attributes:
        segments: The segments.
        progress: The resulting progress, stored in the same transaction; None to leave it unchanged.
    """

    segments: Segments
    progress: Progress | None = None


@dataclass(frozen=True)
class BlockMade:
    """The next block of the fingerprint, ready to be stored."""

    block: Block


@dataclass(frozen=True)
class FingerprintMade:
    """All blocks of the fingerprint have been yielded."""


EngineEvent = Submitting | SubmissionRefused | TaskStarted | Progressed | SegmentsProduced | BlockMade | FingerprintMade


class Engine(Protocol):
    """Computes vectors.

    Failures are raised as `SageError`. PROVIDER_UNREACHABLE, STORE_UNAVAILABLE and SERVICE_UNAVAILABLE may be retried
    from the resume point; every other reason is final.
    """

    async def models(self) -> Sequence[ModelInfo]:
        """Return the engine's models, usable or not, best first."""
        ...

    def embed(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Embed a video and yield events. Closing the generator stops the work and frees its resources."""
        ...

    async def aclose(self) -> None:
        """Free resources kept between embeddings. The engine cannot be used afterwards."""
        ...


class Engines:
    """Finds models and the engines that offer them.

    Args:
        engines: The engines, best first.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)

    async def models(self) -> list[ModelInfo]:
        """Return every model: usable ones first, then best first.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        return sorted(await self._in_order(), key=lambda model: model.unusable is not None)

    async def aclose(self) -> None:
        """Close the engines. None of them can be used afterwards."""
        for engine in self._engines:
            await engine.aclose()

    async def choose(self, name: str) -> ModelInfo:
        """Return the usable model of this name, or the best one if the name is empty.

        Raises:
            SageError: MODEL_UNKNOWN, STORE_UNAVAILABLE; if the model cannot be used, the error that says why:
                MODEL_UNAVAILABLE, API_KEY_MISSING, ENCRYPTION_KEY_MISSING.
        """
        models = await self._in_order()
        candidates = [model for model in models if not name or model.name == name]
        if not candidates:
            raise model_unknown(name, [model.name for model in models])
        best = next((model for model in candidates if not _may_be_skipped(model)), candidates[0])
        if best.unusable is not None:
            raise best.unusable
        return best

    async def engine_of(self, name: str, revision: str) -> Engine:
        """Return the engine that offers a model in this revision.

        Raises:
            SageError: MODEL_UNKNOWN if no engine has the model; MODEL_UNAVAILABLE if its revision has changed, because
                its vectors would not be comparable with the stored ones; STORE_UNAVAILABLE.
        """
        for engine in self._engines:
            for model in await engine.models():
                if model.name == name:
                    if model.revision != revision:
                        raise model_unavailable(
                            name,
                            f"the embedding was started with revision {revision}, and this server has {model.revision}",
                        )
                    return engine
        raise model_unknown(name, [model.name for model in await self.models()])

    async def _in_order(self) -> list[ModelInfo]:
        return [model for engine in self._engines for model in await engine.models()]


def _may_be_skipped(model: ModelInfo) -> bool:
    """Return whether the next best model may replace this one if no model was named.

    A stored key that cannot be decrypted is a mistake to report, not a reason to silently use another model.
    """
    return model.unusable is not None and model.unusable.reason is not Reason.ENCRYPTION_KEY_MISSING


def check_limits(video: Video, model: ModelInfo) -> None:
    """Raise if the video exceeds a limit of the model. Unknown properties are left to the provider.

    Raises:
        SageError: PROVIDER_REJECTED_VIDEO with the limit and what to do.
    """
    _check_duration(video, model)
    if model.max_video_bytes is not None and video.size_bytes > model.max_video_bytes:
        raise _rejected(model, f"it has {video.size_bytes} bytes", f"at most {model.max_video_bytes}")
    _check_resolution(video, model)
    if not video.picture.is_default and model.provider != LOCAL_PROVIDER:
        # Providers receive the file, and there is no way to tell them which track to use.
        raise _rejected(model, f"its film is picture track {video.picture.track}", "only the track that players show")


def _check_duration(video: Video, model: ModelInfo) -> None:
    fact = f"it is {video.duration_seconds:g} s long"
    if video.duration_seconds < model.min_video_seconds:
        raise _rejected(model, fact, f"at least {model.min_video_seconds:g} s")
    if model.max_video_seconds is not None and video.duration_seconds > model.max_video_seconds:
        raise _rejected(model, fact, f"at most {model.max_video_seconds:g} s")


def _check_resolution(video: Video, model: ModelInfo) -> None:
    if not (video.width and video.height):
        return
    fact = f"it has {video.width}x{video.height} pixels"
    # The limits hold for landscape and portrait, so the long side is compared with the long side.
    short, long = sorted((video.width, video.height))
    if model.min_resolution is not None:
        min_short, min_long = sorted(model.min_resolution)
        if short < min_short or long < min_long:
            raise _rejected(model, fact, f"at least {min_long}x{min_short}")
    if model.max_resolution is not None:
        max_short, max_long = sorted(model.max_resolution)
        if short > max_short or long > max_long:
            raise _rejected(model, fact, f"at most {max_long}x{max_short}")


def _rejected(model: ModelInfo, fact: str, limit: str) -> SageError:
    instead = "" if model.provider == LOCAL_PROVIDER else ". Use model local instead"
    return video_rejected(model.provider, f"{fact}; model {model.name} accepts {limit}{instead}")
