"""The SDK's client, one for each key, and answers that are read while they arrive."""

import asyncio
import functools
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

import anyio
import httpx
from twelvelabs import AsyncTwelveLabs

from sage_embed.ports import ProviderKey

# Parsed in a few milliseconds, so that the event loop stays free.
_CHUNK_BYTES = 32 * 1024

_Result_co = TypeVar("_Result_co", covariant=True)


class Reader(Protocol[_Result_co]):
    """Takes an answer's body in pieces."""

    def feed(self, chunk: bytes, /) -> None:
        """Read on. Raises `ValueError` where it is not what was expected."""
        ...

    def finish(self) -> _Result_co:
        """Return what was read. Raises `ValueError` where it is not what was expected."""
        ...


_reader: ContextVar[Reader[object] | None] = ContextVar("twelvelabs_reader", default=None)


class _ReadError(Exception):
    """The answer has been read: the SDK is not to parse it again."""


async def reading(reader: Reader[_Result_co], request: Callable[[], Awaitable[object]]) -> _Result_co:
    """Make a request through the SDK, and read its answer with a reader where it is a good one.

    The SDK parses an answer at once, on the event loop, and refuses all of it where one value is odd. So the answer is
    read by a hook of the HTTP client, which then ends the SDK's call.

    Raises:
        ValueError: The answer is not what the reader expects.
        Exception: Whatever the SDK raises, where the answer is an error.
    """
    token = _reader.set(reader)
    try:
        await request()
    except _ReadError:
        return reader.finish()
    finally:
        _reader.reset(token)
    raise ValueError("an answer without a body")


async def _read(response: httpx.Response) -> None:
    reader = _reader.get()
    if reader is None or not response.is_success:
        return
    async for chunk in response.aiter_bytes(_CHUNK_BYTES):
        reader.feed(chunk)
        # Bytes that are there already are given without a pause.
        await asyncio.sleep(0)
    raise _ReadError


def new_http_client() -> httpx.AsyncClient:
    """Return the HTTP client that the SDK is given.

    The SDK's own follows redirects, and takes the key along to wherever they lead. Every request has its own timeout.
    """
    return httpx.AsyncClient(verify=_certificates(), follow_redirects=False)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return what TwelveLabs' certificate is checked against, read once: it takes some 40 ms."""
    return httpx.create_ssl_context()


def new_sdk(secret: str, http: httpx.AsyncClient) -> AsyncTwelveLabs:
    """Return the SDK's client for a key, over an HTTP client whose answers `reading` can read."""
    http.event_hooks = {"response": [_read]}
    return AsyncTwelveLabs(api_key=secret, httpx_client=http)


def preload() -> None:
    """Load what the first client and its first request would load: certificates, and modules imported only then.

    Called before there is an event loop, it holds up nobody.
    """
    anyio.run(anyio.sleep, 0)
    new_sdk("none", new_http_client())


@dataclass
class _Shared:
    fingerprint: str
    sdk: AsyncTwelveLabs
    http: httpx.AsyncClient
    users: int = 0


class Clients:
    """Lends the SDK's client for a key. When the key changes, the one before is closed after its last request.

    Args:
        http_client: Makes the HTTP client below it.
    """

    def __init__(self, http_client: Callable[[], httpx.AsyncClient] = new_http_client) -> None:
        # They log every URL.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._http_client = http_client
        self._current: _Shared | None = None
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def lend(self, key: ProviderKey) -> AsyncIterator[AsyncTwelveLabs]:
        """Return the client of a key for the length of the block."""
        async with self._making:
            shared = self._current
            if shared is None or shared.fingerprint != key.fingerprint:
                shared = self._make(key)
                await self._retire()
                self._current = shared
            shared.users += 1
        try:
            yield shared.sdk
        finally:
            shared.users -= 1
            if shared is not self._current and not shared.users:
                await shared.http.aclose()

    async def aclose(self) -> None:
        """Close the client that is open, unless it is in use: then that happens after its last request."""
        async with self._making:
            await self._retire()

    async def _retire(self) -> None:
        shared, self._current = self._current, None
        if shared is not None and not shared.users:
            await shared.http.aclose()

    def _make(self, key: ProviderKey) -> _Shared:
        http = self._http_client()
        return _Shared(key.fingerprint, new_sdk(key.secret, http), http)
