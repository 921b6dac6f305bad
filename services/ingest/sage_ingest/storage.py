"""The bytes of videos in S3, or in any S3-compatible store, through boto3."""

import asyncio
import contextlib
import functools
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from sage_runtime.errors import Reason, SageError

from sage_ingest.storage_errors import Room, code_of, s3_errors
from sage_ingest.videos.model import OBJECT_KEY_PREFIX, is_object_key
from sage_ingest.videos.ports import Multipart, VideoObjects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_CONTROL_THREADS = 8
_CONNECT_TIMEOUT_S = 5
# For one wait on the socket, not for a whole request. Enough for a store that joins 10,000 parts.
_READ_TIMEOUT_S = 60
_ATTEMPTS = 4


def open_session(*, region: str, profile: str) -> boto3.session.Session:
    """Return a session for all clients, since each session loads 8 MB of models.

    Args:
        region: The bucket's region; empty for that of the profile or the environment, else us-east-1.
        profile: A profile of the AWS configuration files; empty for the environment, the default profile or the
            instance's role, in boto3's order.
    """
    return boto3.session.Session(profile_name=profile or None, region_name=region or None)


def open_client(
    session: boto3.session.Session,
    *,
    endpoint_url: str,
    connections: int,
    read_timeout_s: float = _READ_TIMEOUT_S,
    attempts: int = _ATTEMPTS,
) -> "S3Client":
    """Return a client with bounded waits and retries.

    Args:
        session: Has the credentials and the region.
        endpoint_url: Of the store; empty for AWS.
        connections: Maximum number of requests at once.
        read_timeout_s: Maximum number of seconds for one wait for the store's response.
        attempts: Maximum number of attempts at a request.
    """
    config = Config(
        signature_version="s3v4",
        connect_timeout=min(_CONNECT_TIMEOUT_S, read_timeout_s),
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # Without TLS botocore signs every part with its SHA-256, which AWS and MinIO check and SeaweedFS does not. An
        # additional CRC would be a second pass, and not every S3-compatible store supports it. AWS gets the CRC, and
        # its signature omits the body.
        request_checksum_calculation="when_required" if endpoint_url else "when_supported",
        response_checksum_validation="when_required",
        # Self-hosted stores rarely have a DNS name for each bucket.
        s3={"addressing_style": "path"} if endpoint_url else {},
    )
    return session.client(
        "s3", endpoint_url=endpoint_url or None, region_name=session.region_name or "us-east-1", config=config
    )


