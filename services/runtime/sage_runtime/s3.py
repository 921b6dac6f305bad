"""Objects in one bucket of S3, or of any S3-compatible store, through boto3."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from pydantic import Field

from sage_runtime.errors import Reason, SageError
from sage_runtime.process.settings import MIB, Settings
from sage_runtime.s3_errors import Room, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_CONTROL_THREADS = 8
_CONNECT_TIMEOUT_S = 5
# For one wait on the socket, not for a whole request. Enough for a store that joins 10,000 parts.
_READ_TIMEOUT_S = 60
_ATTEMPTS = 4
# A connection that the store has closed meanwhile is no problem of the store.
_CHECK_ATTEMPTS = 2


class S3Settings(Settings):
    """Settings of a service that stores objects.

    Attributes:
        s3_bucket: The bucket, which must exist. Services may share one: each has its own prefix.
        s3_region: The bucket's region; empty for the region of the profile or the environment.
        s3_profile: A profile in the AWS configuration files; empty for boto3's default credential chain.
        s3_endpoint_url: URL of an S3-compatible store; empty for AWS.
        store_folder: A folder on the disk that holds the object store's data, if the store runs on this machine. Its
            free space decides whether an object fits. Empty: only the store itself tells when it is full.
        store_min_free_bytes: Bytes on that disk that objects must leave free.
    """

    s3_bucket: str = Field(min_length=1, validation_alias="S3_BUCKET_NAME")
    s3_region: str = Field(default="", validation_alias="S3_REGION")
    s3_profile: str = Field(default="", validation_alias="S3_PROFILE")
    s3_endpoint_url: str = Field(default="", pattern="^(https?://.+)?$", validation_alias="S3_ENDPOINT_URL")
    store_folder: Path | None = Field(default=None, validation_alias="SAGE_STORE_FOLDER")
    store_min_free_bytes: int = Field(default=256 * MIB, ge=0, validation_alias="SAGE_STORE_MIN_FREE_BYTES")


def open_session(*, region: str, profile: str) -> boto3.session.Session:
    """Return a session for all clients, since each session loads 8 MB of models.

    Args:
        region: The bucket's region; empty for that of the profile or the environment, else us-east-1.
        profile: A profile of the AWS configuration files; empty for the environment, the default profile or the
            instance's role, in boto3's order.
    """
    return boto3.session.Session(profile_name=profile or None, region_name=region or None)


def open_check_client(session: boto3.session.Session, *, endpoint_url: str, timeout_s: float) -> "S3Client":
    """Return a client for health checks."""
    return open_client(
        session, endpoint_url=endpoint_url, connections=1, read_timeout_s=timeout_s, attempts=_CHECK_ATTEMPTS
    )


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


class S3Bucket:
    """Objects in one bucket. boto3 blocks, so it runs in a bounded pool of threads.

    A cancelled call ends when its thread does, since a thread cannot be interrupted. Cleanup that follows can
    therefore rely on no request being in flight. botocore's timeouts bound that wait.

    Args:
        client: For everything except health checks.
        check_client: For health checks, with short timeouts.
        bucket: Name of the bucket.
        room: The store's name and, if it is known, its room.
    """

    def __init__(self, client: "S3Client", *, check_client: "S3Client", bucket: str, room: Room) -> None:
        self._client = client
        self._check_client = check_client
        self._bucket = bucket
        self._room = room
        # What the last check found, and the last write that found no room.
        self._problem: SageError | None = None
        self._full: SageError | None = None
        self._control = ThreadPoolExecutor(_CONTROL_THREADS, thread_name_prefix="s3-control")

    @staticmethod
    def connections(further_threads: int = 0) -> int:
        """Return the maximum number of requests that an instance makes at once, for `open_client`."""
        return further_threads + _CONTROL_THREADS

    def close(self) -> None:
        """Close threads and connections. No call may be running."""
        self._control.shutdown(wait=True)
        self._client.close()
        self._check_client.close()

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`."""
        return await self._run(self._control, functools.partial(self._read, key, offset=offset, length=length), key=key)

    async def check(self) -> None:
        def head() -> None:
            # Noted in the thread: a check that took too long was cancelled, and no longer waits for the result.
            try:
                with s3_errors(self._bucket, store=self._room.store):
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

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T], *, key: str = "") -> T:
        with s3_errors(self._bucket, key, store=self._room.store):
            return await _in_thread(pool, call)

    async def _write(self, pool: ThreadPoolExecutor, call: Callable[[], T], *, key: str) -> T:
        try:
            with s3_errors(self._bucket, key, store=self._room.store, room=self._room):
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
