"""A task at TwelveLabs, polled until its result is complete and valid."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from sage_runtime.errors import Reason, SageError

from sage_embed.engines.engine import EngineRequest, Progressed
from sage_embed.engines.twelvelabs.models import Api, Model
from sage_embed.engines.twelvelabs.problems import NAME, RefusedError, UnclearError, failed, refused
from sage_embed.engines.twelvelabs.responses import TaskResponse
from sage_embed.engines.twelvelabs.results import BadResultError, TrackResult, tracks_of
from sage_embed.engines.twelvelabs.session import Session, clock_time, duration
from sage_embed.engines.twelvelabs.submit import Submission, is_of

_READY, _FAILED = "ready", "failed"
_BAD_REQUEST, _NOT_FOUND = 400, 404
# TwelveLabs does not report a task's progress, so it remains at this value until the result arrives.
_STARTED = 0.05
# Factor by which each interval between two polls exceeds the previous one.
_POLL_GROWTH = 1.5
# A task counts as gone after it was not found this many times in a row.
_GONE_AFTER = 5
# How many times an unusable result is fetched.
_RESULT_ATTEMPTS = 3
_MAX_STATUS_CHARS = 40


class TaskEndedError(Exception):
    """The task will never have a usable result.

    Args:
        error: The error to report if there is no other task.

    Attributes:
        error: See above.
        not_ours: Whether the task does not exist or is of another video, so that there may be one of this video.
    """

    def __init__(self, error: SageError, *, not_ours: bool = False) -> None:
        super().__init__(error.reason)
        self.error = error
        self.not_ours = not_ours


class Task:
    """A task that is polled for its result.

    Args:
        task_id: The task.
        session: Sends the requests.
        model: The requested model.
        request: What is embedded.
        tracks: The requested tracks.
        sent: The submission that created the task; None if unknown.
        slots: Limits the results in memory. Shared by all tasks of this process.
        slot: Holds the slot of this task's result for as long as the caller keeps it open.

    Attributes:
        result: The tracks, once `follow` has ended.
    """

    def __init__(
        self,
        task_id: str,
        session: Session,
        model: Model,
        *,
        request: EngineRequest,
        tracks: tuple[str, ...],
        sent: Submission | None,
        slots: asyncio.Semaphore,
        slot: AsyncExitStack,
    ) -> None:
        self._id = task_id
        self._session = session
        self._model = model
        self._request = request
        self._tracks = tracks
        self._sent = sent
        self._slots = slots
        self._slot = slot
        self._state = "no status yet"
        self._trouble_since = session.now()
        self._troubles = 0
        self._refusals = 0
        self._bad_results = 0
        self.result: dict[str, TrackResult] = {}

    async def follow(self, *, is_new: bool) -> AsyncGenerator[Progressed, None]:
        """Poll the task until it has a valid result, and yield its progress. Errors are retried until the deadline.

        Args:
            is_new: Whether the task was just created, so that the first poll can wait.

        Raises:
            TaskEndedError: It failed, is refused, is gone, is of another video, or has no usable result.
            SageError: PROVIDER_FAILED if it missed the deadline; see `Session.turn`.
        """
        session, settings, clock = self._session, self._session.settings, self._session.clock
        begun, pause_s = clock.monotonic(), settings.poll_first_s
        max_pause_s = max(settings.poll_first_s, settings.poll_max_s)
        yield self._progress(0.0)
        if is_new:
            await session.sleep(pause_s)
        while True:
            asked_at = clock.monotonic()
            if await self._is_done():
                return
            # Checked after the poll, so that a task that is already overdue when its work resumes is polled once.
            if session.overdue:
                raise _failed(f"task {self._id} did not finish within {duration(settings.deadline_s)} ({self._state})")
            yield self._progress(clock.monotonic() - begun)
            # If turns are scarce, poll less often.
            waited_s = min(clock.monotonic() - asked_at, 4 * max_pause_s)
            await session.sleep(max(pause_s, waited_s))
            pause_s = min(max_pause_s, pause_s * _POLL_GROWTH)

    async def _is_done(self) -> bool:
        """Poll the task once, and keep its result if it is ready and valid."""
        try:
            response = await self._poll()
        except UnclearError as error:
            self._note_trouble(error, str(error))
            return False
        except RefusedError as error:
            self._note_trouble(error, error.words())
            self._count_refusal(error)
            return False
        self._refusals = self._troubles = 0
        if self._sent is not None and not is_of(response.url, self._sent):
            await self._slot.aclose()
            raise TaskEndedError(_failed(f"task {self._id} is of another video"), not_ours=True)
        self._state = f"status {response.status[:_MAX_STATUS_CHARS]}"
        if response.status == _FAILED:
            raise TaskEndedError(failed(response.code, response.message))
        # Every other status, documented or not, means that the task is not done.
        if response.status == _READY and self._accept(response):
            return True
        await self._slot.aclose()
        return False

    async def _poll(self) -> TaskResponse:
        session, requests = self._session, self._session.requests
        if self._model.api is Api.V1:
            response = await session.ask(lambda key: requests.status(key, self._id))
            if response.status != _READY:
                return response
        async with AsyncExitStack() as slot:
            await slot.enter_async_context(self._slots)
            response = await session.ask(lambda key: requests.retrieve(key, self._model, self._id, tracks=self._tracks))
            await self._slot.enter_async_context(slot.pop_all())
        return response

    def _accept(self, response: TaskResponse) -> bool:
        try:
            self.result = tracks_of(response, model=self._model, request=self._request, tracks=self._tracks)
        except BadResultError as error:
            # The next response may be complete: some are truncated or garbled in transit.
            self._bad_results += 1
            self._state = f"its result is fetched again because {error}"
            self._session.log_trouble("fetch", error, task_id=self._id)
            if self._bad_results >= _RESULT_ATTEMPTS:
                why = f"the result of task {self._id} cannot be used: {error}"
                raise TaskEndedError(_failed(why)) from None
            return False
        return True

    def _note_trouble(self, error: Exception, words: str) -> None:
        session = self._session
        session.log_trouble("poll", error, task_id=self._id)
        if not self._troubles:
            self._trouble_since = session.now()
        self._troubles += 1
        since = clock_time(self._trouble_since, session.now())
        times = "" if self._troubles == 1 else f", {self._troubles} times in a row"
        self._state = f"no usable answer since {since}{times}: {words}"

    def _count_refusal(self, error: RefusedError) -> None:
        """Raise if the refusal to return the task has been repeated, and so is final."""
        self._refusals += 1
        if self._refusals < _GONE_AFTER:
            return
        # v1 returns 400 for an unknown ID.
        if error.status == _NOT_FOUND or (self._model.api is Api.V1 and error.status == _BAD_REQUEST):
            why = f"task {self._id} no longer exists; tasks are kept for seven days, in one account only"
            raise TaskEndedError(_failed(why), not_ours=True)
        raise TaskEndedError(refused(error))

    def _progress(self, elapsed_s: float) -> Progressed:
        minutes = int(elapsed_s // 60)
        elapsed = f"{minutes} min" if minutes else f"{elapsed_s:.0f} s"
        message = f"{NAME} is embedding the video: {elapsed} so far, {self._state}."
        # Requests are spaced, so the next message may be minutes away.
        return Progressed(_STARTED, message, lasting=True)


def _failed(why: str) -> SageError:
    return SageError(Reason.PROVIDER_FAILED, provider=NAME, why=why)
