"""Jobs: run an engine and store its events; finish, fail or requeue the embedding; recover the jobs of lost workers."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from time import monotonic
from typing import NoReturn

import numpy as np
import structlog
from sage_runtime.errors import STORE_REASONS, Reason, SageError

from sage_embed.config import WorkerSettings
from sage_embed.embeddings.lifecycle import to_stored
from sage_embed.embeddings.model import SOUND_TRACKS, Embedding, Failure, Progress, WorkLostError, provider_name
from sage_embed.embeddings.ports import VideoCatalog, WorkRepository
from sage_embed.engines.engine import (
    EngineEvent,
    EngineRequest,
    Engines,
    Progressed,
    Resume,
    SegmentsProduced,
    SubmissionRefused,
    Submitting,
    TaskStarted,
)
from sage_embed.errors import OURS, RETRYABLE, TaskTakenError, provider_failed
from sage_embed.jobs.turn import Turn, TurnOverError

log = structlog.get_logger()

# Embeddings per sweep. The rest are left to the next one.
_BATCH = 100
# Shortest interval between two writes of progress without segments.
_PROGRESS_INTERVAL_S = 0.5


class Recorder:
    """Stores events in order. Progress without segments is dropped if it arrives too often.

    Args:
        repository: Stores the work.
        embedding: The embedding, with the results of earlier work.
        job_id: The fencing token of every write.
        settings: How long to wait while the database is unavailable.

    Attributes:
        covered: The end of the last segment of each track that has segments, in seconds.
        advanced: Whether this run has stored segments or a task.
        task_id: The provider's task; empty if there is none.
    """

    def __init__(self, repository: WorkRepository, embedding: Embedding, job_id: int, settings: WorkerSettings) -> None:
        self._repository = repository
        self._embedding = embedding
        self._job_id = job_id
        self._settings = settings
        self.covered = {track.name: track.covered_end_seconds for track in embedding.tracks if track.segment_count}
        self.advanced = False
        self.task_id = embedding.provider_task_id
        self._written: Progress | None = None
        self._written_at = float("-inf")

    async def record(self, event: EngineEvent) -> None:
        """Store one event."""
        match event:
            case Submitting():
                await self._repository.save_submission(
                    self._embedding.id, self._job_id, event.source_url, key_fingerprint=event.key_fingerprint
                )
                self.task_id = ""
            case SubmissionRefused():
                await self._repository.save_submission(self._embedding.id, self._job_id, "", key_fingerprint="")
            case TaskStarted():
                await self._save_task(event.provider_task_id)
                self.task_id = event.provider_task_id
                self.advanced = True
            case Progressed():
                await self._save_progress(event)
            case SegmentsProduced():
                await self._append(event)

    async def _save_task(self, provider_task_id: str) -> None:
        """Store a task, however long the database is unavailable: only this run knows its ID."""
        for attempt in itertools.count():
            try:
                await self._repository.save_task(self._embedding.id, self._job_id, provider_task_id)
            except SageError as error:
                if error.reason not in STORE_REASONS:
                    raise
                log.warning("task_not_stored", embedding_id=self._embedding.id, detail=error.detail, attempts=attempt)
            else:
                return
            await asyncio.sleep(self._settings.retry_wait(attempt).total_seconds())

    async def _save_progress(self, event: Progressed) -> None:
        progress = _within_bounds(Progress(event.fraction, event.message))
        # A waiting task reports the same progress repeatedly.
        due = event.lasting or monotonic() - self._written_at >= _PROGRESS_INTERVAL_S
        if due and progress != self._written:
            await self._repository.save_progress(self._embedding.id, self._job_id, progress)
            self._note_write(progress)

    async def _append(self, event: SegmentsProduced) -> None:
        segments = event.segments
        expected = (len(segments.start_seconds), self._embedding.plan.dimensions)
        if segments.vectors.shape != expected or len(segments.end_seconds) != expected[0]:
            raise ValueError(f"vectors have shape {segments.vectors.shape} instead of {expected}")
        if not np.isfinite(segments.vectors).all():
            raise provider_failed(self._embedding, "it returned vectors that are not finite")
        if not segments.vectors.any(axis=1).all():
            raise provider_failed(self._embedding, "it returned vectors of zeros")
        progress = None if event.progress is None else _within_bounds(event.progress)
        # One transaction: segments and the resulting progress are stored together or not at all.
        await self._repository.append(
            self._embedding.id, self._job_id, segments.track, to_stored(segments), progress=progress
        )
        if len(segments.start_seconds):
            self.covered[segments.track] = segments.end_seconds[-1]
            self.advanced = True
        self._note_write(progress)

    def _note_write(self, progress: Progress | None) -> None:
        self._written = progress or self._written
        self._written_at = monotonic()


def _within_bounds(progress: Progress) -> Progress:
    return Progress(min(1.0, max(0.0, progress.fraction)), progress.message)


class Runner:
    """Runs embeddings.

    Args:
        repository: Stores the work.
        videos: Provides the videos.
        engines: Compute the vectors.
        settings: When to retry.
        describe: Returns the user-facing text of an error.
    """

    def __init__(
        self,
        *,
        repository: WorkRepository,
        videos: VideoCatalog,
        engines: Engines,
        settings: WorkerSettings,
        describe: Callable[[SageError], str],
    ) -> None:
        self._repository = repository
        self._videos = videos
        self._engines = engines
        self._settings = settings
        self._describe = describe

    async def run(self, embedding_id: str, job_id: int, *, turn_queues: Sequence[str] = ()) -> None:
        """Complete an embedding, fail it, or requeue it if the error may be temporary or its turn is over.

        A job takes turns with those of `turn_queues`.

        Returns normally if another job has taken over. Cancelling stops the engine; the caller then decides whether to
        `release` the work.
        """
        try:
            embedding = await self._repository.claim(embedding_id, job_id)
            log.info("embedding_claimed", embedding_id=embedding_id, job_id=job_id, attempts=embedding.attempts)
            recorder = Recorder(self._repository, embedding, job_id, self._settings)
            try:
                await self._work(
                    embedding, job_id, recorder, Turn(self._repository, turn_queues, self._settings.turn_s)
                )
                await self._repository.complete(embedding_id, job_id, _completed_message(embedding, recorder.covered))
                log.info("embedding_completed", embedding_id=embedding_id, job_id=job_id)
            except SageError as error:
                # A run that stored a task or segments before it failed restarts the count.
                attempts = 0 if recorder.advanced else embedding.attempts
                await self._fail_or_requeue(embedding, job_id, error, attempts=attempts, task_id=recorder.task_id)
            except TurnOverError:
                log.info("embedding_turn_over", embedding_id=embedding_id, job_id=job_id)
                await self._requeue_at_once(embedding_id, job_id, "Other videos are having their turn.")
            except asyncio.CancelledError:
                log.info("embedding_interrupted", embedding_id=embedding_id, job_id=job_id)
                raise
            except WorkLostError:
                raise
            except Exception:
                log.exception("embedding_crashed", embedding_id=embedding_id, job_id=job_id)
                message = f"Internal error. See the worker's log for {embedding_id}."
                failure = Failure(Reason.INTERNAL, _with_bill(message, embedding, recorder.task_id))
                await self._repository.fail(embedding_id, job_id, failure)
        except WorkLostError:
            log.info("embedding_lost", embedding_id=embedding_id, job_id=job_id)
        except SageError as error:
            # Neither success nor failure could be stored. The job keeps the embedding until it is released.
            log.warning("outcome_not_stored", embedding_id=embedding_id, job_id=job_id, detail=error.detail)
            await self._release_when_possible(embedding_id, job_id)

    async def release(self, embedding_id: str, job_id: int) -> None:
        """Requeue the work for another worker to continue at once, because this one is about to stop.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        try:
            await self._requeue_at_once(embedding_id, job_id, "The worker is stopping; another one will continue.")
        except WorkLostError:
            log.info("embedding_lost", embedding_id=embedding_id, job_id=job_id)

    async def _requeue_at_once(self, embedding_id: str, job_id: int, message: str) -> None:
        await self._repository.requeue(
            embedding_id, job_id, delay=timedelta(0), message=message, counts_as_attempt=False
        )

    async def _release_when_possible(self, embedding_id: str, job_id: int) -> None:
        for attempt in itertools.count():
            await asyncio.sleep(self._settings.retry_wait(attempt).total_seconds())
            try:
                await self.release(embedding_id, job_id)
            except SageError:
                continue
            return

    async def _work(self, embedding: Embedding, job_id: int, recorder: Recorder, turn: Turn) -> None:
        plan = embedding.plan
        engine = await self._engines.engine_of(plan.model, plan.model_revision)
        request = EngineRequest(
            # Job IDs increase across all workers, so no two active jobs use the same URL.
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
                adopted=embedding.task_adopted,
                waiting_since=embedding.start_time if embedding.task_adopted else embedding.submitted_at,
            ),
            picture=plan.video.picture,
            now=embedding.claim_time or embedding.create_time,
            report=recorder.record,
        )
        async with aclosing(engine.embed(request)) as events:
            async for event in events:
                await recorder.record(event)
                if isinstance(event, SegmentsProduced):
                    await turn.check()
        for track in plan.tracks:
            if track not in recorder.covered and track not in SOUND_TRACKS:
                raise provider_failed(embedding, f"it returned no vectors for track {track}")

    async def _fail_or_requeue(
        self, embedding: Embedding, job_id: int, error: SageError, *, attempts: int, task_id: str
    ) -> None:
        """Store the failure, or requeue the work if it may be retried."""
        embedding_id = embedding.id
        # A paid task is not abandoned because a SAGE service was unavailable. It has its own deadline.
        counts = not (task_id and error.reason in OURS)
        log.warning(
            "embedding_attempt_failed",
            embedding_id=embedding_id,
            job_id=job_id,
            reason=error.reason,
            detail=error.detail,
            attempts=attempts,
        )
        # The provider named a task that is not ours. The next run looks for the right one, but only once.
        retryable = error.reason in RETRYABLE or (isinstance(error, TaskTakenError) and not embedding.attempts)
        if retryable and (not counts or attempts + 1 < self._settings.max_attempts):
            wait = self._settings.retry_wait(attempts)
            await self._repository.requeue(
                embedding_id,
                job_id,
                delay=wait,
                # Users need not try again: the worker does.
                message=f"{self._describe(error).removesuffix(' Try again.')} SAGE tries again in {_seconds(wait)}.",
                counts_as_attempt=counts,
            )
        else:
            message = _with_bill(self._describe(error), embedding, task_id)
            await self._repository.fail(embedding_id, job_id, Failure(error.reason, message))


