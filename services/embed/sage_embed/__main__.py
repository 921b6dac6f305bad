"""Runs embed: `python -m sage_embed serve`, `worker`, `migrate` or `rotate-keys`."""

import argparse
import asyncio
from functools import partial

import psycopg
import structlog
from sage_runtime.catalogue import public_text
from sage_runtime.errors import SageError
from sage_runtime.logging import configure_logging
from sage_runtime.migrations import MigrationError
from sage_runtime.postgres import Pool, open_pool
from sage_runtime.server import StartError
from sage_runtime.settings import fail, load

from sage_embed.adapters.api_keys import open_keys
from sage_embed.adapters.local.engine import LocalEngine
from sage_embed.adapters.pace import PostgresProviderPace
from sage_embed.adapters.schema import migrate_all
from sage_embed.adapters.twelvelabs.clients import preload
from sage_embed.adapters.twelvelabs.engine import TwelveLabsEngine
from sage_embed.adapters.twelvelabs.settings import TwelveLabsSettings
from sage_embed.api import run_api
from sage_embed.config import SCHEMA, ApiSettings, EmbedSettings, WorkerSettings
from sage_embed.engine import Engine
from sage_embed.ports import ProviderKeys
from sage_embed.worker import run_worker


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="sage_embed", description="Turns videos into vectors.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM or SIGINT; settings come from the environment")
    commands.add_parser("worker", help="do the work of embeddings until SIGTERM or SIGINT")
    commands.add_parser("migrate", help="bring the database schema up to date, then end")
    commands.add_parser("rotate-keys", help="encrypt stored keys under the first of SAGE_KEY_ENCRYPTION_KEYS, then end")
    match parser.parse_args().command:
        case "serve":
            preload()
            asyncio.run(run_api(load(ApiSettings), make_engines))
        case "worker":
            preload()
            settings = load(WorkerSettings)
            asyncio.run(run_worker(settings, partial(make_engines, local_threads=settings.local_threads)))
        case "migrate":
            _migrate(load(EmbedSettings))
        case "rotate-keys":
            asyncio.run(_rotate_keys(load(EmbedSettings)))


def make_engines(pool: Pool, settings: EmbedSettings, keys: ProviderKeys, *, local_threads: int = 0) -> list[Engine]:
    """Return the engines, the best first."""
    patience = load(TwelveLabsSettings)
    return [
        TwelveLabsEngine(keys, PostgresProviderPace(pool, patience.pace()), policy=patience.policy()),
        LocalEngine(threads=local_threads),
    ]


def _migrate(settings: EmbedSettings) -> None:
    configure_logging("embed-migrate", settings.log_level, settings.log_format)
    try:
        migrate_all(settings.database_url.get_secret_value(), schema=SCHEMA)
    except (MigrationError, psycopg.Error) as error:
        fail(f"the database was not migrated: {error}")


async def _rotate_keys(settings: EmbedSettings) -> None:
    configure_logging("embed-rotate-keys", settings.log_level, settings.log_format)
    dsn = settings.database_url.get_secret_value()
    try:
        async with await open_pool(dsn, schema=SCHEMA, max_size=1) as pool:
            vault, _ = open_keys(pool, settings)
            structlog.get_logger().info("keys_rotated", count=await vault.rotate())
    except StartError as error:
        fail(str(error))
    except SageError as error:
        fail(f"the keys were not rotated: {public_text(error)}")


if __name__ == "__main__":
    main()
