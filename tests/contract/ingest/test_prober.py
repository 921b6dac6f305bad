"""Probing in a confined process."""

import asyncio
import os

import psutil
import pytest
from corpus.films import FRAGMENTED
from corpus.maker import Track, make_film
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


# A fragment for each frame: thousands of them in a few minutes.
MANY_FRAGMENTS = (("movflags", "frag_every_frame+empty_moov+default_base_moof"),)
LARGE = Track(frames=300, options=(("qp", "4"), ("preset", "ultrafast")), noise=True)
LIVE = {
    "matroska": lambda: make_film("matroska", LARGE, options=[("live", "1")]),
    "fragments": lambda: make_film("mov", LARGE, options=FRAGMENTED),
    "fragments without their index": lambda: (film := make_film("mov", LARGE, options=FRAGMENTED))[
        : film.rindex(b"mfra") - 4
    ],
    "many fragments": lambda: make_film("mov", LARGE, options=MANY_FRAGMENTS),
    "many fragments without their index": lambda: (film := make_film("mov", LARGE, options=MANY_FRAGMENTS))[
        : film.rindex(b"mfra") - 4
    ],
}


@pytest.mark.parametrize("kind", LIVE)
async def test_the_end_of_a_recording_without_index_is_found_from_its_end(kind: str) -> None:
    """Larger than what may be read, as crash-safe recorders write it."""
    source = BytesSource(LIVE[kind]())
    assert source.size_bytes > 3 * MIB
    media = await _prober(max_bytes=MIB).probe(source)
    assert (media.duration_seconds, media.frame_rate, media.frame_count) == (12.0, 25, None)
    assert source.read_bytes <= MIB


async def test_a_large_indexed_film_is_counted_without_reading_it() -> None:
    source = BytesSource(make_film("mov", LARGE))
    assert source.size_bytes > 3 * MIB
    assert (await _prober(max_bytes=MIB).probe(source)).frame_count == 300
    assert source.read_bytes < MIB / 2


async def test_the_requested_track_is_measured() -> None:
    film = make_film("matroska", Track(), Track(frames=25, size=(64, 48)))
    media = await _prober().probe(BytesSource(film), video_track=1)
    assert (media.video_track, media.frame_count, media.width) == (1, 25, 64)
    assert [(track.codec, track.width) for track in media.video_tracks] == [("h264", 96), ("h264", 64)]


@pytest.mark.parametrize("track", [2, 99])
async def test_a_track_that_does_not_exist_is_refused(track: int) -> None:
    film = make_film("matroska", Track(), Track())
    with pytest.raises(UnreadableError, match=f"no picture track {track}: it has 2, counted from 0"):
        await _prober().probe(BytesSource(film), video_track=track)


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ({"max_picture_pixels": 5000}, "96 x 64 pixels|more than 5,000 pixels"),
        ({"max_frames": 49}, "more than 49 frames"),
        ({"max_duration_s": 1.9}, "it is 2 s long"),
        ({"max_decoded_bytes": 100_000}, "decoding it makes"),
    ],
)
@pytest.mark.parametrize("container", ["mp4", "mpegts"])
async def test_films_beyond_a_limit_are_refused(limit: dict[str, float], why: str, container: str) -> None:
    prober = PyAVProber(settings(probe_timeout_s=30, **limit))
    with pytest.raises(UnreadableError, match=why):
        await prober.probe(BytesSource(make_film(container)))


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
