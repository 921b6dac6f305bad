"""The contract of `ProviderPace`, for the fake and for PostgreSQL."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from fakes.pace import FakeProviderPace
from sage_embed.engines.twelvelabs.pace import PaceOptions, PostgresProviderPace, ProviderPace
from sage_embed.keys.model import ProviderKey

KEY = ProviderKey("tlk_secret", "fingerprint")
OTHER_KEY = ProviderKey("tlk_other", "another")
# Large, so that the milliseconds of a database query do not matter.
OPTIONS = PaceOptions(
    window_s=1000.0, min_interval_s=1.0, relax_after_s=50_000.0, min_rest_s=10.0, first_rest_s=20.0, max_rest_s=60.0
)


async def yes() -> bool:
    """Return true: the key is still in use."""
    return True


@dataclass
class Provider:
    """A provider with a limit of requests per window, and the workers that use it.

    Attributes:
        paces: One for each worker.
        now: Reads the clock of the paces.
        advance: Advances that clock.
        limit: Requests that succeed within a window.
        retry_after: Whether a refusal states when to retry.
    """

    paces: list[ProviderPace]
    now: Callable[[], float]
    advance: Callable[[float], object]
    limit: int = 60
    retry_after: bool = False
    passed: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    async def ask(self, worker: int = 0) -> bool:
        """Send a request when its turn is due, and return whether it succeeded."""
        pace = self.paces[worker]
        await pace.wait_turn(KEY, in_use=yes)
        now = self.now()
        in_window = [at for at in self.passed if at > now - OPTIONS.window_s]
        if len(in_window) < self.limit:
            self.passed.append(now)
            return True
        self.refused.append(now)
        await pace.limited(KEY, retry_after_s=in_window[0] + OPTIONS.window_s - now if self.retry_after else None)
        return False


@pytest.fixture(params=["memory", "postgres"])
def provider(request) -> Provider:
    """Return a provider with two workers whose paces are in memory, then one with two in PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_provider")


@pytest.fixture
def memory_provider() -> Provider:
    """Return a provider whose workers keep their pace in memory."""
    clock = [0.0]

    def advance(seconds: float) -> None:
        clock[0] += seconds

    pace = FakeProviderPace(OPTIONS, now=lambda: clock[0], advance=advance)
    return Provider([pace, pace], now=lambda: clock[0], advance=advance)


@pytest.fixture
async def postgres_provider(pool) -> Provider:
    """Return a provider whose workers keep their pace in PostgreSQL.

    Its time is PostgreSQL's, which also advances by moving stored times back.
    """
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE provider_pace CASCADE")
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds
        async with pool.connection() as connection:
            moved = {"by": seconds}
            await connection.execute(
                "UPDATE provider_pace SET next_at = next_at - make_interval(secs => %(by)s), "
                "held_until = held_until - make_interval(secs => %(by)s), "
                "allowance_at = allowance_at - make_interval(secs => %(by)s)",
                moved,
            )
            await connection.execute(
                "UPDATE provider_requests SET sent_at = sent_at - make_interval(secs => %(by)s)", moved
            )

    paces: list[ProviderPace] = [PostgresProviderPace(pool, OPTIONS, sleep=sleep) for _ in range(2)]
    begun = time.monotonic()
    return Provider(paces, now=lambda: clock[0] + time.monotonic() - begun, advance=sleep)


async def move(provider: Provider, seconds: float) -> None:
    """Let time pass."""
    moving = provider.advance(seconds)
    if moving is not None:
        await moving  # type: ignore[misc] # an awaitable of either kind


async def time_for(provider: Provider, *, requests: int) -> float:
    """Return how long a number of requests takes."""
    begun = provider.now()
    for _ in range(requests):
        assert await provider.ask()
    return provider.now() - begun


async def test_before_a_refusal_requests_only_keep_the_minimum_interval(provider):
    for _ in range(10):
        assert await provider.ask()
    assert provider.now() <= 9 * 2 * OPTIONS.min_interval_s


