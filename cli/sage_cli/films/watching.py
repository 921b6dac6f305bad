"""Watching embeddings and fingerprints until they finish, across broken connections."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc
from sage.embed.v1 import embed_pb2, fingerprint_pb2

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

_Call: TypeAlias = "grpc.aio.UnaryStreamCall[Any, Any]"
_Message: TypeAlias = embed_pb2.WatchEmbeddingResponse | fingerprint_pb2.WatchFingerprintResponse
_Work: TypeAlias = embed_pb2.Embedding | fingerprint_pb2.Fingerprint
_MESSAGES = (embed_pb2.WatchEmbeddingResponse, fingerprint_pb2.WatchFingerprintResponse)


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

    def call(revision: int) -> _Call:
        return client.embed.WatchEmbedding(
            embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id, after_revision=revision, request_id=request_id)
        )

    async for message in _messages(call, lambda message: message.embedding):
        yield message.embedding


async def watch_fingerprint(client: Client, video_id: str) -> AsyncIterator[fingerprint_pb2.Fingerprint]:
    """Yield the states of a video's fingerprint, as `watch` does for an embedding."""

    def call(revision: int) -> _Call:
        return client.fingerprints.WatchFingerprint(
            fingerprint_pb2.WatchFingerprintRequest(video_id=video_id, after_revision=revision)
        )

    async for message in _messages(call, lambda message: message.fingerprint):
        yield message.fingerprint


async def _messages(call_after: Callable[[int], _Call], work_in: Callable[[Any], _Work]) -> AsyncIterator[Any]:
    """Yield the messages of a watch that tell a state; it is reopened until a final one has been sent.

    Args:
        call_after: Opens the watch after a revision.
        work_in: Returns the embedding or fingerprint in a message.
    """
    revision = 0
    attempts = Attempts(WATCH)
    while True:
        call = call_after(revision)
        failure: grpc.RpcError | TimeoutError = TimeoutError()
        silent_s = 0.0
        try:
            while True:
                # Not `wait_for`: before Python 3.12 it can lose a cancellation that coincides with a message.
                async with asyncio.timeout(SILENCE_S):
                    message = await call.read()
                if not isinstance(message, _MESSAGES):
                    break  # The stream ended without `last`: it was cut off.
                attempts.succeeded()
                work = work_in(message)
                if message.WhichOneof("event") != "heartbeat":
                    revision = work.revision
                    yield message
                if message.last or work.state in FINAL_STATES:
                    return
        except TimeoutError:
            silent_s = SILENCE_S
        except grpc.RpcError as error:
            failure = error
        finally:
            call.cancel()
        await attempts.failed(failure, silent_s=silent_s)
