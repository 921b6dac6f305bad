"""`sage upload` of a large file: it resumes after interruptions and outages."""

import asyncio
import hashlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from fakes.ingest import unavailable
from sage.ingest.v1 import ingest_pb2
from sage_ingest.uploads.model import UploadState
from support.small_films import small_film
from support.waiting import until

MIB = 1024 * 1024
FILM = small_film() + (16 * MIB).to_bytes(4, "big") + b"free" + bytes(16 * MIB - 8)
PART_COUNT = 4


class Sage:
    """Runs `sage upload` of one film at a server."""

    def __init__(self, ingest, path: Path) -> None:
        self.ingest = ingest
        self.path = path

    async def begin(self) -> asyncio.subprocess.Process:
        # With a token, since it changes how calls are made; this server does not require one.
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path.parent), "SAGE_TOKEN": "sage_test"}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sage_cli", "upload", str(self.path), "--parts-over", "1"),
            env={**environment, "PYTHONUTF8": "1", "SAGE_ADDRESS": self.ingest.server.address},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def end(self, process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def begin_and_stop_at_the_second_part(self) -> asyncio.subprocess.Process:
        """Return a command of which one part is stored and the others wait."""
        gates = self.ingest.objects.failures.gates
        first = self.ingest.objects.failures.close("put_part")
        process = await self.begin()
        await until(lambda: self.ingest.objects.failures.calls["put_part"] > 0, timeout_s=30)
        del gates["put_part"]
        self.ingest.objects.failures.close("put_part")
        first.set()
        return process

    def release(self) -> None:
        self.ingest.objects.failures.gates.pop("put_part").set()

    def stored(self) -> list[str]:
        return [hashlib.sha256(data).hexdigest() for data in self.ingest.objects.objects.values()]


@pytest.fixture
async def sage(make_ingest, tmp_path) -> Sage:
    """A film of four parts, and a server that stores one part at a time."""
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    ingest = await make_ingest(part_bytes=5 * MIB, parts_in_flight=1, total_parts_in_flight=1, max_video_bytes=64 * MIB)
    return Sage(ingest, path)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_upload_resumes(sage, how) -> None:
    process = await sage.begin_and_stop_at_the_second_part()
    process.send_signal(how)
    code, _, err = await sage.end(process)
    assert code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how]
    if how is not signal.SIGKILL:
        assert re.search(r"film\.mp4: \d of 4 parts are stored; the same command resumes from there\.", err)
    sage.release()
    before = sage.ingest.objects.failures.calls["put_part"]
    code, out, err = await sage.end(await sage.begin())
    assert code == 0, err
    there = re.search(r"film\.mp4: resuming: (\d) of 4 parts are stored\.", err)
    assert there
    assert int(there[1]) >= 1
    assert sage.ingest.objects.failures.calls["put_part"] - before <= PART_COUNT - 1
    assert sage.stored() == [hashlib.sha256(FILM).hexdigest()]
    assert list(sage.ingest.videos.videos) == [out.split()[0]]


async def test_a_store_outage_is_waited_out(sage) -> None:
    sage.ingest.objects.failures.errors["put_part"] = unavailable()
    process = await sage.begin()
    await until(lambda: sage.ingest.objects.failures.calls["put_part"] > PART_COUNT, timeout_s=30)
    del sage.ingest.objects.failures.errors["put_part"]
    code, _, err = await sage.end(process)
    assert code == 0, err
    assert sage.stored() == [hashlib.sha256(FILM).hexdigest()]


async def test_an_upload_that_is_aborted_meanwhile_starts_over(sage) -> None:
    process = await sage.begin_and_stop_at_the_second_part()
    (upload_id,) = sage.ingest.videos.uploads
    await sage.ingest.stub.AbortUpload(ingest_pb2.AbortUploadRequest(upload_id=upload_id))
    sage.release()
    code, _, err = await sage.end(process)
    assert code == 0, err
    states = [upload.state for upload in sage.ingest.videos.uploads.values()]
    assert sorted(states) == [UploadState.ABORTED, UploadState.COMPLETED]
    assert sage.stored() == [hashlib.sha256(FILM).hexdigest()]


async def test_a_file_that_is_not_a_video_is_rejected_when_it_is_complete(sage) -> None:
    sage.path.write_bytes(bytes(11 * MIB))
    code, out, err = await sage.end(await sage.begin())
    assert (code, out) == (2, "")
    assert "film.mp4" in err
    assert "parts are stored" not in err
    assert sage.ingest.nothing_is_left
