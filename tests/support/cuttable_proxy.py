"""A TCP proxy whose connections can be cut, as by a network outage."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

_READ_BYTES = 256 * 1024


class CuttableProxy:
    """Passes connections on to an address until it is told to cut them.

    Attributes:
        port: Where it listens.
        sent_bytes: What clients have sent through it.
        cuts: How many connections were cut.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._away = False
        self._open: set[asyncio.StreamWriter] = set()
        self._moved = asyncio.Condition()
        self.port = 0
        self.sent_bytes = 0
        self.cuts = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["CuttableProxy"]:
        """Listen on a free port of the loopback for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._abort()

    async def wait_for_sent(self, at_least: int) -> None:
        """Return once clients have sent so many bytes."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.sent_bytes >= at_least)

    def go_away(self) -> None:
        """Cut every connection in mid-transfer, and every new one, until `come_back`."""
        self._away = True
        self.cuts += len(self._open)
        self._abort()

    def come_back(self) -> None:
        """Pass connections on again."""
        self._away = False

    def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        host, _, port = self._target.rpartition(":")
        onward_reader, onward_writer = await asyncio.open_connection(host, int(port))
        both = {writer, onward_writer}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, onward_writer, counted=True))
                tasks.create_task(self._pass_on(onward_reader, writer, counted=False))
        finally:
            self._open -= both
            for each in both:
                each.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_READ_BYTES):
                writer.write(data)
                await writer.drain()
                if counted:
                    async with self._moved:
                        self.sent_bytes += len(data)
                        self._moved.notify_all()
            writer.write_eof()
