"""WatchEmbedding over the wire."""

import asyncio

import grpc
import psycopg
import pytest
from sage.embed.v1 import embed_pb2
from sage_runtime.api import new_id
from sage_runtime.client import to_sage_error
from sage_runtime.errors import Reason

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED


def watching(embed, embedding_id: str, *, after_revision: int = 0):
    """Return the call of a watch."""
    request = embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id, after_revision=after_revision)
    return embed.WatchEmbedding(request, timeout=60)


async def reason_of(call) -> Reason:
    """Return the reason with which a stream ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _last(call)
    return to_sage_error(caught.value, service="embed").reason


async def cancel(embed, embedding_id: str) -> None:
    """Cancel an embedding."""
    await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id))


async def test_heartbeats_are_sent_while_nothing_changes(start_api, create):
    embedding_id = (await create()).id
    async with start_api(heartbeat_s=0.05) as embed:
        call = watching(embed, embedding_id)
        first = await call.read()
        assert (first.WhichOneof("event"), first.embedding.id, first.last) == ("embedding", embedding_id, False)
        for _ in range(3):
            message = await call.read()
            assert message == embed_pb2.WatchEmbeddingResponse(heartbeat=embed_pb2.Heartbeat())
        call.cancel()


async def test_a_watch_resumes_after_a_revision(embed, create):
    embedding = await create()
    call = watching(embed, embedding.id, after_revision=embedding.revision)
    await cancel(embed, embedding.id)
    message = await _only(call)
    assert (message.embedding.state, message.last) == (CANCELLED, True)
    call = watching(embed, embedding.id, after_revision=message.embedding.revision)
    again = await _only(call)
    assert again == message


async def test_changes_through_one_replica_reach_watches_of_another(embed, start_api, create):
    embedding_id = (await create()).id
    async with start_api() as other:
        call = watching(other, embedding_id)
        await call.read()
        async with asyncio.timeout(5):
            await cancel(embed, embedding_id)
            assert (await call.read()).embedding.state == CANCELLED


async def test_deleting_an_embedding_ends_its_watches(embed, create):
    embedding_id = (await create()).id
    call = watching(embed, embedding_id)
    await call.read()
    await embed.DeleteEmbedding(embed_pb2.DeleteEmbeddingRequest(embedding_id=embedding_id))
    assert await reason_of(call) is Reason.EMBEDDING_NOT_FOUND


async def test_invalid_watches_are_refused(embed, create):
    assert await reason_of(watching(embed, new_id("embed"))) is Reason.EMBEDDING_NOT_FOUND
    assert await reason_of(watching(embed, "embed_x")) is Reason.FIELD_INVALID
    embedding_id = (await create()).id
    assert await reason_of(watching(embed, embedding_id, after_revision=-1)) is Reason.FIELD_INVALID


async def test_a_hundred_watches_share_two_database_connections(start_api, create, start_worker):
    embedding_id = (await create()).id
    async with start_api(database_connections=2) as embed:
        calls = [watching(embed, embedding_id) for _ in range(100)]
        for call in calls:
            await call.read()
        async with start_worker():
            ends = await asyncio.gather(*(_last(call) for call in calls))
    assert {(message.embedding.state, message.last) for message in ends} == {(COMPLETED, True)}


async def test_watches_beyond_the_limit_are_refused_until_one_ends(start_api, create):
    embedding_id = (await create()).id
    async with start_api(max_watches=1) as embed:
        call = watching(embed, embedding_id)
        await call.read()
        assert await reason_of(watching(embed, embedding_id)) is Reason.LIMIT_EXCEEDED
        call.cancel()
        async with asyncio.timeout(5):
            while True:
                next_one = watching(embed, embedding_id)
                try:
                    assert (await next_one.read()).embedding.id == embedding_id
                    break
                except grpc.aio.AioRpcError:
                    continue
        next_one.cancel()


async def test_the_final_state_is_seen_even_if_its_notification_was_lost(start_api, create, database_url):
    embedding_id = (await create()).id
    async with start_api(watch_poll_s=0.1) as embed:
        call = watching(embed, embedding_id)
        await call.read()
        with psycopg.connect(database_url, options="-c search_path=embed") as connection:
            connection.execute("ALTER TABLE embeddings DISABLE TRIGGER embeddings_changed")
            connection.execute("UPDATE embeddings SET state = 'CANCELLED', finish_time = now(), revision = 2")
            connection.execute("ALTER TABLE embeddings ENABLE TRIGGER embeddings_changed")
        async with asyncio.timeout(5):
            assert (await call.read()).last


async def test_a_stopping_server_does_not_wait_for_watches(start_api, create):
    embedding_id = (await create()).id
    async with asyncio.timeout(10):
        async with start_api(grace_s=60) as embed:
            call = watching(embed, embedding_id)
            await call.read()
            end = asyncio.ensure_future(reason_of(call))
        assert await end is Reason.SERVICE_UNAVAILABLE


async def _last(call) -> embed_pb2.WatchEmbeddingResponse:
    # One call is read in one of grpcio's two ways only.
    last = None
    while (message := await call.read()) is not grpc.aio.EOF:
        last = message
    assert last is not None
    return last


async def _only(call) -> embed_pb2.WatchEmbeddingResponse:
    message = await call.read()
    assert await call.read() is grpc.aio.EOF
    return message
