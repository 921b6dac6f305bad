"""`make bench-upload`: uploads through Envoy and ingest, compared with s5cmd and the sequential method.

Measures the rate, the CPU time of ingest and of s5cmd, and ingest's memory during several uploads at once. Everything
runs against one SeaweedFS, in turns: a ratio is the median of the ratios of the rounds, never that of two runs far
apart. The sequential method sends parts of 10 MiB one after another (`sequential_server.py`).

    python bench/upload.py [--megabytes N] [--rounds N]
"""

import argparse
import contextlib
import functools
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
from dataclasses import dataclass
from pathlib import Path

import av
import boto3
import grpc
import numpy as np
import psutil
from google.api import httpbody_pb2
from harness import Result, in_turns, median_ratio, report, running_peer
from rich.console import Console
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_local.stack import RunningStack, running_stack

MIB = 1024 * 1024
MESSAGE_BYTES = MIB
AT_ONCE = 4
SAMPLE_S = 0.02

console = Console(stderr=True)


@dataclass(frozen=True)
class Upload:
    """One upload.

    Attributes:
        rate: MB per second.
        cpu_s: CPU seconds, user and system, of the processes that were measured. `None` if none were.
    """

    rate: float
    cpu_s: float | None


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the file (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each method (default 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sage-bench-") as folder, running_stack(workers=1) as stack:
        film = Path(folder) / "film.mp4"
        sha256 = make_film(film, size_bytes=arguments.megabytes * 1_000_000)
        with running_peer("sequential_server.py", s3_environment(stack)) as sequential_address:
            ingest = psutil.Process(stack.pids["ingest"])
            methods: dict[str, Callable[[], float | None]] = {
                "ingest": lambda: cpu_of(ingest, lambda: upload(stack.address, film, sha256)),
                "s5cmd": lambda: upload_with_s5cmd(stack, film),
                "sequential": lambda: upload(sequential_address, film, ""),
            }
            uploads = measure_uploads(stack, film, methods, rounds=arguments.rounds)
        peak_mb, peak_probing_mb, rate_at_once = measure_memory(stack, film, sha256)
    rates = {name: [one.rate for one in turns] for name, turns in uploads.items()}
    gigabytes = arguments.megabytes / 1000
    cpu = {
        name: [one.cpu_s / gigabytes for one in uploads[name] if one.cpu_s is not None] for name in ("ingest", "s5cmd")
    }
    report(
        "upload",
        [
            Result("rate_vs_s5cmd", median_ratio(rates["ingest"], rates["s5cmd"]), "ratio", bar=0.9),
            Result("cpu_vs_s5cmd", median_ratio(cpu["ingest"], cpu["s5cmd"]), "ratio", bar=3.0, better="lower"),
            Result(f"peak_memory_{AT_ONCE}_uploads", peak_mb, "MB", bar=250, better="lower"),
            Result(f"peak_memory_{AT_ONCE}_uploads_with_probes", peak_probing_mb, "MB", better="lower"),
            Result("cpu", statistics.median(cpu["ingest"]), "s/GB", better="lower"),
            Result("cpu_s5cmd", statistics.median(cpu["s5cmd"]), "s/GB", better="lower"),
            Result("rate", statistics.median(rates["ingest"]), "MB/s"),
            Result("rate_s5cmd", statistics.median(rates["s5cmd"]), "MB/s"),
            Result("rate_sequential_parts", statistics.median(rates["sequential"]), "MB/s"),
            Result("rate_vs_sequential_parts", median_ratio(rates["ingest"], rates["sequential"]), "ratio"),
            Result(f"rate_{AT_ONCE}_uploads", rate_at_once, "MB/s"),
        ],
    )


def make_film(path: Path, *, size_bytes: int) -> str:
    """Write a film of this size, two seconds of picture and then a box that players skip, and return its SHA-256."""
    film = io.BytesIO()
    with av.open(film, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for index in range(48):
            image = np.full((180, 320, 3), index * 5, dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    head = film.getvalue()
    # A size of 1 means that the real size follows in eight bytes.
    head += (1).to_bytes(4, "big") + b"free" + (size_bytes - len(head)).to_bytes(8, "big")
    noise = os.urandom(16 * MIB)
    checksum = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        left = size_bytes - len(head)
        while left:
            block = noise[:left]
            checksum.update(block)
            left -= file.write(block)
    return checksum.hexdigest()


def measure_uploads(
    stack: RunningStack, film: Path, methods: Mapping[str, Callable[[], float | None]], *, rounds: int
) -> dict[str, list[Upload]]:
    """Return the uploads of each method, one per round.

    Args:
        stack: Where the methods upload to. Its bucket is emptied after each upload.
        film: What they upload.
        methods: By name. Each uploads the film and returns CPU seconds, or `None` if it does not measure them.
        rounds: Number of rounds.
    """

    def turn(name: str, number: int) -> Upload:
        began = time.monotonic()
        cpu_s = methods[name]()
        one = Upload(film.stat().st_size / 1e6 / (time.monotonic() - began), cpu_s)
        cpu = "" if cpu_s is None else f", {cpu_s:.2f} s of CPU"
        console.print(f"round {number + 1}: {name} {one.rate:.0f} MB/s{cpu}")
        empty_bucket(stack)
        return one

    return in_turns({name: functools.partial(turn, name) for name in methods}, rounds=rounds)


def cpu_of(process: psutil.Process, call: Callable[[], object]) -> float:
    """Return the CPU seconds that a process and its children use during a call."""
    before = cpu_seconds(process)
    call()
    return cpu_seconds(process) - before


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds, user and system, of a process and of its children, dead or alive.

    When a child exits, its time moves to its parent's `children_user` and `children_system`, so none is lost or counted
    twice.
    """
    total = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])
    return total


def upload(address: str, film: Path, sha256: str) -> None:
    """Upload a film through gRPC as a new video, and check the SHA-256 of the response unless `sha256` is empty."""
    with grpc.insecure_channel(address) as channel:
        response = ingest_pb2_grpc.IngestServiceStub(channel).UploadVideo(messages(film, sha256), timeout=600)
    if sha256 and response.video.sha256 != sha256:
        raise RuntimeError(f"ingest stored {response.video.sha256}, not {sha256}")


def messages(film: Path, sha256: str) -> Iterator[ingest_pb2.UploadVideoRequest]:
    """Yield the messages of an upload."""
    spec = ingest_pb2.VideoSpec(
        filename=film.name, content_type="video/mp4", size_bytes=film.stat().st_size, sha256=sha256
    )
    yield ingest_pb2.UploadVideoRequest(spec=spec)
    with film.open("rb") as file:
        while data := file.read(MESSAGE_BYTES):
            yield ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=data))


def upload_with_s5cmd(stack: RunningStack, film: Path) -> float:
    """Upload a film straight to S3 and return the CPU seconds of s5cmd."""
    command = [
        str(Path(sys.executable).parent / "s5cmd"),
        "--endpoint-url",
        stack.s3.endpoint_url,
        "cp",
        str(film),
        f"s3://{stack.s3.bucket}/s5cmd/{film.name}",
    ]
    process = subprocess.Popen(command, env=s3_environment(stack), stdout=subprocess.DEVNULL)
    # Not `RUSAGE_CHILDREN`, which adds up all children of this process.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def measure_memory(stack: RunningStack, film: Path, sha256: str) -> tuple[float, float, float]:
    """Return the peak resident memory of ingest with several uploads at once, and the rate of all of them in MB/s.

    Returns:
        The peak of ingest's process in MB, the peak including the short-lived processes that probe files, and the rate.
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
                    # Until it executes its own program, a new process reports its parent's memory as its own.
                    if child.cmdline() != program:
                        probing += child.memory_info().rss / 1e6
            peaks[:] = max(peaks[0], own), max(peaks[1], own + probing)

    sampler = threading.Thread(target=sample)
    sampler.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for future in [pool.submit(upload, stack.address, film, sha256) for _ in range(AT_ONCE)]:
                future.result()
    finally:
        done.set()
        sampler.join()
    rate = AT_ONCE * film.stat().st_size / 1e6 / (time.monotonic() - began)
    console.print(f"{AT_ONCE} at once: {rate:.0f} MB/s, {peaks[0]:.0f} MB resident")
    return peaks[0], peaks[1], rate


def empty_bucket(stack: RunningStack) -> None:
    """Delete what was uploaded, so that the disk holds only a few files at a time. Not measured."""
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


if __name__ == "__main__":
    main()
