"""The engine for TwelveLabs: one task for each embedding, whatever happens on the way."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing

import httpx
from sage_runtime.errors import Reason, SageError

from sage_embed.adapters.twelvelabs.clients import Clients, new_http_client
from sage_embed.adapters.twelvelabs.follow import Follower
from sage_embed.adapters.twelvelabs.models import BY_NAME, infos
from sage_embed.adapters.twelvelabs.policy import TwelveLabsPolicy
from sage_embed.adapters.twelvelabs.problems import NAME
from sage_embed.adapters.twelvelabs.result import TrackResult
from sage_embed.adapters.twelvelabs.session import Clock, Session
from sage_embed.adapters.twelvelabs.submit import submit
from sage_embed.adapters.twelvelabs.wire import Wire
from sage_embed.engine import (
    EngineEvent,
    EngineRequest,
    ModelInfo,
    Progressed,
    Segments,
    SegmentsProduced,
    TaskStarted,
)
from sage_embed.errors import api_key_missing
from sage_embed.key_model import PROVIDER
from sage_embed.model import SOUND_TRACKS
from sage_embed.ports import ProviderKeys, ProviderPace

# What is stored at once: half a megabyte of vectors.
_CHUNK_SEGMENTS = 256
_FETCHED = 0.9


class TwelveLabsEngine:
    """Embeds with Marengo at TwelveLabs.

    Args:
        keys: Gives out the key.
        pace: Spaces out the requests that all workers send under it.
        policy: How patient to be.
        http_client: Makes the HTTP client that the SDK uses.
        clock: What time is read from and waited for with.
    """

    def __init__(
        self,
        keys: ProviderKeys,
        pace: ProviderPace,
        *,
        policy: TwelveLabsPolicy | None = None,
        http_client: Callable[[], httpx.AsyncClient] = new_http_client,
        clock: Clock | None = None,
    ) -> None:
        self._keys = keys
        self._pace = pace
        self._policy = policy or TwelveLabsPolicy()
        self._clients = Clients(http_client)
        self._clock = clock or Clock()
        self._wire = Wire(self._clients, self._policy)
        self._results = asyncio.Semaphore(self._policy.results_at_once)

    async def models(self) -> Sequence[ModelInfo]:
        """Return the models; none can be used without a key.

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
        """Return the events of one task: that of earlier work where there is one.

        Closing the generator stops asking. The task goes on at TwelveLabs, which has no way to stop it.

        Raises:
            SageError: See `submit` and `Follower.follow`; PROVIDER_REJECTED_VIDEO where only sound is asked for and
                the video has none.
        """
        model = BY_NAME[request.model]
        tracks = tuple(name for name in request.tracks if request.has_audio or name not in SOUND_TRACKS)
        if not tracks:
            raise SageError(Reason.PROVIDER_REJECTED_VIDEO, provider=NAME, why="it has no sound to embed")
        session = Session(keys=self._keys, pace=self._pace, policy=self._policy, clock=self._clock)
        task_id, fresh = request.resume.provider_task_id, False
        if task_id is not None:
            session.begun_at(request.resume.submitted_at)
        else:
            async with aclosing(submit(session, self._wire, model, request=request, tracks=tracks)) as events:
                async for event in events:
                    yield event
                    if isinstance(event, TaskStarted):
                        task_id, fresh = event.provider_task_id, True
        if task_id is None:
            raise RuntimeError("a submission ended without a task")
        # The result's place is given back when the last of it is stored.
        async with AsyncExitStack() as place:
            follower = Follower(
                session, self._wire, model, request=request, tracks=tracks, places=self._results, place=place
            )
            async with aclosing(follower.follow(task_id, fresh=fresh)) as events:
                async for event in events:
                    yield event
            for event in _segments(follower.result, request.resume.segment_counts):
                yield event

    async def aclose(self) -> None:
        """Close the connections to TwelveLabs."""
        await self._clients.aclose()


def _segments(result: dict[str, TrackResult], stored: Mapping[str, int]) -> Iterator[EngineEvent]:
    """Return what is not stored yet, in pieces."""
    total = sum(len(track.vectors) for track in result.values())
    done = 0
    for name, track in result.items():
        done += min(stored.get(name, 0), len(track.vectors))
        for first in range(stored.get(name, 0), len(track.vectors), _CHUNK_SEGMENTS):
            piece = slice(first, first + _CHUNK_SEGMENTS)
            vectors = track.vectors[piece]
            done += len(vectors)
            yield Progressed(_FETCHED + (1 - _FETCHED) * done / total, f"Storing {total} vectors of {NAME}.")
            yield SegmentsProduced(
                Segments(
                    track=name,
                    first_index=first,
                    start_seconds=track.start_seconds[piece],
                    end_seconds=track.end_seconds[piece],
                    vectors=vectors,
                )
            )
