"""Probing in a confined process."""

import asyncio
import os

import psutil
import pytest
from fakes.ingest import BytesSource, unavailable
from sage_ingest.probing import prober
from sage_ingest.probing.ports import UnreadableError
from sage_ingest.probing.prober import PyAVProber, WorkerError
from sage_runtime.errors import SageError
from support.small_films import png, small_film
from support.uploads_in_memory import settings

MIB = 1024 * 1024


def _prober(*, timeout_s: float = 30.0, max_bytes: int = 64 * MIB) -> PyAVProber:
    return PyAVProber(settings(probe_timeout_s=timeout_s, probe_max_bytes=max_bytes))


def _workers() -> list[psutil.Process]:
    # The servers that other tests share are children of this process as well.
    return [child for child in psutil.Process().children() if prober._MODULE in child.cmdline()]


@pytest.fixture(autouse=True)
def _no_worker_is_left():
    yield
    assert not _workers()


async def test_a_film_is_measured() -> None:
    media = await _prober().probe(BytesSource(small_film(audio_codec="aac")))
    assert (media.duration_seconds, media.video_codec, media.frame_count) == (2.0, "h264", 48)


async def test_only_the_ends_of_a_large_film_are_read() -> None:
    film = small_film()
    padding = 50 * MIB
    source = BytesSource(film + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8))
    assert (await _prober().probe(source)).frame_count == 48
    assert source.read_bytes < 4 * MIB


async def test_the_reason_of_an_unreadable_file_comes_from_the_worker() -> None:
    with pytest.raises(UnreadableError) as raised:
        await _prober().probe(BytesSource(png()))
    assert raised.value.why == "it is not in a video format that this server supports"


async def test_a_file_that_needs_more_bytes_than_allowed_is_unreadable() -> None:
    film = small_film("matroska", frames=48)
    with pytest.raises(UnreadableError, match="too much of it"):
        await _prober(max_bytes=10).probe(BytesSource(film))


async def test_a_file_that_takes_too_long_is_unreadable_and_its_worker_is_killed() -> None:

    class Stalling(BytesSource):
        async def read(self, *, offset: int, length: int) -> bytes:
            return await asyncio.Event().wait() and b""

    with pytest.raises(UnreadableError, match="longer than"):
        await _prober(timeout_s=0.5).probe(Stalling(small_film()))


async def test_an_error_of_the_store_is_not_blamed_on_the_file() -> None:

    class Away(BytesSource):
        async def read(self, *, offset: int, length: int) -> bytes:
            raise unavailable()

    with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
        await _prober().probe(Away(small_film()))


async def test_a_file_that_crashes_the_decoder_is_unreadable() -> None:

    class Crashing(BytesSource):
        async def read(self, *, offset: int, length: int) -> bytes:
            for child in _workers():
                os.kill(child.pid, 11)
            return await super().read(offset=offset, length=length)

    with pytest.raises(UnreadableError, match="crashes the decoder"):
        await _prober().probe(Crashing(small_film()))


async def test_a_worker_that_cannot_start_is_not_blamed_on_the_file(monkeypatch) -> None:
    monkeypatch.setattr(prober, "_MODULE", "sage_ingest.probing.not_there")
    with pytest.raises(WorkerError, match="No module named"):
        await _prober().probe(BytesSource(small_film()))


async def test_the_worker_has_no_credentials(monkeypatch) -> None:
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
