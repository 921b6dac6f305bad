"""S3 with faults, and the URLs that it signs."""

import asyncio
import contextlib
import io
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from moto import mock_aws
from sage_ingest.storage import S3VideoObjects, open_client
from sage_runtime.errors import Reason, SageError

KEY = "videos/video_01"
LAST = b"the rest"


class Trouble:
    """S3 by moto with replaceable responses.

    Attributes:
        objects: The adapter.
        client: Its client.
        statuses: For each operation, statuses that replace those of its next responses. It is still carried out.
        halves: For each operation, the number of its next responses that are cut off in the middle of their body.
        cut: Operations whose connection is closed before they are carried out.
        calls: Operations in the order of the calls.
    """

    def __init__(self) -> None:
        session = boto3.session.Session("test", "test", region_name="us-east-1")
        self.client = open_client(session, endpoint_url="", connections=4)
        self.client.create_bucket(Bucket="bucket")
        self.objects = S3VideoObjects(self.client, url_client=self.client, bucket="bucket", part_threads=2)
        self.statuses: dict[str, list[int]] = {}
        self.halves: dict[str, int] = {}
        self.cut: set[str] = set()
        self.calls: list[str] = []
        # Before moto's own handler: the first response counts.
        self.client.meta.events.register_first("before-send.s3.*", self._respond)

    def _respond(self, *, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.calls.append(operation)
        if operation in self.cut:
            raise ConnectionClosedError(endpoint_url=request.url)
        if self.statuses.get(operation):
            return _failed(request, self.statuses[operation].pop(0))
        if self.halves.get(operation):
            self.halves[operation] -= 1
            # urllib3 detects only by the length that the connection was closed.
            body = io.BytesIO(LAST[: len(LAST) // 2])
            return AWSResponse(request.url, 206, {"content-length": str(len(LAST))}, body)
        return None


def _failed(request: AWSPreparedRequest, status: int) -> AWSResponse:
    class Raw:
        def stream(self, **_: object) -> Iterator[bytes]:
            yield b"<Error><Code>Trouble</Code><Message>injected by a test</Message></Error>"

    return AWSResponse(request.url, status, {}, Raw())


@pytest.fixture
def trouble(monkeypatch) -> Iterator[Trouble]:
    """Return S3 by moto."""
    # Otherwise retries wait for seconds.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    with mock_aws():
        trouble = Trouble()
        with contextlib.closing(trouble.objects):
            yield trouble


async def _begin(trouble: Trouble) -> str:
    return await trouble.objects.begin(KEY, content_type="video/mp4")


async def _put(trouble: Trouble, multipart_id: str) -> str:
    return await trouble.objects.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))


async def test_a_part_is_sent_again_after_server_errors(trouble: Trouble) -> None:
    multipart_id = await _begin(trouble)
    trouble.statuses["UploadPart"] = [500, 503]
    tag = await _put(trouble, multipart_id)
    await trouble.objects.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=len(LAST))
    assert await trouble.objects.read(KEY, offset=0, length=100) == LAST
    assert trouble.calls.count("UploadPart") == 3


@pytest.mark.parametrize("status", [500, 503, 403, 404])
async def test_lasting_errors_are_raised_with_their_code(trouble: Trouble, status: int) -> None:
    trouble.statuses["CreateMultipartUpload"] = [status] * 9
    with pytest.raises(SageError) as raised:
        await _begin(trouble)
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
    assert raised.value.detail == "CreateMultipartUpload: Trouble"
    assert trouble.calls.count("CreateMultipartUpload") == (4 if status in (500, 503) else 1)


async def test_a_completion_whose_response_was_lost_succeeds(trouble: Trouble) -> None:
    multipart_id = await _begin(trouble)
    tag = await _put(trouble, multipart_id)
    trouble.statuses["CompleteMultipartUpload"] = [500] * 9
    await trouble.objects.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=len(LAST))
    assert await trouble.objects.read(KEY, offset=0, length=100) == LAST


async def test_a_failed_completion_is_store_unavailable(trouble: Trouble) -> None:
    multipart_id = await _begin(trouble)
    tag = await _put(trouble, multipart_id)
    trouble.cut.add("CompleteMultipartUpload")
    with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
        await trouble.objects.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=len(LAST))


async def test_an_object_of_another_size_does_not_count_as_completed(trouble: Trouble) -> None:
    multipart_id = await _begin(trouble)
    tag = await _put(trouble, multipart_id)
    trouble.statuses["CompleteMultipartUpload"] = [500] * 9
    with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
        await trouble.objects.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=999)


@pytest.mark.parametrize(("broken", "reads"), [(3, True), (4, False)])
async def test_a_read_whose_response_breaks_off_is_repeated_up_to_three_times(
    trouble: Trouble, broken: int, reads: bool
) -> None:
    multipart_id = await _begin(trouble)
    tag = await _put(trouble, multipart_id)
    await trouble.objects.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=len(LAST))
    trouble.halves["GetObject"] = broken
    if reads:
        assert await trouble.objects.read_part(KEY, offset=0, length=100) == LAST
    else:
        with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
            await trouble.objects.read_part(KEY, offset=0, length=100)
    assert trouble.calls.count("GetObject") == 4


async def test_an_unreachable_store_is_store_unavailable() -> None:
    session = boto3.session.Session("test", "test", region_name="us-east-1")
    client = open_client(session, endpoint_url="http://127.0.0.1:9", connections=4)
    with contextlib.closing(S3VideoObjects(client, url_client=client, bucket="b", part_threads=1)) as objects:
        async with asyncio.timeout(30):
            with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
                await objects.check()


async def test_a_cancelled_call_ends_with_its_thread(trouble: Trouble) -> None:
    begun, release = threading.Event(), threading.Event()

    def wait(**_: object) -> None:
        begun.set()
        release.wait(10)

    trouble.client.meta.events.register_first("before-send.s3.HeadBucket", wait)
    call = asyncio.ensure_future(trouble.objects.check())
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(2):
        call.cancel()
        await asyncio.sleep(0)
    assert not call.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("filename", ['a"b.mp4', "🎬 ü.mp4", "../a\\b;c%.mp4", "a" * 255])
async def test_a_playback_url_plays(s3_objects, filename: str) -> None:
    multipart_id = await s3_objects.store.begin(KEY, content_type="video/webm")
    tag = await s3_objects.store.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))
    await s3_objects.store.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=len(LAST))
    url = await s3_objects.store.playback_url(KEY, filename=filename, content_type="video/webm", validity_s=60)

    def play() -> tuple[int, bytes, str, str]:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Range": "bytes=4-7"}), timeout=10
        ) as response:
            return (
                response.status,
                response.read(),
                response.headers["Content-Type"],
                response.headers["Content-Disposition"],
            )

    status, data, content_type, disposition = await asyncio.to_thread(play)
    assert (status, data, content_type) == (206, LAST[4:8], "video/webm")
    kind, plain, encoded = disposition.split("; ", 2)
    assert kind == "inline"
    assert plain.startswith('filename="')
    assert urllib.parse.unquote(encoded.removeprefix("filename*=UTF-8''")) == filename
