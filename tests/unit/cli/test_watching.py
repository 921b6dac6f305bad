"""Following an embedding: how it is given up."""

import asyncio
from types import SimpleNamespace

import pytest
from sage.embed.v1 import embed_pb2
from sage_cli.watching import watch


class Call:
    """A stream that answers when told to, and then is silent."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[asyncio.Future] = asyncio.Queue()
        self.cancelled = False

    async def read(self) -> embed_pb2.WatchEmbeddingResponse:
        answer = asyncio.get_running_loop().create_future()
        self.answers.put_nowait(answer)
        return await answer

    def cancel(self) -> None:
        self.cancelled = True


async def test_interrupt_that_meets_an_answer_is_not_lost() -> None:
    """Who is told to stop in the very moment in which news arrive stops, and does not wait for more."""
    call = Call()
    client = SimpleNamespace(embed=SimpleNamespace(WatchEmbedding=lambda _: call))

    async def follow() -> None:
        async for _ in watch(client, "embed_1"):
            pass

    following = asyncio.create_task(follow())
    answer = await call.answers.get()
    answer.set_result(embed_pb2.WatchEmbeddingResponse(heartbeat=True))
    # One turn of the loop for the answer to be on its way up, and the interrupt comes before it has arrived.
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
