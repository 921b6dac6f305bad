"""The requests to TwelveLabs, over the official SDK's client."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twelvelabs import AsyncTwelveLabs
from twelvelabs.core.request_options import RequestOptions

from sage_embed.adapters.twelvelabs.answers import ListReader, TaskAnswer, TaskPage, TaskReader
from sage_embed.adapters.twelvelabs.clients import Clients, reading
from sage_embed.adapters.twelvelabs.models import Api, Model
from sage_embed.adapters.twelvelabs.orders import scopes_v1, video_v2, wanted_options
from sage_embed.adapters.twelvelabs.policy import TwelveLabsPolicy
from sage_embed.adapters.twelvelabs.problems import UnclearError, problems
from sage_embed.ports import ProviderKey

# The most that a page of a list has.
_PAGE_TASKS = 50


class Wire:
    """Sends one request at a time to TwelveLabs. The SDK's own retries stay off.

    Every method raises `LimitedError`, `RefusedError` or `UnclearError`.

    Args:
        clients: Lends the SDK's client.
        policy: Has the timeouts.
    """

    def __init__(self, clients: Clients, policy: TwelveLabsPolicy) -> None:
        self._clients = clients
        self._policy = policy

    async def create(
        self, key: ProviderKey, model: Model, *, url: str, clip_seconds: int, tracks: tuple[str, ...]
    ) -> str:
        """Create a task and return its id."""
        name, options = model.info.name, _timeout(self._policy.create_timeout_s)
        with problems(key.secret):
            # The SDK's timeout is for each wait on the network; this one is for all of them.
            async with asyncio.timeout(self._policy.create_limit_s), self._clients.lend(key) as sdk:
                if model.api is Api.V2:
                    video = video_v2(model, url=url, clip_seconds=clip_seconds, tracks=tracks)
                    task_id: str | None = (
                        await sdk.embed.v_2.tasks.create(
                            input_type="video", model_name=name, video=video, request_options=options
                        )
                    ).id
                else:
                    task_id = (
                        await sdk.embed.tasks.create(
                            model_name=name,
                            video_url=url,
                            video_clip_length=clip_seconds,
                            video_embedding_scope=scopes_v1(tracks),
                            request_options=options,
                        )
                    ).id
        if not task_id:
            raise UnclearError("a task without an id")
        return task_id

    async def status(self, key: ProviderKey, task_id: str) -> TaskAnswer:
        """Return a task of v1 without its result."""
        options = _timeout(self._policy.timeout_s)
        async with self._asking(key) as sdk:
            tasks = sdk.embed.tasks
            return await reading(TaskReader(()), lambda: tasks.status(task_id, request_options=options))

    async def retrieve(self, key: ProviderKey, model: Model, task_id: str, *, tracks: tuple[str, ...]) -> TaskAnswer:
        """Return a task; where it is ready, with its result."""
        options = _timeout(self._policy.timeout_s)
        reader = TaskReader(wanted_options(model, tracks))
        async with self._asking(key) as sdk:
            v1, v2 = sdk.embed.tasks, sdk.embed.v_2.tasks
            if model.api is Api.V2:
                return await reading(reader, lambda: v2.retrieve(task_id, request_options=options))
            return await reading(reader, lambda: v1.retrieve(task_id, request_options=options))

    async def page(self, key: ProviderKey, api: Api, page: int) -> TaskPage:
        """Return a page of an API's tasks, newest first."""
        options = _timeout(self._policy.timeout_s)
        async with self._asking(key) as sdk:
            tasks = sdk.embed.v_2.tasks if api is Api.V2 else sdk.embed.tasks
            # One page at a time: the SDK's pager never says that it is at the end.
            return await reading(
                ListReader(), lambda: tasks.list(page=page, page_limit=_PAGE_TASKS, request_options=options)
            )

    @asynccontextmanager
    async def _asking(self, key: ProviderKey) -> AsyncIterator[AsyncTwelveLabs]:
        with problems(key.secret):
            async with asyncio.timeout(self._policy.fetch_timeout_s), self._clients.lend(key) as sdk:
                yield sdk


def _timeout(seconds: float) -> RequestOptions:
    return RequestOptions(timeout_in_seconds=math.ceil(seconds))
