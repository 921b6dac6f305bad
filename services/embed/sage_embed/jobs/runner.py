"""Jobs of every kind: complete, fail or requeue what they work on, and recover it from lost workers."""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import structlog
from sage_runtime.errors import Reason, SageError

from sage_embed.config import WorkerSettings
from sage_embed.embeddings.model import Failure, Progress, WorkLostError
from sage_embed.errors import RETRYABLE
from sage_embed.jobs.ports import JobRepository, RecordT
from sage_embed.jobs.turn import Turn, TurnOverError

log = structlog.get_logger()

# Records per sweep. The rest are left to the next one.
_BATCH = 100


class Advances(Protocol):
    """Stores the results of one run."""

    advanced: bool
    """Whether this run has stored any."""


RecorderT = TypeVar("RecorderT", bound=Advances)


class JobRunner(ABC, Generic[RecordT, RecorderT]):
    """Runs jobs of one kind.

    Args:
        repository: Stores the work.
        settings: When to retry.
        describe: Returns the user-facing text of an error.
    """

    name: str
    """What is worked on, for the log."""

    def __init__(
        self,
        *,
        repository: JobRepository[RecordT],
        settings: WorkerSettings,
        describe: Callable[[SageError], str],
    ) -> None:
        self._records = repository
        self._settings = settings
        self._describe = describe

    @abstractmethod
    def _recorder(self, record: RecordT, job_id: int) -> RecorderT:
        """Return what stores the results of a run."""

    @abstractmethod
    async def _work(self, record: RecordT, job_id: int, recorder: RecorderT, turn: Turn) -> str:
        """Do the work and return the last progress message."""

    async def _claim(self, record_id: str, job_id: int) -> RecordT:
        """Return the record, which is PROCESSING now."""
        return await self._records.claim(record_id, job_id)

    def _is_retryable(self, error: SageError, record: RecordT) -> bool:
        """Return whether another run may succeed."""
        return error.reason in RETRYABLE

    def _counts(self, error: SageError, recorder: RecorderT) -> bool:
        """Return whether a failed run counts as an attempt."""
        return True

    def _failure_message(self, message: str, record: RecordT, recorder: RecorderT) -> str:
        """Return why the work failed, with what else users must know."""
        return message

    async def run(self, record_id: str, job_id: int, *, turn_queues: Sequence[str] = ()) -> None:
        """Complete the work, fail it, or requeue it if the error may be temporary or its turn is over.

        A job takes turns with those of `turn_queues`.

        Returns normally if another job has taken over. Cancelling stops the work; the caller then decides whether to
        `release` it.
        """
        try:
            record = await self._claim(record_id, job_id)
            self._log("claimed", record_id, job_id, attempts=record.attempts)
            recorder = self._recorder(record, job_id)
            try:
                turn = Turn(self._records, turn_queues, self._settings.turn_s, record_id)
                message = await self._work(record, job_id, recorder, turn)
                await self._records.complete(record_id, job_id, message)
                self._log("completed", record_id, job_id)
            except SageError as error:
                await self._fail_or_requeue(record, job_id, error, recorder)
            except TurnOverError:
                self._log("turn_over", record_id, job_id)
                await self._requeue_at_once(record_id, job_id, "Other videos are having their turn.")
            except asyncio.CancelledError:
                self._log("interrupted", record_id, job_id)
                raise
            except WorkLostError:
                raise
            except Exception:
                self._log("crashed", record_id, job_id, level="exception")
                message = f"Internal error. See the worker's log for {record_id}."
                failure = Failure(Reason.INTERNAL, self._failure_message(message, record, recorder))
                await self._records.fail(record_id, job_id, failure)
        except WorkLostError:
            self._log("lost", record_id, job_id)
        except SageError as error:
            # Neither success nor failure could be stored. The job keeps the record until it is released.
            log.warning("outcome_not_stored", **self._names(record_id, job_id), detail=error.detail)
            await self._release_when_possible(record_id, job_id)

    async def release(self, record_id: str, job_id: int) -> None:
        """Requeue the work for another worker to continue at once, because this one is about to stop.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        try:
            await self._requeue_at_once(record_id, job_id, "The worker is stopping; another one will continue.")
        except WorkLostError:
            self._log("lost", record_id, job_id)

    async def _requeue_at_once(self, record_id: str, job_id: int, message: str) -> None:
        await self._records.requeue(record_id, job_id, delay=timedelta(0), message=message, counts_as_attempt=False)

    async def _release_when_possible(self, record_id: str, job_id: int) -> None:
        for attempt in itertools.count():
            await asyncio.sleep(self._settings.retry_wait(attempt).total_seconds())
            try:
                await self.release(record_id, job_id)
            except SageError:
                continue
            return

    async def _fail_or_requeue(self, record: RecordT, job_id: int, error: SageError, recorder: RecorderT) -> None:
        """Store the failure, or requeue the work if it may be retried."""
        counts = self._counts(error, recorder)
        # A run that stored results before it failed restarts the count.
        attempts = 0 if recorder.advanced else record.attempts
        self._log(
            "attempt_failed",
            record.id,
            job_id,
            level="warning",
            reason=error.reason,
            detail=error.detail,
            attempts=attempts,
        )
        if self._is_retryable(error, record) and (not counts or attempts + 1 < self._settings.max_attempts):
            wait = self._settings.retry_wait(attempts)
            await self._records.requeue(
                record.id,
                job_id,
                delay=wait,
                # Users need not try again: the worker does.
                message=f"{self._describe(error).removesuffix(' Try again.')} SAGE tries again in {_seconds(wait)}.",
                counts_as_attempt=counts,
            )
        else:
            message = self._failure_message(self._describe(error), record, recorder)
            await self._records.fail(record.id, job_id, Failure(error.reason, message))

    def _log(self, event: str, record_id: str, job_id: int, *, level: str = "info", **values: object) -> None:
        write = getattr(log, level)
        write("_".join((self.name, event)), **self._names(record_id, job_id), **values)

    def _names(self, record_id: str, job_id: int) -> dict[str, Any]:
        return {f"{self.name}_id": record_id, "job_id": job_id}


def within_bounds(progress: Progress) -> Progress:
    """Return progress whose fraction is from 0 to 1."""
    return Progress(min(1.0, max(0.0, progress.fraction)), progress.message)


def _seconds(wait: timedelta) -> str:
    return f"{max(1.0, wait.total_seconds()):.0f} s"


def _unchanged(message: str, _: object) -> str:
    return message


async def recover(
    *,
    repository: JobRepository[RecordT],
    silent_for: timedelta,
    max_attempts: int,
    failure_message: Callable[[str, RecordT], str] = _unchanged,
) -> int:
    """Requeue unfinished work whose worker was lost, and return how much there was.

    Safe to run in any number of processes concurrently: each record is requeued once.

    Args:
        repository: The records.
        silent_for: A worker without a heartbeat for this long is lost.
        max_attempts: Failed runs in a row after which the work fails: it may be what crashes the workers.
        failure_message: Returns why a record failed, with what else users must know.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    lost = await repository.lost(silent_for=silent_for, limit=_BATCH)
    for record, job_id in lost:
        log.warning("worker_lost", record_id=record.id, job_id=job_id, attempts=record.attempts)
        try:
            if record.attempts + 1 >= max_attempts:
                message = f"The worker was lost while it worked on this video, {max_attempts} times in a row."
                await repository.fail(record.id, job_id, Failure(Reason.INTERNAL, failure_message(message, record)))
            else:
                await repository.requeue(
                    record.id,
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


async def recover_forever(
    repository: JobRepository[RecordT],
    settings: WorkerSettings,
    failure_message: Callable[[str, RecordT], str] = _unchanged,
) -> NoReturn:
    """Requeue the work of lost workers at intervals until cancelled."""
    silent_for = timedelta(seconds=settings.worker_lost_after_s)
    while True:
        try:
            await recover(
                repository=repository,
                silent_for=silent_for,
                max_attempts=settings.max_attempts,
                failure_message=failure_message,
            )
        except SageError as error:
            log.warning("recovery_failed", detail=error.detail, retry_in_s=settings.sweep_s)
        await asyncio.sleep(settings.sweep_s)
