"""Following a task to its end, in our own loop."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from sage_runtime.errors import Reason, SageError

from sage_embed.adapters.twelvelabs.answers import TaskAnswer
from sage_embed.adapters.twelvelabs.models import Api, Model
from sage_embed.adapters.twelvelabs.problems import NAME, RefusedError, UnclearError, failed, refused
from sage_embed.adapters.twelvelabs.result import BadResultError, TrackResult, tracks_of
from sage_embed.adapters.twelvelabs.session import Session
from sage_embed.adapters.twelvelabs.wire import Wire
from sage_embed.engine import EngineEvent, EngineRequest, Progressed

_READY, _FAILED = "ready", "failed"
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND = 400, 403, 404
# There is no saying how far a task is: until its result is there, an embedding stands where it began.
_STARTED = 0.05
_MAX_STATUS_CHARS = 40


class Follower:
    """Waits for a task and takes its result.

    Args:
        session: Makes the requests.
        wire: Sends them.
        model: What the task was asked for with.
        request: What is embedded.
        tracks: The tracks that were asked for.
        places: How many results may be in memory; all who follow a task share it.
        place: Takes the place of this one's result, for as long as the caller keeps it.

    Attributes:
        result: The tracks, once `follow` has ended.
    """

    def __init__(
        self,
        session: Session,
        wire: Wire,
        model: Model,
        *,
        request: EngineRequest,
        tracks: tuple[str, ...],
        places: asyncio.Semaphore,
        place: AsyncExitStack,
    ) -> None:
        self._session = session
        self._wire = wire
        self._model = model
        self._request = request
        self._tracks = tracks
        self._places = places
        self._place = place
        self._state = "not heard of yet"
        self._refusals = 0
        self._bad_results = 0
        self.result: dict[str, TrackResult] = {}

    async def follow(self, task_id: str, *, fresh: bool) -> AsyncGenerator[EngineEvent, None]:
        """Look at the task until its result is there and good, and say how it stands meanwhile.

        Trouble of the network and on TwelveLabs' side is survived until the deadline.

        Args:
            task_id: The task.
            fresh: Whether it was made this moment, so that there is nothing to see yet.

        Raises:
            SageError: PROVIDER_FAILED, PROVIDER_REJECTED_VIDEO or PROVIDER_QUOTA_EXCEEDED with TwelveLabs' own words
                where the task failed or is refused; PROVIDER_FAILED where it is gone, has no result that can be used,
                or is not done by the deadline; API_KEY_INVALID; what `Session.turn` raises.
        """
        session, policy = self._session, self._session.policy
        begun, pause_s = session.monotonic(), policy.poll_first_s
        if fresh:
            yield self._progress(0.0)
            await session.sleep(pause_s)
        while True:
            asked_at = session.monotonic()
            if await self._is_done(task_id):
                return
            # What is overdue when work on it begins again gets its look as well.
            if session.overdue:
                hours = policy.deadline_s / 3600
                raise _failed(
                    f"its task {task_id} was not done within {hours:g} h ({self._state}), and it may still bill it"
                )
            yield self._progress(session.monotonic() - begun)
            # Where turns are scarce, looks are rarer.
            waited_s = min(session.monotonic() - asked_at, 4 * policy.poll_max_s)
            await session.sleep(max(pause_s, waited_s))
            pause_s = min(policy.poll_max_s, pause_s * policy.poll_growth)

    async def _is_done(self, task_id: str) -> bool:
        """Look at the task once; take its result where it is ready."""
        try:
            answer = await self._look(task_id)
        except UnclearError as error:
            self._session.troubled("poll", error, task_id=task_id)
            return False
        except RefusedError as error:
            self._session.troubled("poll", error, task_id=task_id)
            self._count_refusal(task_id, error)
            return False
        self._refusals = 0
        self._state = f"status {answer.status[:_MAX_STATUS_CHARS]}"
        if answer.status == _FAILED:
            raise failed(answer.code, answer.message)
        # Every other status, documented or not, means that it is not done.
        if answer.status == _READY and self._take(task_id, answer):
            return True
        await self._place.aclose()
        return False

    async def _look(self, task_id: str) -> TaskAnswer:
        session, wire = self._session, self._wire
        if self._model.api is Api.V1:
            answer = await session.ask(lambda key: wire.status(key, task_id))
            if answer.status != _READY:
                return answer
        async with AsyncExitStack() as place:
            await place.enter_async_context(self._places)
            answer = await session.ask(lambda key: wire.retrieve(key, self._model, task_id, tracks=self._tracks))
            await self._place.enter_async_context(place.pop_all())
        return answer

    def _take(self, task_id: str, answer: TaskAnswer) -> bool:
        try:
            self.result = tracks_of(answer, model=self._model, request=self._request, tracks=self._tracks)
        except BadResultError as error:
            # It may be whole the next time: some answers are cut or mixed up on their way.
            self._bad_results += 1
            self._state = "its result is to be fetched again"
            self._session.troubled("fetch", error, task_id=task_id)
            if self._bad_results >= self._session.policy.result_attempts:
                raise _failed(f"the result of its task {task_id} cannot be used: {error}") from None
            return False
        return True

    def _count_refusal(self, task_id: str, error: RefusedError) -> None:
        """Raise where a refusal to show the task is final: at once for 403, for others when they repeat."""
        self._refusals += 1
        if error.status != _FORBIDDEN and self._refusals < self._session.policy.gone_after:
            return
        # v1 answers 400 for an id that it does not know.
        if error.status == _NOT_FOUND or (self._model.api is Api.V1 and error.status == _BAD_REQUEST):
            raise _failed(f"its task {task_id} is gone; it keeps tasks for seven days, and for its own account alone")
        raise refused(error)

    def _progress(self, elapsed_s: float) -> Progressed:
        minutes = int(elapsed_s // 60)
        elapsed = f"{minutes} min" if minutes else f"{elapsed_s:.0f} s"
        return Progressed(_STARTED, f"{NAME} works on it: {elapsed} so far, {self._state}.")


def _failed(why: str) -> SageError:
    return SageError(Reason.PROVIDER_FAILED, provider=NAME, why=why)
