"""Database migrations: numbered SQL files, each applied once, in order, in a transaction of its own."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable

import psycopg
import structlog
from psycopg import sql

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_LOCK_TIMEOUT = "60s"


class MigrationError(Exception):
    """The database and the migrations of this release do not go together; the message says how and what to do."""


@dataclass(frozen=True)
class Migration:
    """One file.

    Attributes:
        number: Its place in the order, from 1.
        name: What follows the number in the file's name.
        text: The SQL.
    """

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The checksum by which a file that was changed after it was applied is noticed."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def migrate(dsn: str, *, schema: str, migrations: Traversable) -> None:
    """Bring `schema` up to date; safe to run from several processes at once.

    Args:
        dsn: The database, as a role that owns the schema or may create it.
        schema: Created where it is missing. `schema_migrations` in it says what was applied.
        migrations: The folder of `NNNN_name.sql` files, numbered from 0001 without gaps. Statements run with
            `search_path` set to the schema.

    Raises:
        MigrationError: A file was changed after it was applied, the database is from a newer release, or the files
            are not numbered as they should be. Nothing was changed.
        psycopg.Error: The database cannot be reached, or a file fails; those before it stay applied.
    """
    files = read_migrations(migrations)
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(_LOCK_TIMEOUT))
        # Held until the connection ends. The number only has to be the same wherever this schema is migrated.
        connection.execute("SELECT pg_advisory_lock(hashtext('sage.migrate'), hashtext(%s))", (schema,))
        _prepare(connection, schema)
        for migration in _pending(connection, schema, files):
            _apply(connection, schema, migration)
            log.info("migrated", schema=schema, migration=str(migration))


def read_migrations(folder: Traversable) -> list[Migration]:
    """Return the migrations of a folder in order.

    Raises:
        MigrationError: A number is missing or there twice, or a file is not named `NNNN_name.sql`.
    """
    found = []
    for file in folder.iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise MigrationError(f"{file.name} is not named like 0001_videos.sql. Rename it.")
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise MigrationError(f"Migrations must be numbered from 0001 without gaps, not {numbers}.")
    return found


def _prepare(connection: psycopg.Connection, schema: str) -> None:
    name = sql.Identifier(schema)
    # IF NOT EXISTS asks for the right to create schemas even where there is nothing to create.
    if connection.execute("SELECT to_regnamespace(%s)", (f'"{schema}"',)).fetchone() == (None,):
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
    connection.execute(
        sql.SQL(
            "CREATE TABLE IF NOT EXISTS {}.schema_migrations ("
            "number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        ).format(name)
    )


def _pending(connection: psycopg.Connection, schema: str, files: Sequence[Migration]) -> Sequence[Migration]:
    query = sql.SQL("SELECT number, name, sha256 FROM {}.schema_migrations ORDER BY number")
    applied = connection.execute(query.format(sql.Identifier(schema))).fetchall()
    for number, name, sha256 in applied:
        if number > len(files):
            raise MigrationError(
                f"Schema {schema} has migration {number:04}_{name}, which this release does not know. "
                "It was made by a newer release: run that one, or restore the database from before it."
            )
        if sha256 != files[number - 1].sha256:
            raise MigrationError(
                f"Migration {files[number - 1]} was changed after it was applied to schema {schema}. "
                "Put the file back as it was and make the change in a new migration."
            )
    return files[len(applied) :]


def _apply(connection: psycopg.Connection, schema: str, migration: Migration) -> None:
    name = sql.Identifier(schema)
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL search_path = {}").format(name))
        # A file is bytes to psycopg: without parameters it may hold several statements and percent signs.
        connection.execute(migration.text.encode())
        connection.execute(
            sql.SQL("INSERT INTO {}.schema_migrations (number, name, sha256) VALUES (%s, %s, %s)").format(name),
            (migration.number, migration.name, migration.sha256),
        )
