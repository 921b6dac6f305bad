"""Doing the work of one embedding: pull the engine's events, store each, bring it to its end."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import numpy as np
import structlog
from sage_runtime.errors import Reason, SageError

from sage_embed.engine import (
    EngineEvent,
    EngineRequest,
    Progressed,
    Resume,
    Segments,
    SegmentsProduced,
    Submitting,
    TaskStarted,
)
from sage_embed.engines import Engines
from sage_embed.errors import RETRYABLE
from sage_embed.model import SOUND_TRACKS, Embedding, Failure, Progress, WorkLostError, provider_name
from sage_embed.ports import VideoCatalog, WorkStore
from sage_embed.segments import to_stored

log = structlog.get_logger()


@dataclass(frozen=True)
class RunPolicy:
    """How patient a worker is.

    Attributes:
        max_attempts: After so many runs that ended in trouble, with nothing new stored between them, it has failed.
        retry_base_s: The wait after the first of them. Each further one doubles it.
        retry_max_s: The longest wait.
        progress_interval_s: Progress is stored at most this often.
    """

    max_attempts: int
    retry_base_s: float
    retry_max_s: float
    progress_interval_s: float = 0.5

    def wait(self, attempts: int) -> timedelta:
        """Return how long to wait after a run that ended in trouble, with so many before it."""
        return timedelta(seconds=min(self.retry_max_s, self.retry_base_s * 2.0 ** min(attempts, 30)))


class Runner:
    """Runs embeddings.

    Args:
        store: Where the work is kept.
        videos: Where the videos are.
        engines: Who computes.
        policy: How patient it is.
        describe: Returns the sentence that people read of an error.
    """

    def __init__(
        self,
        *,
        store: WorkStore,
        videos: VideoCatalog,
        engines: Engines,
        policy: RunPolicy,
        describe: Callable[[SageError], str],
    ) -> None:
        self._store = store
        self._videos = videos
        self._engines = engines
        self._policy = policy
        self._describe = describe

    async def run(self, embedding_id: str, job_id: int) -> None:
        """Bring an embedding to its end, or hand it to the queue again where the trouble may pass.

        Returns quietly where the work belongs to somebody else by now. Cancelling stops the engine; the caller then
        decides whether to `release` the work.
        """
        try:
            embedding = await self._store.claim(embedding_id, job_id)
            log.info("embedding_claimed", embedding_id=embedding_id, job_id=job_id, attempts=embedding.attempts)
            recorder = _Recorder(self._store, embedding, job_id, self._policy)
            try:
                await self._work(embedding, job_id, recorder)
                await self._store.complete(embedding_id, job_id, _completed_message(embedding))
                log.info("embedding_completed", embedding_id=embedding_id, job_id=job_id)
            except SageError as error:
                # A run that stored a task or segments before it failed begins a new count.
                attempts = 0 if recorder.advanced else embedding.attempts
                await self._end(embedding_id, job_id, error, attempts=attempts)
            except asyncio.CancelledError:
                log.info("embedding_interrupted", embedding_id=embedding_id, job_id=job_id)
                raise
            except WorkLostError:
                raise
            except Exception:
                log.exception("embedding_crashed", embedding_id=embedding_id, job_id=job_id)
                message = f"Internal error. The worker's log has the details under {embedding_id}."
                await self._store.fail(embedding_id, job_id, Failure(Reason.INTERNAL, message))
        except WorkLostError:
            log.info("embedding_not_ours", embedding_id=embedding_id, job_id=job_id)
        except SageError as error:
            # Neither success nor failure could be stored. The job counts as ours until the store hears otherwise.
            log.warning("embedding_unrecorded", embedding_id=embedding_id, job_id=job_id, detail=error.detail)
            await self._release_when_possible(embedding_id, job_id)

    async def release(self, embedding_id: str, job_id: int) -> None:
        """Hand the work back, so that another worker goes on at once: this one is about to stop.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        try:
            await self._store.requeue(
                embedding_id,
                job_id,
                delay=timedelta(0),
                message="The worker stops; another one goes on.",
                counts_as_attempt=False,
            )
        except WorkLostError:
            log.info("embedding_not_ours", embedding_id=embedding_id, job_id=job_id)

    async def _release_when_possible(self, embedding_id: str, job_id: int) -> None:
        for attempt in itertools.count():
            await asyncio.sleep(self._policy.wait(attempt).total_seconds())
            try:
                await self.release(embedding_id, job_id)
            except SageError:
                continue
            return

    async def _work(self, embedding: Embedding, job_id: int, recorder: "_Recorder") -> None:
        plan = embedding.plan
        engine = await self._engines.engine_of(plan.model, plan.model_revision)
        request = EngineRequest(
            # Job ids count up, whichever worker has them: no two jobs under way have URLs in common.
            video_url=lambda: self._videos.url(plan.video.id, variant=job_id),
            duration_seconds=plan.video.duration_seconds,
            start_offset_seconds=plan.video.start_offset_seconds,
            has_audio=plan.video.has_audio,
            model=plan.model,
            clip_seconds=plan.clip_seconds,
            tracks=plan.tracks,
            resume=Resume(
                provider_task_id=embedding.provider_task_id or None,
                submitted_url=embedding.submitted_url or None,
                submitted_at=embedding.submitted_at,
                segment_counts={track.name: track.segment_count for track in embedding.tracks},
                submitted_key=embedding.submitted_key or None,
            ),
        )
        async with aclosing(engine.embed(request)) as events:
            async for event in events:
                await recorder.record(event)
        for track in plan.tracks:
            if track not in recorder.stored and track not in SOUND_TRACKS:
                raise _provider_failed(embedding, f"it returned no vectors for track {track}")

    async def _end(self, embedding_id: str, job_id: int, error: SageError, *, attempts: int) -> None:
        """Store a failure, or the retry that it deserves."""
        log.warning(
            "embedding_trouble",
            embedding_id=embedding_id,
            job_id=job_id,
            reason=error.reason,
            detail=error.detail,
            attempts=attempts,
        )
        if error.reason in RETRYABLE and attempts + 1 < self._policy.max_attempts:
            wait = self._policy.wait(attempts)
            await self._store.requeue(
                embedding_id,
                job_id,
                delay=wait,
                message=f"{self._describe(error)} The next attempt is in {wait.total_seconds():.0f} s.",
                counts_as_attempt=True,
            )
        else:
            await self._store.fail(embedding_id, job_id, Failure(error.reason, self._describe(error)))


