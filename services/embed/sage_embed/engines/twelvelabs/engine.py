"""The engine for TwelveLabs: submit the video, or resume its task, then poll the task until its result is stored."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing

import httpx
from sage_runtime.errors import Reason, SageError

from sage_embed.config import TwelveLabsSettings
from sage_embed.embeddings.model import SOUND_TRACKS, Progress
from sage_embed.engines.engine import (
    Engine,
    EngineEvent,
    EngineRequest,
    ModelInfo,
    Progressed,
    Segments,
    SegmentsProduced,
    TaskStarted,
)
from sage_embed.engines.twelvelabs.client import Clients, new_http_client
from sage_embed.engines.twelvelabs.models import BY_NAME, Api, Model, infos
from sage_embed.engines.twelvelabs.pace import ProviderPace
from sage_embed.engines.twelvelabs.problems import NAME, RefusedError, UnclearError, failed, refused
from sage_embed.engines.twelvelabs.results import BadResultError, TaskResponse, TrackResult, tracks_of
from sage_embed.engines.twelvelabs.session import Clock, Requests, Session
from sage_embed.engines.twelvelabs.submit import submit
from sage_embed.errors import api_key_missing
from sage_embed.keys.model import PROVIDER, ProviderKeys

_READY, _FAILED = "ready", "failed"
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND = 400, 403, 404
# TwelveLabs does not report a task's progress, so it remains at this value until the result arrives.
_STARTED = 0.05
_FETCHED = 0.9
# Segments stored together: half a megabyte of vectors.
_CHUNK_SEGMENTS = 256
# Factor by which each interval between two polls exceeds the previous one.
_POLL_GROWTH = 1.5
# A task counts as gone after it was not found this many times in a row.
_GONE_AFTER = 5
# How many times an unusable result is fetched.
_RESULT_ATTEMPTS = 3
_MAX_STATUS_CHARS = 40


class TwelveLabsEngine(Engine):
    """Embeds with Marengo at TwelveLabs.

    Args:
        keys: Provides the key in use.
        pace: Spaces out the requests of all workers.
        settings: Deadlines and limits.
        http_client: Makes the HTTP client for the SDK.
        clock: The clock.
    """

    def __init__(
        self,
        keys: ProviderKeys,
        pace: ProviderPace,
        settings: TwelveLabsSettings,
        *,
        http_client: Callable[[], httpx.AsyncClient] = new_http_client,
        clock: Clock | None = None,
    ) -> None:
        self._keys = keys
        self._pace = pace
        self._settings = settings
        self._clients = Clients(http_client)
        self._clock = clock or Clock()
        self._requests = Requests(self._clients, settings)
        self._result_slots = asyncio.Semaphore(settings.results_at_once)

    async def models(self) -> Sequence[ModelInfo]:
        """Return the models. None of them is usable without a key.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        try:
            unusable = None if await self._keys.current() else api_key_missing(PROVIDER)
        except SageError as error:
            if error.reason is not Reason.ENCRYPTION_KEY_MISSING:
                raise
            unusable = error
        return infos(unusable)

    async def embed(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Embed a video with one task, resuming one that earlier work started.

        Closing the generator stops the requests. The task itself continues: TwelveLabs cannot stop tasks.

        Raises:
            SageError: See `submit` and `_Task.follow`; PROVIDER_REJECTED_VIDEO if only sound is requested and the
                video has none.
        """
        model = BY_NAME[request.model]
        tracks = tuple(name for name in request.tracks if request.has_audio or name not in SOUND_TRACKS)
        if not tracks:
            raise SageError(Reason.PROVIDER_REJECTED_VIDEO, provider=NAME, why="it has no sound to embed")
        session = Session(
            keys=self._keys, pace=self._pace, requests=self._requests, settings=self._settings, clock=self._clock
        )
        task_id, is_new = request.resume.provider_task_id, False
        if task_id is not None:
            session.deadline_from(request.resume.submitted_at)
        else:
            async with aclosing(submit(session, model, request=request, tracks=tracks)) as events:
                async for event in events:
                    yield event
                    if isinstance(event, TaskStarted):
                        task_id, is_new = event.provider_task_id, True
        if task_id is None:
            raise RuntimeError("a submission ended without a task")
        # The slot of the result is released once the caller has stored all of it.
        async with AsyncExitStack() as slot:
            task = _Task(task_id, session, model, request=request, tracks=tracks, slots=self._result_slots, slot=slot)
            async with aclosing(task.follow(is_new=is_new)) as progress:
                async for event in progress:
                    yield event
            for segments in _segments(task.result, request.resume.segment_counts):
                yield segments

    async def aclose(self) -> None:
        """Close the connections to TwelveLabs."""
        await self._clients.aclose()


class _Task:
    """A task that is polled for its result.

    Args:
        task_id: The task.
        session: Sends the requests.
        model: The requested model.
        request: What is embedded.
        tracks: The requested tracks.
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
        slots: asyncio.Semaphore,
        slot: AsyncExitStack,
    ) -> None:
        self._id = task_id
        self._session = session
        self._model = model
        self._request = request
        self._tracks = tracks
        self._slots = slots
        self._slot = slot
        self._state = "no status yet"
        self._refusals = 0
        self._bad_results = 0
        self.result: dict[str, TrackResult] = {}

    async def follow(self, *, is_new: bool) -> AsyncGenerator[Progressed, None]:
        """Poll the task until it has a valid result, and yield its progress. Errors are retried until the deadline.

        Args:
            is_new: Whether the task was just created, so that the first poll can wait.

        Raises:
            SageError: PROVIDER_FAILED, PROVIDER_REJECTED_VIDEO or PROVIDER_QUOTA_EXCEEDED in TwelveLabs' own words if
                the task failed or is refused; PROVIDER_FAILED if it is gone, has no usable result, or missed the
                deadline; API_KEY_INVALID; see `Session.turn`.
        """
        session, settings, clock = self._session, self._session.settings, self._session.clock
        begun, pause_s = clock.monotonic(), settings.poll_first_s
        max_pause_s = max(settings.poll_first_s, settings.poll_max_s)
        if is_new:
            yield self._progress(0.0)
            await session.sleep(pause_s)
        while True:
            asked_at = clock.monotonic()
            if await self._is_done():
                return
            # Checked after the poll, so that a task that is already overdue when its work resumes is polled once.
            if session.overdue:
                hours = settings.deadline_s / 3600
                raise _failed(
                    f"task {self._id} did not finish within {hours:g} h ({self._state}), and it may still be billed"
                )
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
            self._session.log_trouble("poll", error, task_id=self._id)
            return False
        except RefusedError as error:
            self._session.log_trouble("poll", error, task_id=self._id)
            self._count_refusal(error)
            return False
        self._refusals = 0
        self._state = f"status {response.status[:_MAX_STATUS_CHARS]}"
        if response.status == _FAILED:
            raise failed(response.code, response.message)
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
            self._state = "its result is being fetched again"
            self._session.log_trouble("fetch", error, task_id=self._id)
            if self._bad_results >= _RESULT_ATTEMPTS:
                raise _failed(f"the result of task {self._id} cannot be used: {error}") from None
            return False
        return True

    def _count_refusal(self, error: RefusedError) -> None:
        """Raise if the refusal to return the task is final: 403 at once, other statuses if they repeat."""
        self._refusals += 1
        if error.status != _FORBIDDEN and self._refusals < _GONE_AFTER:
            return
        # v1 returns 400 for an unknown ID.
        if error.status == _NOT_FOUND or (self._model.api is Api.V1 and error.status == _BAD_REQUEST):
            raise _failed(f"task {self._id} no longer exists; tasks are kept for seven days, in one account only")
        raise refused(error)

    def _progress(self, elapsed_s: float) -> Progressed:
        minutes = int(elapsed_s // 60)
        elapsed = f"{minutes} min" if minutes else f"{elapsed_s:.0f} s"
        return Progressed(_STARTED, f"{NAME} is embedding the video: {elapsed} so far, {self._state}.")


def _segments(result: dict[str, TrackResult], stored: Mapping[str, int]) -> Iterator[SegmentsProduced]:
    """Return the segments that are not stored yet, in chunks."""
    total = sum(len(track.vectors) for track in result.values())
    done = 0
    for name, track in result.items():
        done += min(stored.get(name, 0), len(track.vectors))
        for first in range(stored.get(name, 0), len(track.vectors), _CHUNK_SEGMENTS):
            chunk = slice(first, first + _CHUNK_SEGMENTS)
            vectors = track.vectors[chunk]
            done += len(vectors)
            yield SegmentsProduced(
                Segments(
                    track=name,
                    first_index=first,
                    start_seconds=track.start_seconds[chunk],
                    end_seconds=track.end_seconds[chunk],
                    vectors=vectors,
                ),
                Progress(_FETCHED + (1 - _FETCHED) * done / total, f"Storing {total} vectors from {NAME}."),
            )


def _failed(why: str) -> SageError:
    return SageError(Reason.PROVIDER_FAILED, provider=NAME, why=why)
