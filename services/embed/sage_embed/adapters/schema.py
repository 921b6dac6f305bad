"""The database schema of embed: its own tables, and procrastinate's beside them."""

from importlib import resources
from pathlib import Path

import psycopg
import structlog
from procrastinate.schema import SchemaManager
from psycopg import sql
from sage_runtime.migrations import migrate

log = structlog.get_logger()


def migrate_all(dsn: str, *, schema: str) -> None:
    """Bring embed's tables and the job queue's up to date; safe to run again, and from several processes at once.

    Raises:
        MigrationError: The database and this release do not go together.
        psycopg.Error: The database cannot be reached, or a migration fails; those before it stay applied.
    """
    migrate(dsn, schema=schema, migrations=resources.files("sage_embed") / "migrations")
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('sage.migrate.queue'), hashtext(%s))", (schema,))
        connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
        _migrate_queue(connection)


def _migrate_queue(connection: psycopg.Connection) -> None:
    """Apply procrastinate's schema, or those of its migrations that it has gained since.

    A new database gets the schema as it is now and counts all migrations as applied, which is how procrastinate
    means its files to be used.
    """
    files = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    with connection.transaction():
        if connection.execute("SELECT to_regclass('queue_migrations')").fetchone() == (None,):
            connection.execute(
                "CREATE TABLE queue_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            connection.execute(SchemaManager.get_schema().encode())
            _record(connection, [file.name for file in files])
            log.info("migrated", migration="procrastinate's schema")
            return
    applied = {name for (name,) in connection.execute("SELECT name FROM queue_migrations")}
    for file in files:
        if file.name not in applied:
            with connection.transaction():
                connection.execute(file.read_bytes())
                _record(connection, [file.name])
            log.info("migrated", migration=f"procrastinate's {file.name}")


def _record(connection: psycopg.Connection, names: list[str]) -> None:
    connection.execute("INSERT INTO queue_migrations (name) SELECT unnest(%s::text[])", (names,))
