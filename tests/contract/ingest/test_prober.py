"""Probing in a process of its own."""

import asyncio
import os

import psutil
import pytest
from fakes.ingest import BytesSource, unavailable
from sage_ingest.adapters import pyav
from sage_ingest.adapters.pyav import PyAVProber, WorkerError
from sage_ingest.ports import UnreadableError
from sage_runtime.errors import SageError
from support.small_films import png, small_film

MIB = 1024 * 1024


def _prober(*, timeout_s: float = 30.0, max_bytes: int = 64 * MIB) -> PyAVProber:
    return PyAVProber(timeout_s=timeout_s, max_bytes=max_bytes, at_once=2)


def _workers() -> list[psutil.Process]:
    # The servers that other tests share are children of this process as well.
    return [child for child in psutil.Process().children() if pyav._MODULE in child.cmdline()]


@pytest.fixture(autouse=True)
def _no_worker_is_left():
    yield
    assert not _workers()


async def test_a_film_is_measured() -> None:
    """A film comes back measured."""
    media = await _prober().probe(BytesSource(small_film(audio_codec="aac")))
    assert (media.duration_seconds, media.video_codec, media.frame_count) == (2.0, "h264", 48)


async def test_a_large_film_is_not_read_as_a_whole() -> None:
    """Of a film with 50 MB in the middle that no frame is in, the ends are read."""
    film = small_film()
    padding = 50 * MIB
    source = BytesSource(film + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8))
    assert (await _prober().probe(source)).frame_count == 48
    assert source.read_bytes < 4 * MIB


async def test_what_is_no_video_says_why() -> None:
    """The reason is passed on from the worker."""
    with pytest.raises(UnreadableError) as raised:
        await _prober().probe(BytesSource(png()))
    assert raised.value.why == "it is in no video format that this server knows"


async def test_reading_is_bounded() -> None:
    """A file of which more must be read than may be is refused."""
    film = small_film("matroska", frames=48)
    with pytest.raises(UnreadableError, match="too much of it"):
        await _prober(max_bytes=10).probe(BytesSource(film))


async def test_time_is_bounded() -> None:
    """A file that takes too long is refused, and its worker killed."""

    class Stalling(BytesSource):
        async def read(self, *, offset: int, length: int) -> bytes:
            return await asyncio.Event().wait() and b""

    with pytest.raises(UnreadableError, match="longer than"):
        await _prober(timeout_s=0.5).probe(Stalling(small_film()))


async def test_a_store_that_fails_is_no_fault_of_the_file() -> None:
    """An error of the store is passed on as it is."""

    class Away(BytesSource):
        async def read(self, *, offset: int, length: int) -> bytes:
            raise unavailable()

    with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
        await _prober().probe(Away(small_film()))


async def test_a_decoder_that_crashes_is_the_files_fault() -> None:
    """A worker that a signal takes away means a file that breaks the decoder."""

    class Crashing(BytesSource):
        async def read(self, *, offset: int, length: int) -> bytes:
            for child in _workers():
                os.kill(child.pid, 11)
            return await super().read(offset=offset, length=length)

    with pytest.raises(UnreadableError, match="decoder breaks"):
        await _prober().probe(Crashing(small_film()))


async def test_a_worker_that_cannot_run_is_our_fault(monkeypatch) -> None:
    """Where the worker does not start, no file is called unreadable."""
    monkeypatch.setattr(pyav, "_MODULE", "sage_ingest.adapters.not_there")
    with pytest.raises(WorkerError, match="No module named"):
        await _prober().probe(BytesSource(small_film()))


async def test_the_worker_has_no_credentials(monkeypatch) -> None:
    """Nothing of the environment but where the code is gets into the worker."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    seen: list[dict[str, str]] = []

    class Looking(BytesSource):
        async def read(self, *, offset: int, length: int) -> bytes:
            seen.extend(child.environ() for child in _workers())
            return await super().read(offset=offset, length=length)

    await _prober().probe(Looking(small_film()))
    assert seen
    assert all("AWS_SECRET_ACCESS_KEY" not in environment for environment in seen)


async def test_a_cancelled_probe_leaves_no_worker() -> None:
    """Cancelling ends the worker at once."""

    class Stalling(BytesSource):
        begun = asyncio.Event()

        async def read(self, *, offset: int, length: int) -> bytes:
            self.begun.set()
            return await asyncio.Event().wait() and b""

    source = Stalling(small_film())
    probing = asyncio.ensure_future(_prober().probe(source))
    await source.begun.wait()
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
