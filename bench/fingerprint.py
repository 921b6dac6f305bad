"""`make bench-fingerprint`: how fast fingerprints are made, how large they are, and how fast they are read.

Decoding alone is the same decoder with the same threads over every frame, with nothing done to the frames. Analysis is
what a film needs in all: the fingerprint, the pictures for the local model and its network, and a still every ten
seconds, from one pass of decoding. All run in turns. ffmpeg's `signature` filter is beside them for comparison.

    python bench/fingerprint.py [FILM]

The films are made from FILM, or from the sample cut: enlarged, with grain, 720p and 1080p.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import av
import imageio_ffmpeg
import numpy as np
from harness import Result, in_turns, median_ratio, report
from numpy.typing import NDArray
from sage_embed.engines.local.network import Network
from sage_embed.engines.local.pictures import PictureConverter
from sage_embed.fingerprints.model import split_blocks
from sage_film.frames import FrameDecoder, ShownFrame
from sage_fingerprint.blocks import block_count, nanoseconds
from sage_fingerprint.codec import decode, encode
from sage_fingerprint.film import EncodedBlock, FilmSource, read_film
from sage_fingerprint.model import Fingerprint

SAMPLE = Path(__file__).parents[1] / "samples" / "old.mp4"
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
# The sample cut has 20 s, of which the first half changes most. The size is that of all of it.
FILM_SECONDS = {"720p": 20, "1080p": 10}
# Two processes share a longer film, in parts as workers do: each seeks to a keyframe some seconds before its part, and
# decodes from there.
SHARED_SECONDS = 200
CORES = 2
ROUNDS = 2
SAMPLES_PER_SECOND, STILL_SECONDS = 2, 10
# Longer ones take long to encode.
LONG_SECONDS = 20 * 60
# About the bit rate of films on the web.
ENCODER = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "21"]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
PART = """
import sys
import time
from pathlib import Path
from sage_fingerprint.film import FilmSource, read_blocks
path, seconds, first, end = sys.argv[1], *map(float, sys.argv[2:])
print(flush=True)
sys.stdin.readline()
begun_at = time.process_time()
with Path(path).open("rb") as file:
    source = FilmSource(file, 0.0, seconds)
    for _ in read_blocks(source, threads=1, first_block=int(first), end_block=int(end)):
        pass
print(time.process_time() - begun_at)
"""


def make_film(source: Path, path: Path, *, seconds: int, size: tuple[int, int] | None = None) -> float:
    """Write a film: the source, repeated, and if there is a size enlarged and with grain. Return its length."""
    print(f"Making {path.name}, a film of {seconds} s ...", flush=True)
    output = ["-c", "copy"]
    if size is not None:
        output = ["-vf", f"scale={size[0]}:{size[1]}:flags=bicubic,noise=alls=4:allf=t", *ENCODER, "-c:a", "aac"]
    looped: list[str | Path] = ["-stream_loop", "-1", "-i", source, "-t", str(seconds)]
    subprocess.run([FFMPEG, "-nostdin", "-v", "error", "-y", *looped, *output, path], check=True)
    with av.open(path) as film:
        return (film.duration or 0) / av.time_base


class Took(NamedTuple):
    """What a call takes, in seconds."""

    elapsed: float
    processor: float


def taking(method: Callable[[], object]) -> Took:
    """Return what a call takes."""
    begun_at, used = time.perf_counter(), time.process_time()
    method()
    return Took(time.perf_counter() - begun_at, time.process_time() - used)


def decode_film(path: Path) -> None:
    """Decode every frame."""
    with path.open("rb") as file:
        for _ in FrameDecoder(file, start_offset_seconds=0.0, threads=CORES).frames():
            pass


def fingerprint(path: Path, seconds: float, *, on_frame: Callable[[ShownFrame], None] | None = None) -> bytes:
    """Return the film's fingerprint."""
    blocks = []
    with path.open("rb") as file:
        for item in read_film(FilmSource(file, 0.0, seconds), threads=CORES):
            if isinstance(item, EncodedBlock):
                blocks.append(item.data)
            elif on_frame is not None:
                on_frame(item)
    return b"".join(blocks)


def analyse(path: Path, seconds: float, network: Network) -> None:
    """Make the fingerprint, embed two samples a second, and take a still every ten seconds, in one pass."""
    converter, samples, stills = PictureConverter(), itertools.count(), itertools.count()
    next_sample, next_still = next(samples), next(stills)
    pictures = []
    computing = list[Future[NDArray[np.float32]]]()

    def on_frame(shown: ShownFrame) -> None:
        nonlocal next_sample, next_still
        if shown.start >= (next_sample + 0.5) / SAMPLES_PER_SECOND:
            next_sample = next(samples)
            pictures.append(converter.convert(shown.frame))
        if shown.start >= next_still * STILL_SECONDS:
            next_still = next(stills)
            shown.frame.reformat(width=320, height=180, format="rgb24", interpolation="AREA")
        if len(pictures) == 8:
            # Beside the decoder, as in a worker.
            computing.append(pool.submit(network.vectors, np.stack(pictures)))
            pictures.clear()

    with ThreadPoolExecutor(1) as pool:
        fingerprint(path, seconds, on_frame=on_frame)
        for vectors in computing:
            vectors.result()


