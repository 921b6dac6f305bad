"""Analyses videos like the provider: fetches them, and computes vectors of each clip's picture and sound."""

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import av
import numpy as np
from fakes.twelvelabs.sound import sound_vectors
from numpy.typing import NDArray
from sage_embed.config import LocalSettings
from sage_embed.engines.local.decoder import Decoder
from sage_embed.engines.local.engine import LocalEngine, LocalRun
from sage_embed.engines.local.frames import ClipGrid
from sage_embed.engines.local.network import DIMENSIONS, Network

_THREADS = 2
_ENGINE = LocalEngine(LocalSettings(threads=_THREADS))
_FETCH_TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True)
class Footage:
    """An analysed video.

    Attributes:
        duration_seconds: Its length.
        pictures: A vector for the picture of each clip, shape ``(n, any)``.
        sounds: A vector for the sound of each clip; None without sound.
    """

    duration_seconds: float
    pictures: NDArray[np.float32]
    sounds: NDArray[np.float32] | None = None


class UnfetchableError(Exception):
    """The URL does not lead to a video."""


class Studio:
    """Fetches videos and analyses them with the local model, the same content only once."""

    def __init__(self) -> None:
        self._network = Network(threads=_THREADS)
        self._seen: dict[tuple[str, int], Footage] = {}

    async def look(self, url: str, clip_seconds: int) -> Footage:
        """Return the footage at a URL.

        Raises:
            UnfetchableError: It cannot be fetched, or is not a video.
        """
        with tempfile.NamedTemporaryFile(prefix="twelvelabs-") as file:
            path = Path(file.name)
            digest = await _fetch(url, path)
            known = self._seen.get((digest, clip_seconds))
            if known is None:
                known = self._seen[digest, clip_seconds] = await asyncio.to_thread(self._look, path, clip_seconds)
        return known

    def _look(self, path: Path, clip_seconds: int) -> Footage:
        try:
            start, duration = _timeline(path)
            grid = ClipGrid(duration, clip_seconds)
            with _source(path) as source:
                request = _ENGINE.decode_request(
                    start_offset_seconds=start, duration_seconds=duration, clip_seconds=clip_seconds, first_clip=0
                )
                decoder = Decoder(source, request, timeout_s=60)
                run = LocalRun(decoder, grid=grid, network=self._network, first_clip=0)
                run.start()
                pictures = [one.segments.vectors for one in iter(run.next_results, None) if one.segments]
                run.stop()
                run.join()
        except av.error.FFmpegError as error:
            raise UnfetchableError(str(error)) from error
        sounds = sound_vectors(path, clip_seconds=clip_seconds, duration_seconds=duration, start_seconds=start)
        return Footage(duration, np.concatenate(pictures), sounds)


class FastStudio:
    """Makes up footage from the URL alone, for tests with hundreds of videos.

    Args:
        duration_seconds: Length of every video.
        sound: Whether they have sound.
    """

    def __init__(self, *, duration_seconds: float, sound: bool = False) -> None:
        self._duration_seconds = duration_seconds
        self._sound = sound

    async def look(self, url: str, clip_seconds: int) -> Footage:
        """Return footage that depends only on the URL without its query, which is the signature."""
        seed = int.from_bytes(hashlib.sha256(url.split("?")[0].encode()).digest()[:8])
        shape = (ClipGrid(self._duration_seconds, clip_seconds).count, DIMENSIONS)
        random = np.random.default_rng(seed)
        pictures, sounds = random.normal(size=(2, *shape)).astype(np.float32)
        return Footage(self._duration_seconds, pictures, sounds if self._sound else None)


async def _fetch(url: str, path: Path) -> str:
    digest = hashlib.sha256()
    try:
        async with (
            aiohttp.ClientSession(timeout=_FETCH_TIMEOUT) as session,
            session.get(url, headers={"Range": "bytes=0-"}) as response,
        ):
            if response.status not in (200, 206):
                raise UnfetchableError(f"HTTP {response.status}")
            with path.open("wb") as file:
                async for piece in response.content.iter_chunked(256 * 1024):
                    digest.update(piece)
                    file.write(piece)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnfetchableError(str(error)) from error
    return digest.hexdigest()


def _timeline(path: Path) -> tuple[float, float]:
    """Return the timestamp of the first frame, and the length of the picture in seconds."""
    with av.open(path) as film:
        picture = film.streams.video[0]
        start = float((picture.start_time or 0) * picture.time_base)
        if picture.duration:
            return start, float(picture.duration * picture.time_base)
        return start, (film.duration or 0) / av.time_base - start


class _FileSource:
    """A local file as a source of the local engine's frame reader."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.read, self.seek, self.tell, self.close = (
            self._file.read, self._file.seek, self._file.tell, self._file.close,
        )  # fmt: skip

    def abort(self) -> None:
        """Do nothing: reading a file does not wait."""


@contextmanager
def _source(path: Path) -> Iterator[_FileSource]:
    source = _FileSource(path)
    try:
        yield source
    finally:
        source.close()
