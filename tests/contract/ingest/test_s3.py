"""S3 with faults, and the URLs that it signs."""

import asyncio
import contextlib
import dataclasses
import io
import threading
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from moto import mock_aws
from sage_ingest.storage import S3VideoObjects
from sage_local.ports import choose_ports
from sage_local.seaweedfs import SeaweedFS, SeaweedPorts
from sage_runtime.errors import Reason, SageError
from sage_runtime.s3 import open_client
from sage_runtime.s3_errors import Room

KEY = "videos/video_01"
LAST = b"the rest"


class Trouble:
    """S3 by moto with replaceable responses.

    Attributes:
        objects: The adapter.
        client: Its client.
        statuses: For each operation, statuses that replace those of its next responses. It is still carried out.
        code: The code of these responses.
        halves: For each operation, the number of its next responses that are cut off in the middle of their body.
        cut: Operations whose connection is closed before they are carried out.
        calls: Operations in the order of the calls.
    """

    def __init__(self) -> None:
        session = boto3.session.Session("test", "test", region_name="us-east-1")
        self.client = open_client(session, endpoint_url="", connections=4)
        self.client.create_bucket(Bucket="bucket")
        self.objects = self.with_room(Room())
        self.statuses: dict[str, list[int]] = {}
        self.code = "Trouble"
        self.halves: dict[str, int] = {}
        self.cut: set[str] = set()
        self.calls: list[str] = []
        # Before moto's own handler: the first response counts.
        self.client.meta.events.register_first("before-send.s3.*", self._respond)

    def with_room(self, room: Room) -> S3VideoObjects:
        """Return another adapter, which knows the room on the store's disk."""
        return S3VideoObjects(
            self.client,
            url_client=self.client,
            check_client=self.client,
            bucket="bucket",
            part_threads=2,
            room=room,
        )

    def _respond(self, *, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.calls.append(operation)
        if operation in self.cut:
            raise ConnectionClosedError(endpoint_url=request.url)
        if self.statuses.get(operation):
            return _failed(request, self.statuses[operation].pop(0), code=self.code)
        if self.halves.get(operation):
            self.halves[operation] -= 1
            # urllib3 detects only by the length that the connection was closed.
            body = io.BytesIO(LAST[: len(LAST) // 2])
            return AWSResponse(request.url, 206, {"content-length": str(len(LAST))}, body)
        return None


def _failed(request: AWSPreparedRequest, status: int, *, code: str) -> AWSResponse:
    class Raw:
        def stream(self, **_: object) -> Iterator[bytes]:
            yield f"<Error><Code>{code}</Code><Message>injected by a test</Message></Error>".encode()

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
    assert raised.value.reason is (Reason.STORE_FORBIDDEN if status == 403 else Reason.STORE_UNAVAILABLE)
    assert raised.value.detail.startswith(f"CreateMultipartUpload of {KEY} in bucket bucket: Trouble")
    assert trouble.calls.count("CreateMultipartUpload") == (4 if status in (500, 503) else 1)


@pytest.mark.parametrize(
    ("status", "code", "reason", "why"),
    [
        (507, "InsufficientStorage", "STORE_FULL", "it reports InsufficientStorage"),
        (507, "XMinioStorageFull", "STORE_FULL", "it reports XMinioStorageFull"),
        (403, "QuotaExceeded", "STORE_FULL", "it reports QuotaExceeded"),
        (403, "AccessDenied", "STORE_FORBIDDEN", "it does not allow s3:PutObject in bucket bucket (AccessDenied)"),
        (403, "InvalidAccessKeyId", "STORE_FORBIDDEN", "it does not know the access key (InvalidAccessKeyId)"),
        (403, "SignatureDoesNotMatch", "STORE_FORBIDDEN", "the secret key is wrong (SignatureDoesNotMatch)"),
        (400, "ExpiredToken", "STORE_FORBIDDEN", "the credentials have expired (ExpiredToken)"),
        (404, "NoSuchBucket", "STORE_MISCONFIGURED", "there is no bucket bucket"),
        (301, "PermanentRedirect", "STORE_MISCONFIGURED", "bucket bucket is in another region or at another endpoint"),
        (403, "RequestTimeTooSkewed", "STORE_MISCONFIGURED", "the clock of this server is wrong"),
    ],
)
async def test_a_store_that_refuses_a_part_is_named_as_such(
    trouble: Trouble, status: int, code: str, reason: str, why: str
) -> None:
    multipart_id = await _begin(trouble)
    trouble.statuses["UploadPart"], trouble.code = [status] * 9, code
    with pytest.raises(SageError) as raised:
        await _put(trouble, multipart_id)
    assert (raised.value.reason, raised.value.facts["why"]) == (reason, why)
    assert f"UploadPart of {KEY} in bucket bucket: {code}" in raised.value.detail


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "STORE_FORBIDDEN"), (404, "STORE_MISCONFIGURED"), (503, "STORE_UNAVAILABLE")]
)
async def test_a_failed_check_names_the_reason_and_fails_uploads_at_once_until_one_passes(
    trouble: Trouble, status: int, reason: str
) -> None:
    trouble.statuses["HeadBucket"] = [status] * 4
    with pytest.raises(SageError, match=reason):
        await trouble.objects.check()
    trouble.calls.clear()
    for refused in (trouble.objects.check_accepts(1), trouble.objects.discard(KEY)):
        with pytest.raises(SageError, match=reason):
            await refused
    assert not trouble.calls
    trouble.statuses.clear()
    await trouble.objects.check()
    await trouble.objects.check_accepts(1)
    await trouble.objects.discard(KEY)


