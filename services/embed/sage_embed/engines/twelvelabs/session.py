"""Requests to TwelveLabs: the calls themselves, the session of one embedding at the shared rate, the check of a key."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import structlog
from sage_runtime.context import time_left_s
from sage_runtime.errors import Reason, SageError
from twelvelabs import AsyncTwelveLabs
from twelvelabs.core.api_error import ApiError
from twelvelabs.core.request_options import RequestOptions

from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.twelvelabs.client import Clients, new_http_client, new_sdk, read_response
from sage_embed.engines.twelvelabs.models import Api, Model, scopes_v1, video_v2
from sage_embed.engines.twelvelabs.pace import ProviderPace
from sage_embed.engines.twelvelabs.problems import NAME, LimitedError, RefusedError, UnclearError, problems, refused
from sage_embed.engines.twelvelabs.results import ListReader, TaskPage, TaskReader, TaskResponse
from sage_embed.errors import api_key_missing
from sage_embed.keys.model import PROVIDER, KeyChecker, KeyStatus, ProviderKey, ProviderKeys

# The largest page of a list that TwelveLabs returns.
_PAGE_TASKS = 50
# Timeout for an entire read request, however large its response.
_FETCH_TIMEOUT_S = 600.0
# Waits vary by this much in both directions, so that workers that started together drift apart.
_JITTER = 0.2
# After this time, no process uses a key that was replaced.
_KEY_CHANGE_S = 2.0
_KEY_CHECK_TIMEOUT_S = 8.0
# Reserved, out of the caller's remaining time, for storing a checked key and sending the response.
_RESERVED_S = 1.0
_UNAUTHORIZED = 401

log = structlog.get_logger()

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Clock:
    """The clock of the engine, which tests replace.

    Attributes:
        sleep: Waits for a number of seconds.
        monotonic: Seconds of a clock that never jumps.
        now: The current time.
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


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
            raise UnclearError("a task without an ID")
        return task_id

    async def status(self, key: ProviderKey, task_id: str) -> TaskResponse:
        """Return a task of v1 without its result."""
        options = _timeout(self._settings.timeout_s)
        async with self._sdk(key) as sdk:
            tasks = sdk.embed.tasks
            return await read_response(TaskReader(()), lambda: tasks.status(task_id, request_options=options))

    async def retrieve(self, key: ProviderKey, model: Model, task_id: str, *, tracks: tuple[str, ...]) -> TaskResponse:
        """Return a task, including its result if it is ready."""
        options = _timeout(self._settings.timeout_s)
        reader = TaskReader(model.requested_options(tracks))
        async with self._sdk(key) as sdk:
            v1, v2 = sdk.embed.tasks, sdk.embed.v_2.tasks
            if model.api is Api.V2:
                return await read_response(reader, lambda: v2.retrieve(task_id, request_options=options))
            return await read_response(reader, lambda: v1.retrieve(task_id, request_options=options))

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
        with problems(key.secret):
            async with asyncio.timeout(timeout_s), self._clients.lend(key) as sdk:
                yield sdk


def _timeout(seconds: float) -> RequestOptions:
    return RequestOptions(timeout_in_seconds=math.ceil(seconds))


