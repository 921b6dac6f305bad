"""A real server, real workers, PostgreSQL and S3; ingest and the maker are fakes."""

from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from fakes.fingerprints import ScriptedMaker, block_bytes
from sage.embed.v1 import fingerprint_pb2, fingerprint_pb2_grpc


@pytest.fixture(scope="session")
def bucket(make_bucket) -> str:
    """Return a bucket."""
    return make_bucket()


@pytest.fixture
def store(bucket, s3_server, monkeypatch) -> dict[str, str]:
    """Return the settings of the store of fingerprints. Workers store each two blocks at once."""
    environment = {name: value for name, value in s3_server.environment(bucket).items() if value}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return {**environment, "SAGE_FINGERPRINT_OBJECT_BYTES": "2000", "SCRIPT_BLOCKS": "1"}


@pytest.fixture
def maker(script) -> ScriptedMaker:
    """Return the maker of the workers in this process."""
    return ScriptedMaker(script)


@pytest.fixture
async def worker(start_worker) -> AsyncIterator[None]:
    """Run a worker in this process during the test. On a busy machine, its heartbeat may be seconds late."""
    async with start_worker(worker_lost_after_s=10):
        yield


@pytest.fixture
def keys(s3_server, bucket, video) -> Callable[[], list[str]]:
    """Return a function that lists the keys of the video's objects."""

    def find() -> list[str]:
        client = s3_server.client()
        found = client.list_objects_v2(Bucket=bucket, Prefix=f"fingerprints/{video}/").get("Contents", [])
        client.close()
        return [one["Key"] for one in found]

    return find


@pytest.fixture
async def fingerprints(start_replica) -> AsyncIterator[fingerprint_pb2_grpc.FingerprintServiceStub]:
    """Return a stub of a running service."""
    async with start_replica() as address, grpc.aio.insecure_channel(address) as channel:
        yield fingerprint_pb2_grpc.FingerprintServiceStub(channel)


@pytest.fixture
def request_one(fingerprints, video) -> Callable:
    """Return a function that requests the fingerprint of the video."""

    async def call(video_id: str = video, **fields: str) -> fingerprint_pb2.Fingerprint:
        request = fingerprint_pb2.CreateFingerprintRequest(video_id=video_id, **fields)
        return (await fingerprints.CreateFingerprint(request)).fingerprint

    return call


@pytest.fixture
def get(fingerprints, video) -> Callable:
    """Return a function that returns the fingerprint of the video."""

    async def call() -> fingerprint_pb2.Fingerprint:
        return (await fingerprints.GetFingerprint(fingerprint_pb2.GetFingerprintRequest(video_id=video))).fingerprint

    return call


@pytest.fixture
def watch_one(fingerprints, video) -> Callable:
    """Return a function that watches the fingerprint until it is finished and returns every message."""

    async def call() -> list[fingerprint_pb2.WatchFingerprintResponse]:
        request = fingerprint_pb2.WatchFingerprintRequest(video_id=video)
        return [message async for message in fingerprints.WatchFingerprint(request, timeout=60)]

    return call


@pytest.fixture
def read(fingerprints, video) -> Callable:
    """Return a function that reads the bytes of the fingerprint."""

    async def call() -> bytes:
        request = fingerprint_pb2.ReadFingerprintRequest(video_id=video)
        return b"".join([message.data async for message in fingerprints.ReadFingerprint(request, timeout=60)])

    return call


@pytest.fixture
def expected(video) -> bytes:
    """Return the bytes of the video's fingerprint: one block of 1000 bytes for each second."""
    return b"".join(block_bytes(video, index) for index in range(10))
