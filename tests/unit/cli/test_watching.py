"""Watching an embedding: cancellation, silence, streams that break."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sage.embed.v1 import embed_pb2
from sage_cli.films import watching
from sage_cli.films.watching import watch


class Call:
    """A stream that sends a message when it is told to, and is silent otherwise."""

    def __init__(self) -> None:
        self.reads: asyncio.Queue[asyncio.Future] = asyncio.Queue()
        self.cancelled = False

    async def read(self) -> embed_pb2.WatchEmbeddingResponse:
        message = asyncio.get_running_loop().create_future()
        self.reads.put_nowait(message)
        return await message

    def cancel(self) -> None:
        self.cancelled = True


async def follow(call: Call) -> None:
    client = SimpleNamespace(embed=SimpleNamespace(WatchEmbedding=lambda _: call))
    async for _ in watch(client, "embed_1"):
        pass


async def test_an_interrupt_that_coincides_with_a_message_is_not_lost() -> None:
    call = Call()
    following = asyncio.create_task(follow(call))
    message = await call.reads.get()
    message.set_result(embed_pb2.WatchEmbeddingResponse(heartbeat=embed_pb2.Heartbeat()))
    # After one turn of the loop the message is being delivered to the reader, and the interrupt overtakes it.
    await asyncio.sleep(0)
    following.cancel()
    done, _ = await asyncio.wait([following], timeout=5)
    try:
        assert done, "it still waits"
        with pytest.raises(asyncio.CancelledError):
            await following
        assert call.cancelled
    finally:
        following.cancel()


async def test_a_server_that_remains_silent_times_out(monkeypatch) -> None:
    """45 s of silence end a stream; two such streams in a row exceed the patience of 60 s."""
    scale = 1e-3
    rule = replace(watching.WATCH, patience_s=60 * scale, first_pause_s=0.0, longest_pause_s=0.0)
    monkeypatch.setattr(watching, "SILENCE_S", 45 * scale)
    monkeypatch.setattr(watching, "WATCH", rule)
    call = Call()
    with pytest.raises(TimeoutError):
        await follow(call)
    assert call.reads.qsize() == 2
