"""The session of one embedding with TwelveLabs: turns at the shared rate, keys, rate limits and the deadline."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog
from sage_runtime.errors import Reason, SageError

from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.engine import Progressed
from sage_embed.engines.twelvelabs.pace import ProviderPace
from sage_embed.engines.twelvelabs.problems import NAME, KeyTroubleError, LimitedError, RefusedError, refused
from sage_embed.engines.twelvelabs.requests import Requests
from sage_embed.errors import api_key_missing
from sage_embed.keys.model import PROVIDER, ProviderKey, ProviderKeys

# Waits vary by this much in both directions, so that workers that started together drift apart.
_JITTER = 0.2
# After this time, no process uses a key that was replaced.
_KEY_CHANGE_S = 2.0
# A key or an account is refused after this many refusals in a row: a single one may come from a proxy.
_REFUSALS = 3
# A refused key is tried again after this time, in case the account was unlocked or the key was set once more.
_REFUSED_PAUSE_S = 60.0
# While a request waits for its turn, users are told why at this interval, and after this time also without a hold.
_NOTICE_S = 0.5
_LONG_TURN_S = 5.0

log = structlog.get_logger()

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Clock:
    """The clock of the engine, which tests replace.

    Attributes:
        sleep: Waits for a number of seconds.
        monotonic: Seconds of a clock that never jumps.
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic


