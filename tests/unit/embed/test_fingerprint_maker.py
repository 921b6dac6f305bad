"""Fingerprints of real films, made in the confined process."""

import io
from collections.abc import Iterator
from contextlib import aclosing

import psutil
import pytest
from sage_embed.config import LocalSettings
from sage_embed.embeddings.model import Video
from sage_embed.fingerprints.maker import BlockProcess, ProcessFingerprintMaker
from sage_embed.fingerprints.model import Block
from sage_embed.fingerprints.ports import MakeRequest
from sage_fingerprint.codec import decode
from sage_fingerprint.film import FilmSource, read_blocks
from sage_runtime.errors import Reason, SageError
from support.file_server import FileServer
from support.films import SAMPLES
from support.hostile_films import slow_film
from support.moving_films import moving_film

# Encodes and decodes films.
pytestmark = pytest.mark.slow

SECONDS = 24.0


@pytest.fixture(scope="module")
def film() -> bytes:
    """Return a film of three blocks, the last one shorter."""
    return moving_film(SECONDS)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """No process may outlive its film."""
    yield
    assert not [child for child in psutil.Process().children() if BlockProcess.module in child.cmdline()]


def request_for(url: str, seconds: float, first_block: int = 0, end_block: int | None = None) -> MakeRequest:
    async def video_url() -> str:
        return url

    video = Video("video_1", duration_seconds=seconds, start_offset_seconds=0.0)
    return MakeRequest(video=video, video_url=video_url, first_block=first_block, end_block=end_block)


async def make(
    content: bytes, seconds: float = SECONDS, *, first_block: int = 0, end_block: int | None = None, **limits: float
) -> list[Block]:
    """Return the blocks of a film."""
    maker = ProcessFingerprintMaker(LocalSettings(threads=2, **limits))  # type: ignore[arg-type] # fields by name
    with FileServer(content).running() as server:
        return [block async for block in maker.make(request_for(server.url, seconds, first_block, end_block))]


async def test_the_process_makes_the_blocks_of_the_film(film: bytes) -> None:
    blocks = await make(film)
    source = FilmSource(io.BytesIO(film), start_offset_seconds=0.0, duration_seconds=SECONDS)
    expected = list(read_blocks(source, threads=1))
    assert [block.data for block in blocks] == [block.data for block in expected]
    assert [(block.index, block.end_seconds) for block in blocks] == [(0, 10.0), (1, 20.0), (2, SECONDS)]
    assert len(decode(block.data for block in blocks)) == sum(block.frame_count for block in blocks)


async def test_the_sound_of_a_film_is_measured_too() -> None:
    film = (SAMPLES / "old.mp4").read_bytes()
    fingerprint = decode(block.data for block in await make(film, 12.0))
    assert fingerprint.sound is not None
    assert fingerprint.sound.any()


async def test_a_later_run_makes_the_same_bytes(film: bytes) -> None:
    blocks = await make(film)
    for first_block in (1, 2, 3):
        assert await make(film, first_block=first_block) == blocks[first_block:]
    assert await make(film, first_block=1, end_block=2) == blocks[1:2]


async def test_a_film_that_cannot_be_decoded_fails() -> None:
    with pytest.raises(SageError) as caught:
        await make(b"no film" * 1000, 1.0)
    assert caught.value.reason is Reason.PROVIDER_FAILED


async def test_a_film_that_takes_too_long_fails() -> None:
    with pytest.raises(SageError) as caught:
        await make(slow_film(frames=500), 1.0, decoder_cpu_s=0.1, decoder_cpu_s_per_second=0.1)
    assert caught.value.facts["why"] == "it takes too long to decode for its length"


async def test_closing_stops_the_process(film: bytes) -> None:
    maker = ProcessFingerprintMaker(LocalSettings(threads=1))
    with FileServer(film).running() as server:
        async with aclosing(maker.make(request_for(server.url, SECONDS))) as blocks:
            assert (await anext(blocks)).index == 0
