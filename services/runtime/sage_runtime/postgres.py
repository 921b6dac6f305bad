"""PostgreSQL: the connection pool and its errors. Migrations are in `sage_runtime.migrations`."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg_pool
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from sage_runtime.errors import Reason, SageError
from sage_runtime.migrations import MigrationError, migrate

__all__ = ["MigrationError", "Pool", "migrate", "open_pool", "ping", "store_errors"]

Pool = psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[dict[str, Any]]]

_CONNECT_TIMEOUT_S = 5
_WAIT_FOR_CONNECTION_S = 5.0
_MAX_WAITING = 500


async def open_pool(dsn: str, *, schema: str, min_size: int = 1, max_size: int = 10) -> Pool:
    """Return an open pool of connections that look in `schema` and give rows as dicts. The caller closes it.

    It does not wait for the database: a service starts without it, says NOT_SERVING, and serves when it comes. A
    connection is tested before it is handed out, so that a database that was restarted costs nobody an error.
    Statements end after 30 s and forgotten transactions after 60 s, unless the DSN's own `options` say otherwise.

    Raises:
        ValueError: `schema` is not a plain identifier.
        psycopg.ProgrammingError: `dsn` is not a connection string.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", schema):
        raise ValueError(f"{schema!r} is not a schema's name")
    options = (
        f"-c search_path={schema} -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s "
        f"{conninfo_to_dict(dsn).get('options') or ''}"
    )
    pool: Pool = psycopg_pool.AsyncConnectionPool(
        dsn,
        connection_class=psycopg.AsyncConnection[dict[str, Any]],
        kwargs={"row_factory": dict_row, "options": options.strip(), "connect_timeout": _CONNECT_TIMEOUT_S},
        min_size=min_size,
        max_size=max_size,
        timeout=_WAIT_FOR_CONNECTION_S,
        max_waiting=_MAX_WAITING,
        check=psycopg_pool.AsyncConnectionPool.check_connection,
        name=schema,
        open=False,
    )
    await pool.open()
    return pool


async def ping(pool: Pool) -> None:
    """Return when the database answers: the health check of a service that needs it.

    Raises:
        psycopg.OperationalError: It does not.
    """
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")


@contextlib.contextmanager
def store_errors(store: str = "database") -> Iterator[None]:
    """Turn "the database cannot be reached, or not now" into STORE_UNAVAILABLE; other errors pass.

    OperationalError covers lost connections, a pool without a free one, statements that took too long, deadlocks and
    serialization failures: all of them may succeed when tried again.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise SageError(Reason.STORE_UNAVAILABLE, detail=detail, store=store) from error
