"""Resumable uploads: a large file in parts, so that an interrupted upload resumes where it stopped."""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.api.client import CALL_TIMEOUT_S, Client
from sage_cli.api.errors import CommandError, reason_of
from sage_cli.api.retries import PART, UPLOAD, retry
from sage_cli.films.targets import unreadable
from sage_cli.show.progress import Line

# Four parts in flight fill the connection; more would only use more memory.
PARTS_IN_FLIGHT = 4
_CHUNK_BYTES = 1024 * 1024
# How many times an upload is started, or its missing parts are sent, if other clients or the sweeper interfere.
_MAX_ROUNDS = 3


class _ClosedError(Exception):
    """The upload accepts no more parts: it was completed, aborted or swept meanwhile."""


async def upload_resumable(client: Client, path: Path, spec: ingest_pb2.VideoSpec, *, line: Line) -> ingest_pb2.Video:
    """Send the parts of a file that the server does not have yet, and return the video.

    The request ID is derived from the file, so that the server finds the parts that an earlier run sent.

    Args:
        client: The client of the server.
        path: The file.
        spec: Its description, with its checksum.
        line: Shows progress, including what is resumed and what can be resumed later.

    Raises:
        CommandError: The file was truncated while it was read.
        grpc.RpcError: The server refused it, or could not be reached for too long.
    """
    request = ingest_pb2.CreateUploadRequest(spec=spec, request_id=_request_id(spec))
    for _ in range(_MAX_ROUNDS):
        created = await retry(lambda: client.ingest.CreateUpload(request, timeout=CALL_TIMEOUT_S), UPLOAD)
        with contextlib.suppress(_ClosedError):
            return await _ResumableUpload(client, path, created.upload, line=line).run()
    raise CommandError(
        f"{path} cannot be uploaded: another client keeps aborting its upload.", next_step="Check the server's logs."
    )


def _request_id(spec: ingest_pb2.VideoSpec) -> str:
    track = (str(spec.video_track),) if spec.HasField("video_track") else ()
    text = "\0".join((spec.filename, spec.content_type, str(spec.size_bytes), spec.sha256, *track))
    return f"sage-cli-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


class _ResumableUpload:
    """One upload in progress.

    Args:
        client: The client of the server.
        path: The file.
        upload: The upload as the server returned it.
        line: Shows progress.
    """

    def __init__(self, client: Client, path: Path, upload: ingest_pb2.Upload, *, line: Line) -> None:
        self._client = client
        self._path = path
        self._upload = upload
        self._line = line
        self._arrived = {part.part_number for part in upload.parts}

    async def run(self) -> ingest_pb2.Video:
        """Return the video.

        Raises:
            _ClosedError: A new upload must be started.
        """
        if self._arrived and self._upload.state == ingest_pb2.UPLOAD_STATE_OPEN:
            self._line.note(f"resuming: {self._stored()}.")
        try:
            return await self._finish()
        except (asyncio.CancelledError, grpc.RpcError) as error:
            if isinstance(error, asyncio.CancelledError) or UPLOAD.covers(error):
                self._line.note(f"{self._stored()}; the same command resumes from there.")
            raise

    def _stored(self) -> str:
        return f"{len(self._arrived)} of {self._upload.part_count} parts are stored"

    async def _finish(self) -> ingest_pb2.Video:
        for _ in range(_MAX_ROUNDS - 1):
            await self._send_missing()
            try:
                return await self._complete()
            except grpc.RpcError as error:
                if reason_of(error) != "PART_MISSING":
                    raise
            self._arrived = {part.part_number for part in (await retry(self._get, UPLOAD)).parts}
        await self._send_missing()
        return await self._complete()

    async def _send_missing(self) -> None:
        size_bytes = self._upload.spec.size_bytes
        done = sum(self._part_bytes(number) for number in self._arrived)
        self._line.begin_bytes("uploading", size_bytes, done=done)
        missing = iter([n for n in range(1, self._upload.part_count + 1) if n not in self._arrived])
        workers = [asyncio.ensure_future(self._send_from(missing)) for _ in range(PARTS_IN_FLIGHT)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _send_from(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            data = await asyncio.to_thread(self._read, number)
            sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
            await retry(functools.partial(self._send, number, data, sha256), PART)
            self._arrived.add(number)
            self._line.advance(len(data))

    async def _send(self, number: int, data: bytes, sha256: str) -> None:
        async def messages() -> AsyncIterator[ingest_pb2.UploadPartRequest]:
            yield ingest_pb2.UploadPartRequest(
                upload_id=self._upload.id, part_number=number, size_bytes=len(data), sha256=sha256
            )
            for start in range(0, len(data), _CHUNK_BYTES):
                yield ingest_pb2.UploadPartRequest(
                    content=httpbody_pb2.HttpBody(data=data[start : start + _CHUNK_BYTES])
                )

        try:
            await self._client.ingest.UploadPart(messages())
        except grpc.RpcError as error:
            _raise_if_closed(error)
            if error.code() is grpc.StatusCode.INTERNAL:
                # The status may have been lost (see LOST_STATUS): if the upload is closed, a retry is pointless.
                await self._get()
            raise

    async def _complete(self) -> ingest_pb2.Video:
        self._line.begin_wait("checking")
        request = ingest_pb2.CompleteUploadRequest(upload_id=self._upload.id)
        try:
            # No deadline: the server reads a large file back. Keepalive detects a server that is gone.
            return (await retry(lambda: self._client.ingest.CompleteUpload(request), UPLOAD)).video
        except grpc.RpcError as error:
            _raise_if_closed(error)
            raise

    async def _get(self) -> ingest_pb2.Upload:
        request = ingest_pb2.GetUploadRequest(upload_id=self._upload.id)
        try:
            upload = (await self._client.ingest.GetUpload(request, timeout=CALL_TIMEOUT_S)).upload
        except grpc.RpcError as error:
            _raise_if_closed(error)
            raise
        if upload.state != ingest_pb2.UPLOAD_STATE_OPEN:
            raise _ClosedError
        return upload

    def _part_bytes(self, number: int) -> int:
        part_bytes = self._upload.part_size_bytes
        return min(part_bytes, self._upload.spec.size_bytes - (number - 1) * part_bytes)

    def _read(self, number: int) -> bytes:
        size_bytes = self._part_bytes(number)
        try:
            with self._path.open("rb") as file:
                file.seek((number - 1) * self._upload.part_size_bytes)
                data = file.read(size_bytes)
        except OSError as error:
            raise unreadable(self._path, error) from error
        if len(data) < size_bytes:
            raise file_got_shorter(self._path)
        return data


def file_got_shorter(path: Path) -> CommandError:
    """Return the error for a file that ended early."""
    return CommandError(
        f"{path} was truncated while it was read.",
        next_step="Run the command again once no program writes to the file.",
    )


def _raise_if_closed(error: grpc.RpcError) -> None:
    if reason_of(error) in {"UPLOAD_CLOSED", "UPLOAD_NOT_FOUND"}:
        raise _ClosedError from error
