"""The parts of the service, put together."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sage.embed.v1 import api_key_pb2_grpc, embed_pb2_grpc
from sage_runtime.channel import open_channel
from sage_runtime.postgres import Pool, open_pool
from sage_runtime.server import ServiceRegistration, StartError, serve
from sage_runtime.settings import fail

from sage_embed import key_servicer
from sage_embed.adapters.api_keys import open_keys
from sage_embed.adapters.changes import PostgresChangeFeed
from sage_embed.adapters.embeddings import PostgresEmbeddingStore
from sage_embed.adapters.ingest import IngestVideoCatalog
from sage_embed.adapters.queue import JobQueue, quiet_queue
from sage_embed.adapters.twelvelabs.key_check import TwelveLabsKeyChecker
from sage_embed.config import SCHEMA, ApiSettings
from sage_embed.engine import Engine
from sage_embed.engines import Engines
from sage_embed.key_servicer import ApiKeyServicer
from sage_embed.ports import ProviderKeys
from sage_embed.servicer import SERVICE_NAME, EmbedServicer, Needs
from sage_embed.watch import WatchTimes

MakeEngines = Callable[[Pool, ApiSettings, ProviderKeys], Sequence[Engine]]


async def run_api(
    settings: ApiSettings, make_engines: MakeEngines, *, on_started: Callable[[int], None] | None = None
) -> None:
    """Serve until a signal comes.

    Args:
        settings: The process's settings.
        make_engines: Returns the engines, the best first, over connections to the database and the keys for providers.
        on_started: Told the port.
    """
    if settings.log_level != "debug":
        quiet_queue()
    try:
        async with registrations(settings, make_engines) as services:
            await serve(service_name="embed", settings=settings, services=services, on_started=on_started)
    except StartError as error:
        fail(str(error))


@asynccontextmanager
async def registrations(settings: ApiSettings, make_engines: MakeEngines) -> AsyncIterator[list[ServiceRegistration]]:
    """Yield what the server serves; what it holds is freed at the end of the block.

    Raises:
        StartError: The key-encryption keys of the settings cannot be used.
    """
    dsn = settings.database_url.get_secret_value()
    feed = PostgresChangeFeed(dsn, max_subscriptions=settings.max_watches)
    async with (
        await open_pool(dsn, schema=SCHEMA, max_size=settings.database_connections) as pool,
        open_channel(settings.ingest_address) as channel,
    ):
        vault, current_key = open_keys(pool, settings)
        store = PostgresEmbeddingStore(pool, JobQueue())
        servicer = EmbedServicer(
            Needs(
                store=store,
                feed=feed,
                videos=IngestVideoCatalog(channel, url_validity_s=settings.url_validity_s),
                engines=Engines(make_engines(pool, settings, current_key)),
                watch_times=WatchTimes(heartbeat_s=settings.heartbeat_s, poll_s=settings.watch_poll_s),
                max_unfinished=settings.max_unfinished,
            )
        )
        add = partial(embed_pb2_grpc.add_EmbedServiceServicer_to_server, servicer)
        keys = ApiKeyServicer(vault=vault, checker=TwelveLabsKeyChecker(), current=current_key)
        add_keys = partial(api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server, keys)
        # From here on errors come in a group, and the one of a bad setting should stand alone.
        async with feed.running():
            yield [
                ServiceRegistration(name=SERVICE_NAME, add=add, check=store.ping, drain=feed.close),
                ServiceRegistration(name=key_servicer.SERVICE_NAME, add=add_keys, check=store.ping),
            ]
