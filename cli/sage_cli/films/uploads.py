"""Uploading a file: streamed if it is small, resumable if it is large."""

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import grpc
from google.api import httpbody_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.api.client import Client
from sage_cli.api.retries import AWAY, LOST_STATUS, Attempts
from sage_cli.films.resumable_uploads import file_got_shorter, upload_resumable
from sage_cli.films.targets import unreadable
from sage_cli.show.progress import Line
from sage_cli.show.terminal import printable

if TYPE_CHECKING:
    from sage_cli.api.errors import CommandError

CHUNK_BYTES = 1024 * 1024
# Hashing is so fast that a thread switch per MiB would be noticeable.
HASH_CHUNK_BYTES = 8 * 1024 * 1024
FILENAME_MAX_LENGTH = 255
RESUMABLE_OVER_MIB = 64

# A refused call may lose its status while it writes. When repeated, it pauses this long after its first message: most
# refusals arrive in that time.
_LISTEN_S = 1.0


@dataclass(frozen=True)
class UploadOptions:
    """How files are uploaded.

    Attributes:
        content_type: Their media type; None to guess it from the name and the first bytes.
        resumable_over_bytes: Size above which an upload is resumable.
    """

    content_type: str | None = None
    resumable_over_bytes: int = RESUMABLE_OVER_MIB * 1024 * 1024


@dataclass(frozen=True)
class Checksum:
    """What identifies the bytes of a file.

    Attributes:
        sha256: Their SHA-256, 64 lower-case hexadecimal digits.
        size_bytes: How many were read.
    """

    sha256: str
    size_bytes: int


async def checksum(path: Path, *, advance: Callable[[int], None]) -> Checksum:
    """Read a file once and return its checksum.

    Args:
        path: The file.
        advance: Called with the number of bytes after each read.

    Raises:
        CommandError: It cannot be read.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with await _open(path) as file:
        try:
            while chunk := await asyncio.to_thread(file.read, HASH_CHUNK_BYTES):
                await asyncio.to_thread(digest.update, chunk)
                size_bytes += len(chunk)
                advance(len(chunk))
        except OSError as error:
            raise unreadable(path, error) from error
    return Checksum(digest.hexdigest(), size_bytes)


async def upload(
    client: Client,
    path: Path,
    check: Checksum,
    *,
    content_type: str,
    video_track: int | None,
    resumable_over_bytes: int,
    line: Line,
) -> ingest_pb2.Video:
    """Upload a file and return its video.

    There is no deadline, because films may be of any size; keepalive detects a server that is gone.

    Args:
        client: The client of the server.
        path: The file.
        check: Its checksum, which the server verifies.
        content_type: Its media type.
        video_track: The picture track that is the film; None for the one that the server chooses.
        resumable_over_bytes: Size above which the upload is resumable.
        line: Shows progress.

    Raises:
        CommandError: The file was truncated while it was read, or cannot be read.
        grpc.RpcError: The server refused it.
    """
    spec = ingest_pb2.VideoSpec(
        filename=filename_of(path),
        content_type=content_type,
        size_bytes=check.size_bytes,
        sha256=check.sha256,
        video_track=video_track,
    )
    if check.size_bytes > resumable_over_bytes:
        return await upload_resumable(client, path, spec, line=line)
    # The server recognises a repeated upload by its request ID.
    first = ingest_pb2.UploadVideoRequest(spec=spec, request_id=f"sage-cli-{uuid.uuid4().hex}")
    lost, away = Attempts(LOST_STATUS), Attempts(AWAY)
    while True:
        try:
            return await _stream(
                client, path, first, listen_s=_LISTEN_S if lost.count or away.count else 0.0, line=line
            )
        except grpc.RpcError as error:
            await (away if AWAY.covers(error) else lost).failed(error)


async def _stream(
    client: Client, path: Path, first: ingest_pb2.UploadVideoRequest, *, listen_s: float, line: Line
) -> ingest_pb2.Video:
    problems: list[CommandError] = []
    line.begin_bytes("uploading", first.spec.size_bytes)

    async def messages(file: BinaryIO) -> AsyncIterator[ingest_pb2.UploadVideoRequest]:
        yield first
        await asyncio.sleep(listen_s)
        left = first.spec.size_bytes
        while left > 0:
            try:
                chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
            except OSError as error:
                # Raised here, it would cancel the call without a reason.
                problems.append(unreadable(path, error))
                return
            if not chunk:
                problems.append(file_got_shorter(path))
                return
            left -= len(chunk)
            yield ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=chunk))
            line.advance(len(chunk))
        line.begin_wait("checking")

    with await _open(path) as file:
        try:
            response = await client.ingest.UploadVideo(messages(file))
        except grpc.RpcError:
            if problems:
                raise problems[0] from None
            raise
    return response.video


async def _open(path: Path) -> BinaryIO:
    try:
        return await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise unreadable(path, error) from error


def filename_of(path: Path) -> str:
    """Return a file's name as the contract allows it. On disk it may contain control characters and invalid UTF-8."""
    text = os.fsencode(path.name).decode("utf-8", "replace")
    return printable(text)[:FILENAME_MAX_LENGTH]