class S3VideoObjects(VideoObjects):
    """Videos in one bucket. boto3 blocks, so it runs in two bounded pools of threads.

    Parts have a separate pool, so aborting, probing and health checks find a thread however slow parts are.

    A cancelled call ends when its thread does, since a thread cannot be interrupted. Cleanup that follows can
    therefore rely on no request being in flight. botocore's timeouts bound that wait.

    Args:
        client: For everything except playback URLs and health checks.
        url_client: Signs playback URLs, for the address at which players reach the store.
        check_client: For health checks, with short timeouts.
        bucket: Name of the bucket.
        part_threads: Parts sent at once.
        room: The store's room, if it is known.
    """

    def __init__(
        self,
        client: "S3Client",
        *,
        url_client: "S3Client",
        check_client: "S3Client",
        bucket: str,
        part_threads: int,
        room: Room | None = None,
    ) -> None:
        self._client = client
        self._url_client = url_client
        self._check_client = check_client
        self._bucket = bucket
        self._room = room or Room()
        # What the last check found, and the last write that found no room.
        self._problem: SageError | None = None
        self._full: SageError | None = None
        self._parts = ThreadPoolExecutor(part_threads, thread_name_prefix="s3-parts")
        self._control = ThreadPoolExecutor(_CONTROL_THREADS, thread_name_prefix="s3-control")

    @staticmethod
    def connections(part_threads: int) -> int:
        """Return the maximum number of requests that an instance makes at once, for `open_client`."""
        return part_threads + _CONTROL_THREADS

    def close(self) -> None:
        """Close threads and connections. No call may be running."""
        self._parts.shutdown(wait=True)
        self._control.shutdown(wait=True)
        self._client.close()
        self._url_client.close()
        self._check_client.close()

    async def begin(self, key: str, *, content_type: str) -> str:
        def begin() -> str:
            response = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
            return response["UploadId"]

        return await self._write(self._control, begin, key=key)

    async def put_part(self, key: str, *, multipart_id: str, part_number: int, data: bytearray) -> str:
        # botocore accepts a bytearray, although its type hints do not.
        blob = cast("bytes", data)

        def put() -> str:
            self._room.check(len(data))
            response = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=multipart_id, PartNumber=part_number, Body=blob
            )
            return response["ETag"]

        tag = await self._write(self._parts, put, key=key)
        self._full = None
        return tag

    async def part_tags(self, key: str, *, multipart_id: str) -> frozenset[tuple[int, str]] | None:
        def list_parts() -> frozenset[tuple[int, str]] | None:
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=key, UploadId=multipart_id
            )
            try:
                return frozenset((part["PartNumber"], part["ETag"]) for page in pages for part in page.get("Parts", []))
            except ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise
                return None

        return await self._run(self._control, list_parts, key=key)

    async def complete(self, key: str, *, multipart_id: str, tags: Sequence[str], size_bytes: int) -> None:
        def complete() -> None:
            try:
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=multipart_id,
                    MultipartUpload={
                        "Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, start=1)]
                    },
                )
            except (BotoCoreError, ClientError):
                # If the response was lost, botocore's repeated request finds no upload: it has become the object. A key
                # is used once, so an object of this size under this key is that one.
                if self._size_of(key) != size_bytes:
                    raise

        await self._write(self._control, complete, key=key)

    async def discard(self, key: str) -> None:
        self._check_present()

        def discard() -> None:
            # Found by key: an upload's ID is unknown if the response that contained it was lost.
            for multipart_id in self._multipart_ids(key):
                self._abort(key, multipart_id)
            self._client.delete_object(Bucket=self._bucket, Key=key)

        await self._run(self._control, discard, key=key)

    async def list_multiparts(self, *, older_than_s: float) -> list[Multipart]:
        def find() -> list[Multipart]:
            before = datetime.now(UTC) - timedelta(seconds=older_than_s)
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=OBJECT_KEY_PREFIX
            )
            begun = [
                Multipart(upload["Key"], upload["UploadId"])
                for page in pages
                for upload in page.get("Uploads", [])
                if is_object_key(upload["Key"]) and upload["Initiated"] < before
            ]
            return [one for one in begun if self._last_part_time(one) < before]

        return await self._run(self._control, find)

    async def abort(self, multipart: Multipart) -> None:
        await self._run(self._control, lambda: self._abort(multipart.key, multipart.multipart_id), key=multipart.key)

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`."""
        return await self._run(self._control, functools.partial(self._read, key, offset=offset, length=length), key=key)

    async def read_part(self, key: str, *, offset: int, length: int) -> bytes:
        return await self._run(self._parts, functools.partial(self._read, key, offset=offset, length=length), key=key)

    async def playback_url(self, key: str, *, filename: str, content_type: str, validity_s: int) -> str:
        def sign() -> str:
            return self._url_client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": key,
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": _inline(filename),
                },
                ExpiresIn=validity_s,
            )

        return await self._run(self._control, sign, key=key)

    async def check_accepts(self, size_bytes: int) -> None:
        self._check_present()
        await asyncio.to_thread(self._room.check, size_bytes)

    async def check(self) -> None:
        def head() -> None:
            # Noted in the thread: a check that took too long was cancelled, and no longer waits for the result.
            try:
                with s3_errors(self._bucket):
                    self._check_client.head_bucket(Bucket=self._bucket)
            except SageError as error:
                self._problem = error
                raise
            self._problem = None

        await _in_thread(self._control, head)

    async def check_writable(self) -> None:
        if self._full is not None:
            raise _again(self._full)
        await asyncio.to_thread(self._room.check)

    def _check_present(self) -> None:
        """Fail at once if the last health check did: a request to a frozen store would wait for minutes."""
        if self._problem is not None:
            raise _again(self._problem)

    def _read(self, key: str, *, offset: int, length: int, attempts: int = _ATTEMPTS) -> bytes:
        span = f"bytes={offset}-{offset + length - 1}"
        response = self._client.get_object(Bucket=self._bucket, Key=key, Range=span)
        try:
            with contextlib.closing(response["Body"]) as body:
                return body.read()
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
            # botocore repeats a request, but not if reading its response fails. One of the thousands that a large file
            # needs may well fail, and all others would have been read for nothing.
            if attempts == 1:
                raise
        return self._read(key, offset=offset, length=length, attempts=attempts - 1)

    def _size_of(self, key: str) -> int | None:
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
        except ClientError as error:
            if code_of(error) in {"404", "NoSuchKey"}:
                return None
            raise

    def _multipart_ids(self, key: str) -> list[str]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=key)
        return [upload["UploadId"] for page in pages for upload in page.get("Uploads", []) if upload["Key"] == key]

    def _last_part_time(self, multipart: Multipart) -> datetime:
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=multipart.key, UploadId=multipart.multipart_id
        )
        try:
            times = [part["LastModified"] for page in pages for part in page.get("Parts", [])]
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            # It has just ended.
            return datetime.now(UTC)
        return max(times, default=datetime.min.replace(tzinfo=UTC))

    def _abort(self, key: str, multipart_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T], *, key: str = "") -> T:
        with s3_errors(self._bucket, key):
            return await _in_thread(pool, call)

    async def _write(self, pool: ThreadPoolExecutor, call: Callable[[], T], *, key: str) -> T:
        try:
            with s3_errors(self._bucket, key, room=self._room):
                return await _in_thread(pool, call)
        except SageError as error:
            if error.reason is Reason.STORE_FULL:
                self._full = error
            raise


async def _in_thread(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    work = pool.submit(call)
    result = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        # A call that no thread has started is dropped. Wait for a running one, however often the task is cancelled.
        if not work.cancel():
            while not result.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([result])
            # Retrieved, because asyncio logs an error that no code has seen.
            result.exception()
        raise


def _again(error: SageError) -> SageError:
    # Not the same object: each time it is raised, its traceback grows.
    facts: dict[str, Any] = dict(error.facts)
    return SageError(error.reason, detail=f"earlier: {error.detail}", **facts)


def _inline(filename: str) -> str:
    # RFC 6266: the name twice, plain for old clients and percent-encoded in UTF-8 (RFC 5987). Characters that a quoted
    # string may not contain become dashes, so that a label cannot inject anything into the header.
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "-" for c in filename)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{urllib.parse.quote(filename, safe='')}"