@pytest.mark.parametrize("retry_after", [True, False])
async def test_after_the_first_refusal_no_window_exceeds_the_limit(provider, retry_after):
    """Without a stated rest, a second refusal confirms the first."""
    provider.retry_after = retry_after
    for number in range(130):
        await provider.ask(number % 2)
    assert len(provider.refused) == (1 if retry_after else 2)
    after = [at for at in provider.passed if at > provider.refused[0]]
    assert all(sum(at <= other < at + OPTIONS.window_s for other in after) <= provider.limit for at in after)
    # Nor is it too cautious: eight tenths of the limit are used.
    assert after[-1] - after[0] <= len(after) * OPTIONS.window_s / (0.8 * provider.limit)


@pytest.mark.parametrize("early", [2, 12, 37])
async def test_one_early_refusal_costs_a_rest_and_no_more(provider, early):
    """36 videos, with four requests each."""
    assert await time_for(provider, requests=early) <= early * 2 * OPTIONS.min_interval_s
    await provider.paces[0].limited(KEY, retry_after_s=None)
    provider.limit = 1000
    most = OPTIONS.first_rest_s + 144 * 2 * OPTIONS.min_interval_s
    assert await time_for(provider, requests=144) <= most


async def test_a_refusal_stops_every_worker_for_the_stated_time(provider):
    assert await provider.ask(0)
    await provider.paces[0].limited(KEY, retry_after_s=5000.0)
    before = provider.now()
    assert await provider.ask(1)
    assert 4990 <= provider.now() - before <= 5100


async def test_a_daily_limit_does_not_change_the_rate(provider):
    assert await provider.ask()
    await provider.paces[0].limited(KEY, retry_after_s=30_000.0)
    assert await provider.ask()
    before = provider.now()
    for _ in range(10):
        assert await provider.ask()
    assert provider.now() - before <= 10 * 2 * OPTIONS.min_interval_s


async def test_refusals_in_flight_do_not_extend_the_rest(provider):
    for _ in range(10):
        assert await provider.ask()
    before = provider.now()
    for _ in range(3):
        await provider.paces[1].limited(KEY, retry_after_s=None)
    await provider.paces[0].wait_turn(KEY, in_use=yes)
    # Seven of ten requests succeeded, so six are allowed in a window that already has ten.
    assert provider.now() - before <= OPTIONS.window_s + 10


async def test_another_key_is_not_affected(provider):
    assert await provider.ask()
    await provider.paces[0].limited(KEY, retry_after_s=5000.0)
    before = provider.now()
    await provider.paces[0].wait_turn(OTHER_KEY, in_use=yes)
    assert provider.now() - before <= 1


async def test_waiting_with_a_replaced_key_ends(provider):
    looks = iter([True, False])

    async def in_use() -> bool:
        return next(looks)

    assert await provider.ask()
    await provider.paces[0].limited(KEY, retry_after_s=5000.0)
    await provider.paces[0].wait_turn(KEY, in_use=in_use)
    assert next(looks, None) is None


async def test_old_keys_are_deleted(postgres_provider, pool):
    await postgres_provider.paces[0].wait_turn(KEY, in_use=yes)
    await postgres_provider.paces[0].wait_turn(OTHER_KEY, in_use=yes)
    query = "UPDATE provider_pace SET next_at = next_at - interval '8 days' WHERE key_fingerprint = %s"
    async with pool.connection() as connection:
        await connection.execute(query, (KEY.fingerprint,))
    await postgres_provider.paces[1].wait_turn(ProviderKey("tlk_new", "new"), in_use=yes)
    async with pool.connection() as connection:
        rows = await (await connection.execute("SELECT key_fingerprint AS key FROM provider_requests")).fetchall()
    assert sorted(row["key"] for row in rows) == ["another", "new"]


async def test_the_rate_grows_after_a_long_time_without_a_refusal(provider):
    for _ in range(10):
        assert await provider.ask()
    for _ in range(2):
        await provider.paces[0].limited(KEY, retry_after_s=None)
        await provider.paces[0].wait_turn(KEY, in_use=yes)
    slow = await time_for(provider, requests=12)
    await move(provider, OPTIONS.relax_after_s + 20 * OPTIONS.window_s)
    assert await time_for(provider, requests=12) < slow / 5
