"""Compares two embeddings, track by track: the use case."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

from sage_runtime.errors import invalid_field, task_group

from sage_compare import errors
from sage_compare.aligned.comparison import AlignedComparison
from sage_compare.aligned.inputs import Options
from sage_compare.alignment import TRACKS, Aligner
from sage_compare.beyond_tracks import MediaDifference, NotCompared, find_media_differences, find_not_compared
from sage_compare.inputs.embedding import Embedding, TimeRange
from sage_compare.inputs.segments import EmbeddingReader, SegmentCache, Segments
from sage_compare.time_mode.compare import compare_segments, compare_with_silence, default_threshold
from sage_compare.time_mode.differences import TimeComparison
from sage_compare.time_mode.distance import Metric

# These have no segments without speech or after the sound has ended. The picture always has segments.
_TRACKS_WITH_SILENCE = frozenset({"audio", "transcription"})

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class Mode(Enum):
    """How the two timelines are aligned."""

    TIME = auto()
    """Second n of a is compared with second n of b."""
    ALIGNED = auto()
    """The films are aligned to the frame."""


@dataclass(frozen=True)
class TrackSpec:
    """A track to compare.

    Attributes:
        name: Its name.
        threshold: Distances above it are differences, in mode TIME. `None`: the default for metric, model and track.
    """

    name: str
    threshold: float | None = None


@dataclass(frozen=True)
class Request:
    """What to compare, and how.

    Attributes:
        embedding_id_a: Embedding of one cut.
        embedding_id_b: Embedding of the other cut.
        mode: How the two timelines are aligned.
        metric: How distances are measured.
        tracks: The tracks to compare, at least one and each name once.
        options: How to compare in mode ALIGNED.
    """

    embedding_id_a: str
    embedding_id_b: str
    mode: Mode
    metric: Metric
    tracks: tuple[TrackSpec, ...]
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class TrackComparison:
    """The comparison of one track.

    Attributes:
        name: Its name.
        a_covered: The range of a that was compared, which its segments cover in mode TIME. `None` if there is none.
        b_covered: The range of b that was compared. `None` if there is none.
        result: The result; its type depends on the mode.
    """

    name: str
    a_covered: TimeRange | None
    b_covered: TimeRange | None
    result: TimeComparison | AlignedComparison


@dataclass(frozen=True)
class Comparison:
    """A comparison.

    Attributes:
        mode: The mode that was used.
        metric: The metric that was used.
        a: One embedding.
        b: The other embedding.
        tracks: One comparison per requested track, in the order of the request.
        media_differences: What differs between the media of the two files.
        not_compared: What both films have and was not compared.
    """

    mode: Mode
    metric: Metric
    a: Embedding
    b: Embedding
    tracks: tuple[TrackComparison, ...]
    media_differences: tuple[MediaDifference, ...] = ()
    not_compared: tuple[NotCompared, ...] = ()


class Comparer:
    """Compares embeddings.

    Args:
        reader: Source of embeddings.
        cache: Source of their segments.
        aligner: Compares in mode ALIGNED.
        max_segments: Maximum number of segments of all compared tracks of one embedding. The response grows with them
            and must fit in one message.
    """

    def __init__(self, reader: EmbeddingReader, cache: SegmentCache, aligner: Aligner, *, max_segments: int) -> None:
        self._reader = reader
        self._cache = cache
        self._aligner = aligner
        self._max_segments = max_segments

    async def compare(self, request: Request) -> Comparison:
        """Return how two embeddings differ.

        The embeddings are looked up in each call, even if their segments are cached: that is cheap, and a deleted
        embedding is no longer found.

        Raises:
            SageError: FIELD_INVALID, EMBEDDING_NOT_FOUND, EMBEDDING_NOT_COMPLETED, MODELS_DIFFER, TRACK_MISSING,
                FINGERPRINT_NOT_FOUND, FINGERPRINT_NOT_COMPLETED, LIMIT_EXCEEDED, SERVICE_UNAVAILABLE,
                STORE_UNAVAILABLE.
        """
        if request.mode is Mode.ALIGNED:
            _check_aligned(request.tracks)
        embeddings = await _each(self._reader.get, (request.embedding_id_a, request.embedding_id_b))
        a, b = embeddings[request.embedding_id_a], embeddings[request.embedding_id_b]
        for embedding in (a, b):
            if not embedding.completed:
                raise errors.embedding_not_completed(embedding)
        compare = self._compare_aligned if request.mode is Mode.ALIGNED else self._compare_time
        tracks = await compare(a, b, request)
        if a.video_id == b.video_id:
            return Comparison(request.mode, request.metric, a, b, tracks)
        made = {*TRACKS} if request.mode is Mode.ALIGNED else await self._made_tracks(a, b)
        not_compared = find_not_compared(
            a.media, b.media, compared=[spec.name for spec in request.tracks], model_tracks=made
        )
        return Comparison(
            request.mode, request.metric, a, b, tracks, find_media_differences(a.media, b.media), not_compared
        )

    async def _made_tracks(self, a: Embedding, b: Embedding) -> set[str]:
        return {*await self._reader.tracks_of_model(a.model), *a.requested_tracks, *b.requested_tracks}

    async def _compare_time(self, a: Embedding, b: Embedding, request: Request) -> tuple[TrackComparison, ...]:
        self._check_comparable(a, b, [spec.name for spec in request.tracks])
        present = [(one, spec.name) for one in (a, b) for spec in request.tracks if one.track(spec.name)]
        segments = await _each(lambda key: self._cache.segments(*key), present)
        # For hours of film numpy takes milliseconds: too long for the event loop, and numpy releases the GIL.
        return await asyncio.to_thread(
            lambda: tuple(_compare_track(request.metric, a, b, spec, segments) for spec in request.tracks)
        )

    async def _compare_aligned(self, a: Embedding, b: Embedding, request: Request) -> tuple[TrackComparison, ...]:
        names = [spec.name for spec in request.tracks]
        found = await self._aligner.compare(a, b, tracks=names, options=request.options, metric=request.metric)
        return tuple(
            TrackComparison(
                name, TimeRange(0.0, found[name].a.duration), TimeRange(0.0, found[name].b.duration), found[name]
            )
            for name in names
        )

    def _check_comparable(self, a: Embedding, b: Embedding, tracks: Sequence[str]) -> None:
        """Refuse embeddings that do not match, lack a track, or are too large.

        Every track must have been requested for both. A requested track that is absent is silent; nothing is known
        about a track that was not requested.
        """
        if a.vector_space != b.vector_space:
            raise errors.models_differ(a, b)
        for embedding in (a, b):
            for name in tracks:
                if not embedding.has_requested(name):
                    raise errors.track_missing(embedding, name)
            count = sum(track.segment_count for track in embedding.tracks if track.name in tracks)
            if count > self._max_segments:
                raise errors.too_many_segments(embedding, count, limit=self._max_segments, track_count=len(tracks))


def _check_aligned(tracks: Sequence[TrackSpec]) -> None:
    """Refuse what mode ALIGNED does not know."""
    for spec in tracks:
        if spec.name not in TRACKS:
            raise invalid_field(
                "tracks", f"has {spec.name!r}; mode ALIGNED compares {' and '.join(TRACKS)}. Use mode TIME for others."
            )
        if spec.threshold is not None:
            raise invalid_field("tracks", "has a threshold, which is for mode TIME. Mode ALIGNED has `min_strength`.")


def _compare_track(
    metric: Metric, a: Embedding, b: Embedding, spec: TrackSpec, segments: Mapping[tuple[Embedding, str], Segments]
) -> TrackComparison:
    """Return the comparison of a track that was requested for both embeddings."""
    name, threshold = spec.name, spec.threshold
    if threshold is None:
        threshold = default_threshold(metric, model=a.model, track=name)
    a_track, b_track = a.track(name), b.track(name)
    if a_track and b_track:
        result = compare_segments(
            segments[a, name],
            segments[b, name],
            a_duration=a.duration,
            b_duration=b.duration,
            metric=metric,
            threshold=threshold,
            same_video=a.video_id == b.video_id,
            silence_seconds=a.clip_seconds if name in _TRACKS_WITH_SILENCE else None,
        )
    else:
        result = compare_with_silence(
            a.duration if a_track else None, b.duration if b_track else None, threshold=threshold
        )
    return TrackComparison(
        name=name,
        a_covered=a_track.covered if a_track else None,
        b_covered=b_track.covered if b_track else None,
        result=result,
    )


async def _each(call: Callable[[_Key], Coroutine[Any, Any, _Found]], keys: Iterable[_Key]) -> dict[_Key, _Found]:
    """Return the result of a call for each distinct key. All calls run at once; the first error is raised."""
    async with task_group() as group:
        tasks = {key: group.create_task(call(key)) for key in dict.fromkeys(keys)}
    return {key: task.result() for key, task in tasks.items()}
