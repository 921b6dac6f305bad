"""SeaweedFS has many servers. Only S3 responds to clients without its certificate."""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest
from sage_local.ports import SEAWEED_SOCKETS
from sage_local.seaweedfs import SeaweedFS
from support.other_users import open_to_others

# Starts a server.
pytestmark = pytest.mark.slow

_METHODS = (
    "/master_pb.Seaweed/VolumeList",
    "/master_pb.Seaweed/CollectionList",
    "/volume_server_pb.VolumeServer/VolumeServerStatus",
    "/filer_pb.SeaweedFiler/GetFilerConfiguration",
    "/filer_pb.SeaweedFiler/ListEntries",
    "/s3_pb.SeaweedS3IamCache/PutIdentity",
)


def _other_ports(server: SeaweedFS) -> list[int]:
    """Return every port that its process listens on, except that of S3."""
    process = psutil.Process(server.process.pid)
    listening = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    ports = {one.laddr.port for one in listening} - {int(server.endpoint_url.rpartition(":")[2])}
    assert len(ports) == 7
    return sorted(ports)


def _get(port: int, path: str) -> str:
    """Return what a GET without a certificate gets, as `STATUS BODY`; empty if the connection is closed."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return f"{response.status} {response.read().decode()}"
        except (http.client.HTTPException, ConnectionError):
            return ""


def _get_over_tls(port: int) -> bytes:
    """Return the first byte of a response to a GET over TLS, as a client that believes any server and has no key."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain) as encrypted:
        encrypted.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return encrypted.recv(1)


def test_http_needs_the_certificate(s3_server: SeaweedFS, make_bucket: Callable[[], str]) -> None:
    bucket = make_bucket()
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="film", Body=b"frames")
    paths = (f"/buckets/{bucket}/film", "/", "/dir/status", f"/col/delete?collection={bucket}", "/ui/index.html")
    responses = {(port, path): _get(port, path) for port in _other_ports(s3_server) for path in paths}
    assert set(responses.values()) == {"", "400 Client sent an HTTP request to an HTTPS server.\n"}
    assert client.get_object(Bucket=bucket, Key="film")["Body"].read() == b"frames"
    client.close()


def test_tls_without_the_certificate_is_refused(s3_server: SeaweedFS) -> None:
    for port in _other_ports(s3_server):
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            _get_over_tls(port)


@pytest.mark.parametrize("method", _METHODS)
def test_grpc_needs_the_certificate(s3_server: SeaweedFS, method: str) -> None:
    for port in _other_ports(s3_server):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            list(channel.unary_stream(method)(b"", timeout=10))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE, f"{port} returned {caught.value}"


def test_other_users_can_open_neither_its_files_nor_its_sockets(s3_server: SeaweedFS) -> None:
    process = psutil.Process(s3_server.process.pid)
    folder = Path(process.cwd())
    sockets = {folder / one.laddr for one in process.net_connections("unix") if one.laddr}
    assert len(sockets) == 6
    assert {path.parent for path in sockets} == {folder, SEAWEED_SOCKETS}
    assert [found for path in (folder, *sockets) for found in open_to_others(path)] == []