class Session:
    """Sends the requests of one embedding.

    Args:
        keys: Provides the key in use.
        pace: Spaces out the requests of all workers.
        requests: Makes the requests.
        settings: Deadline and waits.
        clock: The clock.
        now: PostgreSQL's time.
        report: Stores progress while a request waits.

    Attributes:
        requests: The requests.
        settings: Deadline and waits.
        clock: The clock.
        patient: Whether there may be a task, which is paid for. A key that is refused or missing is then waited for.
    """

    def __init__(
        self,
        *,
        keys: ProviderKeys,
        pace: ProviderPace,
        requests: Requests,
        settings: TwelveLabsSettings,
        clock: Clock,
        now: datetime,
        report: Callable[[Progressed], Awaitable[None]],
    ) -> None:
        self._keys = keys
        self._pace = pace
        self._report = report
        self._begun, self._begun_s = now, clock.monotonic()
        self.requests = requests
        self.settings = settings
        self.clock = clock
        self.patient = False
        self._deadline = self._last_turn = self._begun_s + settings.deadline_s
        self._held_until: datetime | None = None
        # Consecutive refusals of a key or its account while there may be a task.
        self._refusals = 0

    def now(self) -> datetime:
        """Return PostgreSQL's time, which does not depend on the clock of this machine being right."""
        return self._begun + timedelta(seconds=self.clock.monotonic() - self._begun_s)

    def deadline_from(self, since: datetime | None) -> None:
        """Count the deadline from a time, usually that of the task's submission."""
        if since is None:
            return
        left_s = self.settings.deadline_s - max(0.0, (self.now() - since).total_seconds())
        self._deadline = self.clock.monotonic() + left_s
        # A task that is overdue when its work resumes is polled once more, even if it must wait for its turn.
        self._last_turn = self._deadline if left_s > 0 else self.clock.monotonic() + self.settings.grace_s

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.clock.monotonic() >= self._deadline

    async def sleep(self, seconds: float) -> None:
        """Wait for about this time, but not beyond the deadline, when a task is polled last."""
        left_s = max(0.0, self._deadline - self.clock.monotonic())
        await self.clock.sleep(min(left_s, seconds * random.uniform(1 - _JITTER, 1 + _JITTER)))  # noqa: S311 - no secret

    async def say(self, message: str) -> None:
        """Store a message for users while a request waits."""
        await self._report(Progressed(0.0, message, lasting=True))

    async def turn(self) -> ProviderKey:
        """Wait until the next request may be sent, and return the key to send it with.

        A key that is replaced or deleted in the meantime is not returned.

        Raises:
            KeyTroubleError: The session is patient, but the deadline passes without a key.
            SageError: API_KEY_MISSING, ENCRYPTION_KEY_MISSING, STORE_UNAVAILABLE; PROVIDER_QUOTA_EXCEEDED if the
                deadline passes first.
        """
        settings = self.settings
        while True:
            key = await self._current()
            try:
                # The last poll, at the deadline, may also wait a little.
                least_s = min(settings.timeout_s, settings.deadline_s)
                async with asyncio.timeout(max(least_s, self._last_turn - self.clock.monotonic())):
                    await self._wait_turn(key)
            except TimeoutError:
                raise self._held_back() from None
            if await self._in_use(key):
                return key

    async def _wait_turn(self, key: ProviderKey) -> None:
        """Wait for a turn, and tell users what it waits for."""
        waiting = asyncio.ensure_future(self._pace.wait_turn(key, in_use=partial(self._in_use, key)))
        begun = time.monotonic()
        try:
            while not (await asyncio.wait({waiting}, timeout=_NOTICE_S))[0]:
                if held := self.held(key):
                    await self.say(held)
                elif time.monotonic() - begun > _LONG_TURN_S:
                    await self.say(f"Waiting for a turn: requests to {NAME} are spaced to stay within its rate limit.")
            waiting.result()
        finally:
            if waiting.cancel():
                await asyncio.wait({waiting})

    def held(self, key: ProviderKey) -> str:
        """Return a sentence that says until when the rate limit holds a key back, or an empty one."""
        held_s = self._pace.held_s(key)
        if held_s <= 0:
            return ""
        until = self.now() + timedelta(seconds=held_s)
        # Computed each time, it differs by milliseconds.
        if self._held_until is None or abs(until - self._held_until) > timedelta(seconds=1):
            self._held_until = until
        return f"The rate limit of {NAME} holds this work back until {clock_time(self._held_until, self.now())}."

    async def ask(self, request: Callable[[ProviderKey], Awaitable[_Result]]) -> _Result:
        """Make a request that changes nothing, and repeat it if the rate limit or the key refuses it.

        Raises:
            RefusedError: It was refused for another reason.
            KeyTroubleError: The session is patient, but the deadline passes without a usable key.
            UnclearError: There is no usable response.
            SageError: See `turn`; API_KEY_INVALID.
        """
        while True:
            key = await self.turn()
            try:
                response = await request(key)
            except LimitedError as limited:
                await self.limited(key, limited)
            except RefusedError as error:
                if self.patient and error.of_the_account:
                    await self._wait_for_key(key, error)
                elif not await self.key_replaced(key, error):
                    raise
            else:
                self._refusals = 0
                return response

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

    async def _wait_for_key(self, key: ProviderKey, error: RefusedError) -> None:
        """Wait after a refusal until the request may be repeated: briefly at first, then for another key.

        Raises:
            KeyTroubleError: The deadline passes.
        """
        self._refusals += 1
        self.log_trouble("key", error, refusals=self._refusals)
        if self._refusals < _REFUSALS:
            await self.sleep(_KEY_CHANGE_S * self._refusals)
        else:
            problem = f"{NAME} refused the API key ({error.words()})"
            log.warning("api_key_refused", http_status=error.status, refusals=self._refusals)
            await self.say(f"{problem}. The task is kept and continues once a valid key is set.")
            again_at = self.clock.monotonic() + _REFUSED_PAUSE_S
            while self.clock.monotonic() < again_at and not self.overdue and await self._in_use(key):
                await self.sleep(_KEY_CHANGE_S)
            if self.overdue:
                raise KeyTroubleError(problem)

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

    def _held_back(self) -> SageError:
        why = f"its rate limit allowed no further request within {duration(self.settings.deadline_s)}"
        return SageError(Reason.PROVIDER_QUOTA_EXCEEDED, provider=NAME, why=why)

    async def _in_use(self, key: ProviderKey) -> bool:
        try:
            now = await self._keys.current()
        except SageError as error:
            if self.patient and error.reason is Reason.ENCRYPTION_KEY_MISSING:
                return False
            raise
        return now is not None and now.fingerprint == key.fingerprint

    async def _current(self) -> ProviderKey:
        while True:
            try:
                key = await self._keys.current()
            except SageError as error:
                if not self.patient or error.reason is not Reason.ENCRYPTION_KEY_MISSING:
                    raise
                problem = "The stored API key cannot be decrypted"
            else:
                if key is not None:
                    return key
                if not self.patient:
                    raise api_key_missing(PROVIDER)
                problem = f"No API key for {NAME} is set"
            await self.say(f"{problem}. The task is kept and continues once a valid key is set.")
            await self.sleep(_KEY_CHANGE_S)
            if self.overdue:
                raise KeyTroubleError(problem)


def duration(seconds: float) -> str:
    """Return a duration for users: `4 h`, `1.5 min` or `20 s`."""
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.3g} {unit}"
    return f"{seconds:.3g} s"


def clock_time(moment: datetime, now: datetime) -> str:
    """Return a time for users, with the date if it is not today's."""
    moment, now = moment.astimezone(UTC), now.astimezone(UTC)
    return f"{moment:%H:%M:%S} UTC" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
