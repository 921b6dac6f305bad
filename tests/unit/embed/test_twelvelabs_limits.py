"""Rate limits of TwelveLabs: what users are told, and when they end the work."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from fakes.marengo import (
    KEY,
    SENT,
    URL,
    CountingPace,
    Marengo,
    fail,
    request_of,
    run,
)
from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.engine import Resume
from sage_embed.engines.twelvelabs import session
from sage_embed.keys.model import ProviderKey
from sage_runtime.errors import Reason
from support.waiting import until_turned


async def test_waiting_for_a_turn_ends_at_the_deadline():
    class Never:
        async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
            await asyncio.Event().wait()

    marengo = Marengo()
    marengo.pace = Never()  # type: ignore[assignment] # only what is called
    error = await fail(marengo, settings=TwelveLabsSettings(deadline_s=0.01, timeout_s=0.01))
    assert error.reason is Reason.PROVIDER_QUOTA_EXCEEDED


@pytest.mark.parametrize("step", ["create", "retrieve"])
async def test_a_rate_limit_that_refuses_every_request_ends_at_the_deadline(step):
    marengo = Marengo()

    def refuse(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += 60
        marengo.told[step].append(refuse)
        return httpx.Response(429, headers={"Retry-After": "5"})

    marengo.tell(step, refuse)
    error = await fail(marengo, request_of(marengo, urls=[URL] * 500))
    assert error.reason is Reason.PROVIDER_QUOTA_EXCEEDED
    assert marengo.clock.seconds == pytest.approx(TwelveLabsSettings().deadline_s, abs=120)


async def test_a_hold_ends_at_the_deadline_of_a_task_that_is_resumed_shortly_before_it():
    marengo = Marengo()
    since = marengo.clock.now() - timedelta(seconds=TwelveLabsSettings().deadline_s - 60)

    def refuse(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += 20
        marengo.told["retrieve"].append(refuse)
        return httpx.Response(429)

    marengo.tell("retrieve", refuse)
    resume = Resume(marengo.make_task(), SENT, since, {}, waiting_since=since)
    error = await fail(marengo, request_of(marengo, resume=resume))
    assert error.reason is Reason.PROVIDER_QUOTA_EXCEEDED
    assert marengo.clock.seconds <= 100


async def test_an_overdue_task_is_polled_despite_a_rate_limit():
    marengo = Marengo(polls_before_ready=0)
    long_ago = marengo.clock.now() - timedelta(days=1)
    resume = Resume(marengo.make_task(), None, long_ago, {}, waiting_since=long_ago)
    marengo.tell("retrieve", httpx.Response(429))
    assert (await run(marengo, request_of(marengo, resume=resume))).tracks() == ["visual"]


async def test_a_key_replaced_while_waiting_for_a_turn_is_not_used():
    new = ProviderKey("tlk_new", "new")
    marengo = Marengo()
    marengo.keys.keys = deque([KEY, new])
    await run(marengo)
    assert {request.headers["x-api-key"] for request in marengo.requests} == {new.secret}


async def test_a_rate_limit_is_reported_as_progress():
    marengo = Marengo()
    marengo.tell("create", httpx.Response(429))
    outcome = await run(marengo)
    assert "The rate limit of TwelveLabs was reached" in outcome.said[1]


@pytest.mark.parametrize(
    ("held_s", "told"),
    [
        (93.0, "The rate limit of TwelveLabs holds this work back until 00:01:33 UTC."),
        (0.0, "Waiting for a turn: requests to TwelveLabs are spaced to stay within its rate limit."),
    ],
    ids=["hold", "long turn"],
)
async def test_what_holds_a_request_back_is_told(monkeypatch, held_s, told):
    """By every embedding that it holds back."""
    monkeypatch.setattr(session, "_NOTICE_S", 0.001)
    monkeypatch.setattr(session, "_LONG_TURN_S", 0.0)
    turns = asyncio.Semaphore(0)

    class Holding(CountingPace):
        async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
            await turns.acquire()

    marengo = Marengo(polls_before_ready=0)
    marengo.pace = Holding(held=held_s)
    running = asyncio.create_task(run(marengo))
    await until_turned(lambda: marengo.reported)
    for _ in range(9):
        turns.release()
    await running
    assert set(marengo.reported) == {told}
