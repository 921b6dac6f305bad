"""Upload rate through Envoy and ingest beside s5cmd and the sequential method, and ingest's memory.

Everything runs against one SeaweedFS, in turns, since the rate of a machine drifts by tens of percent within minutes:
a ratio is the median of the ratios of the rounds, never that of two runs far apart.
"""

import argparse
import contextlib
import hashlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import boto3
import grpc
import numpy as np
import psutil
from google.api import httpbody_pb2
from peer import running_peer
from report import Result, report
from rich.console import Console
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_local.background import running_stack
from sage_local.running import RunningStack

MIB = 1024 * 1024
MESSAGE_BYTES = MIB
AT_ONCE = 4
SAMPLE_S = 0.02

console = Console(stderr=True)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the file (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each method (default 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sage-bench-") as folder, running_stack(workers=1) as stack:
        film = Path(folder) / "film.mp4"
        sha256 = make_film(film, size_bytes=arguments.megabytes * 1_000_000)
        with running_peer("sequential_server.py", s3_environment(stack)) as sequential_address:
            rates = measure_rates(stack, film, sha256, sequential_address, rounds=arguments.rounds)
        peak_mb, peak_probing_mb, rate_at_once = measure_memory(stack, film, sha256)
    ours, s5cmd, sequential = (rates[name] for name in ("ingest", "s5cmd", "sequential"))
    report(
        "upload",
        [
            Result("rate_vs_s5cmd", median_ratio(ours, s5cmd), "ratio", bar=0.8),
            Result("rate_vs_sequential_parts", median_ratio(ours, sequential), "ratio", bar=1.5),
            Result(f"peak_memory_{AT_ONCE}_uploads", peak_mb, "MB", bar=250, better="lower"),
            Result(f"peak_memory_{AT_ONCE}_uploads_with_probes", peak_probing_mb, "MB", better="lower"),
            Result("rate", statistics.median(ours), "MB/s"),
            Result("rate_s5cmd", statistics.median(s5cmd), "MB/s"),
            Result("rate_sequential_parts", statistics.median(sequential), "MB/s"),
            Result(f"rate_{AT_ONCE}_uploads", rate_at_once, "MB/s"),
        ],
    )


def make_film(path: Path, *, size_bytes: int) -> str:
    """Write a film of this size and return its SHA-256: two seconds of picture, then a box that players skip."""
    film = io.BytesIO()
    with av.open(film, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for index in range(48):
            image = np.full((180, 320, 3), index * 5, dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    head = film.getvalue()
    # A size of 1 says that the real one follows in eight bytes.
    head += (1).to_bytes(4, "big") + b"free" + (size_bytes - len(head)).to_bytes(8, "big")
    noise = os.urandom(16 * MIB)
    checksum = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        left = size_bytes - len(head)
        while left:
            piece = noise[:left]
            checksum.update(piece)
            left -= file.write(piece)
    return checksum.hexdigest()


def measure_rates(
    stack: RunningStack, film: Path, sha256: str, sequential_address: str, *, rounds: int
) -> Mapping[str, list[float]]:
    """Return the rates of each method in MB/s, one for each round."""
    methods: dict[str, Callable[[], None]] = {
        "ingest": lambda: upload(stack.address, film, sha256),
        "s5cmd": lambda: upload_with_s5cmd(stack, film),
        "sequential": lambda: upload(sequential_address, film, ""),
    }
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds):
        # Whoever comes first in a round should not be the same each time.
        order = list(methods)
        order = order[number % len(order) :] + order[: number % len(order)]
        for name in order:
            began = time.monotonic()
            methods[name]()
            rate = film.stat().st_size / 1e6 / (time.monotonic() - began)
            rates[name].append(rate)
            console.print(f"round {number + 1}: {name} {rate:.0f} MB/s")
            empty_bucket(stack)
    return rates


def upload(address: str, film: Path, sha256: str) -> None:
    """Upload a film through gRPC as a new video; `sha256` is compared with the answer's unless empty."""
    with grpc.insecure_channel(address) as channel:
        answer = ingest_pb2_grpc.IngestServiceStub(channel).UploadVideo(messages(film, sha256), timeout=600)
    if sha256 and answer.video.sha256 != sha256:
        raise RuntimeError(f"ingest stored {answer.video.sha256}, not {sha256}")


def messages(film: Path, sha256: str) -> Iterator[ingest_pb2.UploadVideoRequest]:
    """Yield the messages of an upload."""
    spec = ingest_pb2.VideoSpec(
        filename=film.name, content_type="video/mp4", size_bytes=film.stat().st_size, sha256=sha256
    )
    yield ingest_pb2.UploadVideoRequest(spec=spec)
    with film.open("rb") as file:
        while data := file.read(MESSAGE_BYTES):
            yield ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=data))


def upload_with_s5cmd(stack: RunningStack, film: Path) -> None:
    """Upload a film straight to S3."""
    subprocess.run(
        [
            str(Path(sys.executable).parent / "s5cmd"),
            "--endpoint-url",
            stack.s3.endpoint_url,
            "cp",
            str(film),
            f"s3://{stack.s3.bucket}/s5cmd/{film.name}",
        ],
        env=s3_environment(stack),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def measure_memory(stack: RunningStack, film: Path, sha256: str) -> tuple[float, float, float]:
    """Return the peak resident memory of ingest with several uploads at once, and the rate of all of them in MB/s.

    Returns:
        The peak of ingest's process in MB, that with the short-lived processes that look into files, and the rate.
    """
    process = psutil.Process(stack.pids["ingest"])
    program = process.cmdline()
    peaks = [0.0, 0.0]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            own = process.memory_info().rss / 1e6
            probing = 0.0
            for child in process.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    # Until it runs its own program, a new process shows its parent's memory as its own.
                    if child.cmdline() != program:
                        probing += child.memory_info().rss / 1e6
            peaks[:] = max(peaks[0], own), max(peaks[1], own + probing)

    sampler = threading.Thread(target=sample)
    sampler.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for ended in [pool.submit(upload, stack.address, film, sha256) for _ in range(AT_ONCE)]:
                ended.result()
    finally:
        done.set()
        sampler.join()
    rate = AT_ONCE * film.stat().st_size / 1e6 / (time.monotonic() - began)
    console.print(f"{AT_ONCE} at once: {rate:.0f} MB/s, {peaks[0]:.0f} MB resident")
    return peaks[0], peaks[1], rate


def empty_bucket(stack: RunningStack) -> None:
    """Delete what was uploaded, so that the disk holds a few files at a time. Not measured."""
    with grpc.insecure_channel(stack.address) as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        for video in stub.ListVideos(ingest_pb2.ListVideosRequest()).videos:
            stub.DeleteVideo(ingest_pb2.DeleteVideoRequest(video_id=video.id))
    client = boto3.client(
        "s3",
        endpoint_url=stack.s3.endpoint_url,
        region_name=stack.s3.region,
        aws_access_key_id=stack.s3.access_key,
        aws_secret_access_key=stack.s3.secret_key,
    )
    with contextlib.closing(client):
        for found in client.list_objects_v2(Bucket=stack.s3.bucket).get("Contents", []):
            client.delete_object(Bucket=stack.s3.bucket, Key=found["Key"])


def s3_environment(stack: RunningStack) -> dict[str, str]:
    """Return the variables that S3 clients read."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "AWS_ACCESS_KEY_ID": stack.s3.access_key,
        "AWS_SECRET_ACCESS_KEY": stack.s3.secret_key,
        "AWS_REGION": stack.s3.region,
        "AWS_DEFAULT_REGION": stack.s3.region,
        "S3_ENDPOINT_URL": stack.s3.endpoint_url,
        "S3_BUCKET_NAME": stack.s3.bucket,
    }


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