def signature(path: Path) -> None:
    """Run ffmpeg's `signature` filter, the nearest thing that others have."""
    command = [FFMPEG, "-nostdin", "-v", "error", "-threads", str(CORES), "-i", path, "-map", "0:v", "-vf", "signature"]
    subprocess.run([*command, "-f", "null", "-"], check=True)


def split(path: Path, seconds: float, *, processes: int) -> Took:
    """Return what the fingerprint takes if processes share it: until the last ends, and of the one that works most."""
    count = block_count(nanoseconds(seconds))
    parts = split_blocks(0, count, part_blocks=-(-count // processes))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PART, path, str(seconds), str(part.next_block), str(part.end_block)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for part in parts
    ]
    for worker in workers:
        # It has started.
        if worker.stdout is not None:
            worker.stdout.readline()
    begun_at = time.perf_counter()
    for worker in workers:
        if worker.stdin is not None:
            worker.stdin.write(b"\n")
            worker.stdin.flush()
    processor = []
    for worker in workers:
        output, _ = worker.communicate()
        if worker.returncode:
            raise SystemExit("A process failed.")
        processor.append(float(output))
    return Took(time.perf_counter() - begun_at, max(processor))


def repeated(film: Fingerprint) -> Fingerprint:
    """Return the fingerprint of `LONG_SECONDS` of the same."""
    times = -(-LONG_SECONDS // int(film.duration_seconds))
    starts = np.concatenate([film.frame_seconds + number * film.duration_seconds for number in range(times)])
    luma, texture, chroma = (np.concatenate([one] * times) for one in (film.luma, film.texture, film.chroma))
    return Fingerprint(luma, texture, chroma, starts, times * film.duration_seconds, None)


def measure_film(name: str, path: Path, seconds: float, network: Network) -> list[Result]:
    """Return the rates for one film."""
    calls = in_turns(
        {
            "decode": lambda _: taking(lambda: decode_film(path)),
            "fingerprint": lambda _: taking(lambda: fingerprint(path, seconds)),
            "analysis": lambda _: taking(lambda: analyse(path, seconds, network)),
            "signature": lambda _: taking(lambda: signature(path)),
        },
        rounds=ROUNDS,
    )
    took = {method: [one.elapsed for one in found] for method, found in calls.items()}
    processor = {method: [one.processor for one in found] for method, found in calls.items()}
    rates = [
        Result(f"{method}_rate_{name}", seconds / statistics.median(times), "s of video/s")
        for method, times in took.items()
    ]
    return [
        *rates,
        Result(f"fingerprint_vs_decode_{name}", median_ratio(took["decode"], took["fingerprint"]), "ratio"),
        Result(f"analysis_vs_decode_{name}", median_ratio(took["decode"], took["analysis"]), "ratio", bar=0.6),
        # For a machine that does other work as well, which takes from one more than from another.
        Result(f"analysis_cpu_vs_decode_{name}", median_ratio(processor["decode"], processor["analysis"]), "ratio"),
        Result(f"fingerprint_vs_signature_{name}", median_ratio(took["signature"], took["fingerprint"]), "ratio"),
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Measures how fast fingerprints are made, and their size.")
    parser.add_argument("film", type=Path, nargs="?", default=SAMPLE, help="what the films are made from")
    source = parser.parse_args().film
    print(f"Load of this machine before: {os.getloadavg()[0]:.1f}", flush=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    network = Network(threads=CORES)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            path = Path(folder) / f"{name}.mp4"
            seconds = make_film(source, path, size=size, seconds=FILM_SECONDS[name])
            results += measure_film(name, path, seconds, network)
            if name == "720p":
                data = fingerprint(path, seconds)
                megabytes = len(data) / 1e6 / (seconds / 60)
                results.append(Result("size", megabytes, "MB per minute", bar=0.75, better="lower"))
        path = Path(folder) / "shared.mp4"
        seconds = make_film(source, path, seconds=SHARED_SECONDS)
        took = in_turns(
            {
                "one": lambda _: split(path, seconds, processes=1),
                "two": lambda _: split(path, seconds, processes=2),
            },
            rounds=ROUNDS,
        )
        one, two = (zip(*took[name], strict=True) for name in ("one", "two"))
        elapsed, processor = (median_ratio(*both) for both in zip(one, two, strict=True))
        results.append(Result("two_processes_vs_one", elapsed, "ratio", bar=1.7))
        results.append(Result("two_processes_cpu_vs_one", processor, "ratio"))
    blocks = list(encode(repeated(decode([data]))))
    reading = [taking(lambda: decode(blocks, threads=CORES)).elapsed for _ in range(ROUNDS)]
    results.append(Result("decode_20_minutes", statistics.median(reading), "s"))
    report("fingerprint", results)


if __name__ == "__main__":
    main()
