"""The parts of the service, put together."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sage.embed.v1 import embed_pb2_grpc
from sage_runtime.channel import open_channel
from sage_runtime.postgres import open_pool
from sage_runtime.server import ServiceRegistration, serve

from sage_embed.adapters.changes import PostgresChangeFeed
from sage_embed.adapters.embeddings import PostgresEmbeddingStore
from sage_embed.adapters.ingest import IngestVideoCatalog
from sage_embed.adapters.queue import JobQueue, quiet_queue
from sage_embed.config import SCHEMA, ApiSettings
from sage_embed.engine import Engine
from sage_embed.engines import Engines
from sage_embed.servicer import SERVICE_NAME, EmbedServicer, Needs
from sage_embed.watch import WatchTimes


async def run_api(
    settings: ApiSettings, engines: Sequence[Engine], *, on_started: Callable[[int], None] | None = None
) -> None:
    """Serve until a signal comes."""
    if settings.log_level != "debug":
        quiet_queue()
    async with registrations(settings, engines) as services:
        await serve(service_name="embed", settings=settings, services=services, on_started=on_started)


@asynccontextmanager
async def registrations(settings: ApiSettings, engines: Sequence[Engine]) -> AsyncIterator[list[ServiceRegistration]]:
    """Yield what the server serves; what it holds is freed at the end of the block."""
    dsn = settings.database_url.get_secret_value()
    feed = PostgresChangeFeed(dsn, max_subscriptions=settings.max_watches)
    async with (
        await open_pool(dsn, schema=SCHEMA, max_size=settings.database_connections) as pool,
        open_channel(settings.ingest_address) as channel,
        feed.running(),
    ):
        store = PostgresEmbeddingStore(pool, JobQueue())
        servicer = EmbedServicer(
            Needs(
                store=store,
                feed=feed,
                videos=IngestVideoCatalog(channel, url_validity_s=settings.url_validity_s),
                engines=Engines(engines),
                watch_times=WatchTimes(heartbeat_s=settings.heartbeat_s, poll_s=settings.watch_poll_s),
                max_unfinished=settings.max_unfinished,
            )
        )
        add = partial(embed_pb2_grpc.add_EmbedServiceServicer_to_server, servicer)
        yield [ServiceRegistration(name=SERVICE_NAME, add=add, check=store.ping, drain=feed.close)]
