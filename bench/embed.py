"""How fast the local engine embeds, beside decoding alone: `make bench-embed`.

Decoding alone is the same decoder with the same threads over every frame of the film, and nothing done with the
frames. The engine reads the film over HTTP, as it does in a worker. The two run in turns.

    python bench/embed.py [FILM]

Without FILM, a film of 720p H.264 is made from the sample cut.
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
from report import Result, report
from sage_embed.adapters.local.engine import LocalEngine
from sage_embed.engine import EngineRequest, Resume, SegmentsProduced

SAMPLE = Path(__file__).parents[1] / "samples" / "old.mp4"
FILM_SECONDS = 60
WIDTH, HEIGHT = 1280, 720
CORES = 2
ROUNDS = 3
CLIP_SECONDS = 2.0
# About what a 720p film has on the web.
ENCODER = {"preset": "veryfast", "crf": "21"}


def make_film(path: Path) -> None:
    """Write a film of 720p: the sample, enlarged and repeated."""
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
    """Decode every frame. Returns the seconds that it took and the length of the film."""
    begun_at = time.perf_counter()
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        frames = sum(1 for _ in container.decode(stream))
        took = time.perf_counter() - begun_at
        if not stream.average_rate:
            raise SystemExit(f"{path} does not say its frame rate.")
        return took, float(frames / stream.average_rate)


async def embed(engine: LocalEngine, url: str, *, seconds: float) -> float:
    """Embed the film. Returns the seconds that it took."""

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
        raise SystemExit(f"Only {clips} clips came of {seconds} s.")
    return took


class RangeHandler(BaseHTTPRequestHandler):
    """Serves one file from an offset to its end."""

    def __init__(self, path: Path, *arguments: object) -> None:
        self._file = path
        super().__init__(*arguments)  # type: ignore[arg-type] # what the server passes on

    def do_GET(self) -> None:
        """Answer one request."""
        size = self._file.stat().st_size
        start = int("".join(re.findall(r"bytes=(\d+)-", self.headers["Range"])))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        with self._file.open("rb") as file:
            file.seek(start)
            while piece := file.read(256 * 1024):
                try:
                    self.wfile.write(piece)
                except ConnectionError:
                    return

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def served(path: Path) -> Iterator[str]:
    """Serve a file over HTTP and return its URL."""
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
    parser = argparse.ArgumentParser(description="Measures the local engine beside decoding alone.")
    parser.add_argument("film", type=Path, nargs="?", help="720p H.264; without it one is made")
    film = parser.parse_args().film
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    engine = LocalEngine(threads=CORES)
    with tempfile.TemporaryDirectory() as folder:
        if film is None:
            film = Path(folder) / "film.mp4"
            print(f"Making a film of {FILM_SECONDS} s ...", flush=True)
            make_film(film)
        # The first run of each also warms the file cache and loads the model.
        _, seconds = decode(film, threads=CORES)
        decoding, embedding = [], []
        with served(film) as url:
            asyncio.run(embed(engine, url, seconds=seconds))
            for _ in range(ROUNDS):
                decoding.append(decode(film, threads=CORES)[0])
                embedding.append(asyncio.run(embed(engine, url, seconds=seconds)))
    decode_rate, embed_rate = (seconds / statistics.median(times) for times in (decoding, embedding))
    # Each round has its own ratio, so that what else the machine does falls on both alike.
    ratio = statistics.median(one / other for one, other in zip(decoding, embedding, strict=True))
    report(
        "embed",
        [
            Result("embed_rate", embed_rate, "s of video/s"),
            Result("decode_rate", decode_rate, "s of video/s"),
            Result("embed_vs_decode", ratio, "ratio", bar=0.5),
        ],
    )


if __name__ == "__main__":
    main()
