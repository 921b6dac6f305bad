"""Calls of every kind to a gateway, one after another on several lanes, and the outcome of each."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
from google.api import httpbody_pb2
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc

_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Call:
    """The outcome of a call.

    Attributes:
        kind: Name of the call.
        begin: When it began, on `time.monotonic`'s clock.
        end: When it ended.
        error: Status and message; empty if it succeeded.
    """

    kind: str
    begin: float
    end: float
    error: str = ""


@dataclass
class MixedLoad:
    """Mixed calls for the length of a block.

    Attributes:
        film: The film that is uploaded repeatedly.
        calls: The calls that have finished.
    """

    channel: grpc.aio.Channel
    film: Path
    video_id: str
    embedding_id: str
    calls: list[Call] = field(default_factory=list)

    @classmethod
    async def prepare(cls, channel: grpc.aio.Channel, film: Path) -> Self:
        """Return a load with a video and an embedding to call for."""
        load = cls(channel, film, "", "")
        load.video_id = await load._upload()
        created = await embed_pb2_grpc.EmbedServiceStub(channel).CreateEmbedding(
            embed_pb2.CreateEmbeddingRequest(video_id=load.video_id, model="local")
        )
        load.embedding_id = created.embedding.id
        await load._watch()
        return load

    @contextlib.asynccontextmanager
    async def running(self, *, lanes: int = 4) -> AsyncIterator[None]:
        """Make calls for the length of the block; at its end, finish those in progress."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for lane in range(lanes):
                tasks.create_task(self._lane(lane, over))
            try:
                yield
            finally:
                over.set()

    def failed(self) -> list[Call]:
        """Return the calls that failed."""
        return [call for call in self.calls if call.error]

    async def more(self, count: int) -> None:
        """Wait until this many more calls have finished."""
        wanted = len(self.calls) + count
        while len(self.calls) < wanted:  # noqa: ASYNC110 - no event signals it
            await asyncio.sleep(0.01)

    async def _lane(self, lane: int, over: asyncio.Event) -> None:
        kinds = self._kinds()
        for kind in itertools.islice(itertools.cycle(kinds), lane, None):
            if over.is_set():
                return
            begin = time.monotonic()
            error = ""
            try:
                await kinds[kind]()
            except grpc.aio.AioRpcError as failure:
                error = f"{failure.code().name}: {failure.details()}"
            self.calls.append(Call(kind, begin, time.monotonic(), error))

    def _kinds(self) -> dict[str, Callable[[], Awaitable[object]]]:
        ingest = ingest_pb2_grpc.IngestServiceStub(self.channel)
        embed = embed_pb2_grpc.EmbedServiceStub(self.channel)
        compare = compare_pb2_grpc.CompareServiceStub(self.channel)
        same = compare_pb2.CompareEmbeddingsRequest(
            embedding_id_a=self.embedding_id, embedding_id_b=self.embedding_id, mode=compare_pb2.COMPARE_MODE_TIME
        )
        video = ingest_pb2.GetVideoRequest(video_id=self.video_id)
        return {
            "get": lambda: ingest.GetVideo(video, timeout=_TIMEOUT_S),
            "compare": lambda: compare.CompareEmbeddings(same, timeout=_TIMEOUT_S),
            "list": lambda: embed.ListEmbeddings(embed_pb2.ListEmbeddingsRequest(), timeout=_TIMEOUT_S),
            "upload": self._upload,
            "watch": self._watch,
            "create": self._create,
        }

    async def _create(self) -> None:
        """Create an embedding, for which embed calls ingest, and cancel it."""
        stub = embed_pb2_grpc.EmbedServiceStub(self.channel)
        # Without `force` it would be the completed one.
        request = embed_pb2.CreateEmbeddingRequest(video_id=self.video_id, model="local", force=True)
        created = await stub.CreateEmbedding(request, timeout=_TIMEOUT_S)
        cancel = embed_pb2.CancelEmbeddingRequest(embedding_id=created.embedding.id)
        await stub.CancelEmbedding(cancel, timeout=_TIMEOUT_S)

    async def _upload(self) -> str:
        data = self.film.read_bytes()
        spec = ingest_pb2.VideoSpec(filename=self.film.name, content_type="video/mp4", size_bytes=len(data))
        messages = [ingest_pb2.UploadVideoRequest(spec=spec)]
        for begin in range(0, len(data), 262_144):
            content = httpbody_pb2.HttpBody(data=data[begin : begin + 262_144])
            messages.append(ingest_pb2.UploadVideoRequest(content=content))
        stub = ingest_pb2_grpc.IngestServiceStub(self.channel)
        response = await stub.UploadVideo(iter(messages), timeout=_TIMEOUT_S)
        return str(response.video.id)

    async def _watch(self) -> None:
        """Watch until the last message; watch again if the stream ends before it, as the contract requires."""
        stub = embed_pb2_grpc.EmbedServiceStub(self.channel)
        while True:
            request = embed_pb2.WatchEmbeddingRequest(embedding_id=self.embedding_id)
            async for message in stub.WatchEmbedding(request, timeout=_TIMEOUT_S):
                if message.last:
                    return
