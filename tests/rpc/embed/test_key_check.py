"""The check of a key with the real SDK over HTTP."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from fakes.api_keys import WITNESS
from fakes.key_provider import EMPTY_LIST, KeyProvider
from sage_embed.engines.twelvelabs.requests import TwelveLabsKeyChecker
from sage_embed.keys.model import KeyStatus
from sage_local.ports import free_port
from sage_runtime.context import working_on

ONE_TASK = {
    "data": [{"_id": "64f8d2c7e4a1b37f8a9c5d12", "status": "ready", "created_at": "2030-01-01T00:00:00Z"}],
    "page_info": {"limit_per_page": 1, "page": 1, "total_page": 1, "total_results": 1},
}
INVALID = {"code": "api_key_invalid", "message": "The API key is either invalid or expired."}


@pytest.fixture
async def provider(monkeypatch) -> AsyncIterator[KeyProvider]:
    """A server in place of TwelveLabs."""
    async with KeyProvider().running() as provider:
        monkeypatch.setenv("TWELVELABS_BASE_URL", provider.base_url)
        yield provider


@pytest.mark.parametrize("answer", [EMPTY_LIST, ONE_TASK])
async def test_a_key_that_may_list_tasks_is_valid(provider, answer):
    """One request for one task. Nothing is created or billed."""
    provider.say(200, json=answer)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.VALID
    assert provider.requests == [("GET", "/v1.3/embed-v2/tasks?page=1&page_limit=1", WITNESS)]


@pytest.mark.parametrize("body", [{"json": INVALID}, {"json": {"error": INVALID}}, {"text": ""}, {"text": "<html>"}])
async def test_401_is_invalid_whatever_its_body(provider, body):
    provider.say(401, **body)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.INVALID


@pytest.mark.parametrize("status", [400, 402, 403, 404, 407, 418, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [{"json": INVALID}, {"text": f"no {WITNESS}"}], ids=["json", "text"])
async def test_any_other_error_is_inconclusive_and_its_body_is_not_logged(provider, caplog, status, body):
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
async def test_a_200_that_is_not_a_list_is_inconclusive(provider, body):
    """A proxy on the way responds in place of TwelveLabs."""
    provider.say(200, **body)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_a_200_that_is_not_utf_8_is_inconclusive(provider):
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=200, body=b"\xff\xfe\xfd", content_type="application/json", charset="utf-8")

    provider.handler = handler
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_redirects_are_not_followed(provider):
    """The key must not be sent to another address."""
    async with KeyProvider().running() as stranger:
        provider.say(307, text="", Location=f"{stranger.base_url}/embed-v2/tasks")
        assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN
        assert (len(provider.requests), stranger.requests) == (1, [])


async def test_a_refused_connection_is_inconclusive(monkeypatch):
    monkeypatch.setenv("TWELVELABS_BASE_URL", f"http://127.0.0.1:{free_port()}/v1.3")
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


@pytest.mark.parametrize("url", ["no url", "ftp://127.0.0.1/v1.3", "http://name.invalid/v1.3", "http://[::1/v1.3"])
async def test_an_unusable_address_is_inconclusive(monkeypatch, url):
    monkeypatch.setenv("TWELVELABS_BASE_URL", url)
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_a_dropped_connection_is_inconclusive_and_not_retried(provider):
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    provider.handler = handler
    assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN
    assert len(provider.requests) == 1


@pytest.fixture
async def silent(provider) -> AsyncIterator[asyncio.Event]:
    """TwelveLabs does not respond. The event is set when the request arrives."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def handler(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await answer.wait()
        return web.json_response(EMPTY_LIST)

    provider.handler = handler
    yield asked
    answer.set()


async def test_a_timeout_is_inconclusive(silent):
    assert await TwelveLabsKeyChecker(timeout_s=0.2).check(WITNESS) is KeyStatus.UNKNOWN


async def test_the_check_ends_before_the_deadline_of_its_caller(silent):
    with working_on(timeout_s=1.2):
        async with asyncio.timeout(1.1):
            assert await TwelveLabsKeyChecker().check(WITNESS) is KeyStatus.UNKNOWN


async def test_a_check_can_be_cancelled(silent):
    check = asyncio.create_task(TwelveLabsKeyChecker().check(WITNESS))
    await silent.wait()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