class Session:
    """Sends the requests of one embedding.

    Args:
        keys: Provides the key in use.
        pace: Spaces out the requests of all workers.
        requests: Makes the requests.
        settings: Deadline and waits.
        clock: The clock.

    Attributes:
        requests: The requests.
        settings: Deadline and waits.
        clock: The clock.
    """

    def __init__(
        self, *, keys: ProviderKeys, pace: ProviderPace, requests: Requests, settings: TwelveLabsSettings, clock: Clock
    ) -> None:
        self._keys = keys
        self._pace = pace
        self.requests = requests
        self.settings = settings
        self.clock = clock
        self._deadline = clock.monotonic() + settings.deadline_s
        # A task that is overdue when its work resumes is polled once more, even if it must wait for its turn.
        self._grace_ends = clock.monotonic() + settings.grace_s

    def deadline_from(self, submitted: datetime | None) -> None:
        """Count the deadline from the task's submission."""
        if submitted is not None:
            ago_s = max(0.0, (self.clock.now() - submitted).total_seconds())
            self._deadline = self.clock.monotonic() + self.settings.deadline_s - ago_s

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.clock.monotonic() >= self._deadline

    async def sleep(self, seconds: float) -> None:
        """Wait for about this time, but not beyond the deadline, when a task is polled last."""
        left_s = max(0.0, self._deadline - self.clock.monotonic())
        await self.clock.sleep(min(left_s, seconds * random.uniform(1 - _JITTER, 1 + _JITTER)))  # noqa: S311 - no secret

    async def turn(self) -> ProviderKey:
        """Wait until the next request may be sent, and return the key to send it with.

        A key that is replaced or deleted in the meantime is not returned.

        Raises:
            SageError: API_KEY_MISSING, ENCRYPTION_KEY_MISSING, STORE_UNAVAILABLE; PROVIDER_QUOTA_EXCEEDED if the
                deadline passes first.
        """
        while True:
            key = await self._current()
            try:
                async with asyncio.timeout(max(self.settings.timeout_s, self._last_turn - self.clock.monotonic())):
                    await self._pace.wait_turn(key, in_use=partial(self._in_use, key))
            except TimeoutError:
                raise self._held_back() from None
            if await self._in_use(key):
                return key

    async def ask(self, request: Callable[[ProviderKey], Awaitable[_Result]]) -> _Result:
        """Make a request that changes nothing, and repeat it if the rate limit or a replaced key refuses it.

        Raises:
            RefusedError: It was refused for another reason.
            UnclearError: There is no usable response.
            SageError: See `turn`; API_KEY_INVALID.
        """
        while True:
            key = await self.turn()
            try:
                return await request(key)
            except LimitedError as limited:
                await self.limited(key, limited)
            except RefusedError as error:
                if not await self.key_replaced(key, error):
                    raise

    async def limited(self, key: ProviderKey, limited: LimitedError) -> None:
        """Slow down all workers that use a key.

        Raises:
            SageError: STORE_UNAVAILABLE; PROVIDER_QUOTA_EXCEEDED if the deadline has passed. Otherwise, with a limit
                that grants turns but refuses every request, this would wait forever.
        """
        log.warning("twelvelabs_rate_limited", retry_after_s=limited.retry_after_s)
        await self._pace.limited(key, retry_after_s=limited.retry_after_s)
        if self.clock.monotonic() >= self._last_turn:
            raise self._held_back()

    async def key_replaced(self, key: ProviderKey, error: RefusedError) -> bool:
        """Return whether a request was refused because its key has been replaced.

        Raises:
            SageError: API_KEY_INVALID if the refused key is still in use; API_KEY_MISSING.
        """
        if not error.of_the_key:
            return False
        if (await self._current()).fingerprint == key.fingerprint:
            # A key that was just revoked and replaced may still be in use.
            await self.sleep(_KEY_CHANGE_S)
            if (await self._current()).fingerprint == key.fingerprint:
                raise refused(error)
        return True

    def log_trouble(self, doing: str, error: Exception, **facts: object) -> None:
        """Log a recoverable error. Pass our own errors only: other errors contain bodies and URLs."""
        log.warning("twelvelabs_request_failed", doing=doing, detail=str(error), **facts)

    @property
    def _last_turn(self) -> float:
        return max(self._deadline, self._grace_ends)

    def _held_back(self) -> SageError:
        hours = self.settings.deadline_s / 3600
        why = f"its rate limit allowed no further request within {hours:g} h"
        return SageError(Reason.PROVIDER_QUOTA_EXCEEDED, provider=NAME, why=why)

    async def _in_use(self, key: ProviderKey) -> bool:
        now = await self._keys.current()
        return now is not None and now.fingerprint == key.fingerprint

    async def _current(self) -> ProviderKey:
        key = await self._keys.current()
        if key is None:
            raise api_key_missing(PROVIDER)
        return key


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
