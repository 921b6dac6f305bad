"""A remote file that is read through ranged HTTP requests, as FFmpeg wants to read it.

FFmpeg's own HTTP client is not used: it cannot be stopped while it waits, and it knows neither the certificates of this
machine nor how to ask for a new link when the old one has expired.
"""

import contextlib
import http.client
import io
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from sage_runtime.errors import Reason, SageError

_TIMEOUT_S = 10.0
# Waits after a request that failed, with nothing read since the one before.
_RETRY_WAITS_S = (0.2, 1.0, 3.0)
# A seek forward by up to so much reads on: that is faster than a new request.
_READ_ON_BYTES = 1024 * 1024
_ACCEPTED = (http.client.PARTIAL_CONTENT, http.client.OK)


class AbortedError(Exception):
    """Reading was aborted by its owner."""


class _RefusedError(Exception):
    """The server answered, but not with the bytes."""


class HttpSource:
    """Reads a remote file of fixed content.

    A connection that breaks is made again, with a fresh URL, and reading goes on where it was. One thread reads; any
    thread may abort.

    Args:
        url: Makes a URL that is valid now. Called in the reading thread.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._position = 0
        self._size: int | None = None
        self._response: http.client.HTTPResponse | None = None
        self._response_at = 0
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._aborted = threading.Event()
        self.error: Exception | None = None

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end of the file.

        The error that ended reading is also kept in `error`, as FFmpeg may take it for the end of the file.

        Raises:
            AbortedError: `abort` was called.
            SageError: STORE_UNAVAILABLE where the server cannot be reached or refuses.
        """
        try:
            return self._read(size)
        except Exception as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset. The next read makes the request."""
        if whence == io.SEEK_END and self._size is None:
            # The answer to a request tells the size.
            self.read(1)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size or 0}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def abort(self) -> None:
        """End a read that waits, and refuse all that follow."""
        self._aborted.set()
        with self._lock:
            if self._socket is not None:
                # Wakes a thread that waits for bytes; closing alone would not.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give up the connection. Only where nothing reads."""
        with self._lock:
            if self._response is not None:
                self._response.close()
            if self._socket is not None:
                self._socket.close()
            self._response = self._socket = None

    def _read(self, size: int) -> bytes:
        failures = 0
        while True:
            try:
                self._go_to_position()
                if self._response is None:
                    return b""
                data = _receive(self._response, size, at_end=self._position >= (self._size or 0))
            except (OSError, http.client.HTTPException, _RefusedError) as error:
                self.close()
                if failures == len(_RETRY_WAITS_S):
                    detail = f"reading the video at byte {self._position}: {error!r}"
                    raise SageError(Reason.STORE_UNAVAILABLE, detail=detail, store="video store") from error
                # An abort breaks the connection too, and is noticed here.
                if self._aborted.wait(_RETRY_WAITS_S[failures]):
                    raise AbortedError from error
                failures += 1
            else:
                self._position += len(data)
                self._response_at = self._position
                return data

    def _go_to_position(self) -> None:
        """Make the response's next byte the one at the position; leave none where the file has ended."""
        if self._aborted.is_set():
            raise AbortedError
        ahead = self._position - self._response_at
        if self._response is not None and 0 <= ahead <= _READ_ON_BYTES:
            while ahead:
                ahead -= len(_receive(self._response, ahead, at_end=False))
            self._response_at = self._position
            return
        self.close()
        if self._size is None or self._position < self._size:
            self._request()

    def _request(self) -> None:
        url = urlsplit(self._url())
        if url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                url.netloc, timeout=_TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(url.netloc, timeout=_TIMEOUT_S)
        connection.connect()
        with self._lock:
            self._socket = connection.sock
        if self._aborted.is_set():
            raise AbortedError
        target = f"{url.path}?{url.query}" if url.query else url.path
        connection.request("GET", target, headers={"Range": f"bytes={self._position}-", "Accept-Encoding": "identity"})
        response = connection.getresponse()
        if response.status not in _ACCEPTED or (response.status == http.client.OK and self._position):
            response.close()
            raise _RefusedError(f"HTTP {response.status}")
        self._response, self._response_at = response, self._position
        self._size = self._position + (response.length or 0)


def _receive(response: http.client.HTTPResponse, size: int, *, at_end: bool) -> bytes:
    """Return up to `size` bytes; an empty answer is an error unless the file has ended."""
    data = response.read(size)
    if not data and size and not at_end:
        raise _RefusedError("the connection ended early")
    return data
