"""Ingest as a process: `python -m sage_ingest serve` or `migrate`."""

import asyncio
import importlib.resources

import psycopg
from botocore.exceptions import BotoCoreError
from sage_runtime.postgres import MigrationError, migrate
from sage_runtime.process.settings import fail, load
from sage_runtime.process.startup import Command, run_command

from sage_ingest.app import run
from sage_ingest.config import DatabaseSettings, IngestSettings
from sage_ingest.videos.postgres import SCHEMA


def _serve() -> None:
    settings = load(IngestSettings)
    try:
        asyncio.run(run(settings))
    except (psycopg.ProgrammingError, BotoCoreError, ValueError) as error:
        fail(f"{type(error).__name__}: {error}")


def _migrate() -> None:
    settings = load(DatabaseSettings)
    migrations = importlib.resources.files("sage_ingest") / "migrations"
    try:
        migrate(settings.database_url.get_secret_value(), schema=SCHEMA, migrations=migrations)
    except (MigrationError, psycopg.Error) as error:
        fail(f"{type(error).__name__}: {error}")


def main() -> None:
    """Run the command named on the command line."""
    commands = {
        "serve": Command("serve the gRPC API until SIGTERM or SIGINT", _serve),
        "migrate": Command("create or upgrade the database's tables", _migrate),
    }
    run_command("sage_ingest", "Receives, stores and probes videos.", commands)


if __name__ == "__main__":
    main()
