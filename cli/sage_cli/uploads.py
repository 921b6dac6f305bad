"""Sending a file, unless SAGE has it already."""

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO

import grpc
from google.api import httpbody_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.client import Client
from sage_cli.errors import Trouble, reason_of
from sage_cli.part_uploads import got_shorter, upload_in_parts
from sage_cli.progress import Line
from sage_cli.targets import FileTarget
from sage_cli.terminal import printable

CHUNK_BYTES = 1024 * 1024
# Hashing is fast enough that a thread switch for each MiB shows.
HASH_CHUNK_BYTES = 8 * 1024 * 1024
FILENAME_MAX_LENGTH = 255
PARTS_OVER_MIB = 64

# A call that is refused while it writes may lose the status in grpcio (its issue 36066). Made again, it writes nothing
# for so long after its first message: most refusals come then, and are not lost.
_LISTEN_S = 1.0

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Sending:
    """How files are sent.

    Attributes:
        content_type: Their media type. None: by name and first bytes.
        parts_over_bytes: The size over which a file goes in parts.
    """

    content_type: str | None = None
    parts_over_bytes: int = PARTS_OVER_MIB * 1024 * 1024


@dataclass(frozen=True)
class Fingerprint:
    """What tells one upload from another.

    Attributes:
        filename: The label that the video gets.
        size_bytes: Its size.
        sha256: SHA-256 of its bytes, 64 lower-case hexadecimal digits.
    """

    filename: str
    size_bytes: int
    sha256: str


async def fingerprint(target: FileTarget, *, advance: Advance) -> Fingerprint:
    """Read a file once and return its fingerprint. The upload declares it, so that the server can check what arrives.

    Args:
        target: The file.
        advance: Told how many more bytes have been read.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with await _open(target) as file:
        while chunk := await asyncio.to_thread(file.read, HASH_CHUNK_BYTES):
            await asyncio.to_thread(digest.update, chunk)
            size_bytes += len(chunk)
            advance(len(chunk))
    return Fingerprint(_label(target), size_bytes, digest.hexdigest())


async def find_video(client: Client, print_: Fingerprint) -> ingest_pb2.Video | None:
    """Return a video that came from the same file under the same name, so that it need not be sent again.

    A request id made from the file would do the same in one call, but would have to answer with a video that may have
    been deleted since; what the list has is there.
    """
    async for video in client.list_videos(filename_contains=print_.filename):
        if (
            video.state == ingest_pb2.VIDEO_STATE_READY
            and Fingerprint(video.filename, video.size_bytes, video.sha256) == print_
        ):
            return video
    return None


async def upload(
    client: Client,
    target: FileTarget,
    print_: Fingerprint,
    *,
    content_type: str,
    parts_over_bytes: int,
    line: Line,
) -> ingest_pb2.Video:
    """Send a file and return the video that it has become: a large one in parts, which can be gone on with.

    There is no deadline: a film takes as long as it takes. Keepalive notices a server that has gone.

    Args:
        client: Where to.
        target: The file.
        print_: Its fingerprint.
        content_type: Its media type.
        parts_over_bytes: The size over which a file is sent in parts.
        line: Shows how far it is.

    Raises:
        Trouble: The file got shorter while it was read.
        grpc.RpcError: The server did not take it.
    """
    spec = ingest_pb2.VideoSpec(
        filename=print_.filename, content_type=content_type, size_bytes=print_.size_bytes, sha256=print_.sha256
    )
    if print_.size_bytes > parts_over_bytes:
        return await upload_in_parts(client, target.path, spec, line=line)
    return await _stream(client, target, spec, line=line)


async def _stream(client: Client, target: FileTarget, spec: ingest_pb2.VideoSpec, *, line: Line) -> ingest_pb2.Video:
    """Send a file in one call, and again where that has lost its status: the server knows it by its request id."""
    first = ingest_pb2.UploadVideoRequest(spec=spec, request_id=f"sage-cli-{uuid.uuid4().hex}")
    for listen_s in (0.0, _LISTEN_S):
        try:
            return await _send(client, target, first, listen_s=listen_s, line=line)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.INTERNAL or reason_of(error):
                raise
    return await _send(client, target, first, listen_s=_LISTEN_S, line=line)


async def _send(
    client: Client, target: FileTarget, first: ingest_pb2.UploadVideoRequest, *, listen_s: float, line: Line
) -> ingest_pb2.Video:
    trouble: list[Trouble] = []
    line.begin_bytes("uploading", first.spec.size_bytes)

    async def messages(file: BinaryIO) -> AsyncIterator[ingest_pb2.UploadVideoRequest]:
        yield first
        await asyncio.sleep(listen_s)
        left = first.spec.size_bytes
        while left > 0:
            chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
            if not chunk:
                trouble.append(got_shorter(target.path))
                return
            left -= len(chunk)
            yield ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=chunk))
            line.advance(len(chunk))
        line.begin_wait("checking")

    with await _open(target) as file:
        try:
            response = await client.ingest.UploadVideo(messages(file))
        except grpc.RpcError:
            if trouble:
                raise trouble[0] from None
            raise
    return response.video


async def _open(target: FileTarget) -> BinaryIO:
    try:
        return await asyncio.to_thread(target.path.open, "rb")
    except OSError as error:
        raise Trouble(f"{target.path} cannot be read: {error.strerror}.", next_step="Check the file.") from error


def _label(target: FileTarget) -> str:
    """Return the file's name as the contract takes it. On disk it may hold bytes that are no text, and controls."""
    text = os.fsencode(target.path.name).decode("utf-8", "replace")
    return printable(text)[:FILENAME_MAX_LENGTH]
