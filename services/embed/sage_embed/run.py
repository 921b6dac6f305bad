"""Doing the work of one embedding: pull the engine's events, store each, bring it to its end."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta

import structlog
from sage_runtime.errors import Reason, SageError

from sage_embed.engine import EngineRequest, Resume
from sage_embed.engines import Engines
from sage_embed.errors import OURS, RETRYABLE, provider_failed
from sage_embed.model import SOUND_TRACKS, Embedding, Failure, WorkLostError
from sage_embed.ports import VideoCatalog, WorkStore
from sage_embed.record import Recorder, RunPolicy

log = structlog.get_logger()


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
            recorder = Recorder(self._store, embedding, job_id, self._policy)
            try:
                await self._work(embedding, job_id, recorder)
                await self._store.complete(embedding_id, job_id, _completed_message(embedding))
                log.info("embedding_completed", embedding_id=embedding_id, job_id=job_id)
            except SageError as error:
                # A run that stored a task or segments before it failed begins a new count.
                attempts = 0 if recorder.advanced else embedding.attempts
                await self._end(embedding, job_id, error, attempts=attempts)
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

    async def _work(self, embedding: Embedding, job_id: int, recorder: Recorder) -> None:
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
                raise provider_failed(embedding, f"it returned no vectors for track {track}")

    async def _end(self, embedding: Embedding, job_id: int, error: SageError, *, attempts: int) -> None:
        """Store a failure, or the retry that it deserves."""
        embedding_id = embedding.id
        # A task that is paid for is not given up because something of ours was away; its own deadline ends it.
        counts = not (embedding.provider_task_id and error.reason in OURS)
        log.warning(
            "embedding_trouble",
            embedding_id=embedding_id,
            job_id=job_id,
            reason=error.reason,
            detail=error.detail,
            attempts=attempts,
        )
        if error.reason in RETRYABLE and (not counts or attempts + 1 < self._policy.max_attempts):
            wait = self._policy.wait(attempts)
            await self._store.requeue(
                embedding_id,
                job_id,
                delay=wait,
                message=f"{self._describe(error)} The next attempt is in {wait.total_seconds():.0f} s.",
                counts_as_attempt=counts,
            )
        else:
            await self._store.fail(embedding_id, job_id, Failure(error.reason, self._describe(error)))


def _completed_message(embedding: Embedding) -> str:
    return f"Embedded {embedding.plan.video.duration_seconds:.0f} s of video."
