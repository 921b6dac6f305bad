"""A remote file for FFmpeg, read with HTTP range requests.

FFmpeg's own HTTP client is not used: it cannot be interrupted while it waits, does not use the certificates of this
machine, and cannot request a new URL when the old one has expired.
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
# Delays after consecutive failures with no bytes read in between.
_RETRY_WAITS_S = (0.2, 1.0, 3.0)
# A forward seek up to this distance reads and discards, which is faster than a new request.
_READ_ON_BYTES = 1024 * 1024
_ACCEPTED = (http.client.PARTIAL_CONTENT, http.client.OK)


class AbortedError(Exception):
    """The source was aborted."""


class _RefusedError(Exception):
    """The server did not respond with the requested bytes.

    Args:
        why: For the log.
        status: The HTTP status, if that is why.
    """

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


class HttpSource:
    """Reads a remote file that does not change.

    After a broken connection, reading continues at the same offset with a fresh URL. One thread reads; any thread may
    abort.

    Args:
        url: Makes a valid URL. Called in the reading thread.
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

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, or none at the end of the file.

        Raises:
            AbortedError: `abort` was called.
            SageError: STORE_UNAVAILABLE if the store cannot be reached, STORE_FORBIDDEN if it refuses a fresh URL, or
                STORE_MISCONFIGURED if it does not have the film.
        """
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
                    raise self._failed(error) from error
                # An abort also breaks the connection, and is detected here.
                if self._aborted.wait(_RETRY_WAITS_S[failures]):
                    raise AbortedError from error
                failures += 1
            else:
                self._position += len(data)
                self._response_at = self._position
                return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset. The request is made by the next read."""
        if whence == io.SEEK_END and self._size is None:
            # The response to a request states the size.
            self.read(0)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size or 0}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def abort(self) -> None:
        """Interrupt a waiting read, and fail all later ones."""
        self._aborted.set()
        with self._lock:
            if self._socket is not None:
                # Wakes a thread that waits for bytes. Closing the socket would not.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. Must not be called during a read."""
        with self._lock:
            if self._response is not None:
                self._response.close()
            if self._socket is not None:
                self._socket.close()
            self._response = self._socket = None

    def _failed(self, error: Exception) -> SageError:
        detail = f"reading the video at byte {self._position}: {error!r}"
        status = error.status if isinstance(error, _RefusedError) else None
        if status == http.client.FORBIDDEN:
            why = "it does not send the film to a fresh URL (HTTP 403)"
            return SageError(Reason.STORE_FORBIDDEN, detail=detail, store="video store", why=why)
        if status == http.client.NOT_FOUND:
            why = "it does not have the film (HTTP 404)"
            return SageError(Reason.STORE_MISCONFIGURED, detail=detail, store="video store", why=why)
        return SageError(Reason.STORE_UNAVAILABLE, detail=detail, store="video store")

    def _go_to_position(self) -> None:
        """Make the next byte of the response the one at the position. At the end of the file, leave no response."""
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
            raise _RefusedError(f"HTTP {response.status}", response.status)
        self._response, self._response_at = response, self._position
        self._size = self._position + (response.length or 0)


def _receive(response: http.client.HTTPResponse, size: int, *, at_end: bool) -> bytes:
    """Return up to `size` bytes. None is an error unless the file has ended."""
    data = response.read(size)
    if not data and size and not at_end:
        raise _RefusedError("the connection ended early")
    return data
