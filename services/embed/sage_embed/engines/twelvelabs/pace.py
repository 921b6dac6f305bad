"""The pace of requests with a provider's key, shared by all workers through PostgreSQL.

A provider reports that its rate limit was exceeded, but never what the limit is. So every request is recorded, and the
number that succeeded within a window before the first refusal is taken as the limit. From then on no window contains
more than nine tenths of that number, evenly spaced, whichever workers send the requests. After a long time without a
refusal, the allowance grows again, a tenth at a time. Until the first refusal, requests are spaced only far enough
apart that few are in flight when it arrives.

A single refusal that does not state when to try again says little: the account may have other users for a moment, or a
proxy refused it. It only causes a rest. If it came from a limit, the window is still full after the rest, and the next
request is refused as well. An allowance that is based on few requests doubles with every window, until a refusal
confirms it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sage_runtime.postgres import Pool, store_errors

from sage_embed.config import TwelveLabsSettings
from sage_embed.keys.model import ProviderKey

# Share of the requests that succeeded before a refusal.
_SAFE_SHARE = 0.9
# A first refusal after fewer requests than this says nothing about the limit, which is assumed to be at least this.
_MIN_FIRST_ALLOWANCE = 5
# An allowance based on fewer requests than this grows quickly.
_MEASURED_REQUESTS = 30
# A refusal within the first requests after a rest means that the rest was too short, and says nothing about the limit.
_PROBES = 3
# A waiting worker queries the database again after at most this time.
_LOOK_AGAIN_S = 30.0

_Row = dict[str, Any]

# The current allowance: doubled for each window, or if it was measured, increased by a tenth for each window beyond the
# time after which it relaxes.
_ALLOWED = """
floor(allowance * CASE WHEN measured THEN power(1.1, least(100, greatest(
    0, extract(epoch FROM clock_timestamp() - allowance_at) - %(relax_after_s)s) / %(window_s)s))
    ELSE power(2, least(20, extract(epoch FROM clock_timestamp() - allowance_at) / %(window_s)s)) END)::bigint
"""

# Two workers that take a turn at the same moment are serialized, and the second one sees the new `next_at`. A turn that
# is taken late does not delay the next one, so the allowance can be used fully.
_TAKE = f"""
WITH pace AS (
    SELECT
        key_fingerprint, allowed, make_interval(secs => COALESCE(%(window_s)s / allowed, 0)) AS distance
    FROM (SELECT *, {_ALLOWED} AS allowed FROM provider_pace WHERE key_fingerprint = %(key)s) AS known
), taken AS (
    UPDATE provider_pace AS p SET
        next_at = greatest(
            greatest(p.next_at, clock_timestamp() - pace.distance) + pace.distance,
            clock_timestamp() + make_interval(secs => %(min_interval_s)s)
        ),
        sent_since_hold = sent_since_hold + 1
    FROM pace
    WHERE p.key_fingerprint = pace.key_fingerprint
        AND p.next_at <= clock_timestamp() AND p.held_until <= clock_timestamp()
        AND (pace.allowed IS NULL OR pace.allowed > (
            SELECT count(*) FROM provider_requests AS r
            WHERE r.key_fingerprint = pace.key_fingerprint
                AND r.sent_at > clock_timestamp() - make_interval(secs => %(window_s)s)
        ))
    RETURNING p.key_fingerprint
), dropped AS (
    DELETE FROM provider_requests
    WHERE key_fingerprint IN (SELECT key_fingerprint FROM taken)
        AND sent_at < clock_timestamp() - make_interval(secs => 2 * %(window_s)s)
)
INSERT INTO provider_requests (key_fingerprint, sent_at) SELECT key_fingerprint, clock_timestamp() FROM taken
"""  # noqa: S608 - a constant

_WAIT = f"""
SELECT extract(epoch FROM greatest(next_at, held_until, CASE WHEN allowed IS NOT NULL THEN (
    SELECT r.sent_at + make_interval(secs => %(window_s)s) FROM provider_requests AS r
    WHERE r.key_fingerprint = pace.key_fingerprint ORDER BY r.sent_at DESC OFFSET allowed - 1 LIMIT 1
) END) - clock_timestamp())::double precision AS seconds,
    extract(epoch FROM greatest(held_until, clock_timestamp()) - clock_timestamp())::double precision AS held_s