def _seconds(wait: timedelta) -> str:
    return f"{max(1.0, wait.total_seconds()):.0f} s"


def _with_bill(message: str, embedding: Embedding, task_id: str) -> str:
    """Return why an embedding failed, and that its task is billed all the same."""
    if not task_id:
        return message
    return f"{message} {provider_name(embedding.plan.provider)} may still bill task {task_id}."


def _completed_message(embedding: Embedding, covered: Mapping[str, float]) -> str:
    """Return how much of the video was embedded. Sound may end before the picture, which decides."""
    plan = embedding.plan
    ends = {name: end for name, end in covered.items() if name not in SOUND_TRACKS} or covered
    total, end = round(plan.video.duration_seconds, 1), round(min(ends.values(), default=0.0), 1)
    if end >= total:
        return f"Embedded {total:g} s of video."
    message = f"Embedded {end:g} of {total:g} s of video."
    if plan.video.duration_seconds - end < plan.clip_seconds:
        return message
    return f"{message} {provider_name(plan.provider)} returned nothing after {end:g} s, so the rest cannot be compared."


async def recover(*, repository: WorkRepository, silent_for: timedelta, max_attempts: int) -> int:
    """Requeue unfinished embeddings whose worker was lost, and return how many there were.

    Safe to run in any number of processes concurrently: each embedding is requeued once.

    Args:
        repository: The embeddings.
        silent_for: A worker without a heartbeat for this long is lost.
        max_attempts: Failed runs in a row after which the embedding fails: it may be what crashes the workers.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    lost = await repository.lost(silent_for=silent_for, limit=_BATCH)
    for embedding, job_id in lost:
        log.warning("worker_lost", embedding_id=embedding.id, job_id=job_id, attempts=embedding.attempts)
        try:
            if embedding.attempts + 1 >= max_attempts:
                message = f"The worker was lost while it worked on this video, {max_attempts} times in a row."
                message = _with_bill(message, embedding, embedding.provider_task_id)
                await repository.fail(embedding.id, job_id, Failure(Reason.INTERNAL, message))
            else:
                await repository.requeue(
                    embedding.id,
                    job_id,
                    delay=timedelta(0),
                    message="The worker was lost; another one will continue.",
                    counts_as_attempt=True,
                )
        except WorkLostError:
            # Another process has recovered it.
            continue
    await repository.drop_dead_jobs(silent_for=silent_for)
    return len(lost)


async def recover_forever(repository: WorkRepository, settings: WorkerSettings) -> NoReturn:
    """Requeue the work of lost workers at intervals until cancelled."""
    silent_for = timedelta(seconds=settings.worker_lost_after_s)
    while True:
        try:
            await recover(repository=repository, silent_for=silent_for, max_attempts=settings.max_attempts)
        except SageError as error:
            log.warning("recovery_failed", detail=error.detail, retry_in_s=settings.sweep_s)
        await asyncio.sleep(settings.sweep_s)
