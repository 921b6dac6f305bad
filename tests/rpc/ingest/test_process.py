"""Ingest as a process with PostgreSQL and S3: what it stores, and what remains when it is killed."""

import asyncio
import hashlib
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import grpc
import psycopg
import pytest
from google.api import httpbody_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_ingest.videos.postgres import SCHEMA
from sage_local.ports import free_port
from sage_runtime.postgres import migrate
from support.small_films import png, small_film
from support.waiting import until

MIB = 1024 * 1024
LEASE_S = 2
# Three parts of 5 MiB: a film, and a box that players skip.
FILM = small_film() + (12 * MIB).to_bytes(4, "big") + b"free" + bytes(12 * MIB - 8)


@dataclass(frozen=True)
class Stores:
    """PostgreSQL and S3 of one test.

    Attributes:
        environment: Environment variables for a process that uses them.
        rows: Returns the number of videos and of pending objects.
        keys: Returns the keys of the objects.
        multiparts: Returns the number of multipart uploads.
        held_s: Returns the seconds between the creation of the one pending object and the end of its lease.
        expire: Lets the leases of all pending objects expire.
    """

    environment: dict[str, str]
    rows: Callable[[], tuple[int, int]]
    keys: Callable[[], list[str]]
    multiparts: Callable[[], int]
    held_s: Callable[[], float]
    expire: Callable[[], None]

    def are_empty(self) -> bool:
        """Whether they have no row, object or multipart upload."""
        return self.rows() == (0, 0) and not self.keys() and not self.multiparts()


@pytest.fixture
async def stores(make_database, make_bucket, s3_server) -> AsyncIterator[Stores]:
    """A database with ingest's tables, and a bucket."""
    dsn, bucket = make_database(), make_bucket()
    environment = {
        "PATH": os.environ["PATH"],
        "SAGE_DATABASE_URL": dsn,
        "S3_BUCKET_NAME": bucket,
        "S3_REGION": s3_server.region,
        "S3_ENDPOINT_URL": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "SAGE_UPLOAD_PART_BYTES": str(5 * MIB),
        "SAGE_UPLOAD_LEASE_SECONDS": str(LEASE_S),
        "SAGE_SWEEP_INTERVAL_SECONDS": "0.2",
        "SAGE_GRACE_SECONDS": "0",
    }
    # In-process, because a separate process takes a second per test; the stack's tests cover that.
    await asyncio.to_thread(migrate, dsn, schema=SCHEMA, migrations=files("sage_ingest") / "migrations")

    with closing(s3_server.client()) as client, psycopg.connect(dsn, autocommit=True) as connection:

        def rows() -> tuple[int, int]:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM ingest.videos), (SELECT count(*) FROM ingest.pending_objects)"
            ).fetchone()
            assert row is not None
            return row[0], row[1]

        def keys() -> list[str]:
            return [found["Key"] for found in client.list_objects_v2(Bucket=bucket).get("Contents", [])]

        def multiparts() -> int:
            return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))

        def held_s() -> float:
            row = connection.execute(
                "SELECT extract(epoch FROM lease_until - create_time) FROM ingest.pending_objects"
            ).fetchone()
            assert row is not None
            return float(row[0])

        def expire() -> None:
            connection.execute("UPDATE ingest.pending_objects SET lease_until = now() - interval '1 second'")

        yield Stores(environment, rows, keys, multiparts, held_s, expire)


@asynccontextmanager
async def _serving(stores: Stores) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """Run a process and yield it with a stub once it serves."""
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sage_ingest", "serve", env={**stores.environment, "SAGE_INGEST_LISTEN": address}
    )
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = ingest_pb2_grpc.IngestServiceStub(channel)
            stub.health = health_pb2_grpc.HealthStub(channel)
            await stub.ListVideos(ingest_pb2.ListVideosRequest(), wait_for_ready=True, timeout=30)
            yield process, stub
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_a_video_survives_a_restart_plays_and_is_deleted_completely(stores, messages) -> None:
    async with _serving(stores) as (process, stub):
        video = (await stub.UploadVideo(messages(FILM, chunk_bytes=MIB))).video
        assert video.media.frame_count == 48
        process.terminate()
        assert await process.wait() == 0
    assert (stores.rows(), stores.keys(), stores.multiparts()) == ((1, 0), [f"videos/{video.id}"], 0)
    async with _serving(stores) as (_, stub):
        assert (await stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=video.id))).video == video
        url = (await stub.GetPlaybackUrl(ingest_pb2.GetPlaybackUrlRequest(video_id=video.id))).url
        assert await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read()) == FILM
        await stub.DeleteVideo(ingest_pb2.DeleteVideoRequest(video_id=video.id))
        assert stores.are_empty()