FROM (SELECT *, {_ALLOWED} AS allowed FROM provider_pace WHERE key_fingerprint = %(key)s) AS pace
"""  # noqa: S608 - a constant

_KNOW = "INSERT INTO provider_pace (key_fingerprint) VALUES (%(key)s) ON CONFLICT DO NOTHING"

# A new key replaces an old one, whose pace and requests are deleted a week after its last request.
_FORGET = """
DELETE FROM provider_pace
WHERE key_fingerprint <> %(key)s AND greatest(next_at, held_until) < clock_timestamp() - interval '7 days'
"""

# A refusal arrives a little after it happened, so the fullest recent window counts, not the last one.
_READ = f"""
SELECT
    {_ALLOWED} AS allowance, allowance AS base, measured, holds, sent_since_hold,
    held_until > clock_timestamp() AS resting,
    (
        SELECT COALESCE(max(n), 0) FROM (
            SELECT count(*) OVER (
                ORDER BY r.sent_at RANGE BETWEEN make_interval(secs => %(window_s)s) PRECEDING AND CURRENT ROW
            ) AS n
            FROM provider_requests AS r WHERE r.key_fingerprint = p.key_fingerprint
        ) AS windows
    ) AS sent
FROM provider_pace AS p WHERE key_fingerprint = %(key)s FOR UPDATE
"""  # noqa: S608 - a constant

_WRITE = """
UPDATE provider_pace SET
    allowance = %(allowance)s, allowance_at = clock_timestamp(), measured = %(measured)s, holds = %(holds)s,
    sent_since_hold = CASE WHEN %(resting)s THEN sent_since_hold ELSE 0 END,
    held_until = greatest(held_until, clock_timestamp() + make_interval(secs => %(rest_s)s))
