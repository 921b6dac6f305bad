"""The pace of requests under a provider's key: the one in memory and PostgreSQL's, over the same expectations."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from fakes.pace import InMemoryProviderPace
from sage_embed.adapters.pace import PacePolicy, PostgresProviderPace
from sage_embed.ports import ProviderKey, ProviderPace

KEY = ProviderKey("tlk_secret", "fingerprint")
OTHER_KEY = ProviderKey("tlk_other", "another")
# Large, so that the milliseconds that a database takes do not matter.
POLICY = PacePolicy(
    window_s=1000.0, min_interval_s=1.0, relax_after_s=50_000.0, min_rest_s=10.0, first_rest_s=20.0, max_rest_s=60.0
)


async def yes() -> bool:
    """Return that the key is still the one to use."""
    return True


@dataclass
class Provider:
    """A provider that lets so many requests through in any window, and the workers that ask it.

    Attributes:
        paces: One for each worker.
        now: Reads the clock that the paces go by.
        advance: Moves it.
        limit: Requests in a window that go through.
        retry_after: Whether a refusal says when to come back.
    """

    paces: list[ProviderPace]
    now: Callable[[], float]
    advance: Callable[[float], object]
    limit: int = 60
    retry_after: bool = False
    passed: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    async def ask(self, worker: int = 0) -> bool:
        """Send a request when its turn comes; return whether it went through."""
        pace = self.paces[worker]
        await pace.wait_turn(KEY, in_use=yes)
        now = self.now()
        in_window = [at for at in self.passed if at > now - POLICY.window_s]
        if len(in_window) < self.limit:
            self.passed.append(now)
            return True
        self.refused.append(now)
        await pace.limited(KEY, retry_after_s=in_window[0] + POLICY.window_s - now if self.retry_after else None)
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

    pace = InMemoryProviderPace(POLICY, now=lambda: clock[0], advance=advance)
    return Provider([pace, pace], now=lambda: clock[0], advance=advance)


@pytest.fixture
async def postgres_provider(pool) -> Provider:
    """Return a provider whose workers keep their pace in PostgreSQL: for the clock to move, the past does."""
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

    paces: list[ProviderPace] = [PostgresProviderPace(pool, POLICY, sleep=sleep) for _ in range(2)]
    return Provider(paces, now=lambda: clock[0], advance=sleep)


async def move(provider: Provider, seconds: float) -> None:
    """Let time pass."""
    moving = provider.advance(seconds)
    if moving is not None:
        await moving  # type: ignore[misc] # an awaitable of either kind


async def time_for(provider: Provider, *, requests: int) -> float:
    """Return how long so many requests take."""
    begun = provider.now()
    for _ in range(requests):
        assert await provider.ask()
    return provider.now() - begun


async def test_before_a_refusal_requests_are_only_kept_apart(provider):
    """Ten requests take as long as the least interval between them, or what waiting for one adds."""
    for _ in range(10):
        assert await provider.ask()
    assert provider.now() <= 9 * 2 * POLICY.min_interval_s


@pytest.mark.parametrize("retry_after", [True, False])
async def test_after_the_first_refusal_no_window_has_more_than_the_limit(provider, retry_after):
    """Two workers learn the limit by one refusal, and nothing is refused again."""
    provider.retry_after = retry_after
    for number in range(130):
        await provider.ask(number % 2)
    assert len(provider.refused) == 1
    after = [at for at in provider.passed if at > provider.refused[0]]
    assert all(sum(at <= other < at + POLICY.window_s for other in after) <= provider.limit for at in after)
    # It is not overly careful either: eight tenths of the limit are used.
    assert after[-1] - after[0] <= len(after) * POLICY.window_s / (0.8 * provider.limit)


async def test_a_refusal_holds_back_every_worker_for_as_long_as_the_provider_says(provider):
    """After `Retry-After` of 5000 s another worker sends nothing before."""
    assert await provider.ask(0)
    await provider.paces[0].limited(KEY, retry_after_s=5000.0)
    before = provider.now()
    assert await provider.ask(1)
    assert 4990 <= provider.now() - before <= 5100


async def test_a_long_rest_says_nothing_of_the_rate(provider):
    """A limit for the day leaves the pace within a minute as it was."""
    assert await provider.ask()
    await provider.paces[0].limited(KEY, retry_after_s=30_000.0)
    assert await provider.ask()
    before = provider.now()
    for _ in range(10):
        assert await provider.ask()
    assert provider.now() - before <= 10 * 2 * POLICY.min_interval_s


async def test_refusals_that_were_on_their_way_do_not_make_the_rest_longer(provider):
    """Three refusals at once are one rest, after which it goes on."""
    for _ in range(10):
        assert await provider.ask()
    before = provider.now()
    for _ in range(3):
        await provider.paces[1].limited(KEY, retry_after_s=None)
    await provider.paces[0].wait_turn(KEY, in_use=yes)
    # Of ten requests seven went through: six are allowed in a window that has ten.
    assert provider.now() - before <= POLICY.window_s + 10


async def test_another_key_is_not_held_back(provider):
    """A limit of one account is none of another's."""
    assert await provider.ask()
    await provider.paces[0].limited(KEY, retry_after_s=5000.0)
    before = provider.now()
    await provider.paces[0].wait_turn(OTHER_KEY, in_use=yes)
    assert provider.now() - before <= 1


async def test_who_waits_under_a_key_that_was_replaced_waits_no_longer(provider):
    """A turn may be hours away: a key that is not in use any more is waited for no longer than one look."""
    looks = iter([True, False])

    async def in_use() -> bool:
        return next(looks)

    assert await provider.ask()
    await provider.paces[0].limited(KEY, retry_after_s=5000.0)
    await provider.paces[0].wait_turn(KEY, in_use=in_use)
    assert next(looks, None) is None


async def test_keys_of_long_ago_are_forgotten(postgres_provider, pool):
    """With a new key there is no row left of those that were used weeks before, and none missing of the others."""
    await postgres_provider.paces[0].wait_turn(KEY, in_use=yes)
    await postgres_provider.paces[0].wait_turn(OTHER_KEY, in_use=yes)
    query = "UPDATE provider_pace SET next_at = next_at - interval '8 days' WHERE key_fingerprint = %s"
    async with pool.connection() as connection:
        await connection.execute(query, (KEY.fingerprint,))
    await postgres_provider.paces[1].wait_turn(ProviderKey("tlk_new", "new"), in_use=yes)
    async with pool.connection() as connection:
        rows = await (await connection.execute("SELECT key_fingerprint AS key FROM provider_requests")).fetchall()
    assert sorted(row["key"] for row in rows) == ["another", "new"]


async def test_after_a_long_time_without_a_refusal_more_is_sent(provider):
    """What was learned is forgotten by little and little."""
    for _ in range(10):
        assert await provider.ask()
    await provider.paces[0].limited(KEY, retry_after_s=None)
    slow = await time_for(provider, requests=12)
    await move(provider, POLICY.relax_after_s + 20 * POLICY.window_s)
    assert await time_for(provider, requests=12) < slow / 5
