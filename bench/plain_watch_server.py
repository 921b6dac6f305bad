"""The peer of `bench/watch.py`: what grpcio and PostgreSQL cost with nothing between them.

It listens for the same notifications and writes one prepared message to every stream. It reads no row, so it could not
tell a watcher what changed, let alone guarantee that every watcher receives the final state. The environment contains
the database.
"""

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psycopg
from sage.embed.v1 import embed_pb2, embed_pb2_grpc

CHANNEL = "sage_embedding_changed"


class PlainWatches(embed_pb2_grpc.EmbedServiceServicer):
    """Sends a message for each notification."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, set[asyncio.Queue[None]]] = defaultdict(set)

    async def WatchEmbedding(
        self, request: embed_pb2.WatchEmbeddingRequest, context: Any
    ) -> AsyncIterator[embed_pb2.WatchEmbeddingResponse]:
        """Send a message at once and one for each notification."""
        embedding_id = request.embedding_id
        message = embed_pb2.WatchEmbeddingResponse(
            embedding=embed_pb2.Embedding(
                id=embedding_id,
                video_id=embedding_id,
                model="bench",
                state=embed_pb2.EMBEDDING_STATE_PROCESSING,
                progress=embed_pb2.Progress(fraction=0.5, message="Embedded 42 of 60 s."),
                tracks=[embed_pb2.Track(name="visual", segment_count=21, covered_end_seconds=42)],
            )
        )
        queue: asyncio.Queue[None] = asyncio.Queue()
        self._queues[embedding_id].add(queue)
        try:
            while True:
                yield message
                await queue.get()
        finally:
            self._queues[embedding_id].discard(queue)

    async def listen(self, dsn: str) -> None:
        """Wake the streams of each notification."""
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            async for notification in connection.notifies():
                for queue in self._queues[notification.payload]:
                    queue.put_nowait(None)


async def main() -> None:
    """Serve until standard input ends; the first line of output is the port."""
    server = grpc.aio.server()
    watches = PlainWatches()  # type: ignore[abstract] # one method is enough
    embed_pb2_grpc.add_EmbedServiceServicer_to_server(watches, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listening = asyncio.create_task(watches.listen(os.environ["DATABASE_URL"]))
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    listening.cancel()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