async def test_rejected_files_leave_nothing_in_s3(stores, messages, refusal) -> None:
    async with _serving(stores) as (_, stub):
        for data, size in ((png(), None), (FILM[: 7 * MIB], len(FILM)), (small_film()[:-100], None)):
            spec = {} if size is None else {"size_bytes": size}
            await refusal(stub.UploadVideo(messages(data, chunk_bytes=MIB, **spec)))
            assert stores.are_empty()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_process_that_stops_or_is_killed_during_an_upload_leaves_nothing(stores, messages, how) -> None:

    async def stalling():
        for message in messages(FILM[: 7 * MIB], size_bytes=len(FILM), chunk_bytes=MIB):
            yield message
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        process, stub = await stack.enter_async_context(_serving(stores))
        call = stub.UploadVideo(stalling())
        await until(lambda: stores.multiparts() == 1, timeout_s=20)
        assert stores.rows() == (0, 1)
        process.send_signal(how)
        await process.wait()
        call.cancel()
    if how is signal.SIGTERM:
        assert stores.are_empty()
        return
    assert stores.multiparts() == 1
    async with _serving(stores):
        await until(stores.are_empty, timeout_s=20)


@pytest.mark.parametrize("killed_in", ["part", "completion"])
async def test_a_resumable_upload_survives_a_killed_process(stores, killed_in) -> None:
    async with AsyncExitStack() as stack:
        process, stub = await stack.enter_async_context(_serving(stores))
        upload = await _create(stub)
        begun = (3, 1) if killed_in == "part" else (3, 1, 2)
        for number in begun:
            await _put(stub, upload, number)
        if killed_in == "part":
            call = stub.UploadPart(_part(upload, 2, stall=True))
        else:
            call = stub.CompleteUpload(ingest_pb2.CompleteUploadRequest(upload_id=upload.id))
            await until(lambda: not stores.multiparts(), timeout_s=20)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        call.cancel()
    async with _serving(stores) as (_, stub):
        found = (await stub.GetUpload(ingest_pb2.GetUploadRequest(upload_id=upload.id))).upload
        assert [part.part_number for part in found.parts] == sorted(begun)
        if killed_in == "part":
            await _put(stub, upload, 2)
        request = ingest_pb2.CompleteUploadRequest(upload_id=upload.id)
        video = (await stub.CompleteUpload(request, timeout=30)).video
        assert video.sha256 == hashlib.sha256(FILM).hexdigest()
        assert (stores.rows(), stores.keys(), stores.multiparts()) == ((1, 0), [f"videos/{video.id}"], 0)


async def test_aborted_and_expired_resumable_uploads_leave_nothing(stores) -> None:
    async with _serving(stores) as (_, stub):
        upload = await _create(stub)
        await _put(stub, upload, 1)
        await stub.AbortUpload(ingest_pb2.AbortUploadRequest(upload_id=upload.id))
        assert (stores.keys(), stores.multiparts()) == ([], 0)
        await until(stores.are_empty, timeout_s=20)
    stores.environment["SAGE_INGEST_UPLOAD_EXPIRE_SECONDS"] = "600"
    async with _serving(stores) as (_, stub):
        await _put(stub, await _create(stub), 1)
        assert 600 <= stores.held_s() < 1200
        stores.expire()
        await until(stores.are_empty, timeout_s=20)


async def test_a_frozen_store_is_noticed_and_told_at_once(stores, s3_server) -> None:
    stores.environment["SAGE_HEALTH_INTERVAL_SECONDS"] = "0.2"
    stores.environment["SAGE_HEALTH_TIMEOUT_SECONDS"] = "1"
    async with _serving(stores) as (_, stub):
        upload = await _create(stub)
        os.kill(s3_server.process.pid, signal.SIGSTOP)
        try:
            await _until_health(stub, "", health_pb2.HealthCheckResponse.NOT_SERVING)
            call = await _refused_before_its_deadline(stub, upload.spec)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            status = rpc_status.from_call(raised.value)
            assert status is not None
            assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
        finally:
            os.kill(s3_server.process.pid, signal.SIGCONT)
        await _until_health(stub, "", health_pb2.HealthCheckResponse.SERVING)
        await _create(stub)


