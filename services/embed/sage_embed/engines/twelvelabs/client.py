"""The SDK's client for each key, and how responses bypass the SDK's parser.

Requests are made by the official SDK, but its parser never sees a successful response. A result can be 200 MB, and
the SDK parses it in one call, which blocks the event loop for seconds (even at 80 MB), uses ten times the size in
memory, and rejects the entire result if one value is unexpected. A thread would not help, because the parser holds the
GIL. Instead, every successful response is read as it arrives:

1. `read_response` puts a reader into a context variable and calls the SDK.
2. The SDK sends the request with our HTTP client, whose response hook `_read` feeds the body to that reader in chunks.
   It then raises `_ResponseRead`, which ends the SDK's call before its parser runs.
3. `read_response` returns the reader's result.

Readers parse with `JsonStream`, which emits the elements of the large arrays one by one. Error responses and
requests without a reader (those that create a task) take the SDK's normal path.
"""

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

import anyio
import httpx
from twelvelabs import AsyncTwelveLabs

from sage_embed.keys.model import ProviderKey

# A chunk is parsed in a few milliseconds; between chunks the event loop is free.
_CHUNK_BYTES = 32 * 1024
# No element of an array in a response of TwelveLabs, and no other value, is nearly as large.
_MAX_VALUE_CHARS = 4 * 1024 * 1024
_SPACE = " \t\n\r"
_ENDS = frozenset(_SPACE + ",]}")

JsonPath = tuple[str, ...]
Document = dict[str, object]

_Result_co = TypeVar("_Result_co", covariant=True)


class Reader(Protocol[_Result_co]):
    """Reads the body of a response in chunks."""

    def feed(self, chunk: bytes, /) -> None:
        """Read the next chunk. Raises `ValueError` if the body is not what was expected."""
        ...

    def finish(self) -> _Result_co:
        """Return what was read. Raises `ValueError` if the body is not what was expected."""
        ...


_reader: ContextVar[Reader[object] | None] = ContextVar("twelvelabs_reader", default=None)


class _ResponseRead(Exception):  # noqa: N818 - not an error: it ends the SDK's call
    """The response has been read, and the SDK must not parse it."""


async def read_response(reader: Reader[_Result_co], request: Callable[[], Awaitable[object]]) -> _Result_co:
    """Make a request through the SDK, and read the response with a reader instead of the SDK's parser.

    Raises:
        ValueError: The response is not what the reader expects.
        Exception: Whatever the SDK raises for an error response.
    """
    token = _reader.set(reader)
    try:
        await request()
    except _ResponseRead:
        return reader.finish()
    finally:
        _reader.reset(token)
    raise ValueError("a response without a body")


async def _read(response: httpx.Response) -> None:
    reader = _reader.get()
    if reader is None or not response.is_success:
        return
    async for chunk in response.aiter_bytes(_CHUNK_BYTES):
        reader.feed(chunk)
        # Chunks that are already buffered arrive without yielding to the event loop.
        await asyncio.sleep(0)
    raise _ResponseRead


def new_http_client() -> httpx.AsyncClient:
    """Return the HTTP client for the SDK.

    The SDK's own client follows redirects and sends the key to their targets. Timeouts are set for each request.
    """
    return httpx.AsyncClient(verify=_certificates(), follow_redirects=False)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return the trusted certificates, loaded only once: that takes some 40 ms."""
    return httpx.create_ssl_context()


def new_sdk(secret: str, http: httpx.AsyncClient) -> AsyncTwelveLabs:
    """Return the SDK's client for a key, over an HTTP client whose responses `read_response` can read."""
    http.event_hooks = {"response": [_read]}
    return AsyncTwelveLabs(api_key=secret, httpx_client=http)


