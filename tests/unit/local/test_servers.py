"""The real servers that tests and the stack stand on."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
from botocore.exceptions import ClientError
from sage_local.database import DATABASE, prepare_database
from sage_local.ports import choose_ports, free_port
from sage_local.postgres import Postgres
from sage_local.privileges import launcher, owner_for
from sage_local.process import Process
from sage_local.seaweedfs import SeaweedFS, SeaweedPorts

_SEAWEED_PORTS = ("s3", "s3_grpc", "filer", "filer_grpc", "volume", "volume_grpc", "master", "master_grpc")


def make_postgres(tmp_path: Path) -> Postgres:
    """Return a server on a folder that may have data already."""
    return Postgres(tmp_path / "postgres", port=free_port(), password="secret", log=tmp_path / "log")


def make_seaweedfs(tmp_path: Path) -> SeaweedFS:
    """Return a server on a folder that may have objects already, on other ports than the last one."""
    ports = SeaweedPorts(**choose_ports(_SEAWEED_PORTS, wanted={}, last={}))
    return SeaweedFS(tmp_path / "s3", ports=ports, access_key="key", secret_key="secret", log=tmp_path / "log")


def test_each_database_is_its_own(make_database: Callable[[], str]) -> None:
    """Two databases see nothing of each other."""
    first, second = make_database(), make_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)


def test_objects_are_read_in_ranges(s3_server: SeaweedFS, make_bucket: Callable[[], str]) -> None:
    """A range of what was put can be read, as probing a video does."""
    bucket = make_bucket()
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="film", Body=b"0123456789")
    assert client.get_object(Bucket=bucket, Key="film", Range="bytes=2-4")["Body"].read() == b"234"
    client.close()


def test_a_wrong_key_is_refused(s3_server: SeaweedFS, make_bucket: Callable[[], str]) -> None:
    """Other users of the machine do not get at the videos."""
    bucket = make_bucket()
    stranger = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key="guessed",
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.put_object(Bucket=bucket, Key="film", Body=b"")
    stranger.close()


async def test_a_database_survives_kill_and_a_recycled_pid(tmp_path: Path) -> None:
    """After `kill -9` it starts again with what was committed, also where its old pid is somebody else's now."""
    first = make_postgres(tmp_path)
    await first.start()
    with psycopg.connect(first.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    first.process.kill()
    await first.process.wait(timeout_s=5)
    lock = tmp_path / "postgres" / "postmaster.pid"
    lines = lock.read_text().splitlines()
    second = make_postgres(tmp_path)
    stranger = Process(
        "stranger",
        [*launcher(user_id=owner_for(lock.parent)), "sleep", "60"],
        log=tmp_path / "stranger",
        folder=Path("/"),
    )
    stranger.start()
    lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    try:
        await second.start()
        with psycopg.connect(second.dsn()) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
    finally:
        await second.process.stop()
        await stranger.stop()
    assert second.process.exit_code == 0


async def test_a_database_waits_for_what_a_killed_one_has_left(tmp_path: Path) -> None:
    """Its children end when they notice that it is gone; a start in between is no error."""
    first, second = make_postgres(tmp_path), make_postgres(tmp_path)
    await first.start()
    # The eldest, as the youngest may be the end of a connection, and gone by now.
    child = min(psutil.Process(first.process.pid).children(), key=psutil.Process.create_time)
    child.suspend()
    first.process.kill()
    await first.process.wait(timeout_s=5)
    starting = asyncio.create_task(second.start())
    # Longer than a server takes to find out that somebody holds its memory.
    await asyncio.wait([starting], timeout=1)
    child.resume()
    try:
        await starting
    finally:
        await second.process.stop()


async def test_a_killed_first_start_leaves_no_half_database(tmp_path: Path) -> None:
    """What an initialisation that was killed has left is thrown away."""
    half = tmp_path / "postgres.unfinished"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = make_postgres(tmp_path)
    try:
        await server.start()
        assert not half.exists()
    finally:
        await server.process.stop()


async def test_objects_survive_kill_and_other_ports(tmp_path: Path) -> None:
    """After `kill -9` the store starts again with what was acknowledged, wherever it listens."""
    first = make_seaweedfs(tmp_path)
    await first.start()
    first.make_bucket("films")
    client = first.client()
    body = os.urandom(5_000_000)
    client.put_object(Bucket="films", Key="film", Body=body)
    client.close()
    first.process.kill()
    await first.process.wait(timeout_s=5)
    second = make_seaweedfs(tmp_path)
    try:
        await second.start()
        second.make_bucket("films")
        client = second.client()
        assert client.get_object(Bucket="films", Key="film")["Body"].read() == body
        client.close()
    finally:
        await first.process.stop()
        await second.process.stop()


async def test_services_own_their_schema_and_see_no_other(make_database: Callable[[], str]) -> None:
    """A role makes tables in its schema, and has no way into another's; preparing again changes nothing."""
    admin = make_database()
    sage = admin.rpartition("/")[0] + f"/{DATABASE}"
    passwords = {"ingest": "one", "embed": "two"}
    await prepare_database(admin, sage, passwords=passwords)
    await prepare_database(admin, sage, passwords=passwords)
    address = sage.rpartition("@")[2]
    with psycopg.connect(f"postgresql://ingest:one@{address}") as connection:
        connection.execute("CREATE TABLE ingest.videos (id int)")
    with (
        psycopg.connect(f"postgresql://embed:two@{address}") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM ingest.videos")
