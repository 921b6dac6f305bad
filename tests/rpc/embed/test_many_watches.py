"""A thousand concurrent watches."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import grpc
import pytest
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_embed.embeddings.postgres import PostgresEmbeddingRepository
from sage_runtime.errors import Reason, SageError

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
FAILED = embed_pb2.EMBEDDING_STATE_FAILED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED

WATCHES = 1000
CONNECTIONS = 10


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """Count the reads of each embedding from the database."""
    counts: Counter[str] = Counter()
    get = PostgresEmbeddingRepository.get

    async def counting(repository: PostgresEmbeddingRepository, embedding_id: str):
        counts[embedding_id] += 1
        return await get(repository, embedding_id)

    monkeypatch.setattr(PostgresEmbeddingRepository, "get", counting)
    return counts


async def test_a_thousand_watches_see_the_final_state_and_share_their_reads(
    start_replica, create, engine, start_worker, reads
):
    embeddings = [(await create()).id for _ in range(5)]
    # The first embedding to reach its third segment fails there.
    engine.failures = {2: [SageError(Reason.PROVIDER_REJECTED_VIDEO, provider="Scripted", why="it is too dark")]}
    async with AsyncExitStack() as connections, start_replica() as one, start_replica() as other:
        stubs = [await _connect(connections, one if number % 2 else other) for number in range(CONNECTIONS)]
        calls = {
            stub.WatchEmbedding(embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id), timeout=100): embedding_id
            for embedding_id in embeddings
            for stub in stubs
            for _ in range(WATCHES // len(embeddings) // CONNECTIONS)
        }
        assert len(calls) == WATCHES
        firsts = await asyncio.gather(*(call.read() for call in calls))
        assert {message.last for message in firsts} == {False}
        reads.clear()
        for embedding_id in embeddings[3:]:
            await stubs[0].CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id))
        async with start_worker():
            ends = await asyncio.gather(*(_end(call) for call in calls))
        expected = [await stubs[0].GetEmbedding(embed_pb2.GetEmbeddingRequest(embedding_id=id_)) for id_ in embeddings]
    assert {end.last for end in ends} == {True}
    assert Counter(one.embedding.state for one in expected) == {FAILED: 1, COMPLETED: 2, CANCELLED: 2}
    seen = Counter((end.embedding.id, end.embedding.state) for end in ends)
    assert seen == {(one.embedding.id, one.embedding.state): WATCHES // len(embeddings) for one in expected}
    assert [end.embedding.id for end in ends] == list(calls.values())
    # Each replica reads at most once per change, and an embedding changes about a dozen times.
    assert max(reads.values()) < 50


async def _connect(connections: AsyncExitStack, address: str) -> embed_pb2_grpc.EmbedServiceStub:
    """Return a stub with a separate connection; channels to one address share one by default."""
    channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    return embed_pb2_grpc.EmbedServiceStub(await connections.enter_async_context(channel))


async def _end(call) -> embed_pb2.WatchEmbeddingResponse:
    """Return the last message of a watch."""
    last = None
    while (message := await call.read()) is not grpc.aio.EOF:
        last = message
    assert last is not None
    return last
