"""`make bench-gateway`: what the gateway costs.

Measures a unary call directly and over three protocols, and uploads in three ways compared with s5cmd. Everything
runs against one stack, in turns: a ratio is the median of the ratios of the rounds. Client, Envoy, service and database
share the processors, and the client is Python, so the call rates are those of the entire chain, not of Envoy alone.

    python bench/gateway.py [--seconds S] [--megabytes N] [--rounds N]
"""

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
from harness import Result, median_ratio, report
from rich.console import Console
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_local.stack import RunningStack, running_stack
from upload import empty_bucket, make_film, measure_uploads, upload, upload_with_s5cmd

LANES = 8
PARTS_AT_ONCE = 4
GET_VIDEO = "/sage.ingest.v1.IngestService/GetVideo"
WAYS = ("direct", "grpc", "grpc_web", "json")

console = Console(stderr=True)

Calls = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Round:
    """The result of one way of calling in one round.

    Attributes:
        rate: Calls per second over all lanes.
        p50_ms: Median time of a call in milliseconds.
        p99_ms: 99th percentile in milliseconds.
    """

    rate: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Film:
    """The file to upload.

    Attributes:
        path: Its path.
        sha256: Its SHA-256.
    """

    path: Path
    sha256: str


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="length of each turn of calls (default 5)")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the file (default 500)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sage-bench-") as folder, running_stack(workers=0) as stack:
        path = Path(folder) / "film.mp4"
        film = Film(path, make_film(path, size_bytes=arguments.megabytes * 1_000_000))
        rounds = asyncio.run(measure_calls(stack, seconds=arguments.seconds, rounds=arguments.rounds))
        rates = upload_rates(stack, film, rounds=arguments.rounds)
    report("gateway", [*call_results(rounds), *upload_results(rates)])


def call_results(rounds: Mapping[str, list[Round]]) -> list[Result]:
    """Return the figures of the calls."""
    direct = [one.rate for one in rounds["direct"]]
    results = [
        Result(f"calls_{way}_vs_direct", median_ratio([one.rate for one in rounds[way]], direct), "ratio")
        for way in WAYS[1:]
    ]
    for way in WAYS:
        results += [
            Result(f"calls_{way}", statistics.median(one.rate for one in rounds[way]), "calls/s"),
            Result(f"p50_{way}", statistics.median(one.p50_ms for one in rounds[way]), "ms", better="lower"),
            Result(f"p99_{way}", statistics.median(one.p99_ms for one in rounds[way]), "ms", better="lower"),
        ]
    return results


def upload_results(rates: Mapping[str, list[float]]) -> list[Result]:
    """Return the figures of the uploads."""
    ratios = [
        Result(f"upload_{way}_vs_s5cmd", median_ratio(ours, rates["s5cmd"]), "ratio")
        for way, ours in rates.items()
        if way != "s5cmd"
    ]
    return ratios + [Result(f"upload_{way}", statistics.median(ours), "MB/s") for way, ours in rates.items()]


async def measure_calls(stack: RunningStack, *, seconds: float, rounds: int) -> dict[str, list[Round]]:
    """Return the results of each way of making one unary call, one per round."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.mp4"
        make_film(small, size_bytes=200_000)
        await asyncio.to_thread(upload, stack.address, small, "")
    async with grpc.aio.insecure_channel(stack.address) as channel:
        videos = await ingest_pb2_grpc.IngestServiceStub(channel).ListVideos(ingest_pb2.ListVideosRequest())
    request = ingest_pb2.GetVideoRequest(video_id=videos.videos[0].id)
    found: dict[str, list[Round]] = {way: [] for way in WAYS}
    async with AsyncExitStack() as clients:
        ways = {
            "direct": await clients.enter_async_context(over_grpc(stack.addresses["ingest"], request)),
            "grpc": await clients.enter_async_context(over_grpc(stack.address, request)),
            "grpc_web": await clients.enter_async_context(over_grpc_web(stack.address, request)),
            "json": await clients.enter_async_context(over_json(stack.address, request)),
        }
        for number in range(rounds):
            for way in (*WAYS[number % len(WAYS) :], *WAYS[: number % len(WAYS)]):
                one = await turn(ways[way], seconds=seconds)
                found[way].append(one)
                times = f"p50 {one.p50_ms:.1f} ms, p99 {one.p99_ms:.1f} ms"
                console.print(f"round {number + 1}: {way} {one.rate:.0f} calls/s, {times}")
    await asyncio.to_thread(empty_bucket, stack)
    return found


async def turn(call: Calls, *, seconds: float) -> Round:
    """Make calls on several lanes for this long."""
    took: list[float] = []
    began = time.monotonic()

    async def lane() -> None:
        while (before := time.monotonic()) < began + seconds:
            await call()
            took.append(time.monotonic() - before)

    await asyncio.gather(*(lane() for _ in range(LANES)))
    cuts = statistics.quantiles(took, n=100)
    return Round(len(took) / (time.monotonic() - began), cuts[49] * 1000, cuts[98] * 1000)


@asynccontextmanager
async def over_grpc(address: str, request: ingest_pb2.GetVideoRequest) -> AsyncIterator[Calls]:
    """Yield a native gRPC call."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)

        async def call() -> None:
            await stub.GetVideo(request)

        yield call


