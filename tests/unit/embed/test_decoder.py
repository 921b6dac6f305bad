"""The process that decodes a film: what it can do, what it costs, and how it ends."""

import asyncio
import io
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from corpus.maker import Track, make_film
from sage_embed.config import LocalSettings
from sage_embed.engines.local.decoder import Decoder, Picture
from sage_embed.engines.local.engine import LocalEngine
from sage_embed.engines.local.frames import End
from sage_runtime.errors import Reason, SageError
from support.file_server import FileServer
from support.hostile_films import claiming_film, png_film, slow_film, standing_film, vast_film
from support.moving_films import moving_film
from support.processes import runs
from support.waiting import until

# Encodes and decodes films.
pytestmark = pytest.mark.slow

SECRETS = {"SAGE_DATABASE_URL": "postgresql://secret", "TWELVELABS_API_KEY": "tlk_secret"}


class Content(io.BytesIO):
    """A film in memory as a source."""

    def abort(self) -> None:
        """Do nothing: reading does not wait."""


def _decoder(film: bytes, seconds: float, *, timeout_s: float = 60, **limits: float) -> Decoder:
    settings = LocalSettings(threads=2, **limits)  # type: ignore[arg-type] # fields by name
    request = LocalEngine(settings).decode_request(
        start_offset_seconds=0.0, duration_seconds=seconds, clip_seconds=2.0, first_clip=0
    )
    return Decoder(Content(film), request, timeout_s=timeout_s)


def _failure(film: bytes, seconds: float, **limits: float) -> str:
    with pytest.raises(SageError) as caught:
        list(_decoder(film, seconds, **limits).pictures())
    assert caught.value.reason is Reason.PROVIDER_FAILED
    assert caught.value.facts["provider"] == "The local engine"
    return str(caught.value.facts["why"])


def _decoders() -> list[psutil.Process]:
    # The servers that other tests share are children of this process as well.
    return [child for child in psutil.Process().children() if Decoder.module in child.cmdline()]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """No process may outlive its film."""
    yield
    assert not _decoders()