async def test_without_credentials_the_store_is_misconfigured(monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/none")
    client = open_client(boto3.session.Session(), endpoint_url="http://127.0.0.1:9", connections=4)
    objects = S3VideoObjects(client, url_client=client, check_client=client, bucket="b", part_threads=1)
    with contextlib.closing(objects), pytest.raises(SageError, match="STORE_MISCONFIGURED"):
        await objects.check()


async def test_a_part_that_does_not_fit_on_the_disk_is_not_sent(trouble: Trouble, tmp_path: Path) -> None:
    multipart_id = await _begin(trouble)
    crowded = trouble.with_room(Room(tmp_path, min_free_bytes=2**60))
    with contextlib.closing(crowded):
        for refused in (
            crowded.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST)),
            crowded.check_accepts(1),
            crowded.check_writable(),
        ):
            with pytest.raises(SageError, match="STORE_FULL"):
                await refused
    assert "UploadPart" not in trouble.calls


async def test_a_store_that_was_full_accepts_videos_again_after_a_part(trouble: Trouble) -> None:
    multipart_id = await _begin(trouble)
    trouble.statuses["UploadPart"], trouble.code = [507] * 9, "InsufficientStorage"
    with pytest.raises(SageError, match="STORE_FULL"):
        await _put(trouble, multipart_id)
    with pytest.raises(SageError, match="STORE_FULL"):
        await trouble.objects.check_writable()
    await trouble.objects.check()
    trouble.statuses.clear()
    await _put(trouble, multipart_id)
    await trouble.objects.check_writable()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aws_secret_access_key": "wrong"}, "STORE_FORBIDDEN"),
        ({"aws_access_key_id": "unknown"}, "STORE_FORBIDDEN"),
        ({"bucket": "no-such-bucket"}, "STORE_MISCONFIGURED"),
    ],
)
async def test_seaweedfs_that_refuses_us_is_named_as_such(s3_server, make_bucket, changes, reason: str) -> None:
    keys = {"aws_access_key_id": s3_server.access_key, "aws_secret_access_key": s3_server.secret_key} | changes
    bucket = keys.pop("bucket", "") or make_bucket()
    session = boto3.session.Session(**keys, region_name=s3_server.region)
    client = open_client(session, endpoint_url=s3_server.endpoint_url, connections=4)
    objects = S3VideoObjects(client, url_client=client, check_client=client, bucket=bucket, part_threads=1)
    with contextlib.closing(objects):
        for refused in (
            objects.begin(KEY, content_type="video/mp4"),
            objects.put_part(KEY, multipart_id="none", part_number=1, data=bytearray(LAST)),
            objects.read(KEY, offset=0, length=1),
            objects.discard(KEY),
            objects.check(),
        ):
            with pytest.raises(SageError, match=reason):
                await refused


@pytest.fixture
async def crowded_server(tmp_path: Path) -> AsyncIterator[SeaweedFS]:
    """SeaweedFS that finds too little free space on its disk, as on a full one, and accepts no data."""
    names = [field.name for field in dataclasses.fields(SeaweedPorts)]
    server_ports = SeaweedPorts(**choose_ports(names, wanted={}, last={}))
    server = SeaweedFS(
        tmp_path / "data", ports=server_ports, access_key="test", secret_key="secret", log=tmp_path / "log"
    )
    server.process.command.append("-volume.minFreeSpace=100")  # percent
    try:
        await server.start()
        yield server
    finally:
        await server.process.stop()


@pytest.mark.parametrize("room_is_known", [True, False])
async def test_seaweedfs_without_room_is_full_if_its_disk_is_known(
    crowded_server: SeaweedFS, tmp_path: Path, room_is_known: bool
) -> None:
    """It does not respond to the request, so without a look at its disk it is only unavailable."""
    session = boto3.session.Session(crowded_server.access_key, crowded_server.secret_key, region_name="us-east-1")
    client = open_client(session, endpoint_url=crowded_server.endpoint_url, connections=4, read_timeout_s=2, attempts=1)
    await asyncio.to_thread(crowded_server.make_bucket, "films")
    room = _Shrinking(tmp_path, 2**60) if room_is_known else Room()
    objects = S3VideoObjects(client, url_client=client, check_client=client, bucket="films", part_threads=1, room=room)
    with contextlib.closing(objects):
        multipart_id = await objects.begin(KEY, content_type="video/mp4")
        with pytest.raises(SageError) as raised:
            await objects.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))
    assert raised.value.reason is (Reason.STORE_FULL if room_is_known else Reason.STORE_UNAVAILABLE)


async def test_a_server_error_of_a_full_disk_is_store_full(trouble: Trouble, tmp_path: Path) -> None:
    """Measured: SeaweedFS 4.48 reports InternalError for a part if its disk fills up."""
    multipart_id = await _begin(trouble)
    trouble.statuses["UploadPart"], trouble.code = [500] * 9, "InternalError"
    crowded = trouble.with_room(_Shrinking(tmp_path, 2**60))
    with contextlib.closing(crowded), pytest.raises(SageError) as raised:
        await crowded.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))
    assert raised.value.reason is Reason.STORE_FULL
    assert "InternalError" in raised.value.detail


class _Shrinking(Room):
    """There is room when a part is about to be sent, and none afterwards: others write to the disk too."""

    def check(self, more_bytes: int = 0) -> None:
        if not more_bytes:
            super().check()


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
    objects = S3VideoObjects(client, url_client=client, check_client=client, bucket="b", part_threads=1)
    with contextlib.closing(objects):
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
