"""Probing with PyAV, in a process of its own for each file (`sage_ingest.adapters.pyav_worker`)."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process

from sage_ingest.adapters.probe_protocol import ANSWER, LENGTH, READ, READ_ARGUMENTS, READY, START
from sage_ingest.media_json import media_from_json
from sage_ingest.model import Media
from sage_ingest.ports import ByteSource, UnreadableError

_MODULE = "sage_ingest.adapters.pyav_worker"
# What the worker gets of the environment: where its code is. No credentials.
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG")
_MAX_READ_BYTES = 1024 * 1024
_MAX_ANSWER_BYTES = 64 * 1024
_MAX_SAID_BYTES = 2000


class WorkerError(Exception):
    """The worker cannot run at all, or does not keep to the protocol: our fault, not the file's."""


class PyAVProber:
    """A `Prober` that no file can hang, crash or exhaust.

    Args:
        timeout_s: Seconds for one file, after which its worker is killed.
        max_bytes: How much of a file may be read.
        at_once: Workers at once; more files wait.
    """

    def __init__(self, *, timeout_s: float, max_bytes: int, at_once: int) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._slots = asyncio.Semaphore(at_once)

    async def probe(self, source: ByteSource) -> Media:
        """Open a file and measure it.

        Raises:
            UnreadableError: It is not a complete video that can be decoded.
            WorkerError: The worker could not be run.
        """
        async with self._slots:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _MODULE, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment()
            )
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._converse(worker, source)
            except TimeoutError:
                raise UnreadableError(f"it takes longer than {self._timeout_s:g} s to tell what it holds") from None
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise await _failure(worker) from error
            finally:
                await _end(worker)

    async def _converse(self, worker: Process, source: ByteSource) -> Media:
        requests, answers = worker.stdout, worker.stdin
        if requests is None or answers is None:
            raise WorkerError("the worker has no pipes")
        if await requests.read(1) != READY:
            raise await _failure(worker, started=False)
        answers.write(START.pack(source.size_bytes, self._max_bytes))
        while (kind := await requests.readexactly(1)) == READ:
            offset, length = READ_ARGUMENTS.unpack(await requests.readexactly(READ_ARGUMENTS.size))
            # The worker counts what it reads; should a file take it over, its time is up soon and reads stay small.
            data = await source.read(offset=offset, length=min(length, _MAX_READ_BYTES))
            answers.write(LENGTH.pack(len(data)))
            answers.write(data)
            await answers.drain()
        (size,) = LENGTH.unpack(await requests.readexactly(LENGTH.size))
        if kind != ANSWER or size > _MAX_ANSWER_BYTES:
            raise WorkerError(f"the worker sent {kind!r} and {size} bytes")
        answer = json.loads(await requests.readexactly(size))
        if "media" in answer:
            return media_from_json(answer["media"])
        raise UnreadableError(answer["why"], detail=answer["detail"])


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


async def _failure(worker: Process, *, started: bool = True) -> Exception:
    """Return the error for a worker that ended without an answer."""
    _, said = await worker.communicate()
    detail = f"the worker ended with {worker.returncode}: {said[-_MAX_SAID_BYTES:].decode(errors='replace')}"
    # A signal took it: the decoder crashed, or met a limit. An exception that nobody caught is a fault of ours.
    if started and worker.returncode is not None and worker.returncode < 0:
        return UnreadableError("the decoder breaks on it", detail=detail)
    return WorkerError(detail)


async def _end(worker: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.kill()
    # Nothing is read any more; without this the pipe's transport stays open.
    if worker.stdin is not None:
        worker.stdin.close()
    await asyncio.shield(worker.wait())
