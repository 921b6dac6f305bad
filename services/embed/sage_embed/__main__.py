"""Runs embed: `python -m sage_embed serve`, `worker`, `migrate` or `rotate-keys`."""

import asyncio

import psycopg
from sage_runtime.postgres import MigrationError, Pool
from sage_runtime.process.settings import fail, load
from sage_runtime.process.startup import Command, run_command
from sage_runtime.process.telemetry import configure_logging

from sage_embed.app import rotate_keys, run_api, run_worker
from sage_embed.config import (
    SCHEMA,
    ApiSettings,
    DatabaseSettings,
    EmbedSettings,
    LocalSettings,
    TwelveLabsSettings,
    WorkerSettings,
)
from sage_embed.engines.engine import Engine
from sage_embed.engines.local.engine import LocalEngine
from sage_embed.engines.twelvelabs.client import preload
from sage_embed.engines.twelvelabs.engine import TwelveLabsEngine
from sage_embed.engines.twelvelabs.pace import PaceOptions, PostgresProviderPace
from sage_embed.engines.twelvelabs.requests import TwelveLabsKeyChecker
from sage_embed.fingerprints.maker import ProcessFingerprintMaker
from sage_embed.jobs.queue import migrate_all
from sage_embed.keys.model import ProviderKeys


def main() -> None:
    """Run the command line."""
    run_command(
        "sage_embed",
        "Turns videos into vectors and fingerprints.",
        {
            "serve": Command("serve the API until SIGTERM or SIGINT", _serve),
            "worker": Command("work on embeddings and fingerprints until SIGTERM or SIGINT", _work),
            "migrate": Command("bring the database schema up to date and exit", _migrate),
            "rotate-keys": Command(
                "encrypt stored keys under the first of SAGE_KEY_ENCRYPTION_KEYS and exit",
                lambda: asyncio.run(rotate_keys(load(DatabaseSettings))),
            ),
        },
    )


def make_engines(pool: Pool, settings: EmbedSettings, keys: ProviderKeys) -> list[Engine]:
    """Return the engines, the preferred one first."""
    twelvelabs = load(TwelveLabsSettings)
    pace = PostgresProviderPace(pool, PaceOptions.from_settings(twelvelabs))
    return [TwelveLabsEngine(keys, pace, twelvelabs), LocalEngine(load(LocalSettings))]


def _serve() -> None:
    settings = load(ApiSettings)
    preload()
    asyncio.run(run_api(settings, make_engines, TwelveLabsKeyChecker()))


def _work() -> None:
    settings = load(WorkerSettings)
    preload()
    asyncio.run(run_worker(settings, make_engines, ProcessFingerprintMaker(load(LocalSettings))))


def _migrate() -> None:
    settings = load(DatabaseSettings)
    configure_logging("embed-migrate", settings.log_level, settings.log_format)
    try:
        migrate_all(settings.database_url.get_secret_value(), schema=SCHEMA)
    except (MigrationError, psycopg.Error) as error:
        fail(f"the database was not migrated: {error}")


if __name__ == "__main__":
    main()
