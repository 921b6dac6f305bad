"""What callers hear from the gateway when no server of a service accepts connections."""

import asyncio
import contextlib
import json
import socket

import aiohttp
import grpc
import pytest
from google.api import httpbody_pb2
from google.rpc import error_details_pb2, status_pb2
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from support.gateway_in_front import gateway_to

# More than the gateway keeps of an upload in order to send it again.
BODY = bytes(3_000_000)
LIST_VIDEOS = "/sage.ingest.v1.IngestService/ListVideos"
FORM = {"filename": "film.mp4", "content_type": "video/mp4", "size_bytes": len(BODY)}


@contextlib.contextmanager
def closed():
    """Yield an address that refuses connections."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{one.getsockname()[1]}"


@contextlib.contextmanager
def silent():
    """Yield an address at which a connection is neither accepted nor refused."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=[closed, silent], ids=["closed", "silent"])
async def address(request, tmp_path):
    with request.param() as nowhere:
        async with gateway_to(dict.fromkeys(("ingest", "embed", "compare"), nowhere), tmp_path) as fronted:
            yield fronted.address


def is_unavailable(status):
    """Return whether a status says that the service cannot be reached, and when to try again."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert "cannot be reached" in status.message
    assert status.details[0].Unpack(info)
    assert info.reason == "SERVICE_UNAVAILABLE"
    return status.details[1].Unpack(retry) and retry.retry_delay.seconds > 0


async def test_an_upload_over_grpc_is_unavailable(address):
    async def messages():
        yield ingest_pb2.UploadVideoRequest(spec=ingest_pb2.VideoSpec(**FORM))
        for start in range(0, len(BODY), 100_000):
            content = httpbody_pb2.HttpBody(data=BODY[start : start + 100_000])
            yield ingest_pb2.UploadVideoRequest(content=content)

    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ingest_pb2_grpc.IngestServiceStub(channel).UploadVideo(messages(), timeout=60)
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
    assert is_unavailable(status_pb2.Status.FromString(details))


@pytest.mark.parametrize("path", ["videos?spec.filename=a.mp4", f"uploads/upload_{0:032}/parts/1"])
async def test_an_upload_over_http_is_unavailable(address, tmp_path, path):
    (tmp_path / "film.mp4").write_bytes(BODY)
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-m", "60", "--http1.1", "-w", "\n%{http_code}", "-T", tmp_path / "film.mp4",
        f"http://{address}/v1/{path}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await curl.communicate()
    body, _, http_status = out.decode().rpartition("\n")
    assert http_status == "503", body
    said = json.loads(body)
    assert said["code"] == 14
    assert said["details"][0]["reason"] == "SERVICE_UNAVAILABLE"
    assert "retryDelay" in said["details"][1]


async def test_calls_over_json_and_grpc_web_are_unavailable(address):
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/v1/videos") as response:
            assert (response.status, (await response.json())["code"]) == (503, 14)
        headers = {"content-type": "application/grpc-web+proto"}
        async with session.post(f"http://{address}{LIST_VIDEOS}", headers=headers, data=b"\0" * 5) as response:
            assert response.headers["grpc-status"] == "14"
            assert "grpc-status-details-bin" in response.headers
