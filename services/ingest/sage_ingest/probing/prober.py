"""Probing with PyAV, in a confined process for each file (`sage_ingest.probing.worker`)."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process

from sage_runtime.process.confined import LENGTH, MAX_READ_BYTES, READ, READ_ARGUMENTS, READY, child_environment

from sage_ingest import errors
from sage_ingest.config import IngestSettings
from sage_ingest.probing.ports import (
    MAX_RESULT_BYTES,
    RESULT,
    ByteSource,
    Limits,
    Prober,
    ProbeRequest,
    UnreadableError,
    decode_result,
    encode_request,
)
from sage_ingest.videos.model import Media, VideoSpec
from sage_ingest.videos.ports import VideoObjects

_MODULE = "sage_ingest.probing.worker"
_MAX_STDERR_BYTES = 2000


class WorkerError(Exception):
    """The worker cannot run, or does not follow the protocol: the server is at fault, not the file."""


class PyAVProber(Prober):
    """A prober that no file can hang, crash or exhaust of resources.

    Args:
        settings: Limits: a worker that exceeds `probe_timeout_s` is killed; up to `probe_max_bytes` of a file are read;
            `probes_at_once` workers run at once, and more files wait. Others say how large a film may be.
    """

    def __init__(self, settings: IngestSettings) -> None:
        self._timeout_s = settings.probe_timeout_s
        self._max_bytes = settings.probe_max_bytes
        self._limits = Limits(
            whole_bytes=min(settings.probe_whole_bytes, settings.probe_max_bytes),
            max_pixels=settings.max_picture_pixels,
            max_frames=settings.max_frames,
            max_duration_s=settings.max_duration_s,
            max_decoded_bytes=settings.max_decoded_bytes,
        )
        self._slots = asyncio.Semaphore(settings.probes_at_once)

    async def probe(self, source: ByteSource, *, video_track: int | None = None) -> Media:
        """Open a file and measure it.

        Raises:
            UnreadableError: It is not a complete video that can be decoded.
            WorkerError: The worker could not be run.
        """
        async with self._slots:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _MODULE, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=child_environment()
            )
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._converse(worker, source, video_track)
            except TimeoutError:
                raise UnreadableError(f"probing it takes longer than {self._timeout_s:g} s") from None
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise await _failure(worker) from error
            finally:
                await _end(worker)

    async def _converse(self, worker: Process, source: ByteSource, video_track: int | None) -> Media:
        requests, responses = worker.stdout, worker.stdin
        if requests is None or responses is None:
            raise WorkerError("the worker has no pipes")
        if await requests.read(1) != READY:
            raise await _failure(worker, started=False)
        request = ProbeRequest(source.size_bytes, self._max_bytes, video_track, self._limits)
        responses.write(encode_request(request))
        while (kind := await requests.readexactly(1)) == READ:
            offset, length = READ_ARGUMENTS.unpack(await requests.readexactly(READ_ARGUMENTS.size))
            # The worker counts what it reads. If a file takes over the worker, the timeout still ends it, and reads
            # stay small.
            data = await source.read(offset=offset, length=min(length, MAX_READ_BYTES))
            responses.write(LENGTH.pack(len(data)))
            responses.write(data)
            await responses.drain()
        (size,) = LENGTH.unpack(await requests.readexactly(LENGTH.size))
        if kind != RESULT or size > MAX_RESULT_BYTES:
            raise WorkerError(f"the worker sent {kind!r} and {size} bytes")
        return decode_result(await requests.readexactly(size))


async def _failure(worker: Process, *, started: bool = True) -> Exception:
    """Return the error for a worker that ended without a result."""
    _, stderr = await worker.communicate()
    detail = f"the worker ended with {worker.returncode}: {stderr[-_MAX_STDERR_BYTES:].decode(errors='replace')}"
    # Killed by a signal: the decoder crashed, or exceeded a limit. An uncaught exception is a bug in the worker.
    if started and worker.returncode is not None and worker.returncode < 0:
        return UnreadableError("it crashes the decoder", detail=detail)
    return WorkerError(detail)


async def _end(worker: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.kill()
    # Nothing more is read; without this the pipe's transport stays open.
    if worker.stdin is not None:
        worker.stdin.close()
    await asyncio.shield(worker.wait())


async def probe_object(prober: Prober, objects: VideoObjects, spec: VideoSpec, *, key: str) -> Media:
    """Return the media of a stored object.

    Raises:
        SageError: VIDEO_UNREADABLE or STORE_UNAVAILABLE.
    """
    try:
        source = _StoredObject(objects, key=key, size_bytes=spec.size_bytes)
        return await prober.probe(source, video_track=spec.video_track)
    except UnreadableError as error:
        raise errors.video_unreadable(spec.filename, why=error.why, detail=error.detail) from error


class _StoredObject(ByteSource):
    def __init__(self, objects: VideoObjects, *, key: str, size_bytes: int) -> None:
        self._objects = objects
        self._key = key
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    async def read(self, *, offset: int, length: int) -> bytes:
        length = min(length, self._size_bytes - offset)
        if length <= 0:
            return b""
        return await self._objects.read(self._key, offset=offset, length=length)
