"""A client of HTTP/2 that sends what no library would: any header, no message, nothing at all."""

import asyncio
import struct
from collections.abc import Sequence

Headers = Sequence[tuple[str | bytes, str | bytes]]

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


def grpc_headers(path: str, *more: tuple[str | bytes, str | bytes], authority: str = "localhost") -> Headers:
    """Return the headers of a gRPC call."""
    return [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority),
        ("content-type", "application/grpc"), ("te", "trailers"), *more,
    ]  # fmt: skip


class RawConnection:
    """A connection. Use `connect`.

    Attributes:
        ended: The number of streams that the server has ended.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._next_stream = 1
        self.ended = 0
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(cls, address: str, *, source: str | None = None) -> "RawConnection":
        """Open a connection, from a certain address of this machine."""
        host, _, port = address.rpartition(":")
        local = (source, 0) if source else None
        one = cls(*await asyncio.open_connection(host, int(port), local_addr=local))
        one._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
        return one

    def send(self, headers: Headers, message: bytes | None = b"", trailers: Headers = ()) -> int:
        """Send a call with one message and return its stream. Without a message, the call stays open."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._writer.write(_frame(_HEADERS, _END_HEADERS, stream, _packed(headers)))
        if message is not None:
            data = b"\0" + struct.pack(">I", len(message)) + message
            self._writer.write(_frame(_DATA, 0 if trailers else _END_STREAM, stream, data))
            if trailers:
                self._writer.write(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, _packed(trailers)))
        return stream

    async def until_ended(self, count: int, *, timeout_s: float = 10) -> None:
        """Return once the server has ended this many streams, or the connection."""
        async with asyncio.timeout(timeout_s):
            while self.ended < count and not self._reading.done():  # noqa: ASYNC110 - no event signals it
                await asyncio.sleep(0.005)

    async def closed(self, *, timeout_s: float) -> None:
        """Return once the server has closed the connection."""
        async with asyncio.timeout(timeout_s):
            await asyncio.wait([self._reading])

    async def close(self) -> None:
        """Close the connection."""
        self._reading.cancel()
        self._writer.transport.abort()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(9)
                kind, flags = head[3], head[4]
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if kind == _SETTINGS and not flags & _ACK:
                    self._writer.write(_frame(_SETTINGS, _ACK, 0, b""))
                elif kind == _PING and not flags & _ACK:
                    self._writer.write(_frame(_PING, _ACK, 0, payload))
                elif kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
                    self.ended += 1
        except (OSError, asyncio.IncompleteReadError):
            return


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _packed(headers: Headers) -> bytes:
    """Return headers in HPACK, each as a literal that is not indexed."""
    packed = b""
    for name, value in headers:
        packed += b"\0" + _text(name) + _text(value)
    return packed


def _text(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, length = len(data) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    length.append(rest)
    return bytes(length) + data
