"""Sending a large file in parts, so that it goes on where it stopped, whatever stopped it."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.client import CALL_TIMEOUT_S, Client
from sage_cli.errors import Trouble, reason_of
from sage_cli.patience import may_pass, patiently
from sage_cli.progress import Line

# Four parts on their way fill the connection; more would only hold more memory.
PARTS_AT_ONCE = 4
_CHUNK_BYTES = 1024 * 1024
# Bytes that were damaged, or cut off, on their way.
_DAMAGED = ("SIZE_MISMATCH", "CHECKSUM_MISMATCH")
# How often the same file is begun anew, or its missing parts are put again, before that is trouble.
_ROUNDS = 3


class _GoneError(Exception):
    """The upload takes no more parts: it was completed, aborted or swept meanwhile."""


async def upload_in_parts(client: Client, path: Path, spec: ingest_pb2.VideoSpec, *, line: Line) -> ingest_pb2.Video:
    """Send what the server does not have of a file yet, and return the video that it has become.

    The request id is made from what the file is, so that the server finds the parts that an earlier run has sent.

    Args:
        client: Where to.
        path: The file.
        spec: What it is, with its checksum.
        line: Shows how much has arrived, and says what can be gone on with.

    Raises:
        Trouble: The file got shorter while it was read.
        grpc.RpcError: The server did not take it, or cannot be reached for too long.
    """
    request = ingest_pb2.CreateUploadRequest(spec=spec, request_id=_request_id(spec))
    for _ in range(_ROUNDS):
        created = await patiently(lambda: client.ingest.CreateUpload(request, timeout=CALL_TIMEOUT_S))
        with contextlib.suppress(_GoneError):
            return await _Sending(client, path, created.upload, line=line).run()
    raise Trouble(
        f"{path} cannot be uploaded: somebody aborts its upload again and again.",
        next_step="Look into the logs of the stack.",
    )


def _request_id(spec: ingest_pb2.VideoSpec) -> str:
    said = "\0".join((spec.filename, spec.content_type, str(spec.size_bytes), spec.sha256))
    return f"sage-cli-{hashlib.sha256(said.encode()).hexdigest()[:32]}"


class _Sending:
    """One file on its way.

    Args:
        client: Where to.
        path: The file.
        upload: What the server has of it.
        line: Shows how much has arrived.
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
            _GoneError: The upload has to be begun anew.
        """
        count = self._upload.part_count
        if self._arrived and self._upload.state == ingest_pb2.UPLOAD_STATE_OPEN:
            self._line.note(f"resuming: {len(self._arrived)} of {count} parts are there.")
        try:
            return await self._finish()
        except (asyncio.CancelledError, grpc.RpcError) as error:
            if isinstance(error, asyncio.CancelledError) or may_pass(error):
                self._line.note(f"{len(self._arrived)} of {count} parts are there; the same command goes on from them.")
            raise

    async def _finish(self) -> ingest_pb2.Video:
        for _ in range(_ROUNDS - 1):
            await self._put_missing()
            try:
                return await self._complete()
            except grpc.RpcError as error:
                if reason_of(error) != "PART_MISSING":
                    raise
            self._arrived = {part.part_number for part in (await self._ask()).parts}
        await self._put_missing()
        return await self._complete()

    async def _put_missing(self) -> None:
        size_bytes = self._upload.spec.size_bytes
        done = sum(self._size_of(number) for number in self._arrived)
        self._line.begin_bytes("uploading", size_bytes, done=done)
        missing = iter([n for n in range(1, self._upload.part_count + 1) if n not in self._arrived])
        workers = [asyncio.ensure_future(self._work(missing)) for _ in range(PARTS_AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            await self._send(number)

    async def _send(self, number: int) -> None:
        data = await asyncio.to_thread(self._read, number)
        sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
        await patiently(lambda: self._put(number, data, sha256), also=_DAMAGED)
        self._arrived.add(number)
        self._line.advance(len(data))

    async def _put(self, number: int, data: bytes, sha256: str) -> None:
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
            _check_not_gone(error)
            if error.code() is grpc.StatusCode.INTERNAL:
                # A call that is refused while it writes may lose the status in grpcio (its issue 36066).
                await self._ask()
            raise

    async def _complete(self) -> ingest_pb2.Video:
        self._line.begin_wait("checking")
        request = ingest_pb2.CompleteUploadRequest(upload_id=self._upload.id)
        try:
            # No deadline: a large file is read once more. Keepalive notices a server that has gone.
            return (await patiently(lambda: self._client.ingest.CompleteUpload(request))).video
        except grpc.RpcError as error:
            _check_not_gone(error)
            raise

    async def _ask(self) -> ingest_pb2.Upload:
        request = ingest_pb2.GetUploadRequest(upload_id=self._upload.id)
        try:
            upload = (await self._client.ingest.GetUpload(request, timeout=CALL_TIMEOUT_S)).upload
        except grpc.RpcError as error:
            _check_not_gone(error)
            raise
        if upload.state != ingest_pb2.UPLOAD_STATE_OPEN:
            raise _GoneError
        return upload

    def _size_of(self, number: int) -> int:
        part_bytes = self._upload.part_size_bytes
        return min(part_bytes, self._upload.spec.size_bytes - (number - 1) * part_bytes)

    def _read(self, number: int) -> bytes:
        size_bytes = self._size_of(number)
        with self._path.open("rb") as file:
            file.seek((number - 1) * self._upload.part_size_bytes)
            data = file.read(size_bytes)
        if len(data) < size_bytes:
            raise got_shorter(self._path)
        return data


def got_shorter(path: Path) -> Trouble:
    """Return the trouble with a file that ends before it should."""
    return Trouble(
        f"{path} got shorter while it was read.", next_step="Run the command again when nothing writes to it."
    )


def _check_not_gone(error: grpc.RpcError) -> None:
    if reason_of(error) in {"UPLOAD_CLOSED", "UPLOAD_NOT_FOUND"}:
        raise _GoneError from error
