"""The pace of requests under a provider's key, shared by all workers through PostgreSQL.

A provider tells that its limit was passed, never what the limit is. So every request is noted, and how many went
through within a window before one was refused is taken for the limit. From then on no window has more than nine tenths
of that, evenly spaced, whichever workers they come from; after a long time without a refusal it may be more again, a
tenth at a time. Until one is refused, requests are only kept so far apart that few are on their way when the first
refusal comes.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sage_runtime.postgres import Pool, store_errors

from sage_embed.adapters.rows import Row
from sage_embed.ports import ProviderKey, ProviderPace

# Of what went through before a refusal.
_SAFE_SHARE = 0.9
# So few requests in a window before a refusal are not what the limit was reached with: others use the key as well.
_MIN_FIRST_ALLOWANCE = 5
# A refusal among the first requests after a rest says that the rest was too short, and nothing of the limit.
_PROBES = 3
# While it waits, a worker asks again after so long at the latest.
_LOOK_AGAIN_S = 30.0

# What is allowed now: the allowance, grown by a tenth for each window that it is too old.
_ALLOWED = """
floor(allowance * power(1.1, least(100, greatest(
    0, extract(epoch FROM clock_timestamp() - allowance_at) - %(relax_after_s)s) / %(window_s)s)))::bigint
"""

# Two workers that take a turn in the same moment do so one after the other, and the second finds the new `next_at`. A
# turn that is taken late does not put off the next one, so that what is allowed can be had.
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
) END) - clock_timestamp())::double precision AS seconds
FROM (SELECT *, {_ALLOWED} AS allowed FROM provider_pace WHERE key_fingerprint = %(key)s) AS pace
"""  # noqa: S608 - a constant

_KNOW = "INSERT INTO provider_pace (key_fingerprint) VALUES (%(key)s) ON CONFLICT DO NOTHING"

# A new key takes the place of one before; what is known of that goes with its requests, days after its last one.
_FORGET = """
DELETE FROM provider_pace
WHERE key_fingerprint <> %(key)s AND greatest(next_at, held_until) < clock_timestamp() - interval '7 days'
"""

# A refusal is heard of a little after it happened, so it is not the last window that counts but the fullest of late.
_READ = f"""
SELECT
    {_ALLOWED} AS allowance, holds, sent_since_hold, held_until > clock_timestamp() AS resting,
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
    allowance = %(allowance)s, allowance_at = clock_timestamp(), holds = %(holds)s,
    sent_since_hold = CASE WHEN %(resting)s THEN sent_since_hold ELSE 0 END,
    held_until = greatest(held_until, clock_timestamp() + make_interval(secs => %(rest_s)s))
WHERE key_fingerprint = %(key)s
"""


@dataclass(frozen=True)
class PacePolicy:
    """What the pace goes by.

    Attributes:
        window_s: Over how long the provider counts requests. TwelveLabs documents its limits per minute.
        min_interval_s: Requests are at least so far apart.
        relax_after_s: How long no request must have been refused before more are sent.
        min_rest_s: The shortest rest after a refusal.
        first_rest_s: The rest after a refusal that does not say when to come back; the next one is twice as long.
        max_rest_s: The longest of these.
    """

    window_s: float = 60.0
    min_interval_s: float = 0.02
    relax_after_s: float = 600.0
    min_rest_s: float = 1.0
    first_rest_s: float = 2.0
    max_rest_s: float = 60.0


@dataclass(frozen=True)
class PaceState:
    """What is known of a key's limit when a request under it was refused.

    Attributes:
        allowance: Requests in a window at the most; None where nothing is known.
        holds: Rests one after another that did not help.
        sent_since_hold: Requests since the last rest began.
        resting: Whether a rest goes on.
        sent: Requests within the fullest window of the time before.
    """

    allowance: int | None
    holds: int
    sent_since_hold: int
    resting: bool
    sent: int


def after_refusal(state: PaceState, policy: PacePolicy, *, retry_after_s: float | None) -> tuple[PaceState, float]:
    """Return what is known after a refusal, and how long to rest from now on."""
    named_s = None if retry_after_s is None else max(policy.min_rest_s, retry_after_s)
    if state.resting:
        # It was on its way when the rest began: it was counted among those that went through, and did not.
        allowance = state.allowance and max(1, state.allowance - 1)
        return replace(state, allowance=allowance), named_s or 0.0
    holds = state.holds + 1
    if state.holds == 0 or state.sent_since_hold > _PROBES:
        holds = 1
        # A limit that is over no sooner is one of hours or days, and says nothing of a window.
        if named_s is None or named_s <= 2 * policy.window_s:
            state = replace(state, allowance=_learned(state))
    rest_s = min(policy.max_rest_s, policy.first_rest_s * 2.0 ** min(holds - 1, 30))
    return replace(state, holds=holds), rest_s if named_s is None else named_s


def _learned(state: PaceState) -> int:
    safe = int(_SAFE_SHARE * (state.sent - 1))
    if state.allowance is None:
        return max(_MIN_FIRST_ALLOWANCE, safe)
    # At the allowance and refused all the same: it was too much.
    return max(1, min(safe, state.allowance - 1))


class PostgresProviderPace(ProviderPace):
    """Keeps the pace in PostgreSQL, by its clock. No connection is held while a worker waits.

    Args:
        pool: Connections that look in embed's schema; the caller closes it.
        policy: What the pace goes by.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        pool: Pool,
        policy: PacePolicy | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._policy = policy or PacePolicy()
        self._sleep = sleep
        # Of all that wait in this process, the first one asks the database.
        self._lines: dict[str, asyncio.Lock] = {}

    async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
        """See `ProviderPace`."""
        async with self._lines.setdefault(key.fingerprint, asyncio.Lock()):
            while await in_use() and (wait_s := await self._take(key.fingerprint)) is not None:
                # Workers that wait for the same moment do not meet in it.
                spread_s = random.uniform(0, self._policy.min_interval_s)  # noqa: S311 - not a secret
                await self._sleep(min(_LOOK_AGAIN_S, max(0.0, wait_s)) + spread_s)

    async def limited(self, key: ProviderKey, *, retry_after_s: float | None) -> None:
        """See `ProviderPace`."""
        values = self._values(key.fingerprint)
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(_KNOW, values)
                row = await (await connection.execute(_READ, values)).fetchone()
                if row is None:
                    return
                state, rest_s = after_refusal(PaceState(**row), self._policy, retry_after_s=retry_after_s)
                changes: Row = {
                    "allowance": state.allowance,
                    "holds": state.holds,
                    "resting": state.resting,
                    "rest_s": rest_s,
                }
                await connection.execute(_WRITE, values | changes)

    async def _take(self, fingerprint: str) -> float | None:
        """Take the turn where there is one; return None then, and else after how long to try again."""
        values = self._values(fingerprint)
        with store_errors():
            async with self._pool.connection() as connection:
                if (await connection.execute(_TAKE, values)).rowcount:
                    return None
                row = await (await connection.execute(_WAIT, values)).fetchone()
                if row is not None:
                    return float(row["seconds"])
                await connection.execute(_KNOW, values)
                await connection.execute(_FORGET, values)
                return 0.0

    def _values(self, fingerprint: str) -> Row:
        policy = self._policy
        return {
            "key": fingerprint,
            "window_s": policy.window_s,
            "min_interval_s": policy.min_interval_s,
            "relax_after_s": policy.relax_after_s,
        }
