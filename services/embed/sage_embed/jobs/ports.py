"""Ports of jobs: what every kind of work requires from the repository of what it works on."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from sage_embed.embeddings.model import Failure, Progress


class Record(Protocol):
    """What a job works on."""

    @property
    def id(self) -> str:
        """Its ID."""
        ...

    @property
    def attempts(self) -> int:
        """Failed runs since results were last stored."""
        ...


RecordT = TypeVar("RecordT", bound=Record)


class JobRepository(Protocol[RecordT]):
    """The records of one kind of work, as workers use them. Every method raises STORE_UNAVAILABLE.

    `job_id` is a fencing token. A worker that takes over has another one, and from then on every method raises
    `WorkLostError` for the old one. The same happens once the record is finished or deleted.
    """

    async def claim(self, record_id: str, job_id: int, /) -> RecordT:
        """Make it PROCESSING and return it with the results of earlier work and the time."""
        ...

    async def save_progress(self, record_id: str, job_id: int, progress: Progress, /) -> None:
        """Store progress. A smaller fraction does not replace the stored one; the message always does."""
        ...

    async def complete(self, record_id: str, job_id: int, message: str, /) -> None:
        """Make it COMPLETED."""
        ...

    async def fail(self, record_id: str, job_id: int, failure: Failure, /) -> None:
        """Make it FAILED and drop its results."""
        ...

    async def requeue(
        self, record_id: str, job_id: int, /, *, delay: timedelta, message: str, counts_as_attempt: bool
    ) -> None:
        """Return the work to the queue under a new job, which any worker may fetch after `delay`."""
        ...

    async def others_wait(self, queues: Sequence[str], *, than: str = "") -> bool:
        """Return whether a job in one of these queues could be fetched now, other `than` those of a record."""
        ...

    async def lost(self, *, silent_for: timedelta, limit: int) -> list[tuple[RecordT, int]]:
        """Return unfinished records that no live worker or waiting job owns, each with the ID of its last job.

        A worker counts as dead if it has sent no heartbeat for `silent_for`.
        """
        ...

    async def drop_dead_jobs(self, *, silent_for: timedelta) -> None:
        """Delete jobs of dead workers that nothing unfinished refers to."""
        ...
