"""Compares two embeddings: the use case."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sage_runtime.errors import Reason, SageError

from sage_compare import timeline
from sage_compare.clip_cache import ClipCache
from sage_compare.difference import find_differences
from sage_compare.distance import distances
from sage_compare.model import Clips, Comparison, Embedding, Findings, Layout, Metric, Mode, Request, Series
from sage_compare.ports import EmbeddingReader
from sage_compare.thresholds import default_threshold

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")

_LAY_OUT: dict[Mode, Callable[..., Layout]] = {Mode.TIME: timeline.lay_out}


class Comparer:
    """Compares embeddings.

    Args:
        reader: Where embeddings are looked up.
        cache: Where their clips come from.
        max_segments: How many segments a track may have. The answer to a comparison grows with them and has to fit in
            one message.
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
        a, b = await _both(self._reader.get, request.embedding_id_a, request.embedding_id_b)
        for embedding in (a, b):
            _check_completed(embedding)
        _check_same_model(a, b)
        for embedding in (a, b):
            _check_track(embedding, request.track, max_segments=self._max_segments)
        threshold = request.threshold
        if threshold is None:
            threshold = default_threshold(request.mode, request.metric, a.model)

        async def read(embedding: Embedding) -> Clips:
            return await self._cache.clips(embedding, request.track)

        a_clips, b_clips = await _both(read, a, b)
        # Milliseconds of numpy for hours of film: too long for the event loop, and numpy lets go of the GIL.
        series, findings = await asyncio.to_thread(
            compare_clips,
            a_clips,
            b_clips,
            a_duration=a.duration,
            b_duration=b.duration,
            mode=request.mode,
            metric=request.metric,
            threshold=threshold,
            same_video=a.video_id == b.video_id,
        )
        return Comparison(
            mode=request.mode,
            metric=request.metric,
            threshold=threshold,
            track=request.track,
            a=a,
            b=b,
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
    """
    layout = _LAY_OUT[mode](a, b, a_duration=a_duration, b_duration=b_duration)
    series = Series(
        a_starts=layout.a_starts,
        b_starts=layout.b_starts,
        lengths=layout.lengths,
        distances=distances(a, b, layout.a_rows, layout.b_rows, metric=metric),
    )
    unpaired = () if same_video else layout.unpaired
    return series, find_differences(series, unpaired=unpaired, threshold=threshold)


def _check_completed(embedding: Embedding) -> None:
    if not embedding.completed:
        raise SageError(
            Reason.EMBEDDING_NOT_COMPLETED,
            embedding_id=embedding.id,
            state=embedding.state,
            what_to_do="Wait until it is COMPLETED." if embedding.under_way else "Embed the video again.",
        )


def _check_same_model(a: Embedding, b: Embedding) -> None:
    """Refuse vectors that do not lie in one space, and clips that do not last the same."""
    if _made_by(a) != _made_by(b):
        raise SageError(Reason.MODELS_DIFFER, a=_describe(a), b=_describe(b))


def _made_by(embedding: Embedding) -> tuple[str, str, int, float]:
    return embedding.model, embedding.model_revision, embedding.dimensions, embedding.clip_seconds


def _describe(embedding: Embedding) -> str:
    revision = f" ({embedding.model_revision})" if embedding.model_revision else ""
    return f"{embedding.model}{revision}, {embedding.dimensions} dimensions, {embedding.clip_seconds:g} s clips"


def _check_track(embedding: Embedding, name: str, *, max_segments: int) -> None:
    track = embedding.track(name)
    if track is None:
        names = ", ".join(track.name for track in embedding.tracks) or "none"
        raise SageError(Reason.TRACK_MISSING, embedding_id=embedding.id, track=name, tracks=names)
    if track.segment_count > max_segments:
        raise SageError(
            Reason.LIMIT_EXCEEDED,
            limit="segments in a track that is compared",
            max=max_segments,
            segment_count=track.segment_count,
            embedding_id=embedding.id,
            what_to_do=f"Embedding {embedding.id} has {track.segment_count}; make one with longer clips.",
        )


async def _both(call: Callable[[_Key], Coroutine[Any, Any, _Found]], a: _Key, b: _Key) -> tuple[_Found, _Found]:
    """Return what the call finds for a and for b, asked at once; asked once where the two are the same."""
    if a == b:
        found = await call(a)
        return found, found
    try:
        async with asyncio.TaskGroup() as group:
            of_a, of_b = group.create_task(call(a)), group.create_task(call(b))
    except ExceptionGroup as failed:
        # One failure ends both; the caller wants that one, not a group.
        raise failed.exceptions[0] from None
    return of_a.result(), of_b.result()