def preload() -> None:
    """Load what the first client and its first request would load: certificates, and modules imported on demand.

    Call this before the event loop starts, so that it delays nothing.
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
    """Lends the SDK's client for a key. When the key changes, the previous client is closed after its last request.

    Args:
        http_client: Makes the underlying HTTP client.
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
        """Return the client for a key for the duration of the block."""
        async with self._making:
            shared = self._current
            if shared is None or shared.fingerprint != key.fingerprint:
                http = self._http_client()
                shared = _Shared(key.fingerprint, new_sdk(key.secret, http), http)
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
        """Close the open client, or if it is in use, let it close after its last request."""
        async with self._making:
            await self._retire()

    async def _retire(self) -> None:
        shared, self._current = self._current, None
        if shared is not None and not shared.users:
            await shared.http.aclose()


class JsonStreamError(ValueError):
    """The input is not a JSON object."""


class JsonStream:
    """Parses one JSON object as it arrives.

    Args:
        elements: For each large array, by the keys that lead to it, a function that receives its elements one by one.
            The array itself is left out of the document.
    """

    def __init__(self, elements: Mapping[JsonPath, Callable[[object], None]]) -> None:
        self._elements = elements
        self._inner = {path[:length] for path in elements for length in range(1, len(path))}
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False
        self._document: Document | None = None
        self._parsing = self._parse()

    def feed(self, text: str) -> None:
        """Parse the next piece of text.

        Raises:
            JsonStreamError: It is not a JSON object.
        """
        self._text = self._text[self._at :] + text
        self._at = 0
        self._advance()
        if len(self._text) - self._at > _MAX_VALUE_CHARS:
            raise JsonStreamError("a value is too large")

    def finish(self) -> Document:
        """Return the object without the arrays whose elements were emitted. No text may follow.

        Raises:
            JsonStreamError: It is not a JSON object, or it is incomplete.
        """
        self._ended = True
        self._advance()
        if self._document is None or self._text[self._at :].strip(_SPACE):
            raise JsonStreamError("not exactly one JSON object")
        return self._document

    def _advance(self) -> None:
        if self._document is None:
            next(self._parsing, None)

    # The parser is a generator that yields whenever it needs more text.
    def _parse(self) -> Generator[None, None, None]:
        yield from self._expect("{")
        self._document = yield from self._object(())

    def _object(self, path: JsonPath) -> Generator[None, None, Document]:
        document: Document = {}
        if (yield from self._peek()) == "}":
            self._at += 1
            return document
        while True:
            key = yield from self._value()
            if not isinstance(key, str):
                raise JsonStreamError("a key is not a string")
            yield from self._expect(":")
            document[key] = yield from self._member((*path, key))
            if (yield from self._expect(",}")) == "}":
                return document

    def _member(self, path: JsonPath) -> Generator[None, None, object]:
        opening = yield from self._peek()
        if opening == "[" and path in self._elements:
            self._at += 1
            yield from self._array(self._elements[path])
            return None
        if opening == "{" and path in self._inner:
            self._at += 1
            return (yield from self._object(path))
        return (yield from self._value())

    def _array(self, receive: Callable[[object], None]) -> Generator[None, None, None]:
        if (yield from self._peek()) == "]":
            self._at += 1
            return
        while True:
            receive((yield from self._value()))
            if (yield from self._expect(",]")) == "]":
                return

    def _value(self) -> Generator[None, None, object]:
        while True:
            yield from self._peek()
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._ended:
                    raise JsonStreamError("a value is incomplete or not JSON") from error
            else:
                # A number may be incomplete: `1.` is decoded as 1, followed by a point.
                if isinstance(value, str | list | dict) or self._text[end : end + 1] in _ENDS or self._ended:
                    self._at = end
                    return value
            yield

    def _expect(self, characters: str) -> Generator[None, None, str]:
        found = yield from self._peek()
        if found not in characters:
            raise JsonStreamError(f"expected one of {characters}")
        self._at += 1
        return found

    def _peek(self) -> Generator[None, None, str]:
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                raise JsonStreamError("it ends early")
            yield
