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
from sage_embed.engines.twelvelabs.models import BY_NAME, Model, infos
from sage_embed.engines.twelvelabs.pace import ProviderPace
from sage_embed.engines.twelvelabs.problems import NAME
from sage_embed.engines.twelvelabs.requests import Requests
from sage_embed.engines.twelvelabs.responses import is_task_id
from sage_embed.engines.twelvelabs.results import TrackResult
from sage_embed.engines.twelvelabs.session import Clock, Session
from sage_embed.engines.twelvelabs.source import explained
from sage_embed.engines.twelvelabs.submit import Submission, find_task, submission_of, submit
from sage_embed.engines.twelvelabs.task import Task, TaskEndedError
from sage_embed.errors import api_key_missing
from sage_embed.keys.model import PROVIDER, ProviderKeys

_FETCHED = 0.9
# Segments stored together: half a megabyte of vectors.
_CHUNK_SEGMENTS = 256


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
        self._http_client = http_client
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
            SageError: See `submit` and `Task.follow`; PROVIDER_REJECTED_VIDEO if only sound is requested and the
                video has none.
        """
        model = BY_NAME[request.model]
        tracks = tuple(name for name in request.tracks if request.has_audio or name not in SOUND_TRACKS)
        if not tracks:
            raise SageError(Reason.PROVIDER_REJECTED_VIDEO, provider=NAME, why="it has no sound to embed")
        work = _Work(self._session(request), model, request=request, tracks=tracks, slots=self._result_slots)
        try:
            async with aclosing(work.events()) as events:
                async for event in events:
                    yield event
        except SageError as error:
            raise await explained(error, request.video_url, self._http_client) from None

    def _session(self, request: EngineRequest) -> Session:
        return Session(
            keys=self._keys,
            pace=self._pace,
            requests=self._requests,
            settings=self._settings,
            clock=self._clock,
            now=request.now,
            report=request.report,
        )

    async def aclose(self) -> None:
        """Close the connections to TwelveLabs."""
        await self._clients.aclose()


class _Work:
    """The work on one embedding: find or create its task, follow it, and return its segments.

    Args:
        session: Sends the requests.
        model: The requested model.
        request: What is embedded.
        tracks: The requested tracks.
        slots: Limits the results in memory.
    """

    def __init__(
        self,
        session: Session,
        model: Model,
        *,
        request: EngineRequest,
        tracks: tuple[str, ...],
        slots: asyncio.Semaphore,
    ) -> None:
        self._session = session
        self._model = model
        self._request = request
        self._tracks = tracks
        self._slots = slots
        self._sent = submission_of(request.resume, request.now)
        self._task_id = request.resume.provider_task_id
        self._is_new = False
        # Whether another task may be submitted if this one cannot be used.
        self._replaceable = request.resume.adopted

    async def events(self) -> AsyncGenerator[EngineEvent, None]:
        """Yield the events of the work."""
        session = self._session
        if self._task_id is not None:
            session.deadline_from(self._request.resume.waiting_since)
        while True:
            if self._task_id is None:
                async with aclosing(self._submitted()) as submitted:
                    async for event in submitted:
                        yield event
            session.patient = True
            # The slot of the result is released once the caller has stored all of it.
            async with AsyncExitStack() as slot:
                try:
                    task = self._task(slot)
                    async with aclosing(task.follow(is_new=self._is_new)) as progress:
                        async for event in progress:
                            yield event
                except TaskEndedError as ended:
                    message = await self._replace(ended)
                else:
                    for segments in _segments(task.result, self._request.resume.segment_counts):
                        yield segments
                    return
            if self._task_id is not None:
                yield TaskStarted(self._task_id)
            else:
                yield Progressed(0.0, message, lasting=True)

    async def _submitted(self) -> AsyncGenerator[EngineEvent, None]:
        """Find the task of the submission, or create one."""
        session, request, adopted = self._session, self._request, self._replaceable
        session.patient = False
        events = submit(session, self._model, request=request, tracks=self._tracks, sent=self._sent)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Submission):
                    self._replaceable = adopted and event == self._sent
                    self._sent = event
                    continue
                if isinstance(event, TaskStarted):
                    self._task_id, self._is_new = event.provider_task_id, True
                yield event

    async def _replace(self, ended: TaskEndedError) -> str:
        """Look for another task after one has ended. Without one, the video is submitted if it may be.

        Returns a message for users in case that it is submitted.

        Raises:
            SageError: There is no other task, and the video may not be submitted again.
        """
        ended_id, self._task_id, self._is_new = self._task_id, None, False
        if ended.not_ours and self._sent is not None:
            await self._session.say(f"{NAME} has no task {ended_id} for this video. Checking whether it has another.")
            self._task_id = await self._find_other(self._sent, ended_id)
        if self._task_id is not None:
            return ""
        if not self._replaceable:
            raise ended.error
        self._replaceable, self._sent = False, None
        return f"An earlier task for this video cannot be used. Submitting the video to {NAME} again."

    async def _find_other(self, sent: Submission, ended_id: str | None) -> str | None:
        try:
            found = await find_task(self._session, self._model, sent)
        except SageError as error:
            # The list does not show whether there is one.
            if error.reason is not Reason.PROVIDER_FAILED:
                raise
            return None
        return None if found == ended_id else found

    def _task(self, slot: AsyncExitStack) -> Task:
        if self._task_id is None:
            raise RuntimeError("a submission ended without a task")
        if not is_task_id(self._task_id):
            error = SageError(Reason.PROVIDER_FAILED, provider=NAME, why="its task has an impossible ID")
            raise TaskEndedError(error, not_ours=True)
        return Task(
            self._task_id,
            self._session,
            self._model,
            request=self._request,
            tracks=self._tracks,
            sent=self._sent,
            slots=self._slots,
            slot=slot,
        )


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
