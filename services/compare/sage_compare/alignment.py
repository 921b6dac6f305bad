"""Aligns the films of two embeddings by their fingerprints: the use case of mode ALIGNED."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from sage_fingerprint.codec import FingerprintFormatError, FingerprintTooLargeError, OtherVersionError
from sage_fingerprint.model import VERSION, Fingerprint
from sage_runtime.errors import task_group

from sage_compare import errors
from sage_compare.aligned.align import align
from sage_compare.aligned.changes import LEVELS
from sage_compare.aligned.comparison import AlignedComparison, FilmTimes, with_bounded_residuals
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import EditScript, Region
from sage_compare.aligned.sound import compare_sound
from sage_compare.beyond_tracks import PICTURE, SOUND
from sage_compare.inputs.embedding import Embedding
from sage_compare.inputs.fingerprints import FingerprintCache, FingerprintReader, StoredFingerprint
from sage_compare.inputs.segments import SegmentCache, Segments
from sage_compare.semantic import semantic_distances
from sage_compare.time_mode.distance import Metric

TRACKS = (PICTURE, SOUND)
"""The tracks that fingerprints can compare."""


class Aligner:
    """Aligns films.

    Args:
        reader: Looks fingerprints up.
        cache: Source of the fingerprints.
        segments: Source of the vectors of embeddings.
        max_frames: Films with more frames are refused.
        max_at_once: How many pairs may be in memory and aligned at once; other calls wait.
    """

    def __init__(
        self,
        reader: FingerprintReader,
        cache: FingerprintCache,
        segments: SegmentCache,
        *,
        max_frames: int,
        max_at_once: int,
    ) -> None:
        self._reader = reader
        self._cache = cache
        self._segments = segments
        self._max_frames = max_frames
        self._turns = asyncio.Semaphore(max_at_once)
        # Apart from the threads of other work.
        self._threads = ThreadPoolExecutor(max_at_once, thread_name_prefix="align")

    def close(self) -> None:
        """Start no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def compare(
        self, a: Embedding, b: Embedding, *, tracks: Collection[str], options: Options, metric: Metric
    ) -> Mapping[str, AlignedComparison]:
        """Return the comparison of each track.

        Raises:
            SageError: FINGERPRINT_NOT_FOUND, FINGERPRINT_NOT_COMPLETED, LIMIT_EXCEEDED, EMBEDDING_NOT_FOUND,
                SERVICE_UNAVAILABLE, STORE_UNAVAILABLE.
        """
        await self._turns.acquire()
        try:
            async with task_group() as group:
                readings = [group.create_task(self._fingerprint(video_id)) for video_id in (a.video_id, b.video_id)]
                reading_vectors = group.create_task(self._vectors(a, b)) if PICTURE in tracks else None
            films = [_film(embedding, reading.result()) for embedding, reading in zip((a, b), readings, strict=True)]
            vectors = reading_vectors.result() if reading_vectors else None
            running = asyncio.get_running_loop().run_in_executor(
                self._threads, _compare, films[0], films[1], tracks, options, metric, vectors
            )
        except BaseException:
            self._turns.release()
            raise
        # A thread cannot be interrupted. If the call is cancelled, its films stay in memory and keep their place.
        running.add_done_callback(self._finished)
        return await asyncio.shield(running)

    def _finished(self, running: asyncio.Future[Mapping[str, AlignedComparison]]) -> None:
        self._turns.release()
        if not running.cancelled():
            # Retrieved, because asyncio logs an error that no code has seen.
            running.exception()

    async def _fingerprint(self, video_id: str) -> Fingerprint:
        stored = await self._reader.get(video_id)
        self._check(stored)
        try:
            return await self._cache.fingerprint(stored)
        except FingerprintTooLargeError as error:
            raise errors.film_too_long(stored, limit=self._max_frames) from error
        except OtherVersionError as error:
            raise errors.fingerprint_outdated(stored) from error
        except FingerprintFormatError as error:
            raise errors.fingerprint_damaged(stored, detail=str(error)) from error

    def _check(self, stored: StoredFingerprint) -> None:
        if not stored.completed:
            raise errors.fingerprint_not_completed(stored)
        if stored.version != VERSION:
            raise errors.fingerprint_outdated(stored)
        if stored.frame_count > self._max_frames:
            raise errors.film_too_long(stored, limit=self._max_frames)

    async def _vectors(self, a: Embedding, b: Embedding) -> tuple[Segments, Segments] | None:
        """Return the segments of both pictures, or `None` if they are not comparable."""
        if a.vector_space != b.vector_space or not (a.track(PICTURE) and b.track(PICTURE)):
            return None
        return await self._segments.segments(a, PICTURE), await self._segments.segments(b, PICTURE)


def _film(embedding: Embedding, fingerprint: Fingerprint) -> Film:
    active = embedding.media.active
    region = Region(*(float(one) for one in (active.x, active.y, active.width, active.height))) if active else None
    return Film(
        fingerprint,
        frame_rate=embedding.clock.rate,
        active=region,
        dynamic_range=embedding.media.dynamic_range.name,
    )


def _compare(
    a: Film,
    b: Film,
    tracks: Collection[str],
    options: Options,
    metric: Metric,
    vectors: tuple[Segments, Segments] | None,
) -> Mapping[str, AlignedComparison]:
    picture = align(a, b, options)
    scripts: dict[str, EditScript] = {PICTURE: picture} if PICTURE in tracks else {}
    if SOUND in tracks:
        scripts[SOUND] = compare_sound(a, b, picture)
    level = options.min_strength if options.min_strength is not None else LEVELS[options.sensitivity]
    times_a, times_b = FilmTimes.of(a), FilmTimes.of(b)
    found = {
        track: AlignedComparison(with_bounded_residuals(script), times_a, times_b, level)
        for track, script in scripts.items()
    }
    if vectors and PICTURE in found:
        distances = semantic_distances(picture, (times_a, vectors[0]), (times_b, vectors[1]), metric=metric)
        found[PICTURE] = replace(found[PICTURE], semantic_distances=distances)
    return found
