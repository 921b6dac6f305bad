"""`make bench-watch`: a thousand watches over five embeddings, from a change to the last watcher that has it.

All five embeddings change in one transaction. The time runs from just before its COMMIT is sent until the last of the
thousand streams has its message, read and decoded in a client process of one thread.

- SAGE through the gateway, as its users reach it, and at the embed service itself.
- Beside it, in turns, a plain server: the same grpcio and the same notifications, and one finished message for every
  stream, no read and no guarantee (`plain_watch_server.py`).
- One LISTEN on one connection: the floor under both.
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
from peer import running_peer
from report import Result, report
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_local.background import running_stack
from sage_runtime.ids import new_id

WATCHES = 1000
EMBEDDINGS = 5
# Envoy takes 128 streams on a connection.
CONNECTIONS = 10
TURN_TIMEOUT_S = 60.0
CHANNEL = "sage_embedding_changed"
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class Watchers:
    """Streams that are read by one task each; a turn is over when all of them have had a message."""

    def __init__(self, embedding_ids: Sequence[str]) -> None:
        self._embedding_ids = embedding_ids
        self._waiting_for = 0
        self._all_have_it = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self, address: str) -> AsyncIterator[None]:
        """Watch for the length of the block, which begins when every stream has its first message."""
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as readers:
            tasks = []
            for _ in range(CONNECTIONS):
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OWN_CONNECTION))
                stub = embed_pb2_grpc.EmbedServiceStub(channel)
                # One connection after the other: Envoy lets 256 streams wait for its own connection to a service.
                self._expect(WATCHES // CONNECTIONS)
                for index in range(WATCHES // CONNECTIONS):
                    embedding_id = self._embedding_ids[index % len(self._embedding_ids)]
                    tasks.append(readers.create_task(self._read(stub, embedding_id)))
                await self.last_has_it()
            yield
            for task in tasks:
                task.cancel()

    def expect(self) -> None:
        """Begin a turn: every stream is due a message."""
        self._expect(WATCHES)

    def _expect(self, count: int) -> None:
        self._waiting_for = count
        self._all_have_it.clear()

    async def last_has_it(self) -> float:
        """Return when the last stream has had its message, on the clock of `time.perf_counter`."""
        async with asyncio.timeout(TURN_TIMEOUT_S):
            await self._all_have_it.wait()
        return self._at

    async def _read(self, stub: "embed_pb2_grpc.EmbedServiceAsyncStub", embedding_id: str) -> None:
        call = stub.WatchEmbedding(embed_pb2.WatchEmbeddingRequest(embedding_id=embedding_id))
        while isinstance(message := await call.read(), embed_pb2.WatchEmbeddingResponse):
            if not message.HasField("embedding"):
                continue
            self._waiting_for -= 1
            if self._waiting_for == 0:
                self._at = time.perf_counter()
                self._all_have_it.set()
        raise SystemExit(f"A watch of {embedding_id} ended.")


class Changes:
    """Changes rows over a connection of its own."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def change(self, embedding_ids: Sequence[str]) -> float:
        """Change embeddings in one transaction and return when its COMMIT was sent, as `time.perf_counter` has it."""
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
    """Return the seconds of each turn, by the name of the server, and under `listen` those of one LISTEN."""
    seconds: dict[str, list[float]] = {name: [] for name in (*servers, "listen")}
    options = "-c search_path=embed"
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True, options=options) as writer,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener,
    ):
        changes = Changes(writer)
        # In several rounds, so that what else the machine does meets all of them.
        rounds = 4
        for _ in range(rounds):
            for name, address in servers.items():
                watchers = Watchers(watched)
                async with watchers.watching(address):
                    for _ in range(turns // rounds):
                        watchers.expect()
                        sent = await changes.change(watched)
                        seconds[name].append(await watchers.last_has_it() - sent)
            await listener.execute(f"LISTEN {CHANNEL}")
            for _ in range(turns // rounds):
                sent = await changes.change([unwatched])
                async for _ in listener.notifies(timeout=TURN_TIMEOUT_S, stop_after=1):
                    seconds["listen"].append(time.perf_counter() - sent)
            await listener.execute(f"UNLISTEN {CHANNEL}")
    return seconds


async def memory_of_watches(pid: int, address: str, watched: Sequence[str]) -> float:
    """Return by how many kilobytes a watch makes a process larger."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    async with Watchers(watched).watching(address):
        return (process.memory_info().rss - before) / WATCHES / 1000


def store_embedding(dsn: str) -> str:
    """Put an embedding that is being worked on where the embed service keeps them, and return its id."""
    embedding_id = new_id("embed")
    with psycopg.connect(dsn, options="-c search_path=embed") as connection:
        connection.execute(
            """
            INSERT INTO embeddings (
                id, request_fingerprint, video_id, video_duration_seconds, video_start_offset_seconds, model,
                model_revision, provider, dimensions, clip_seconds, state, progress, job_id, requested_tracks
            ) VALUES (%s, '', %s, 60, 0, 'bench', '1', 'bench', 1024, 2, 'PROCESSING', 0.5, 0, '{visual}')
            """,
            (embedding_id, new_id("video")),
        )
        connection.execute("INSERT INTO tracks VALUES (%s, 'visual', 0, 21, 0, 42)", (embedding_id,))
    return embedding_id


def milliseconds(name: str, seconds: Sequence[float]) -> list[Result]:
    """Return the median and the 99th percentile."""
    p99 = statistics.quantiles(seconds, n=100)[98]
    return [
        Result(f"{name}_median", statistics.median(seconds) * 1e3, "ms", better="lower"),
        Result(f"{name}_p99", p99 * 1e3, "ms", better="lower"),
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="A thousand watches: from a change to the last watcher.")
    parser.add_argument("--turns", type=int, default=100, help="changes for each server (default 100)")
    turns = parser.parse_args().turns
    with running_stack(workers=0) as stack:
        dsn = stack.database_urls["embed"]
        watched, unwatched = [store_embedding(dsn) for _ in range(EMBEDDINGS)], store_embedding(dsn)
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
