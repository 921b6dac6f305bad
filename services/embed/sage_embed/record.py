"""Storing what an engine does, event by event, and how patient a worker is in that."""

import asyncio
import itertools
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import numpy as np
import structlog
from sage_runtime.errors import Reason, SageError

from sage_embed.engine import EngineEvent, Progressed, Segments, SegmentsProduced, Submitting, TaskStarted
from sage_embed.errors import provider_failed
from sage_embed.model import Embedding, Progress
from sage_embed.ports import WorkStore
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


class Recorder:
    """Stores events in their order. Progress that comes too fast is held back until the next event.

    Args:
        store: Where the work is kept.
        embedding: What is worked on, with what earlier work has stored.
        job_id: The right to write.
        policy: How often progress is stored, and how long to wait for a store that is away.

    Attributes:
        stored: The tracks that have segments.
        advanced: Whether this run has stored some, or a task.
    """

    def __init__(self, store: WorkStore, embedding: Embedding, job_id: int, policy: RunPolicy) -> None:
        self._store = store
        self._embedding = embedding
        self._job_id = job_id
        self._policy = policy
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
        raise provider_failed(embedding, "it returned vectors that are not finite")
