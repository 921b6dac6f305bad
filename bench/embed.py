"""`make bench-embed`: how fast the local engine embeds, compared with decoding alone.

Decoding alone is the same decoder with the same threads over every frame of the film, with nothing done to the frames.
The engine is called directly, so nothing stored by the service is reused, and reads the film over HTTP as it does
in a worker. The two run in turns.

    python bench/embed.py [FILM]

Without FILM, it makes a 720p H.264 film from the sample cut.
"""

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
from harness import Result, median_ratio, report
from sage_embed.config import LocalSettings
from sage_embed.engines.engine import EngineRequest, Resume, SegmentsProduced
from sage_embed.engines.local.engine import LocalEngine

SAMPLE = Path(__file__).parents[1] / "samples" / "old.mp4"
FILM_SECONDS = 60
WIDTH, HEIGHT = 1280, 720
CORES = 2
ROUNDS = 3
CLIP_SECONDS = 2.0
# About the bit rate of a 720p film on the web.
ENCODER = {"preset": "veryfast", "crf": "21"}


def make_film(path: Path) -> None:
    """Write a 720p film: the sample, enlarged and repeated."""
    with av.open(path, "w") as out:
        stream = None
        count = 0
        while stream is None or count < FILM_SECONDS * stream.codec_context.rate:
            with av.open(SAMPLE) as sample:
                source = sample.streams.video[0]
                if stream is None:
                    rate = source.average_rate or Fraction(24)
                    stream = out.add_stream("libx264", rate=rate, options=ENCODER)
                    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
                for frame in sample.decode(source):
                    large = frame.reformat(WIDTH, HEIGHT, "yuv420p", interpolation="BICUBIC")
                    large.pts, large.time_base = count, 1 / rate
                    large.pict_type = av.video.frame.PictureType.NONE
                    out.mux(stream.encode(large))
                    count += 1
        out.mux(stream.encode(None))


def decode(path: Path, *, threads: int) -> tuple[float, float]:
    """Decode every frame. Returns how long it took and the length of the film, in seconds."""
    begun_at = time.perf_counter()
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        frames = sum(1 for _ in container.decode(stream))
        took = time.perf_counter() - begun_at
        if not stream.average_rate:
            raise SystemExit(f"{path} does not state its frame rate.")
        return took, float(frames / stream.average_rate)


async def embed(engine: LocalEngine, url: str, *, seconds: float) -> float:
    """Embed the film. Returns how long it took in seconds."""

    async def video_url() -> str:
        return url

    request = EngineRequest(
        video_url=video_url,
        duration_seconds=seconds,
        start_offset_seconds=0.0,
        has_audio=False,
        model="local",
        clip_seconds=CLIP_SECONDS,
        tracks=("visual",),
        resume=Resume(provider_task_id=None, submitted_url=None, submitted_at=None, segment_counts={}),
    )
    begun_at = time.perf_counter()
    events = [event async for event in engine.embed(request)]
    took = time.perf_counter() - begun_at
    clips = sum(len(event.segments.vectors) for event in events if isinstance(event, SegmentsProduced))
    if clips < int(seconds / CLIP_SECONDS):
        raise SystemExit(f"The engine produced only {clips} segments for {seconds} s.")
    return took


class RangeHandler(BaseHTTPRequestHandler):
    """Serves one file from an offset to its end."""

    def __init__(self, path: Path, *arguments: object) -> None:
        self._file = path
        super().__init__(*arguments)  # type: ignore[arg-type] # passed on by the server

    def do_GET(self) -> None:
        """Send the rest of the file from the requested offset."""
        size = self._file.stat().st_size
        start = int("".join(re.findall(r"bytes=(\d+)-", self.headers["Range"])))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        with self._file.open("rb") as file:
            file.seek(start)
            while block := file.read(256 * 1024):
                try:
                    self.wfile.write(block)
                except ConnectionError:
                    return

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def served(path: Path) -> Iterator[str]:
    """Serve a file over HTTP and yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/film"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Measures the local engine compared with decoding alone.")
    parser.add_argument("film", type=Path, nargs="?", help="720p H.264; made from the sample if omitted")
    film = parser.parse_args().film
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    engine = LocalEngine(LocalSettings(threads=CORES))
    with tempfile.TemporaryDirectory() as folder:
        if film is None:
            film = Path(folder) / "film.mp4"
            print(f"Making a film of {FILM_SECONDS} s ...", flush=True)
            make_film(film)
        # The first run of each fills the file cache and loads the model.
        _, seconds = decode(film, threads=CORES)
        decoding, embedding = [], []
        with served(film) as url:
            asyncio.run(embed(engine, url, seconds=seconds))
            for _ in range(ROUNDS):
                decoding.append(decode(film, threads=CORES)[0])
                embedding.append(asyncio.run(embed(engine, url, seconds=seconds)))
    decode_rate, embed_rate = (seconds / statistics.median(times) for times in (decoding, embedding))
    report(
        "embed",
        [
            Result("embed_rate", embed_rate, "s of video/s"),
            Result("decode_rate", decode_rate, "s of video/s"),
            Result("embed_vs_decode", median_ratio(decoding, embedding), "ratio", bar=0.5),
        ],
    )


if __name__ == "__main__":
    main()
