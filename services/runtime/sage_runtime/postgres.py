"""PostgreSQL: the connection pool, its errors, and migrations."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

import psycopg
import psycopg_pool
import structlog
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from sage_runtime.errors import Reason, SageError

_Connection = psycopg.AsyncConnection[dict[str, Any]]
Pool = psycopg_pool.AsyncConnectionPool[_Connection]

_CONNECT_TIMEOUT_S = 5
_WAIT_FOR_CONNECTION_S = 5.0
# The part of that wait which comes after its first end.
_SECOND_WAIT = 0.2
# The pool doubles its pause after each failed attempt to connect until this time has passed; the next call then starts
# over. With the default of 300 s the database could be back for two minutes before the pool noticed.
_RECONNECT_TIMEOUT_S = 5.0
_MAX_WAITING = 500


class _PatientPool(Pool):
    """A pool in which waiting for a connection can be cancelled at any time, and outlasts a pause of the process."""

    async def getconn(self, timeout: float | None = None) -> _Connection:  # noqa: ASYNC109 - the base class has it
        """See the base class.

        It waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that arrives together with the
        result. The cancelled task then continues, and code that waits for it to end waits forever.

        It waits in two parts: when a process was stopped for longer than the timeout (a paused virtual machine, a
        starved node), every timer has expired when it runs again, although the database is there.
        """
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        timeout = self.timeout if timeout is None else timeout
        try:
            connection = await super().getconn(timeout * (1 - _SECOND_WAIT))
        except psycopg_pool.PoolTimeout:
            connection = await super().getconn(timeout * _SECOND_WAIT)
        if task and task.cancelling() > cancelled_before:
            await self.putconn(connection)
            raise asyncio.CancelledError
        return connection


async def open_pool(dsn: str, *, schema: str, min_size: int = 1, max_size: int = 10) -> Pool:
    """Return an open pool of connections with `search_path` set to `schema` and rows as dicts. The caller closes it.

    It does not wait for the database: a service starts without it, reports NOT_SERVING, and serves once the database
    is up. Connections are tested before use, so that a restart of the database causes no errors. Statements time out
    after 30 s and idle transactions after 60 s, unless the `options` of the DSN say otherwise.

    Raises:
        ValueError: `schema` is not a plain identifier.
        psycopg.ProgrammingError: `dsn` is not a connection string.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", schema):
        raise ValueError(f"{schema!r} is not a valid schema name")
    options = (
        f"-c search_path={schema} -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s "
        f"{conninfo_to_dict(dsn).get('options') or ''}"
    )
    pool = _PatientPool(
        dsn,
        connection_class=_Connection,
        kwargs={"row_factory": dict_row, "options": options.strip(), "connect_timeout": _CONNECT_TIMEOUT_S},
        min_size=min_size,
        max_size=max_size,
        timeout=_WAIT_FOR_CONNECTION_S,
        max_waiting=_MAX_WAITING,
        reconnect_timeout=_RECONNECT_TIMEOUT_S,
        check=Pool.check_connection,
        name=schema,
        open=False,
    )
    await pool.open()
    return pool


async def ping(pool: Pool) -> None:
    """Check that the database responds, for the health check of a service that needs it.

    Raises:
        psycopg.OperationalError: It does not.
    """
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")


@contextlib.contextmanager
def store_errors(store: str = "database") -> Iterator[None]:
    """Translate errors of the database that are not the request's fault. Other errors pass through.

    A full disk is STORE_FULL, a missing privilege STORE_FORBIDDEN. Other OperationalErrors are STORE_UNAVAILABLE: lost
    connections, an exhausted pool, statements that timed out, deadlocks and serialization failures, all of which may
    succeed when retried.
    """
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise SageError(Reason.STORE_FULL, detail=str(error), store=store, why="its disk is full") from error
    except psycopg.errors.InsufficientPrivilege as error:
        # PostgreSQL's sentence names the table or schema, and no value.
        why = error.diag.message_primary or "a privilege is missing"
        raise SageError(Reason.STORE_FORBIDDEN, detail=str(error), store=store, why=why) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise SageError(Reason.STORE_UNAVAILABLE, detail=detail, store=store) from error


log: structlog.stdlib.BoundLogger = structlog.get_logger()

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_LOCK_TIMEOUT = "60s"


class MigrationError(Exception):
    """The database does not match the migrations of this release. The message says why and what to do."""


@dataclass(frozen=True)
class Migration:
    """One file.

    Attributes:
        number: Its position, from 1.
        name: What follows the number in the file's name.
        text: The SQL.
    """

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The checksum that reveals whether a file was changed after it was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def migrate(dsn: str, *, schema: str, migrations: Traversable) -> None:
    """Bring `schema` up to date. Safe to run in several processes at once.

    Args:
        dsn: The database, as a role that owns the schema or may create it.
        schema: Created if it does not exist. Its table `schema_migrations` records what was applied.
        migrations: The folder of `NNNN_name.sql` files, numbered from 0001 without gaps. Statements run with
            `search_path` set to the schema.

    Raises:
        MigrationError: The database's encoding is not UTF-8, a file was changed after it was applied, the database is
            from a newer release, or the files are numbered wrongly. Nothing was changed.
        psycopg.Error: The database cannot be reached, or a file fails; the files before it stay applied.
    """
    files = read_migrations(migrations)
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        _check_encoding(connection)
        connection.execute(sql.SQL("SET lock_timeout = {}").format(_LOCK_TIMEOUT))
        # Held until the connection closes. The number must be the same for every process that migrates this schema.
        connection.execute("SELECT pg_advisory_lock(hashtext('sage.migrate'), hashtext(%s))", (schema,))
        _prepare(connection, schema)
        for migration in _pending(connection, schema, files):
            _apply(connection, schema, migration)
            log.info("migration_applied", schema=schema, migration=str(migration))


def read_migrations(folder: Traversable) -> list[Migration]:
    """Return the migrations of a folder in order.

    Raises:
        MigrationError: A number is missing or used twice, or a file is not named `NNNN_name.sql`.
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


def _check_encoding(connection: psycopg.Connection) -> None:
    """Refuse a database that could not store the name of every film."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = connection.info.dbname
        raise MigrationError(
            f"The encoding of database {name} is {encoding}, and SAGE needs UTF8. Create it again with: "
            f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"
        )


def _prepare(connection: psycopg.Connection, schema: str) -> None:
    name = sql.Identifier(schema)
    # IF NOT EXISTS requires the privilege to create schemas even if there is nothing to create.
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
                "A newer release applied it: run that release, or restore a backup from before it."
            )
        if sha256 != files[number - 1].sha256:
            raise MigrationError(
                f"Migration {files[number - 1]} was changed after it was applied to schema {schema}. "
                "Restore the file and make the change in a new migration."
            )
    return files[len(applied) :]


def _apply(connection: psycopg.Connection, schema: str, migration: Migration) -> None:
    name = sql.Identifier(schema)
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL search_path = {}").format(name))
        # As bytes and without parameters, a file may contain several statements and percent signs.
        connection.execute(migration.text.encode())
        connection.execute(
            sql.SQL("INSERT INTO {}.schema_migrations (number, name, sha256) VALUES (%s, %s, %s)").format(name),
            (migration.number, migration.name, migration.sha256),
        )
