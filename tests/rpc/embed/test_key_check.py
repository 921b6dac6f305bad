"""What the check of a key makes of TwelveLabs' answers, over the real SDK and HTTP."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from fakes.api_keys import WITNESS
from fakes.key_provider import EMPTY_LIST, KeyProvider
from sage_embed.adapters.twelvelabs.key_check import TwelveLabsKeyChecker
from sage_embed.key_model import KeyStatus
from sage_local.ports import free_port
from sage_runtime.context import working_on

ONE_TASK = {
    "data": [{"_id": "64f8d2c7e4a1b37f8a9c5d12", "status": "ready", "created_at": "2030-01-01T00:00:00Z"}],
    "page_info": {"limit_per_page": 1, "page": 1, "total_page": 1, "total_results": 1},
}
INVALID = {"code": "api_key_invalid", "message": "The API key is either invalid or expired."}


@pytest.fixture
async def provider(monkeypatch) -> AsyncIterator[KeyProvider]:
    """A server in TwelveLabs' place."""
    async with KeyProvider().running() as provider:
        monkeypatch.setenv("TWELVELABS_BASE_URL", provider.base_url)
        yield provider


@pytest.mark.parametrize("answer", [EMPTY_LIST, ONE_TASK])
async def test_a_key_that_may_list_is_valid(provider, answer):
    """One request, for one task, with the key in its header: nothing is made and nothing billed."""
    provider.say(200, json=answer)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.VALID
    assert provider.requests == [("GET", "/v1.3/embed-v2/tasks?page=1&page_limit=1", WITNESS)]


@pytest.mark.parametrize("body", [{"json": INVALID}, {"json": {"error": INVALID}}, {"text": ""}, {"text": "<html>"}])
async def test_only_401_is_invalid(provider, body):
    """Whatever its body says."""
    provider.say(401, **body)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.INVALID


@pytest.mark.parametrize("status", [400, 402, 403, 404, 407, 418, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [{"json": INVALID}, {"text": f"no {WITNESS}"}], ids=["json", "text"])
async def test_any_other_error_tells_nothing(provider, caplog, status, body):
    """A rate limit, a ban of the network or an outage never makes a key invalid; no answer's body is logged."""
    provider.say(status, **body)
    with caplog.at_level(logging.DEBUG):
        assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN
    assert len(provider.requests) == 1
    assert WITNESS not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        {"text": ""},
        {"text": "<html>Sign in to the hotel's network</html>"},
        {"json": None},
        {"json": ["data"]},
        {"json": {}},
    ],
)
async def test_a_200_that_is_no_list_tells_nothing(provider, body):
    """Somebody on the way answers for TwelveLabs."""
    provider.say(200, **body)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_bytes_that_are_no_text_tell_nothing(provider):
    """Even where they claim to be JSON."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=200, body=b"\xff\xfe\xfd", content_type="application/json", charset="utf-8")

    provider.handler = handler
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_a_key_is_not_taken_along_to_another_address(provider):
    """A redirect is not followed: the key is TwelveLabs' business alone."""
    async with KeyProvider().running() as stranger:
        provider.say(307, text="", Location=f"{stranger.base_url}/embed-v2/tasks")
        assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN
        assert (len(provider.requests), stranger.requests) == (1, [])


async def test_no_network_tells_nothing(monkeypatch):
    """Nobody listens."""
    monkeypatch.setenv("TWELVELABS_BASE_URL", f"http://127.0.0.1:{free_port()}/v1.3")
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


@pytest.mark.parametrize("url", ["no url", "ftp://127.0.0.1/v1.3", "http://name.invalid/v1.3", "http://[::1/v1.3"])
async def test_an_address_that_leads_nowhere_tells_nothing(monkeypatch, url):
    """A slip in the setting is no error of the caller's."""
    monkeypatch.setenv("TWELVELABS_BASE_URL", url)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_a_connection_that_drops_tells_nothing(provider):
    """It is not asked a second time."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    provider.handler = handler
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN
    assert len(provider.requests) == 1


@pytest.fixture
async def silent(provider) -> AsyncIterator[asyncio.Event]:
    """TwelveLabs says nothing; the event is set when it is asked."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def handler(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await answer.wait()
        return web.json_response(EMPTY_LIST)

    provider.handler = handler
    yield asked
    answer.set()


async def test_silence_tells_nothing(silent):
    """The check has an end of its own."""
    assert await TwelveLabsKeyChecker(timeout_s=0.2).check(WITNESS) is KeyStatus.UNKNOWN


async def test_a_caller_in_a_hurry_gets_an_answer_in_time(silent):
    """Where the caller waits less than the check would, it ends before the caller does."""
    with working_on(timeout_s=1.2):
        async with asyncio.timeout(1.1):
            assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_a_check_can_be_cancelled(silent):
    """A caller that goes away stops it."""
    check = asyncio.create_task(TwelveLabsKeyChecker().check(WITNESS))
    await silent.wait()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
