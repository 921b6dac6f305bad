"""`make bench-watch`: a thousand watches over five embeddings, from a change until the last watcher has it.

All five embeddings change in one transaction. The time runs from just before COMMIT is sent until the last of the
thousand streams has its message, read and decoded in a client process of one thread.

- SAGE through the gateway, as users reach it, and directly at the embed service.
- In turns with it, a plain server: the same grpcio and the same notifications, but one prepared message for every
  stream, no read and no guarantee (`plain_watch_server.py`).
- One LISTEN on one connection: the floor for both.

    python bench/watch.py [--turns N]
"""

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence

import grpc
import psutil
import psycopg
from harness import Result, report, running_peer
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_local.stack import running_stack
from stored_embeddings import store_embedding

WATCHES = 1000
EMBEDDINGS = 5
# Envoy allows 128 streams per connection.
CONNECTIONS = 10
TURN_TIMEOUT_S = 60.0
CHANNEL = "sage_embedding_changed"
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class Watchers:
    """Streams that are read by one task each. A turn is over when all of them have received a message."""

    def __init__(self, embedding_ids: Sequence[str]) -> None:
        self._embedding_ids = embedding_ids
        self._waiting_for = 0
        self._all_received = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self, address: str) -> AsyncIterator[None]:
        """Watch for the length of the block, which begins once every stream has its first message."""
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as readers:
            tasks = []
            for _ in range(CONNECTIONS):
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OWN_CONNECTION))
                stub = embed_pb2_grpc.EmbedServiceStub(channel)
                # One connection after another: Envoy lets at most 256 streams wait for its connection to a service.
                self._expect(WATCHES // CONNECTIONS)
                for index in range(WATCHES // CONNECTIONS):
                    embedding_id = self._embedding_ids[index % len(self._embedding_ids)]
                    tasks.append(readers.create_task(self._read(stub, embedding_id)))
                await self.last_received()
            yield
            for task in tasks:
                task.cancel()

    def expect(self) -> None:
        """Begin a turn, in which every stream receives a message."""
        self._expect(WATCHES)

    def _expect(self, count: int) -> None:
        self._waiting_for = count
        self._all_received.clear()

    async def last_received(self) -> float:
        """Return when the last stream received its message, on the clock of `time.perf_counter`."""
        async with asyncio.timeout(TURN_TIMEOUT_S):
            await self._all_received.wait()
        return self._at

    async def _read(self, stub: "embed_pb2_grpc.EmbedServiceAsyncStub", embedding_id: str) -> None:
        call = stub.WatchEmbedding(embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id))
        while isinstance(message := await call.read(), embed_pb2.WatchEmbeddingResponse):
            if not message.HasField("embedding"):
                continue
            self._waiting_for -= 1
            if self._waiting_for == 0:
                self._at = time.perf_counter()
                self._all_received.set()
        raise SystemExit(f"A watch of {embedding_id} ended.")


class Changes:
    """Changes embeddings over one connection."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def change(self, embedding_ids: Sequence[str]) -> float:
        """Change embeddings in one transaction and return when COMMIT was sent, on the clock of `time.perf_counter`."""
        await self._connection.execute("BEGIN")
        await self._connection.execute(
            "UPDATE embeddings SET revision = revision + 1, progress_message = 'Embedded ' || revision || ' of 60 s.'"
            " WHERE id = ANY(%s)",
            (list(embedding_ids),),
        )
        sent = time.perf_counter()
        await self._connection.execute("COMMIT")
        return sent


async def measure(
    dsn: str, servers: dict[str, str], watched: Sequence[str], unwatched: str, *, turns: int
) -> dict[str, list[float]]:
    """Return the seconds of each turn by the name of the server, and those of one LISTEN as `listen`."""
    seconds: dict[str, list[float]] = {name: [] for name in (*servers, "listen")}
    options = "-c search_path=embed"
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True, options=options) as writer,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener,
    ):
        changes = Changes(writer)
        # In several rounds, so that other work on the machine affects all of them alike.
        rounds = 4
        for _ in range(rounds):
            for name, address in servers.items():
                watchers = Watchers(watched)
                async with watchers.watching(address):
                    for _ in range(turns // rounds):
                        watchers.expect()
                        sent = await changes.change(watched)
                        seconds[name].append(await watchers.last_received() - sent)
            await listener.execute(f"LISTEN {CHANNEL}")
            for _ in range(turns // rounds):
                sent = await changes.change([unwatched])
                async for _ in listener.notifies(timeout=TURN_TIMEOUT_S, stop_after=1):
                    seconds["listen"].append(time.perf_counter() - sent)
            await listener.execute(f"UNLISTEN {CHANNEL}")
    return seconds


async def memory_of_watches(pid: int, address: str, watched: Sequence[str]) -> float:
    """Return by how many kilobytes one watch makes a process grow."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    async with Watchers(watched).watching(address):
        return (process.memory_info().rss - before) / WATCHES / 1000


def milliseconds(name: str, seconds: Sequence[float]) -> list[Result]:
    """Return the median and the 99th percentile."""
    p99 = statistics.quantiles(seconds, n=100)[98]
    return [
        Result(f"{name}_median", statistics.median(seconds) * 1e3, "ms", better="lower"),
        Result(f"{name}_p99", p99 * 1e3, "ms", better="lower"),
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Measures a change until the last of a thousand watchers has it.")
    parser.add_argument("--turns", type=int, default=100, help="changes for each server (default 100)")
    turns = parser.parse_args().turns
    if turns < 4:
        parser.error("--turns must be at least 4")
    with running_stack(workers=0) as stack:
        dsn = stack.database_urls["embed"]
        unwatched, *watched = (
            store_embedding(dsn, state="PROCESSING", duration_seconds=60, segment_count=21, dimensions=1024)
            for _ in range(EMBEDDINGS + 1)
        )
        embed = stack.addresses["embed"]
        watch_kb = asyncio.run(memory_of_watches(stack.pids["embed"], embed, watched))
        with running_peer("plain_watch_server.py", {"DATABASE_URL": dsn}) as plain:
            servers = {"gateway": stack.address, "embed": embed, "plain": plain}
            seconds = asyncio.run(measure(dsn, servers, watched, unwatched, turns=turns))
    ours, peer = statistics.median(seconds["embed"]), statistics.median(seconds["plain"])
    report(
        "watch",
        [
            *milliseconds("last_watcher", seconds["gateway"]),
            *milliseconds("last_watcher_without_gateway", seconds["embed"]),
            *milliseconds("last_watcher_of_plain_server", seconds["plain"]),
            *milliseconds("one_listen", seconds["listen"]),
            Result("time_over_plain_server", ours / peer, "ratio", bar=2.0, better="lower"),
            Result("memory_of_a_watch", watch_kb, "kB", better="lower"),
        ],
    )


if __name__ == "__main__":
    main()
