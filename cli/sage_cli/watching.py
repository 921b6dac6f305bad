"""Following an embedding to its end, over connections that break."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
from sage.embed.v1 import embed_pb2

from sage_cli.client import Client
from sage_cli.errors import reason_of

# The server promises a heartbeat every 15 s; a stream that is quiet for three of them is dead.
SILENCE_S = 45.0
# How long to go on trying without hearing anything: a rolling restart of the server takes less.
PATIENCE_S = 60.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0

FINAL_STATES = frozenset(
    {
        embed_pb2.EMBEDDING_STATE_COMPLETED,
        embed_pb2.EMBEDDING_STATE_FAILED,
        embed_pb2.EMBEDDING_STATE_CANCELLED,
    }
)

# What a connection that broke, or a gateway in between, makes of a stream.
_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


async def watch(
    client: Client, embedding_id: str, *, patience_s: float = PATIENCE_S
) -> AsyncIterator[embed_pb2.Embedding]:
    """Yield an embedding as it is now, then after each change. The last one is in a final state.

    A stream that breaks is taken up again after the last revision that was seen.

    Raises:
        grpc.RpcError: There is no such embedding, or nothing was heard of SAGE for `patience_s`.
    """
    revision = 0
    pause_s = FIRST_PAUSE_S
    heard_at = time.monotonic()
    while True:
        error: grpc.RpcError | None = None
        call = client.embed.WatchEmbedding(
            embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id, after_revision=revision)
        )
        try:
            while True:
                # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with what it waits for.
                async with asyncio.timeout(SILENCE_S):
                    message = await call.read()
                if not isinstance(message, embed_pb2.WatchEmbeddingResponse):
                    break
                heard_at, pause_s = time.monotonic(), FIRST_PAUSE_S
                if message.HasField("embedding"):
                    revision = message.embedding.revision
                    yield message.embedding
                    if message.last or message.embedding.state in FINAL_STATES:
                        return
        except TimeoutError:
            pass
        except grpc.RpcError as broken:
            if not _may_pass(broken):
                raise
            error = broken
        finally:
            call.cancel()
        if time.monotonic() - heard_at > patience_s:
            raise error or TimeoutError
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _may_pass(error: grpc.RpcError) -> bool:
    """Return whether to try again: the server's own answers stand, unless they say that they may change."""
    code = error.code()
    return code is grpc.StatusCode.UNAVAILABLE or (code in _BROKEN and not reason_of(error))
