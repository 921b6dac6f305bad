"""Reading a film in a separate, confined process (`sage_embed.engines.local.film_child`)."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import BinaryIO, Generic, Protocol, TypeVar

from sage_runtime.errors import Reason, SageError
from sage_runtime.process.confined import LENGTH, MAX_READ_BYTES, READ, READ_ARGUMENTS, READY, child_environment

from sage_embed.embeddings.model import LOCAL_PROVIDER, provider_name
from sage_embed.engines.local.block_messages import BLOCK_HEAD
from sage_embed.engines.local.film_child import FAILED, MAX_FAILURE_BYTES, FilmRequest
from sage_embed.fingerprints.model import Block

_MAX_STDERR_BYTES = 4000
# How long a process that has closed its connection may take to end.
_EXIT_TIMEOUT_S = 10.0
# Ten seconds of the most frames that a fingerprint may have are smaller.
_MAX_BLOCK_BYTES = 64 * 1024 * 1024
_CRASHED = "it crashes the decoder"

Item = TypeVar("Item")


class Source(Protocol):
    """A file that can be read at any offset by one thread."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, or none at the end of the file."""
        ...

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset and return it."""
        ...

    def abort(self) -> None:
        """Interrupt a waiting read, and fail all later ones. Any thread may call it."""
        ...

    def close(self) -> None:
        """Free its resources."""
        ...


class MisbehavedError(Exception):
    """The process does not follow the protocol: the film has taken it over, or broken it."""


class FilmProcess(ABC, Generic[Item]):
    """Reads one film in a process that ends with this object's work, or with the worker.

    Args:
        source: The film. Closed at the end.
        request: What to read; the size is that of the source.
        timeout_s: How long the process may send nothing, and receive nothing that is sent to it.
    """

    module: str
    """The program of the process."""

    def __init__(self, source: Source, request: FilmRequest, *, timeout_s: float) -> None:
        self._source = source
        self._request = request
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _receive(self, kind: bytes, messages: BinaryIO) -> Item:
        """Return the item of a message of this kind.

        Raises:
            MisbehavedError: It does not follow the protocol.
        """

    @abstractmethod
    def _is_last(self, item: Item) -> bool:
        """Return whether nothing follows an item."""

    def items(self) -> Generator[Item, None, None]:
        """Yield what the process sends, up to the last item.

        The process is reaped when the iterator ends or is closed.

        Raises:
            SageError: PROVIDER_FAILED if the video cannot be decoded within the limits; STORE_UNAVAILABLE,
                STORE_FORBIDDEN or STORE_MISCONFIGURED if it cannot be read.
            Exception: Any other, after `stop`.
        """
        try:
            request = replace(self._request, size_bytes=self._source.seek(0, io.SEEK_END))
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    process = self._start(theirs)
                try:
                    ours.settimeout(self._timeout_s)
                    with ours.makefile("rb") as messages:
                        ours.sendall(request.encode())
                        yield from self._converse(ours, messages)
                except TimeoutError as error:
                    raise _failed("it takes too long to decode", detail=f"silent for {self._timeout_s:g} s") from error
                except MisbehavedError as error:
                    raise _failed(_CRASHED, detail=str(error)) from error
                except (EOFError, ConnectionError) as error:
                    raise self._ended(process) from error
                finally:
                    self._reap(process)
        finally:
            self._source.close()

    def stop(self) -> None:
        """Make `items` raise soon. Does not block; may be called from any thread."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
        self._source.abort()

    def _start(self, connection: socket.socket) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise EOFError
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self.module],
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                    stderr=subprocess.PIPE,
                    env=child_environment(),
                )
            except OSError as error:
                # This machine has no room for another process now.
                raise SageError(
                    Reason.SERVICE_UNAVAILABLE, detail=f"starting a decoder: {error!r}", service="embed"
                ) from error
            return self._process

    def _converse(self, connection: socket.socket, messages: BinaryIO) -> Iterator[Item]:
        if receive(messages, len(READY)) != READY:
            raise MisbehavedError("it is not ready")
        while True:
            kind = receive(messages, 1)
            if kind == READ:
                connection.sendall(self._bytes(*READ_ARGUMENTS.unpack(receive(messages, READ_ARGUMENTS.size))))
            elif kind == FAILED:
                (size,) = LENGTH.unpack(receive(messages, LENGTH.size))
                raise _told_failure(receive(messages, min(size, MAX_FAILURE_BYTES)))
            else:
                item = self._receive(kind, messages)
                yield item
                if self._is_last(item):
                    return

    def _bytes(self, offset: int, length: int) -> bytes:
        """Return the response to a request for bytes: all of them, or fewer at the end of the file."""
        self._source.seek(offset)
        length = min(length, MAX_READ_BYTES)
        data = bytearray()
        while len(data) < length and (more := self._source.read(length - len(data))):
            data += more
        return LENGTH.pack(len(data)) + data

    def _ended(self, process: subprocess.Popen[bytes]) -> Exception:
        """Return the error for a process that ended before the film did."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_EXIT_TIMEOUT_S)
        code = process.poll()
        detail = f"the decoder ended with {code}: {_last_words(process)}"
        if code == -signal.SIGXCPU:
            return _failed("it takes too long to decode for its length", detail=detail)
        if code == -signal.SIGKILL:
            # By the kernel, which had no memory left.
            return _failed("it takes too much memory to decode", detail=detail)
        if code is None or code < 0:
            return _failed(_CRASHED, detail=detail)
        # An uncaught exception.
        return RuntimeError(detail)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        with self._lock:
            self._process = None
        if process.stderr is not None:
            process.stderr.close()


class BlockReceiver:
    """Receives the blocks of one film's fingerprint in order.

    Args:
        first_block: Index of the first one.
        duration_seconds: Length of the film.
    """

    def __init__(self, first_block: int, duration_seconds: float) -> None:
        self._next = first_block
        self._duration_seconds = duration_seconds

    def receive(self, messages: BinaryIO) -> Block:
        """Return the next block.

        Raises:
            EOFError: The process has ended.
            MisbehavedError: It is not the next one, or larger than it can be.
        """
        index, frames, end_seconds, size = BLOCK_HEAD.unpack(receive(messages, BLOCK_HEAD.size))
        if index != self._next or not 0 <= end_seconds <= self._duration_seconds or not 0 < size <= _MAX_BLOCK_BYTES:
            raise MisbehavedError(f"block {index} of {size} bytes, up to {end_seconds} s, where {self._next} follows")
        self._next += 1
        return Block(index, receive(messages, size), frames, end_seconds)


def receive(messages: BinaryIO, size: int) -> bytes:
    """Return the next bytes from a process.

    Raises:
        EOFError: It has ended.
    """
    data = messages.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _told_failure(encoded: bytes) -> Exception:
    try:
        values = json.loads(encoded)
        why, detail = str(values["why"]), str(values["detail"])
    except (ValueError, KeyError, TypeError) as error:
        return MisbehavedError(repr(error))
    return _failed(why, detail=detail)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    if process.stderr is None:
        return ""
    os.set_blocking(process.stderr.fileno(), False)
    return (process.stderr.read() or b"")[-_MAX_STDERR_BYTES:].decode(errors="replace")


def _failed(why: str, *, detail: str = "") -> SageError:
    return SageError(Reason.PROVIDER_FAILED, detail=detail, provider=provider_name(LOCAL_PROVIDER), why=why)
