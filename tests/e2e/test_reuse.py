"""What SAGE has embedded once is not embedded, or paid for, again: whichever client asks, also if two ask at once."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from fakes.twelvelabs.server import StandIn
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_local.stack import RunningStack
from support.example_clients import PROGRAMS, run_client
from support.films import SAMPLES
from support.sage_command import Sage

pytestmark = pytest.mark.usefixtures("key")


@pytest.fixture
async def channel(stack: RunningStack) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the gateway."""
    async with grpc.aio.insecure_channel(stack.address) as channel:
        yield channel


def new_film(folder: Path, name: str) -> Path:
    """Return a copy of a sample that no other test has uploaded: a `free` box, which players skip, ends it."""
    film = folder / f"{name}.mp4"
    content = name.encode()
    film.write_bytes((SAMPLES / "old.mp4").read_bytes() + (8 + len(content)).to_bytes(4, "big") + b"free" + content)
    return film


async def embedding_ids(channel: grpc.aio.Channel, video_id: str) -> list[str]:
    """Return the IDs of a video's embeddings."""
    request = embed_pb2.ListEmbeddingsRequest(video_id=video_id)
    response = await embed_pb2_grpc.EmbedServiceStub(channel).ListEmbeddings(request)
    return [embedding.id for embedding in response.embeddings]


async def test_two_identical_requests_at_once_make_one_embedding_and_one_task(
    stack: RunningStack, sage: Sage, twelvelabs: StandIn, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    video_id = (await sage("upload", str(new_film(tmp_path, "at-once")))).word()
    request = embed_pb2.CreateEmbeddingRequest(video_id=video_id, model="marengo3.0")
    # Otherwise two channels of one process share a connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(stack.address, options=options) as other:
        await asyncio.gather(channel.channel_ready(), other.channel_ready())
        first, second = await asyncio.gather(
            *(embed_pb2_grpc.EmbedServiceStub(client).CreateEmbedding(request) for client in (channel, other))
        )
    assert first.embedding.id == second.embedding.id
    assert sorted([first.reused, second.reused]) == [False, True]

    watch = embed_pb2.WatchEmbeddingRequest(embedding_id=first.embedding.id)
    messages = [message async for message in embed_pb2_grpc.EmbedServiceStub(channel).WatchEmbedding(watch)]
    assert messages[-1].embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED
    assert await embedding_ids(channel, video_id) == [first.embedding.id]
    assert len(twelvelabs.tasks) == twelvelabs.creates_received == 1


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_client_that_runs_twice_makes_one_embedding_and_one_task(
    stack: RunningStack, twelvelabs: StandIn, channel: grpc.aio.Channel, tmp_path: Path, program: str
) -> None:
    film = new_film(tmp_path, f"twice-{program}")
    first = await run_client(program, [film, SAMPLES / "new.mp4"], address=stack.address)
    tasks = len(twelvelabs.tasks)
    assert tasks in (1, 2)  # the other film may have been embedded for another test
    second = await run_client(program, [film, SAMPLES / "new.mp4"], address=stack.address)
    assert second == first
    assert len(twelvelabs.tasks) == twelvelabs.creates_received == tasks

    request = ingest_pb2.ListVideosRequest(sha256=hashlib.sha256(film.read_bytes()).hexdigest())
    (video,) = (await ingest_pb2_grpc.IngestServiceStub(channel).ListVideos(request)).videos
    assert len(await embedding_ids(channel, video.id)) == 1
