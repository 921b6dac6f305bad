"""Watching an embedding until it finishes, across broken connections."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from sage.embed.v1 import embed_pb2

from sage_cli.api.client import Client
from sage_cli.api.retries import WATCH, Attempts

# The server sends a heartbeat every 15 s; a stream that is silent for three of them is dead.
SILENCE_S = 45.0

FINAL_STATES = frozenset(
    {
        embed_pb2.EMBEDDING_STATE_COMPLETED,
        embed_pb2.EMBEDDING_STATE_FAILED,
        embed_pb2.EMBEDDING_STATE_CANCELLED,
    }
)


async def watch(client: Client, embedding_id: str, *, request_id: str = "") -> AsyncIterator[embed_pb2.Embedding]:
    """Yield the current state of an embedding, then the state after each change. The last one is in a final state.

    A broken stream is reopened after the last revision that was seen.

    Args:
        client: The client of the server.
        embedding_id: The embedding.
        request_id: The request for it that this command can withdraw; empty if there is none.

    Raises:
        grpc.RpcError: There is no such embedding, or SAGE could not be reached for too long.
        TimeoutError: SAGE was silent for too long.
    """
    revision = 0
    attempts = Attempts(WATCH)
    while True:
        request = embed_pb2.WatchEmbeddingRequest(
            embedding_id=embedding_id, after_revision=revision, request_id=request_id
        )
        call = client.embed.WatchEmbedding(request)
        failure: grpc.RpcError | TimeoutError = TimeoutError()
        silent_s = 0.0
        try:
            while True:
                # Not `wait_for`: before Python 3.12 it can lose a cancellation that coincides with a message.
                async with asyncio.timeout(SILENCE_S):
                    message = await call.read()
                if not isinstance(message, embed_pb2.WatchEmbeddingResponse):
                    break  # The stream ended without `last`: it was cut off.
                attempts.succeeded()
                if message.WhichOneof("event") == "embedding":
                    revision = message.embedding.revision
                    yield message.embedding
                if message.last or message.embedding.state in FINAL_STATES:
                    return
        except TimeoutError:
            silent_s = SILENCE_S
        except grpc.RpcError as error:
            failure = error
        finally:
            call.cancel()
        await attempts.failed(failure, silent_s=silent_s)