WHERE key_fingerprint = %(key)s
RETURNING extract(epoch FROM held_until - clock_timestamp())::double precision AS held_s
"""


@dataclass(frozen=True)
class PaceOptions:
    """The parameters of the pace.

    Attributes:
        window_s: Seconds over which the provider counts requests. TwelveLabs documents its limits per minute.
        min_interval_s: Shortest interval between two requests.
        relax_after_s: Seconds without a refusal after which the allowance grows.
        min_rest_s: The shortest rest after a refusal.
        first_rest_s: The rest after a refusal that does not state one. Each further one doubles it.
        max_rest_s: The longest of these.
    """

    window_s: float
    min_interval_s: float
    relax_after_s: float
    min_rest_s: float
    first_rest_s: float
    max_rest_s: float

    @classmethod
    def from_settings(cls, settings: TwelveLabsSettings) -> "PaceOptions":
        """Return the options of the settings."""
        return cls(
            window_s=settings.rate_window_s,
            min_interval_s=1 / settings.requests_per_second,
            relax_after_s=settings.rate_relax_s,
            min_rest_s=1.0,
            first_rest_s=2.0,
            max_rest_s=60.0,
        )


class ProviderPace(Protocol):
    """Spaces out the requests that all workers send with one key, to stay within its rate limit."""

    async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
        """Return when the next request may be sent.

        Args:
            key: The key that it is sent with.
            in_use: Whether that key is still in use. Called repeatedly, because a turn may be hours away. If it returns
                False, this method returns even though no request may be sent.
        """
        ...

    async def limited(self, key: ProviderKey, *, retry_after_s: float | None) -> None:
        """Report that the rate limit refused a request: every worker with this key rests, then goes slower."""
        ...

    def held_s(self, key: ProviderKey) -> float:
        """Return for how many more seconds requests with a key rest, as far as this process knows."""
        ...


@dataclass(frozen=True)
class PaceState:
    """What is known about a key's limit when a request with it is refused.

    Attributes:
        allowance: Requests allowed within a window; None if unknown.
        base: What it was when it was last set. It has grown since, perhaps without being used.
        measured: Whether the allowance is based on enough requests.
        holds: Consecutive rests that did not help.
        sent_since_hold: Requests since the last rest began.
        resting: Whether a rest is in progress.
        sent: Requests within the fullest recent window.
    """

    allowance: int | None
    base: int | None
    measured: bool
    holds: int
    sent_since_hold: int
    resting: bool
    sent: int


def after_refusal(state: PaceState, options: PaceOptions, *, retry_after_s: float | None) -> tuple[PaceState, float]:
    """Return what is known after a refusal, and how long to rest from now on."""
    stated_s = None if retry_after_s is None else max(options.min_rest_s, retry_after_s)
    if state.resting:
        # It was in flight when the rest began, and was wrongly counted as a success.
        allowance = state.base and max(1 if state.measured else _MIN_FIRST_ALLOWANCE, state.base - 1)
        return replace(state, allowance=allowance, base=allowance), stated_s or 0.0
    holds, learned = state.holds + 1, replace(state, allowance=state.base)
    # A longer rest means a limit per hour or day, which says nothing about a window.
    of_a_window = stated_s is None or stated_s <= 2 * options.window_s
    if state.holds == 0 or state.sent_since_hold > _PROBES:
        holds = 1
        is_repeated = state.base is not None or stated_s is not None
    else:
        # The rest was too short. That confirms the limit if nothing was learned from the refusal before it.
        is_repeated = state.base is None
    if of_a_window and is_repeated:
        learned = _learned(state)
    rest_s = min(options.max_rest_s, options.first_rest_s * 2.0 ** min(holds - 1, 30))
    return replace(learned, holds=holds), rest_s if stated_s is None else stated_s


def _learned(state: PaceState) -> PaceState:
    passed = state.sent - 1
    safe = int(_SAFE_SHARE * passed)
    if state.allowance is None or state.base is None:
        if passed < _MIN_FIRST_ALLOWANCE and state.holds == 0:
            return state
        allowance = max(_MIN_FIRST_ALLOWANCE, safe)
        return replace(state, allowance=allowance, base=allowance, measured=passed >= _MEASURED_REQUESTS)
    # Refused even though within the allowance: the allowance was too high. If it was far from used up, the account must
    # have other users for the moment, so it is halved and not taken for measured.
    half = state.base // 2
    allowance = max(1, half, min(safe, state.allowance - 1))
    return replace(state, allowance=allowance, base=allowance, measured=safe >= half)


@dataclass
class _Line:
    """What this process knows about a key.

    Attributes:
        queue: Of all the tasks that wait in this process, only the first one queries the database.
        refusal: Held while a refusal is being stored, so that no turn is taken meanwhile.
        held_until: When the rest ends, by the clock of `monotonic`.
    """

    queue: asyncio.Lock = field(default_factory=asyncio.Lock)
    refusal: asyncio.Lock = field(default_factory=asyncio.Lock)
    held_until: float = float("-inf")


class PostgresProviderPace(ProviderPace):
    """Keeps the pace in PostgreSQL, by its clock. No connection is held while a worker waits.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it.
        options: The parameters.
        sleep: Waits for a number of seconds.
        monotonic: Seconds of a clock that never jumps, for `held_s` only.
    """

    def __init__(
        self,
        pool: Pool,
        options: PaceOptions,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._options = options
        self._sleep = sleep
        self._monotonic = monotonic
        self._lines: dict[str, _Line] = {}

    async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
        async with self._line(key).queue:
            while await in_use() and (wait_s := await self._take(key)) is not None:
                # Workers that wait for the same time are spread out.
                spread_s = random.uniform(0, self._options.min_interval_s)  # noqa: S311 - no secret
                await self._sleep(min(_LOOK_AGAIN_S, max(0.0, wait_s)) + spread_s)

    async def limited(self, key: ProviderKey, *, retry_after_s: float | None) -> None:
        values, line = self._values(key.fingerprint), self._line(key)
        with store_errors():
            async with line.refusal, self._pool.connection() as connection, connection.transaction():
                await connection.execute(_KNOW, values)
                row = await (await connection.execute(_READ, values)).fetchone()
                if row is None:
                    return
                state, rest_s = after_refusal(PaceState(**row), self._options, retry_after_s=retry_after_s)
                changes: _Row = {
                    "allowance": state.allowance,
                    "measured": state.measured,
                    "holds": state.holds,
                    "resting": state.resting,
                    "rest_s": rest_s,
                }
                row = await (await connection.execute(_WRITE, values | changes)).fetchone()
                if row is not None:
                    line.held_until = self._monotonic() + float(row["held_s"])

    def held_s(self, key: ProviderKey) -> float:
        return max(0.0, self._line(key).held_until - self._monotonic())

    async def _take(self, key: ProviderKey) -> float | None:
        """Take the turn and return None, or return the seconds after which to try again."""
        values, line = self._values(key.fingerprint), self._line(key)
        with store_errors():
            async with line.refusal, self._pool.connection() as connection:
                if (await connection.execute(_TAKE, values)).rowcount:
                    return None
                row = await (await connection.execute(_WAIT, values)).fetchone()
                if row is not None:
                    line.held_until = self._monotonic() + float(row["held_s"])
                    return float(row["seconds"])
                await connection.execute(_KNOW, values)
                await connection.execute(_FORGET, values)
                return 0.0

    def _line(self, key: ProviderKey) -> _Line:
        return self._lines.setdefault(key.fingerprint, _Line())

    def _values(self, fingerprint: str) -> _Row:
        options = self._options
        return {
            "key": fingerprint,
            "window_s": options.window_s,
            "min_interval_s": options.min_interval_s,
            "relax_after_s": options.relax_after_s,
        }
