"""The bytes of videos in S3, or in any S3-compatible store, through boto3."""

import asyncio
import contextlib
import functools
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from sage_ingest.errors import store_unavailable
from sage_ingest.videos.ports import VideoObjects

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


def open_client(session: boto3.session.Session, *, endpoint_url: str, connections: int) -> "S3Client":
    """Return a client with bounded waits and retries.

    Args:
        session: Has the credentials and the region.
        endpoint_url: Of the store; empty for AWS.
        connections: Maximum number of requests at once.
    """
    config = Config(
        signature_version="s3v4",
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
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
        client: For everything except playback URLs.
        url_client: Signs playback URLs, for the address at which players reach the store.
        bucket: Name of the bucket.
        part_threads: Parts sent at once.
    """

    def __init__(self, client: "S3Client", *, url_client: "S3Client", bucket: str, part_threads: int) -> None:
        self._client = client
        self._url_client = url_client
        self._bucket = bucket
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

    async def begin(self, key: str, *, content_type: str) -> str:
        def begin() -> str:
            response = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
            return response["UploadId"]

        return await _run(self._control, begin)

    async def put_part(self, key: str, *, multipart_id: str, part_number: int, data: bytearray) -> str:
        # botocore accepts a bytearray, although its type hints do not.
        blob = cast("bytes", data)

        def put() -> str:
            response = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=multipart_id, PartNumber=part_number, Body=blob
            )
            return response["ETag"]

        return await _run(self._parts, put)

    async def part_tags(self, key: str, *, multipart_id: str) -> frozenset[tuple[int, str]] | None:
        def list_parts() -> frozenset[tuple[int, str]] | None:
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=key, UploadId=multipart_id
            )
            try:
                return frozenset((part["PartNumber"], part["ETag"]) for page in pages for part in page.get("Parts", []))
            except ClientError as error:
                if _code(error) != "NoSuchUpload":
                    raise
                return None

        return await _run(self._control, list_parts)

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

        await _run(self._control, complete)

    async def discard(self, key: str) -> None:
        def discard() -> None:
            # Found by key: an upload's ID is unknown if the response that contained it was lost.
            for multipart_id in self._multipart_ids(key):
                try:
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id)
                except ClientError as error:
                    if _code(error) != "NoSuchUpload":
                        raise
            self._client.delete_object(Bucket=self._bucket, Key=key)

        await _run(self._control, discard)

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`."""
        return await _run(self._control, functools.partial(self._read, key, offset=offset, length=length))

    async def read_part(self, key: str, *, offset: int, length: int) -> bytes:
        return await _run(self._parts, functools.partial(self._read, key, offset=offset, length=length))

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

        return await _run(self._control, sign)

    async def check(self) -> None:
        await _run(self._control, lambda: self._client.head_bucket(Bucket=self._bucket))

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
            if _code(error) in {"404", "NoSuchKey"}:
                return None
            raise

    def _multipart_ids(self, key: str) -> list[str]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=key)
        return [upload["UploadId"] for page in pages for upload in page.get("Uploads", []) if upload["Key"] == key]


async def _run(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    work = pool.submit(call)
    result = asyncio.wrap_future(work)
    try:
        with _store_errors():
            return await asyncio.shield(result)
    except asyncio.CancelledError:
        # A call that no thread has started is dropped. Wait for a running one, however often the task is cancelled.
        if not work.cancel():
            while not result.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([result])
        raise


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        detail = f"{error.operation_name}: {_code(error)}"
        raise store_unavailable("video store", detail=detail) from error
    except BotoCoreError as error:
        raise store_unavailable("video store", detail=f"{type(error).__name__}: {error}") from error


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _inline(filename: str) -> str:
    # RFC 6266: the name twice, plain for old clients and percent-encoded in UTF-8 (RFC 5987). Characters that a quoted
    # string may not contain become dashes, so that a label cannot inject anything into the header.
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "-" for c in filename)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{urllib.parse.quote(filename, safe='')}"
