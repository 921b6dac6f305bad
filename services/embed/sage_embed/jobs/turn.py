"""Turns: how long a job may keep its place in a worker while other work waits."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from sage_embed.jobs.ports import JobRepository


class TurnOverError(Exception):
    """The job has had its turn, and other work waits: requeue it; a later job resumes it."""


class Turn:
    """The turn of one job. It begins with the first stored result, so every turn advances the work.

    Args:
        repository: Knows what waits.
        queues: The queues from which this place in the worker is filled; empty if its jobs take no turns.
        turn_s: Seconds after which the job makes way.
        record_id: What the job works on. For other parts of the same work it does not make way.
    """

    def __init__(self, repository: JobRepository[Any], queues: Sequence[str], turn_s: float, record_id: str) -> None:
        self._repository = repository
        self._record_id = record_id
        self._queues = queues
        self._turn_s = turn_s
        self._ends_at: float | None = None
        self._saw_others = False

    async def check(self) -> None:
        """Raise if the turn is over. Called after results were stored.

        Raises:
            TurnOverError: The turn is over and other work has waited since the previous call: an idle worker might have
                fetched it by now.
            SageError: STORE_UNAVAILABLE.
        """
        if not self._queues:
            return
        if self._ends_at is None:
            self._ends_at = monotonic() + self._turn_s
        if monotonic() < self._ends_at:
            return
        others = await self._repository.others_wait(self._queues, than=self._record_id)
        if others and self._saw_others:
            raise TurnOverError
        self._saw_others = others