async def test_a_full_disk_refuses_uploads_and_leaves_the_rest(stores, messages, refusal, tmp_path) -> None:
    async with _serving(stores) as (_, stub):
        video = (await stub.UploadVideo(messages(small_film()))).video
    stores.environment["SAGE_STORE_FOLDER"] = str(tmp_path)
    stores.environment["SAGE_STORE_MIN_FREE_BYTES"] = str(2**60)
    async with _serving(stores) as (_, stub):
        spec = ingest_pb2.VideoSpec(filename="a.mp4", content_type="video/mp4", size_bytes=len(FILM))
        for call in (
            stub.UploadVideo(messages(small_film())),
            stub.CreateUpload(ingest_pb2.CreateUploadRequest(spec=spec)),
        ):
            error = await refusal(call)
            assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
            assert " MB do not fit: 0.0 MB are free for uploads" in error.text
        assert (stores.rows(), stores.multiparts()) == ((1, 0), 0)
        url = (await stub.GetPlaybackUrl(ingest_pb2.GetPlaybackUrlRequest(video_id=video.id))).url
        assert await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read()) == small_film()
        service = "sage.ingest.v1.IngestService"
        await _until_health(stub, service, health_pb2.HealthCheckResponse.SERVING)
        await _until_health(stub, f"{service}/uploads", health_pb2.HealthCheckResponse.NOT_SERVING)


async def _refused_before_its_deadline(stub: Any, spec: ingest_pb2.VideoSpec) -> Any:
    """Return a call that fails at once: those before the failed check has ended wait for the store."""
    async with asyncio.timeout(20):
        while True:
            call = stub.CreateUpload(ingest_pb2.CreateUploadRequest(spec=spec), timeout=2)
            if await call.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                return call


async def _until_health(stub: Any, name: str, status: int) -> None:
    async with asyncio.timeout(20):
        async for change in stub.health.Watch(health_pb2.HealthCheckRequest(service=name)):
            if change.status == status:
                return


async def _create(stub: Any) -> ingest_pb2.Upload:
    spec = ingest_pb2.VideoSpec(filename="a.mp4", content_type="video/mp4", size_bytes=len(FILM))
    return (await stub.CreateUpload(ingest_pb2.CreateUploadRequest(spec=spec))).upload


async def _put(stub: Any, upload: ingest_pb2.Upload, number: int) -> None:
    await stub.UploadPart(_part(upload, number), timeout=30)


async def _part(
    upload: ingest_pb2.Upload, number: int, *, stall: bool = False
) -> AsyncIterator[ingest_pb2.UploadPartRequest]:
    size = upload.part_size_bytes
    data = FILM[(number - 1) * size : number * size]
    yield ingest_pb2.UploadPartRequest(upload_id=upload.id, part_number=number, size_bytes=len(data))
    for start in range(0, len(data), MIB):
        yield ingest_pb2.UploadPartRequest(content=httpbody_pb2.HttpBody(data=data[start : start + MIB]))
        if stall:
            await asyncio.Event().wait()


async def test_an_upload_longer_than_its_lease_is_not_swept(stores, messages) -> None:
    go_on = asyncio.Event()

    async def slow():
        for number, message in enumerate(messages(FILM, chunk_bytes=MIB)):
            if number == 7:
                await go_on.wait()
            yield message

    async with _serving(stores) as (_, stub), _serving(stores):
        call = asyncio.ensure_future(stub.UploadVideo(slow()))
        await until(lambda: stores.multiparts() == 1, timeout_s=20)
        # More than a lease after it began, only renewing keeps the sweeps away.
        await until(lambda: stores.held_s() > 2 * LEASE_S, timeout_s=20)
        go_on.set()
        assert (await call).video.size_bytes == len(FILM)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["serve"], {"S3_BUCKET_NAME": ""}, "S3_BUCKET_NAME: is required and not set"),
        (["serve"], {"SAGE_UPLOAD_PART_BYTES": "1"}, "SAGE_UPLOAD_PART_BYTES: "),
        (["serve"], {"SAGE_UPLOAD_PARTS_IN_FLIGHT": "9"}, "must not be above SAGE_UPLOAD_TOTAL_PARTS_IN_FLIGHT"),
        (["serve"], {"S3_PROFILE": "unknown"}, "unknown"),
        (["migrate"], {"SAGE_DATABASE_URL": ""}, "SAGE_DATABASE_URL: is required and not set"),
        ([], {}, "usage: python -m sage_ingest [-h] serve|migrate"),
    ],
)
async def test_a_process_that_cannot_start_says_why(arguments, environment, said) -> None:
    good = {"PATH": os.environ["PATH"], "SAGE_DATABASE_URL": "postgresql://127.0.0.1:9/none", "S3_BUCKET_NAME": "b"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sage_ingest", *arguments, env={**good, **environment}, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert process.returncode == 2
    assert said in error.decode()
    assert "Traceback" not in error.decode()