def _completed_message(embedding: Embedding) -> str:
    return f"Embedded {embedding.plan.video.duration_seconds:.0f} s of video."


class _Recorder:
    """Stores events in their order. Progress that comes too fast is held back until the next event."""

    def __init__(self, store: WorkStore, embedding: Embedding, job_id: int, policy: RunPolicy) -> None:
        self._store = store
        self._embedding = embedding
        self._job_id = job_id
        self._policy = policy
        # The tracks that have segments, and whether this run has stored some, or a task.
        self.stored = {track.name for track in embedding.tracks if track.segment_count}
        self.advanced = False
        self._held: Progress | None = None
        self._written: Progress | None = None
        self._written_at = float("-inf")

    async def record(self, event: EngineEvent) -> None:
        """Store one event."""
        match event:
            case Submitting():
                await self._store.save_submission(
                    self._embedding.id, self._job_id, event.source_url, key_fingerprint=event.key_fingerprint
                )
            case TaskStarted():
                await self._save_task(event.provider_task_id)
                self.advanced = True
            case Progressed():
                self._held = Progress(min(1.0, max(0.0, event.fraction)), event.message)
                # A task that waits says the same again and again.
                due = event.lasting or monotonic() - self._written_at >= self._policy.progress_interval_s
                if due and self._held != self._written:
                    await self._store.save_progress(self._embedding.id, self._job_id, self._held)
                    self._wrote()
            case SegmentsProduced():
                segments = event.segments
                _check(segments, self._embedding)
                await self._store.append(
                    self._embedding.id, self._job_id, segments.track, to_stored(segments), progress=self._held
                )
                if len(segments.start_seconds):
                    self.stored.add(segments.track)
                    self.advanced = True
                self._wrote()

    async def _save_task(self, provider_task_id: str) -> None:
        """Store a task, however long the store is away: whoever goes on without its id would have to look for it."""
        for attempt in itertools.count():
            try:
                await self._store.save_task(self._embedding.id, self._job_id, provider_task_id)
            except SageError as error:
                if error.reason is not Reason.STORE_UNAVAILABLE:
                    raise
                log.warning("task_not_stored", embedding_id=self._embedding.id, detail=error.detail, attempts=attempt)
            else:
                return
            await asyncio.sleep(self._policy.wait(attempt).total_seconds())

    def _wrote(self) -> None:
        self._written, self._held = self._held or self._written, None
        self._written_at = monotonic()


def _check(segments: Segments, embedding: Embedding) -> None:
    """Raise where an engine hands over what must not be stored."""
    expected = (len(segments.start_seconds), embedding.plan.dimensions)
    if segments.vectors.shape != expected or len(segments.end_seconds) != expected[0]:
        raise ValueError(f"vectors have shape {segments.vectors.shape}, not {expected}")
    if not np.isfinite(segments.vectors).all():
        raise _provider_failed(embedding, "it returned vectors that are not finite")


def _provider_failed(embedding: Embedding, why: str) -> SageError:
    return SageError(Reason.PROVIDER_FAILED, provider=provider_name(embedding.plan.provider), why=why)
