"""Compares two embeddings: the use case."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from sage_compare import timeline
from sage_compare.checks import check_comparable
from sage_compare.clip_cache import ClipCache
from sage_compare.difference import find_differences
from sage_compare.distance import distances
from sage_compare.model import (
    Clips,
    Comparison,
    Difference,
    Embedding,
    Findings,
    Kind,
    Layout,
    Metric,
    Mode,
    Request,
    Series,
    TimeRange,
    TrackComparison,
)
from sage_compare.ports import EmbeddingReader
from sage_compare.thresholds import default_threshold

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")
_ClipsOf = Mapping[tuple[Embedding, str], Clips]

# Of these, and not of the picture, there may be nothing for a while: nobody speaks, or the sound ends early.
_SOUND_TRACKS = frozenset({"audio", "transcription"})

_LAY_OUT: dict[Mode, Callable[..., Layout]] = {Mode.TIME: timeline.lay_out}


class Comparer:
    """Compares embeddings.

    Args:
        reader: Where embeddings are looked up.
        cache: Where their clips come from.
        max_segments: How many segments the tracks that are compared may have in an embedding. The answer to a
            comparison grows with them and has to fit in one message.
    """

    def __init__(self, reader: EmbeddingReader, cache: ClipCache, *, max_segments: int) -> None:
        self._reader = reader
        self._cache = cache
        self._max_segments = max_segments

    async def compare(self, request: Request) -> Comparison:
        """Return how two embeddings differ.

        The embeddings are looked up each time, even where their clips are cached: it is cheap, and one that was deleted
        is not found from that moment on.

        Raises:
            SageError: EMBEDDING_NOT_FOUND, EMBEDDING_NOT_COMPLETED, MODELS_DIFFER, TRACK_MISSING, LIMIT_EXCEEDED,
                SERVICE_UNAVAILABLE.
        """
        found = await _each(self._reader.get, (request.embedding_id_a, request.embedding_id_b))
        a, b = found[request.embedding_id_a], found[request.embedding_id_b]
        tracks = {request.track: request.threshold}
        if request.second_track:
            tracks[request.second_track] = request.second_threshold
        check_comparable(a, b, tuple(tracks), max_segments=self._max_segments)
        there = [(embedding, track) for embedding in (a, b) for track in tracks if embedding.track(track)]
        clips = await _each(lambda key: self._cache.clips(*key), there)
        # Milliseconds of numpy for hours of film: too long for the event loop, and numpy lets go of the GIL.
        first, *second = await asyncio.to_thread(
            lambda: [_compare_track(request, a, b, track, threshold, clips) for track, threshold in tracks.items()]
        )
        return Comparison(request.mode, request.metric, a, b, first, *second)


def _compare_track(
    request: Request, a: Embedding, b: Embedding, name: str, threshold: float | None, clips: _ClipsOf
) -> TrackComparison:
    """Return the comparison of one track, which both embeddings have asked for."""
    if threshold is None:
        threshold = default_threshold(request.mode, request.metric, model=a.model, track=name)
    a_track, b_track = a.track(name), b.track(name)
    if a_track and b_track:
        series, findings = compare_clips(
            clips[a, name],
            clips[b, name],
            a_duration=a.duration,
            b_duration=b.duration,
            mode=request.mode,
            metric=request.metric,
            threshold=threshold,
            same_video=a.video_id == b.video_id,
            silence_seconds=a.clip_seconds if name in _SOUND_TRACKS else None,
        )
    else:
        series, findings = compare_with_silence(a.duration if a_track else None, b.duration if b_track else None)
    return TrackComparison(
        track=name,
        threshold=threshold,
        a_covered=a_track.covered if a_track else None,
        b_covered=b_track.covered if b_track else None,
        series=series,
        findings=findings,
    )


def compare_clips(
    a: Clips,
    b: Clips,
    *,
    a_duration: float,
    b_duration: float,
    mode: Mode,
    metric: Metric,
    threshold: float,
    same_video: bool = False,
    silence_seconds: float | None = None,
) -> tuple[Series, Findings]:
    """Return the distances of two sequences of clips and what the threshold makes of them.

    Args:
        a: The clips of the one.
        b: The clips of the other, of the same dimensions.
        a_duration: The length of a's video in seconds.
        b_duration: The length of b's video in seconds.
        mode: How the two timelines are laid on each other.
        metric: How distances are measured.
        threshold: Distances above it are differences, in the unit of the metric.
        same_video: Whether both were made from one video. What no clip covers is no difference then: it is the same.
        silence_seconds: How long a stretch without clips has to be to be silence; None where there is none.
    """
    layout = _LAY_OUT[mode](a, b, a_duration=a_duration, b_duration=b_duration, silence_seconds=silence_seconds)
    series = Series(
        a_starts=layout.a_starts,
        b_starts=layout.b_starts,
        lengths=layout.lengths,
        distances=distances(a, b, layout.a_rows, layout.b_rows, metric=metric),
    )
    unpaired = () if same_video else layout.unpaired
    return series, find_differences(series, unpaired=unpaired, threshold=threshold)


def compare_with_silence(a_duration: float | None, b_duration: float | None) -> tuple[Series, Findings]:
    """Return what a track differs by from one that is silent: all of it. Silence does not differ from silence.

    Args:
        a_duration: The length of a's video in seconds, None where a is silent.
        b_duration: The length of b's video in seconds, None where b is silent. One of the two is.
    """
    nothing = np.zeros(0)
    series = Series(nothing, nothing, nothing, np.zeros(0, np.float32))
    unpaired = []
    if a_duration is not None:
        unpaired.append(Difference(Kind.ONLY_IN_A, a=TimeRange(0.0, a_duration), b=None))
    if b_duration is not None:
        unpaired.append(Difference(Kind.ONLY_IN_B, a=None, b=TimeRange(0.0, b_duration)))
    return series, find_differences(series, unpaired=unpaired, threshold=0.0)


async def _each(call: Callable[[_Key], Coroutine[Any, Any, _Found]], keys: Iterable[_Key]) -> dict[_Key, _Found]:
    """Return what the call finds for each key, asked at once; asked once where keys are the same."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {key: group.create_task(call(key)) for key in dict.fromkeys(keys)}
    except ExceptionGroup as failed:
        # One failure ends all; the caller wants that one, not a group.
        raise failed.exceptions[0] from None
    return {key: task.result() for key, task in tasks.items()}