def test_a_film_becomes_small_pictures_and_an_end() -> None:
    *pictures, end = _decoder(moving_film(), 9.0).pictures()
    assert [picture.clip for picture in pictures if isinstance(picture, Picture)] == [n // 4 for n in range(18)]
    assert {picture.pixels.shape for picture in pictures if isinstance(picture, Picture)} == {(224, 224, 3)}
    assert end == End(9.0)


def test_a_film_that_takes_too_much_memory_fails() -> None:
    film = vast_film(width=8000, height=8000)
    assert len(film) < 8000 * 8000 * 3 / 50
    assert _failure(film, 1.0, decoder_memory_bytes=320 * 1024**2) == "it takes too much memory to decode"


def test_a_frame_with_too_many_pixels_fails() -> None:
    why = _failure(vast_film(width=2000, height=1000), 1.0, decoder_max_pixels=1_000_000)
    assert why == "its picture cannot be decoded, or has more than 1,000,000 pixels"


# The sizes of pictures that FFmpeg would decode in gigabytes, and a gap that takes years to embed.
HOSTILE: dict[str, tuple[Callable[[], bytes], float, str]] = {
    "png": (lambda: png_film(width=16_000, height=16_000), 1.0, "more than 67,108,864 pixels"),
    "rle": (lambda: claiming_film(width=16_000, height=16_000), 1.0, "more than 67,108,864 pixels"),
    "gap": (
        lambda: make_film("matroska", Track(times=(0, 0.04, 1e9))),
        1e9 + 1,
        "it shows one frame for more than 3600 s",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_films_that_cost_too_much_fail_at_once_within_the_default_limits(kind: str) -> None:
    make, seconds, why = HOSTILE[kind]
    film = make()
    assert len(film) < 1_000_000
    assert why in _failure(film, seconds)


@pytest.mark.parametrize("kind", ["png", "rle"])
def test_a_picture_that_is_too_large_takes_no_more_memory_than_a_small_one(kind: str) -> None:
    make, seconds, why = HOSTILE[kind]
    assert why in _failure(make(), seconds, decoder_memory_bytes=512 * 1024**2)


@pytest.mark.parametrize("seconds", [1.0, 1000.0], ids=["whole", "its beginning"])
def test_a_film_that_takes_too_long_for_its_length_fails(seconds: float) -> None:
    why = _failure(slow_film(frames=500), seconds, decoder_cpu_s=0.1, decoder_cpu_s_per_second=0.1)
    assert why == "it takes too long to decode for its length"


def test_a_frame_that_is_shown_for_ever_fails() -> None:
    why = _failure(standing_film(seconds=100_000), 100_001.0, decoder_max_still_s=60)
    assert why == "it shows one frame for more than 60 s"


def test_a_frame_may_be_shown_for_long() -> None:
    pictures = list(_decoder(standing_film(seconds=50), 51.0, decoder_max_still_s=60).pictures())
    assert len(pictures) == 51 * 2 + 1


@pytest.mark.parametrize(
    "program",
    [
        "print('anything', flush=True)",
        # Another clip than the first one.
        "import os; os.write(1, b'HP' + (7).to_bytes(8) + bytes(224 * 224 * 3))",
        "import os; os.write(1, b'HE' + b'\\xff' * 8)",
        "import os; os.write(1, b'HF' + (2).to_bytes(4) + b'[]')",
        "import os; os.write(1, b'H'); os.kill(os.getpid(), 11)",
    ],
)
def test_a_film_that_takes_over_the_process_only_fails(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(program, tmp_path, monkeypatch)
    assert _failure(b"film", 9.0) == "it crashes the decoder"


def test_a_process_that_falls_silent_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend("import os, signal; os.write(1, b'H'); signal.pause()", tmp_path, monkeypatch)
    assert _failure(b"film", 9.0, timeout_s=1) == "it takes too long to decode"


def test_a_process_that_is_killed_was_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend("import os; os.write(1, b'H'); os.kill(os.getpid(), 9)", tmp_path, monkeypatch)
    assert _failure(b"film", 9.0) == "it takes too much memory to decode"


def test_a_mistake_in_the_process_is_not_blamed_on_the_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend("1 / 0", tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(_decoder(b"film", 9.0).pictures())


def _pretend(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start another program in place of the decoder; it first receives the request."""
    start = "import sys; sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4)))\n"
    (folder / "pretender.py").write_text(start + program)
    monkeypatch.setattr(Decoder, "module", "pretender")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_the_process_has_no_secrets_and_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with closing(_decoder(moving_film(60.0), 60.0).pictures()) as pictures:
        next(pictures)
        (process,) = _decoders()
        assert not SECRETS.keys() & process.environ().keys()
        opened = {Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (0, 1, 2)}
        assert not [path for path in opened if not str(path).startswith(("socket:", "pipe:"))]
        assert process.num_fds() == 3
        assert "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()


def test_stopping_ends_the_process_at_once() -> None:
    endless = _decoder(moving_film(60.0), 60.0)
    pictures = endless.pictures()
    next(pictures)
    (process,) = _decoders()
    endless.stop()
    with pytest.raises(SageError):
        list(pictures)
    assert not runs(process.pid)


_WORKER = """
import asyncio, sys
from sage_embed.config import LocalSettings
from sage_embed.engines.engine import EngineRequest, Resume
from sage_embed.engines.local.engine import LocalEngine

async def url():
    return sys.argv[1]

async def work():
    request = EngineRequest(url, 60.0, 0.0, False, "local", 2.0, ("visual",), Resume(None, None, None, {}))
    async for event in LocalEngine(LocalSettings(threads=2)).embed(request):
        pass

asyncio.run(work())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_no_process_outlives_its_worker(how: signal.Signals) -> None:
    release = threading.Event()
    server = FileServer(moving_film())
    # The decoder waits for bytes.
    server.before_send = lambda offset: release.wait(60)  # type: ignore[assignment,return-value]
    with server.running():
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", _WORKER, server.url, stderr=DEVNULL)
        try:
            started = psutil.Process(worker.pid)
            await until(lambda: bool(started.children()), timeout_s=60)
            (child,) = started.children()
            worker.send_signal(how)
            await worker.wait()
            await until(lambda: not runs(child.pid), timeout_s=30)
        finally:
            release.set()
