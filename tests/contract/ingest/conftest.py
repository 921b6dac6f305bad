"""The stores that the contract suites run against: fakes, PostgreSQL and S3."""

import contextlib
import importlib.resources
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import boto3
import pytest
from fakes.ingest import FakeUploadRepository, FakeVideoObjects, FakeVideoRepository
from sage_ingest.storage import S3VideoObjects
from sage_ingest.uploads.ports import UploadRepository
from sage_ingest.uploads.postgres import PostgresUploadRepository
from sage_ingest.videos.ports import VideoObjects, VideoRepository
from sage_ingest.videos.postgres import SCHEMA, PostgresVideoRepository
from sage_runtime.postgres import Pool, migrate, open_pool
from sage_runtime.s3 import open_client

PART_THREADS = 4


@dataclass(frozen=True)
class Repositories:
    """The repositories and control over their clock.

    Attributes:
        videos: Repository of videos.
        uploads: Repository of resumable uploads.
        expire: Lets every lease expire.
        age: Makes every closed upload an hour older.
    """

    videos: VideoRepository
    uploads: UploadRepository
    expire: Callable[[], Awaitable[None]]
    age: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Objects:
    """The object store, with a view behind it.

    Attributes:
        store: The adapter.
        left: Returns whether there is an object with a key, and the number of its multipart uploads.
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
    """Return connections to an empty database with ingest's schema."""
    async with await open_pool(ingest_dsn, schema=SCHEMA) as pool:
        async with pool.connection() as connection:
            await connection.execute("TRUNCATE videos, pending_objects, uploads, upload_parts")
        yield pool


@pytest.fixture
def postgres_repositories(pool) -> Repositories:
    """Return the repositories in PostgreSQL."""

    async def expire() -> None:
        async with pool.connection() as connection:
            await connection.execute("UPDATE pending_objects SET lease_until = now() - interval '1 second'")
            await connection.execute("UPDATE uploads SET completing_until = now() - interval '1 second'")

    async def age() -> None:
        async with pool.connection() as connection:
            await connection.execute("UPDATE uploads SET close_time = close_time - interval '1 hour'")

    return Repositories(PostgresVideoRepository(pool), PostgresUploadRepository(pool), expire, age)


@pytest.fixture
def fake_repositories() -> Repositories:
    """Return the fake repositories."""
    now = [0.0]

    async def expire() -> None:
        now[0] += 1_000_000

    async def age() -> None:
        now[0] += 3600

    videos = FakeVideoRepository(lambda: now[0])
    return Repositories(videos, FakeUploadRepository(videos), expire, age)


@pytest.fixture(params=["fake", "postgres"])
def repositories(request) -> Repositories:
    """Return the repositories, once fake and once in PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_repositories")


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
    store = S3VideoObjects(client, url_client=client, check_client=client, bucket=bucket, part_threads=PART_THREADS)
    look = s3_server.client()

    def left(key: str) -> tuple[bool, int]:
        objects = look.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
        uploads = look.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return any(found["Key"] == key for found in objects), sum(upload["Key"] == key for upload in uploads)

    with contextlib.closing(store), contextlib.closing(look):
        yield Objects(store, left)


@pytest.fixture
def fake_objects() -> Objects:
    """Return the fake object store."""
    store = FakeVideoObjects()

    def left(key: str) -> tuple[bool, int]:
        return key in store.objects, sum(upload.key == key for upload in store.multiparts.values())

    return Objects(store, left)


@pytest.fixture(params=["fake", "s3"])
def objects(request) -> Objects:
    """Return the object store, once fake and once in S3."""
    return request.getfixturevalue(f"{request.param}_objects")
