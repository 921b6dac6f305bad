"""The stores that the contracts hold for: those in memory, PostgreSQL and S3."""

import contextlib
import importlib.resources
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import boto3
import pytest
from fakes.ingest import InMemoryUploadRecords, InMemoryVideoObjects, InMemoryVideoRecords
from sage_ingest.adapters.postgres import SCHEMA, PostgresVideoRecords
from sage_ingest.adapters.postgres_uploads import PostgresUploadRecords
from sage_ingest.adapters.s3 import S3VideoObjects, open_client
from sage_ingest.ports import VideoObjects, VideoRecords
from sage_ingest.upload_ports import UploadRecords
from sage_runtime.postgres import Pool, migrate, open_pool

PART_THREADS = 4


@dataclass(frozen=True)
class Records:
    """The records and a hand on their clock.

    Attributes:
        store: What is tested.
        uploads: What is tested of uploads in parts.
        expire: Lets every lease run out.
        age: Makes every upload that was closed seem to have been so an hour ago.
    """

    store: VideoRecords
    uploads: UploadRecords
    expire: Callable[[], Awaitable[None]]
    age: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Objects:
    """The object store and a look behind it.

    Attributes:
        store: What is tested.
        left: Returns what there is of a key: whether an object, and how many multipart uploads.
    """

    store: VideoObjects
    left: Callable[[str], tuple[bool, int]]


@pytest.fixture(scope="session")
def ingest_dsn(make_database) -> str:
    """Return a database with ingest's schema."""
    dsn = make_database()
    migrate(dsn, schema=SCHEMA, migrations=importlib.resources.files("sage_ingest") / "migrations")
    return dsn


@pytest.fixture
async def pool(ingest_dsn) -> AsyncIterator[Pool]:
    """Return connections to a database with ingest's schema and nothing in it."""
    async with await open_pool(ingest_dsn, schema=SCHEMA) as pool:
        async with pool.connection() as connection:
            await connection.execute("TRUNCATE videos, pending_objects, uploads, upload_parts")
        yield pool


@pytest.fixture
def postgres_records(pool) -> Records:
    """Return the records in PostgreSQL."""

    async def expire() -> None:
        async with pool.connection() as connection:
            await connection.execute("UPDATE pending_objects SET lease_until = now() - interval '1 second'")
            await connection.execute("UPDATE uploads SET completing_until = now() - interval '1 second'")

    async def age() -> None:
        async with pool.connection() as connection:
            await connection.execute("UPDATE uploads SET close_time = close_time - interval '1 hour'")

    return Records(PostgresVideoRecords(pool), PostgresUploadRecords(pool), expire, age)


@pytest.fixture
def memory_records() -> Records:
    """Return the records in memory."""
    now = [0.0]

    async def expire() -> None:
        now[0] += 1_000_000

    async def age() -> None:
        now[0] += 3600

    videos = InMemoryVideoRecords(lambda: now[0])
    return Records(videos, InMemoryUploadRecords(videos), expire, age)


@pytest.fixture(params=["memory", "postgres"])
def records(request) -> Records:
    """Return the records, once in memory and once in PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_records")


@pytest.fixture
def s3_objects(s3_server, make_bucket) -> Iterator[Objects]:
    """Return the object store in S3."""
    bucket = make_bucket()
    session = boto3.session.Session(
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name=s3_server.region,
    )
    client = open_client(
        session, endpoint_url=s3_server.endpoint_url, connections=S3VideoObjects.connections(PART_THREADS)
    )
    store = S3VideoObjects(client, url_client=client, bucket=bucket, part_threads=PART_THREADS)
    look = s3_server.client()

    def left(key: str) -> tuple[bool, int]:
        objects = look.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
        uploads = look.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return any(found["Key"] == key for found in objects), sum(upload["Key"] == key for upload in uploads)

    with contextlib.closing(store), contextlib.closing(look):
        yield Objects(store, left)


@pytest.fixture
def memory_objects() -> Objects:
    """Return the object store in memory."""
    store = InMemoryVideoObjects()

    def left(key: str) -> tuple[bool, int]:
        return key in store.objects, sum(upload.key == key for upload in store.multiparts.values())

    return Objects(store, left)


@pytest.fixture(params=["memory", "s3"])
def objects(request) -> Objects:
    """Return the object store, once in memory and once in S3."""
    return request.getfixturevalue(f"{request.param}_objects")
