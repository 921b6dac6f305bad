"""PostgreSQL: the connection pool and its errors. Migrations are in `sage_runtime.migrations`."""

import asyncio
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

_Connection = psycopg.AsyncConnection[dict[str, Any]]
Pool = psycopg_pool.AsyncConnectionPool[_Connection]

_CONNECT_TIMEOUT_S = 5
_WAIT_FOR_CONNECTION_S = 5.0
_MAX_WAITING = 500


class _CancellablePool(Pool):
    """A pool in which whoever waits for a connection can be cancelled in every moment."""

    async def getconn(self, timeout: float | None = None) -> _Connection:  # noqa: ASYNC109 - the base class has it
        """See the base class.

        It waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes together with what it
        waits for. What should end then goes on, and whoever waits for its end waits for ever.
        """
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        connection = await super().getconn(timeout)
        if task and task.cancelling() > cancelled_before:
            await self.putconn(connection)
            raise asyncio.CancelledError
        return connection


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
    pool = _CancellablePool(
        dsn,
        connection_class=_Connection,
        kwargs={"row_factory": dict_row, "options": options.strip(), "connect_timeout": _CONNECT_TIMEOUT_S},
        min_size=min_size,
        max_size=max_size,
        timeout=_WAIT_FOR_CONNECTION_S,
        max_waiting=_MAX_WAITING,
        check=Pool.check_connection,
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
