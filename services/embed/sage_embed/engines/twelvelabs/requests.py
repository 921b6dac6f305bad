"""Requests to TwelveLabs through the SDK, and the check of a key."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote

import structlog
from sage_runtime.context import time_left_s
from twelvelabs import AsyncTwelveLabs
from twelvelabs.core.api_error import ApiError
from twelvelabs.core.request_options import RequestOptions

from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.twelvelabs.client import Clients, new_http_client, new_sdk, read_response
from sage_embed.engines.twelvelabs.models import Api, Model, scopes_v1, video_v2
from sage_embed.engines.twelvelabs.problems import UnclearError, problems, redacted
from sage_embed.engines.twelvelabs.responses import ListReader, TaskPage, TaskReader, TaskResponse, is_task_id
from sage_embed.keys.model import KeyChecker, KeyStatus, ProviderKey

# The largest page of a list that TwelveLabs returns.
_PAGE_TASKS = 50
# Timeout for an entire read request, however large its response.
_FETCH_TIMEOUT_S = 600.0
_KEY_CHECK_TIMEOUT_S = 8.0
# Reserved, out of the caller's remaining time, for storing a checked key and sending the response.
_RESERVED_S = 1.0
_UNAUTHORIZED = 401

log = structlog.get_logger()


class Requests:
    """The requests to TwelveLabs, one attempt each. The SDK's own retries stay off.

    Every method raises `LimitedError`, `RefusedError` or `UnclearError`.

    Args:
        clients: Lends the SDK's client for a key.
        settings: The timeouts.
    """

    def __init__(self, clients: Clients, settings: TwelveLabsSettings) -> None:
        self._clients = clients
        self._settings = settings
        # Every key that was used: TwelveLabs may quote a key that has been replaced since.
        self._secrets: set[str] = set()

    async def create(
        self, key: ProviderKey, model: Model, *, url: str, clip_seconds: int, tracks: tuple[str, ...]
    ) -> str:
        """Create a task and return its ID."""
        name, options = model.info.name, _timeout(self._settings.create_timeout_s)
        # The SDK's timeout limits each read from the network, the other one the whole request.
        async with self._sdk(key, timeout_s=self._settings.create_limit_s) as sdk:
            if model.api is Api.V2:
                video = video_v2(model, url=url, clip_seconds=clip_seconds, tracks=tracks)
                tasks = sdk.embed.v_2.tasks
                v2 = await tasks.create(input_type="video", model_name=name, video=video, request_options=options)
                task_id: str | None = v2.id
            else:
                v1 = await sdk.embed.tasks.create(
                    model_name=name,
                    video_url=url,
                    video_clip_length=clip_seconds,
                    video_embedding_scope=scopes_v1(tracks),
                    request_options=options,
                )
                task_id = v1.id
        if not task_id:
            raise UnclearError("its response has no task ID")
        if not is_task_id(task_id) or redacted(task_id, self._secrets) != task_id:
            raise UnclearError("its response has an impossible task ID")
        return task_id

    async def status(self, key: ProviderKey, task_id: str) -> TaskResponse:
        """Return a task of v1 without its result."""
        options = _timeout(self._settings.timeout_s)
        async with self._sdk(key) as sdk:
            tasks = sdk.embed.tasks
            path_id = quote(task_id, safe="")
            return self._clean(
                await read_response(TaskReader(()), lambda: tasks.status(path_id, request_options=options))
            )

    async def retrieve(self, key: ProviderKey, model: Model, task_id: str, *, tracks: tuple[str, ...]) -> TaskResponse:
        """Return a task, including its result if it is ready."""
        options = _timeout(self._settings.timeout_s)
        reader = TaskReader(model.requested_options(tracks))
        async with self._sdk(key) as sdk:
            tasks = sdk.embed.v_2.tasks if model.api is Api.V2 else sdk.embed.tasks
            path_id = quote(task_id, safe="")
            return self._clean(await read_response(reader, lambda: tasks.retrieve(path_id, request_options=options)))

    async def page(self, key: ProviderKey, api: Api, page: int) -> TaskPage:
        """Return a page of an API's tasks, newest first."""
        options = _timeout(self._settings.timeout_s)
        async with self._sdk(key) as sdk:
            tasks = sdk.embed.v_2.tasks if api is Api.V2 else sdk.embed.tasks
            # Page by page, because the SDK's pager never reports the last page.
            return await read_response(
                ListReader(), lambda: tasks.list(page=page, page_limit=_PAGE_TASKS, request_options=options)
            )

    @asynccontextmanager
    async def _sdk(self, key: ProviderKey, *, timeout_s: float = _FETCH_TIMEOUT_S) -> AsyncIterator[AsyncTwelveLabs]:
        self._secrets.add(key.secret)
        with problems(self._secrets):
            async with asyncio.timeout(timeout_s), self._clients.lend(key) as sdk:
                yield sdk

    def _clean(self, response: TaskResponse) -> TaskResponse:
        """Return a response without the keys and signatures that its texts may quote."""
        status, code, message = (
            redacted(text, self._secrets) for text in (response.status, response.code, response.message)
        )
        return replace(response, status=status, code=code, message=message)


def _timeout(seconds: float) -> RequestOptions:
    return RequestOptions(timeout_in_seconds=math.ceil(seconds))


class TwelveLabsKeyChecker(KeyChecker):
    """Checks a key by listing one task, the cheapest call that requires a key.

    Status 200 means that the key is valid and 401 that it is not. Everything else is inconclusive: valid keys also get
    403 and 429, and a 200 whose body is not a list does not come from TwelveLabs.

    Args:
        timeout_s: Seconds for the whole check.
    """

    def __init__(self, *, timeout_s: float = _KEY_CHECK_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    async def check(self, secret: str) -> KeyStatus:
        left_s = time_left_s()
        timeout_s = self._timeout_s if left_s is None else min(self._timeout_s, max(0.0, left_s - _RESERVED_S))
        try:
            async with asyncio.timeout(timeout_s):
                await _list_one(secret, timeout_s=timeout_s)
        except ApiError as error:
            if error.status_code == _UNAUTHORIZED:
                return KeyStatus.INVALID
            return _unknown(error, http_status=error.status_code)
        except Exception as error:
            # No network, no time left, a bad URL, not a list, or anything else that breaks the SDK: inconclusive.
            return _unknown(error)
        return KeyStatus.VALID


async def _list_one(secret: str, *, timeout_s: float) -> None:
    async with new_http_client() as http:
        tasks = new_sdk(secret, http).embed.v_2.tasks
        options = RequestOptions(timeout_in_seconds=math.ceil(timeout_s))
        # The SDK's parser would accept any JSON object as a list.
        await read_response(ListReader(), lambda: tasks.list(page_limit=1, request_options=options))


def _unknown(error: Exception, *, http_status: int | None = None) -> KeyStatus:
    # The error's text is not logged: it contains the response's body, which may quote the key.
    log.warning("api_key_not_checked", error=type(error).__name__, http_status=http_status)
    return KeyStatus.UNKNOWN
