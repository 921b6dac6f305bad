"""Jobs of embeddings: run an engine and store its events."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import aclosing
from time import monotonic

import numpy as np
import structlog
from sage_runtime.errors import STORE_REASONS, Reason, SageError

from sage_embed.config import WorkerSettings
from sage_embed.embeddings.lifecycle import to_stored
from sage_embed.embeddings.model import LOCAL_PROVIDER, SOUND_TRACKS, Embedding, Progress, provider_name
from sage_embed.embeddings.ports import VideoCatalog, WorkRepository
from sage_embed.engines.engine import (
    BlockMade,
    EngineEvent,
    EngineRequest,
    Engines,
    FingerprintMade,
    Progressed,
    Resume,
    SegmentsProduced,
    SubmissionRefused,
    Submitting,
    TaskStarted,
)
from sage_embed.errors import OURS, TaskTakenError, provider_failed
from sage_embed.fingerprints.run import FingerprintRunner, SharedFingerprint
from sage_embed.jobs.runner import JobRunner, within_bounds
from sage_embed.jobs.turn import Turn, TurnOverError

log = structlog.get_logger()

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
        progress = within_bounds(Progress(event.fraction, event.message))
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
        progress = None if event.progress is None else within_bounds(event.progress)
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


class Runner(JobRunner[Embedding, Recorder]):
    """Runs embeddings.

    Args:
        repository: Stores the work.
        videos: Provides the videos.
        engines: Compute the vectors.
        fingerprints: Stores the fingerprint that an embedding's job makes as well.
        settings: When to retry.
        describe: Returns the user-facing text of an error.
    """

    name = "embedding"

    def __init__(
        self,
        *,
        repository: WorkRepository,
        videos: VideoCatalog,
        engines: Engines,
        fingerprints: FingerprintRunner,
        settings: WorkerSettings,
        describe: Callable[[SageError], str],
    ) -> None:
        super().__init__(repository=repository, settings=settings, describe=describe)
        self._repository = repository
        self._videos = videos
        self._engines = engines
        self._fingerprints = fingerprints

    def _recorder(self, record: Embedding, job_id: int) -> Recorder:
        return Recorder(self._repository, record, job_id, self._settings)

    async def _work(self, record: Embedding, job_id: int, recorder: Recorder, turn: Turn) -> str:
        shared = None
        if record.plan.provider == LOCAL_PROVIDER:
            shared = await self._fingerprints.share(record.plan.video.id, job_id)
        try:
            await self._embed(record, job_id, recorder, turn, shared)
        except SageError as error:
            if shared is None or error.reason is not Reason.PROVIDER_FAILED:
                raise
            # What cannot be done in one pass may succeed apart: one pass takes more memory and time than either.
            log.warning("one_pass_failed", embedding_id=record.id, job_id=job_id, detail=error.detail)
            await shared.give_back()
            await self._embed(await self._repository.claim(record.id, job_id), job_id, recorder, turn, None)
        return _completed_message(record, recorder.covered)

    def _is_retryable(self, error: SageError, record: Embedding) -> bool:
        # The provider named a task that is not ours. The next run looks for the right one, but only once.
        return super()._is_retryable(error, record) or (isinstance(error, TaskTakenError) and not record.attempts)

    def _counts(self, error: SageError, recorder: Recorder) -> bool:
        # A paid task is not abandoned because a SAGE service was unavailable. It has its own deadline.
        return not (recorder.task_id and error.reason in OURS)

    def _failure_message(self, message: str, record: Embedding, recorder: Recorder) -> str:
        return _with_bill(message, record, recorder.task_id)

    async def _embed(
        self, embedding: Embedding, job_id: int, recorder: Recorder, turn: Turn, shared: SharedFingerprint | None
    ) -> None:
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
            first_block=None if shared is None else shared.first_block,
        )
        async with aclosing(engine.embed(request)) as events:
            async for event in events:
                match event:
                    case BlockMade() if shared is not None:
                        await shared.record(event.block)
                    case FingerprintMade() if shared is not None:
                        await shared.complete()
                    case SegmentsProduced():
                        await recorder.record(event)
                        await _check(turn, shared)
                    case _:
                        await recorder.record(event)
        if shared is not None:
            # Only of an engine that made none.
            await shared.give_back()
        for track in plan.tracks:
            if track not in recorder.covered and track not in SOUND_TRACKS:
                raise provider_failed(embedding, f"it returned no vectors for track {track}")


async def _check(turn: Turn, shared: SharedFingerprint | None) -> None:
    """Raise if the turn is over. All blocks are stored then, so that the next turn resumes both at about one time."""
    try:
        await turn.check()
    except TurnOverError:
        if shared is not None:
            await shared.flush()
        raise


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


def lost_message(message: str, embedding: Embedding) -> str:
    """Return why a lost embedding failed, and that its task is billed all the same."""
    return _with_bill(message, embedding, embedding.provider_task_id)
