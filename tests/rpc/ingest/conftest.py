"""A real ingest server with a real prober, over fake stores."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from fakes.ingest import FakeUploadRepository, FakeVideoObjects, FakeVideoRepository
from google.api import httpbody_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_ingest.app import Adapters, open_service
from sage_ingest.config import IngestSettings
from sage_ingest.probing.prober import PyAVProber
from sage_runtime.server import RunningServer, running_server
from support.small_films import small_film

FILM = small_film()
MIB = 1024 * 1024


def settings(**changes: Any) -> IngestSettings:
    """Return the settings of a server for tests."""
    return IngestSettings(
        **{
            "listen": "127.0.0.1:0",
            "database_url": "postgresql://ingest@127.0.0.1:9/none",
            "s3_bucket": "none",
            "grace_s": 0,
            "max_video_bytes": 10 * 1024 * 1024,
            **changes,
        }
    )


@dataclass
class Ingest:
    """A server and its stores.

    Attributes:
        stub: Client of the service.
        server: The server.
        videos: Its repository.
        objects: Its object store.
        stack: Closes the server.
    """

    stub: ingest_pb2_grpc.IngestServiceStub
    server: RunningServer
    videos: FakeVideoRepository
    objects: FakeVideoObjects
    stack: AsyncExitStack

    async def stop(self) -> None:
        """Stop the server as a signal would, and wait until it has cleaned up."""
        await self.stack.aclose()

    def upload(self, data: bytes = FILM, *, request_id: str = "", metadata: Any = None, **spec: Any) -> Any:
        """Begin an upload of these bytes and return the call; `spec` changes fields of the spec."""
        return self.stub.UploadVideo(messages(data, request_id=request_id, **spec), metadata=metadata, timeout=30)

    async def upload_film(self, filename: str = "a.mp4", data: bytes = FILM) -> ingest_pb2.Video:
        """Upload a film and return the video."""
        return (await self.upload(data, filename=filename)).video

    @property
    def nothing_is_left(self) -> bool:
        """Whether the stores have no row, object or multipart upload."""
        return not self.videos.videos and not self.videos.pending and self.objects.is_empty


def messages(
    data: bytes = FILM,
    *,
    request_id: str = "",
    chunk_bytes: int = 0,
    **spec: Any,
) -> Iterator[ingest_pb2.UploadVideoRequest]:
    """Yield an upload of these bytes: the spec first, then data. A field of the spec that is None is left out.

    Without `chunk_bytes` everything is in one message: a call that is refused while it still writes may lose the
    server's status in grpcio (its issue 36066).
    """
    fields = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": len(data), **spec}
    first = ingest_pb2.UploadVideoRequest(
        spec=ingest_pb2.VideoSpec(**{name: value for name, value in fields.items() if value is not None}),
        request_id=request_id,
    )
    if not chunk_bytes:
        first.content.data = data
        yield first
        return
    yield first
    yield from data_messages(data, chunk_bytes=chunk_bytes)


def data_messages(data: bytes, *, chunk_bytes: int = MIB) -> Iterable[ingest_pb2.UploadVideoRequest]:
    """Return messages with data only."""
    return (
        ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=data[start : start + chunk_bytes]))
        for start in range(0, len(data), chunk_bytes)
    )


@pytest.fixture
async def make_ingest() -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts a server with changed settings."""
    async with AsyncExitStack() as servers:

        async def make(**changes: Any) -> Ingest:
            stack = await servers.enter_async_context(AsyncExitStack())
            chosen = settings(**changes)
            videos, objects = FakeVideoRepository(), FakeVideoObjects()
            adapters = Adapters(videos, FakeUploadRepository(videos), objects, PyAVProber(chosen))
            registration = await stack.enter_async_context(open_service(chosen, adapters))
            server = await stack.enter_async_context(running_server(settings=chosen, services=[registration]))
            channel = await servers.enter_async_context(grpc.aio.insecure_channel(server.address))
            return Ingest(ingest_pb2_grpc.IngestServiceStub(channel), server, videos, objects, stack)

        yield make


@pytest.fixture
async def ingest(make_ingest) -> Ingest:
    """Return a server with default settings."""
    return await make_ingest()


@dataclass(frozen=True)
class Refusal:
    """An error as a client sees it.

    Attributes:
        code: The status.
        text: The message for people.
        reason: Of its ErrorInfo.
        facts: Of its ErrorInfo.
        fields: The invalid fields from its BadRequest.
    """

    code: grpc.StatusCode
    text: str
    reason: str
    facts: dict[str, str]
    fields: list[str]


async def refusal(call: Any) -> Refusal:
    """Return the error that a call raises."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await asyncio.wait_for(call, 30)
    error = raised.value
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()}: {error.details()}"
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        if detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
    return Refusal(
        code=error.code(),
        text=error.details() or "",
        reason=info.reason,
        facts=dict(info.metadata),
        fields=[violation.field for violation in bad.field_violations],
    )


@pytest.fixture(name="refusal")
def refusal_fixture() -> Callable[[Any], Any]:
    """Return `refusal`."""
    return refusal


@pytest.fixture(name="messages")
def messages_fixture() -> Callable[..., Any]:
    """Return `messages`."""
    return messages


@pytest.fixture(name="data_messages")
def data_messages_fixture() -> Callable[..., Any]:
    """Return `data_messages`."""
    return data_messages