@asynccontextmanager
async def over_grpc_web(address: str, request: ingest_pb2.GetVideoRequest) -> AsyncIterator[Calls]:
    """Yield a gRPC-Web call, as a browser makes it."""
    message = request.SerializeToString()
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def call() -> None:
            async with session.post(f"http://{address}{GET_VIDEO}", data=frame) as response:
                body = await response.read()
            size = int.from_bytes(body[1:5], "big")
            ingest_pb2.GetVideoResponse.FromString(body[5 : 5 + size])
            if b"grpc-status:0" not in body[5 + size :]:
                raise RuntimeError(f"the call failed: {body[5 + size :]!r}")

        yield call


@asynccontextmanager
async def over_json(address: str, request: ingest_pb2.GetVideoRequest) -> AsyncIterator[Calls]:
    """Yield a JSON call."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def call() -> None:
            async with session.get(f"http://{address}/v1/videos/{request.video_id}") as response:
                await response.json()

        yield call


def upload_rates(stack: RunningStack, film: Film, *, rounds: int) -> dict[str, list[float]]:
    """Return the rates of each way to upload in MB/s, one per round."""
    methods: dict[str, Callable[[], float | None]] = {
        "native": lambda: upload(stack.address, film.path, film.sha256),
        "curl": lambda: upload_with_curl(stack.address, film),
        "parts": lambda: asyncio.run(upload_in_parts(stack.address, film)),
        "s5cmd": lambda: upload_with_s5cmd(stack, film.path),
    }
    uploads = measure_uploads(stack, film.path, methods, rounds=rounds)
    return {name: [one.rate for one in turns] for name, turns in uploads.items()}


def upload_with_curl(address: str, film: Film) -> None:
    """Upload a film as the body of an HTTP request."""
    url = f"http://{address}/v1/videos?spec.filename={film.path.name}&spec.sha256={film.sha256}"
    command = ["curl", "-sS", "--fail-with-body", "-T", str(film.path), url]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


async def upload_in_parts(address: str, film: Film) -> None:
    """Upload a film in parts over JSON, several at once, as a browser does."""
    size = film.path.stat().st_size
    base = f"http://{address}/v1/uploads"
    slots = asyncio.Semaphore(PARTS_AT_ONCE)
    async with aiohttp.ClientSession(raise_for_status=True, timeout=aiohttp.ClientTimeout(600)) as session:
        spec = {"filename": film.path.name, "contentType": "video/mp4", "sizeBytes": str(size), "sha256": film.sha256}
        async with session.post(base, json={"spec": spec}) as response:
            made = (await response.json())["upload"]
        part_bytes = int(made["partSizeBytes"])

        async def put(number: int) -> None:
            async with slots:
                data = await asyncio.to_thread(read, film.path, (number - 1) * part_bytes, part_bytes)
                async with session.put(f"{base}/{made['id']}/parts/{number}", data=data) as response:
                    await response.read()

        await asyncio.gather(*(put(number) for number in range(1, made["partCount"] + 1)))
        async with session.post(f"{base}/{made['id']}:complete") as response:
            stored = (await response.json())["video"]["sha256"]
    if stored != film.sha256:
        raise RuntimeError(f"ingest stored {stored}, not {film.sha256}")


def read(path: Path, offset: int, size: int) -> bytes:
    """Return a part of a file."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


if __name__ == "__main__":
    main()
