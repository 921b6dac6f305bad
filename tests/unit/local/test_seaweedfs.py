"""SeaweedFS as the stack and the tests run it."""

import os
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from sage_local import seaweedfs
from sage_local.errors import StackError
from sage_local.ports import choose_ports
from sage_local.seaweedfs import SeaweedFS, SeaweedPorts

# Starts servers.
pytestmark = pytest.mark.slow

_SEAWEED_PORTS = ("s3", "s3_grpc", "filer", "filer_grpc", "volume", "volume_grpc", "master", "master_grpc")


def make_seaweedfs(tmp_path: Path) -> SeaweedFS:
    """Return a server on a folder that may have objects already, on other ports than the last one."""
    ports = SeaweedPorts(**choose_ports(_SEAWEED_PORTS, wanted={}, last={}))
    return SeaweedFS(tmp_path / "s3", ports=ports, access_key="key", secret_key="secret", log=tmp_path / "log")


def test_objects_can_be_read_in_ranges(s3_server: SeaweedFS, make_bucket: Callable[[], str]) -> None:
    bucket = make_bucket()
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="film", Body=b"0123456789")
    assert client.get_object(Bucket=bucket, Key="film", Range="bytes=2-4")["Body"].read() == b"234"
    client.close()


def test_a_wrong_access_key_is_refused(s3_server: SeaweedFS, make_bucket: Callable[[], str]) -> None:
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


async def test_a_folder_for_sockets_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seaweedfs, "SEAWEED_SOCKETS", tmp_path / "tmp")
    with pytest.raises(StackError, match=f"creates sockets in {tmp_path}/tmp"):
        await make_seaweedfs(tmp_path).start()


async def test_objects_survive_a_kill_and_other_ports(tmp_path: Path) -> None:
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
