"""The requests that one embedding makes: under the key of the moment, in their turn, and until a deadline."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import structlog
from sage_runtime.errors import Reason, SageError

from sage_embed.adapters.twelvelabs.policy import TwelveLabsPolicy
from sage_embed.adapters.twelvelabs.problems import NAME, LimitedError, RefusedError, refused
from sage_embed.errors import api_key_missing
from sage_embed.key_model import PROVIDER
from sage_embed.ports import ProviderKey, ProviderKeys, ProviderPace

log = structlog.get_logger()

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Clock:
    """What time is read from and waited for with; tests have their own.

    Attributes:
        sleep: Waits for so many seconds.
        monotonic: Seconds of a clock that is never set.
        now: The time of day.
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


class Session:
    """Makes requests for one embedding.

    Args:
        keys: Gives out the key.
        pace: Spaces out the requests under it.
        policy: How patient to be.
        clock: What time is read from.
    """

    def __init__(
        self, *, keys: ProviderKeys, pace: ProviderPace, policy: TwelveLabsPolicy, clock: Clock | None = None
    ) -> None:
        self._keys = keys
        self._pace = pace
        self._clock = clock or Clock()
        self.policy = policy
        self._deadline = self._clock.monotonic() + policy.deadline_s
        # What is taken up again when it is overdue gets a look, even where it has to wait for its turn.
        self._grace_ends = self._clock.monotonic() + policy.grace_s

    def begun_at(self, begun: datetime | None) -> None:
        """Let the deadline count from the moment when the task was asked for."""
        if begun is not None:
            ago_s = max(0.0, (self._clock.now() - begun).total_seconds())
            self._deadline = self._clock.monotonic() + self.policy.deadline_s - ago_s

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock.monotonic() >= self._deadline

    def monotonic(self) -> float:
        """Return seconds of a clock that is never set."""
        return self._clock.monotonic()

    def now(self) -> datetime:
        """Return the time of day."""
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        """Wait about so long, and not far beyond the deadline: workers that began together drift apart."""
        jitter = self.policy.jitter
        # The last look at a task is due when the deadline is.
        left_s = max(0.0, self._deadline - self._clock.monotonic())
        await self._clock.sleep(min(left_s, seconds * random.uniform(1 - jitter, 1 + jitter)))  # noqa: S311 - no secret

    async def turn(self) -> ProviderKey:
        """Wait until the next request may be sent; return the key to send it under.

        A key that is changed or deleted meanwhile is not used.

        Raises:
            SageError: API_KEY_MISSING, ENCRYPTION_KEY_MISSING, STORE_UNAVAILABLE; PROVIDER_QUOTA_EXCEEDED where the
                deadline passes meanwhile.
        """
        while True:
            key = await self._current()
            try:
                # The last look at a task is due when the deadline is.
                async with asyncio.timeout(max(self.policy.timeout_s, self._last_turn - self._clock.monotonic())):
                    await self._pace.wait_turn(key, in_use=partial(self._in_use, key))
            except TimeoutError:
                raise self._held_back() from None
            if await self._in_use(key):
                return key

    async def ask(self, request: Callable[[ProviderKey], Awaitable[_Result]]) -> _Result:
        """Make a request that changes nothing, as often as the rate limit or a change of the key refuses it.

        Raises:
            RefusedError: It was refused for any other reason.
            UnclearError: There was no answer that can be used.
            SageError: What `turn` raises; API_KEY_INVALID.
        """
        while True:
            key = await self.turn()
            try:
                return await request(key)
            except LimitedError as limited:
                await self.limited(key, limited)
            except RefusedError as error:
                if not await self.changed(key, error):
                    raise

    async def limited(self, key: ProviderKey, limited: LimitedError) -> None:
        """Hold back every worker on a key.

        Raises:
            SageError: STORE_UNAVAILABLE; PROVIDER_QUOTA_EXCEEDED where the deadline has passed: a limit that lets each
                turn come and refuses each request would else be waited for without end.
        """
        log.warning("twelvelabs_rate_limited", retry_after_s=limited.retry_after_s)
        await self._pace.limited(key, retry_after_s=limited.retry_after_s)
        if self._clock.monotonic() >= self._last_turn:
            raise self._held_back()

    async def changed(self, key: ProviderKey, error: RefusedError) -> bool:
        """Return whether a request was refused for a key that is not the one to use any more.

        Raises:
            SageError: API_KEY_INVALID where it is still the one; API_KEY_MISSING.
        """
        if not error.of_the_key:
            return False
        if (await self._current()).fingerprint == key.fingerprint:
            # One that was replaced just now, and revoked, is still given out for a moment.
            await self.sleep(self.policy.key_change_s)
            if (await self._current()).fingerprint == key.fingerprint:
                raise refused(error)
        return True

    @property
    def _last_turn(self) -> float:
        return max(self._deadline, self._grace_ends)

    def _held_back(self) -> SageError:
        hours = self.policy.deadline_s / 3600
        why = f"its rate limit let no more requests through within {hours:g} h"
        return SageError(Reason.PROVIDER_QUOTA_EXCEEDED, provider=NAME, why=why)

    async def _in_use(self, key: ProviderKey) -> bool:
        now = await self._keys.current()
        return now is not None and now.fingerprint == key.fingerprint

    def troubled(self, doing: str, error: Exception, **facts: object) -> None:
        """Log trouble that the work survives, in one of our own errors: those of others carry bodies and URLs."""
        log.warning("twelvelabs_trouble", doing=doing, detail=str(error), **facts)

    async def _current(self) -> ProviderKey:
        key = await self._keys.current()
        if key is None:
            raise api_key_missing(PROVIDER)
        return key
