"""The database: pool, errors and migrations, on a real PostgreSQL."""

import asyncio
import socket
import time

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, pool_async
from psycopg_pool.pool_async import AddConnection
from sage_local.ports import free_port
from sage_runtime.errors import Reason, SageError
from sage_runtime.postgres import MigrationError, migrate, open_pool, ping, store_errors
from support.waiting import until_turned


@pytest.fixture
def dsn(make_database):
    """Return the DSN of an empty database."""
    return make_database()


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two migrations: one with two statements, a function body and a percent sign."""
    (tmp_path / "0001_videos.sql").write_text(
        "CREATE TABLE video (id text PRIMARY KEY);\n"
        "CREATE FUNCTION share() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN format('%s%%', 5); END $$;"
    )
    (tmp_path / "0002_label.sql").write_text("ALTER TABLE video ADD COLUMN label text NOT NULL DEFAULT 'é';")
    (tmp_path / "README.md").write_text("not a migration")
    return tmp_path


def _query(dsn, query):
    with psycopg.connect(dsn) as connection:
        return connection.execute(sql.SQL(query)).fetchall()


def _applied(dsn):
    return _query(dsn, "SELECT number, name FROM ingest.schema_migrations ORDER BY number")


async def test_migrations_are_applied_once_and_in_order(dsn, folder):
    migrate(dsn, schema="ingest", migrations=folder)
    before = _query(dsn, "SELECT applied_at FROM ingest.schema_migrations")
    migrate(dsn, schema="ingest", migrations=folder)
    assert _applied(dsn) == [(1, "videos"), (2, "label")]
    assert _query(dsn, "SELECT applied_at FROM ingest.schema_migrations") == before
    assert _query(dsn, "SELECT ingest.share()") == [("5%",)]


async def test_a_database_that_is_not_utf_8_is_refused_and_left_alone(dsn, folder):
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = f"{connection.info.dbname}_latin"
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").format(sql.Identifier(name))
        )
    latin = dsn.rpartition("/")[0] + f"/{name}"
    with pytest.raises(MigrationError, match=f"encoding of database {name} is LATIN1, and SAGE needs UTF8"):
        migrate(latin, schema="ingest", migrations=folder)
    assert _query(latin, "SELECT to_regnamespace('ingest')::text") == [(None,)]


async def test_after_a_long_outage_the_pool_reconnects_within_seconds(monkeypatch):
    pauses = []
    schedule_task = AsyncConnectionPool.schedule_task

    async def run_at_once(pool, task, delay):
        if not isinstance(task, AddConnection):
            await schedule_task(pool, task, delay)
            return
        pauses.append(delay)
        if sum(pauses) < 300:
            now.append(now[-1] + delay)
            pool.run_task(task)

    now = [0.0]
    monkeypatch.setattr(pool_async, "monotonic", lambda: now[-1])
    monkeypatch.setattr(AsyncConnectionPool, "schedule_task", run_at_once)
    pool = await open_pool(f"postgresql://127.0.0.1:{free_port()}/none", schema="ingest")
    try:
        await until_turned(lambda: pool.get_stats()["pool_size"] == 0 or sum(pauses) >= 300)
    finally:
        await pool.close()
    assert pauses
    assert sum(pauses) <= 5


async def test_new_migration_is_applied_to_an_old_schema(dsn, folder):
    migrate(dsn, schema="ingest", migrations=folder)
    (folder / "0003_size.sql").write_text("ALTER TABLE video ADD COLUMN size_bytes bigint;")
    migrate(dsn, schema="ingest", migrations=folder)
    assert _applied(dsn)[-1] == (3, "size")


async def test_schemas_do_not_touch_each_other(dsn, folder):
    migrate(dsn, schema="ingest", migrations=folder)
    migrate(dsn, schema="embed", migrations=folder)
    assert _query(dsn, "SELECT schemaname::text FROM pg_tables WHERE tablename = 'video' ORDER BY 1") == [
        ("embed",),
        ("ingest",),
    ]


async def test_concurrent_migrations_apply_each_file_once(dsn, folder):
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(asyncio.to_thread(migrate, dsn, schema="ingest", migrations=folder))
    assert _applied(dsn) == [(1, "videos"), (2, "label")]


async def test_failing_migration_is_rolled_back_and_earlier_ones_remain(dsn, folder):
    broken = folder / "0003_broken.sql"
    broken.write_text("CREATE TABLE half (id text); SELECT 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(dsn, schema="ingest", migrations=folder)
    assert _applied(dsn) == [(1, "videos"), (2, "label")]
    broken.write_text("CREATE TABLE half (id text);")
    migrate(dsn, schema="ingest", migrations=folder)
    assert _applied(dsn)[-1] == (3, "broken")


async def test_changed_migration_is_refused(dsn, folder):
    migrate(dsn, schema="ingest", migrations=folder)
    (folder / "0001_videos.sql").write_text("CREATE TABLE film (id text);")
    (folder / "0003_size.sql").write_text("ALTER TABLE video ADD COLUMN size_bytes bigint;")
    with pytest.raises(MigrationError, match=r"0001_videos was changed after it was applied to schema ingest"):
        migrate(dsn, schema="ingest", migrations=folder)
    assert len(_applied(dsn)) == 2


async def test_database_of_a_newer_release_is_refused(dsn, folder):
    migrate(dsn, schema="ingest", migrations=folder)
    (folder / "0002_label.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_label, which this release does not know"):
        migrate(dsn, schema="ingest", migrations=folder)


@pytest.mark.parametrize("name", ["0004_gap.sql", "0002_twice.sql", "3_short.sql", "0003-dash.sql"])
async def test_wrongly_numbered_files_are_refused_before_any_is_applied(dsn, folder, name):
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError):
        migrate(dsn, schema="ingest", migrations=folder)
    assert _query(dsn, "SELECT to_regnamespace('ingest')::text") == [(None,)]


async def test_role_that_owns_its_schema_can_migrate_without_other_privileges(dsn, folder):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS sage_test_ingest")
        connection.execute("CREATE ROLE sage_test_ingest LOGIN PASSWORD 'test'")
        connection.execute("CREATE SCHEMA ingest AUTHORIZATION sage_test_ingest")
    role = psycopg.conninfo.make_conninfo(dsn, user="sage_test_ingest", password="test")
    migrate(role, schema="ingest", migrations=folder)
    assert len(_applied(role)) == 2


async def test_pool_uses_its_schema_and_returns_dicts(dsn, folder):
    migrate(dsn, schema="ingest", migrations=folder)
    async with await open_pool(dsn, schema="ingest") as pool:
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO video (id) VALUES ('video_1')")
            await connection.rollback()
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO video (id) VALUES ('video_2')")
        async with pool.connection() as connection:
            rows = await (await connection.execute("SELECT id, label FROM video")).fetchall()
            limit = await (await connection.execute("SHOW statement_timeout")).fetchone()
    assert rows == [{"id": "video_2", "label": "é"}]
    assert limit == {"statement_timeout": "30s"}


async def test_cancellation_while_a_connection_becomes_free_is_not_lost(dsn):
    async def hold():
        async with pool.connection():
            await asyncio.Event().wait()

    async with await open_pool(dsn, schema="ingest", max_size=1) as pool:
        for turns in range(12):
            async with pool.connection():
                holding = asyncio.create_task(hold())
                while not pool.get_stats()["requests_waiting"]:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            holding.cancel()
            done, _ = await asyncio.wait([holding], timeout=5)
            # A second cancellation is not lost: the pool must be intact at the end of the test.
            holding.cancel()
            assert done, (
                f"it continues although it was cancelled {turns} turns of the loop after a connection became free"
            )
        await ping(pool)


async def test_a_pause_of_the_process_is_not_an_outage_of_the_database(dsn):
    async with await open_pool(dsn, schema="ingest", max_size=1) as pool:
        pool.timeout = 0.5
        async with pool.connection():
            waiting = asyncio.create_task(ping(pool))
            while not pool.get_stats()["requests_waiting"]:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            time.sleep(1)  # noqa: ASYNC251 - the whole process stands still
            await asyncio.sleep(0)  # The timers come first.
        await waiting


async def test_pool_recovers_from_lost_connections(dsn):
    async with await open_pool(dsn, schema="ingest", max_size=1) as pool:
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT pg_backend_pid() AS pid")).fetchone()
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (row["pid"],))
        await ping(pool)


async def test_unreachable_database_is_store_unavailable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dsn = f"postgresql://sage:hunter2@127.0.0.1:{taken.getsockname()[1]}/sage"
        async with await open_pool(dsn, schema="ingest") as pool:
            pool.timeout = 0.2
            with pytest.raises(SageError) as error, store_errors():
                await ping(pool)
    assert (error.value.reason, error.value.facts) == (Reason.STORE_UNAVAILABLE, {"store": "database"})
    assert "hunter2" not in error.value.detail


async def test_statement_that_times_out_is_store_unavailable(dsn):
    dsn = psycopg.conninfo.make_conninfo(dsn, options="-c statement_timeout=50ms")
    async with await open_pool(dsn, schema="ingest") as pool:
        with pytest.raises(SageError) as error, store_errors():
            async with pool.connection() as connection:
                await connection.execute("SELECT pg_sleep(10)")
    assert error.value.reason is Reason.STORE_UNAVAILABLE


async def _error_of(dsn, *statements):
    """Return the error that the last of the statements becomes."""
    with pytest.raises(SageError) as raised:
        await _execute(dsn, *statements)
    return raised.value


async def _execute(dsn, *statements):
    with store_errors():
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            for statement in statements:
                await connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("sqlstate", "reason"),
    [("53100", Reason.STORE_FULL), ("42501", Reason.STORE_FORBIDDEN), ("53300", Reason.STORE_UNAVAILABLE)],
)
async def test_database_without_room_or_permission_is_named_as_such(dsn, sqlstate, reason):
    error = await _error_of(dsn, f"DO $$ BEGIN RAISE EXCEPTION 'it says so' USING ERRCODE = '{sqlstate}'; END $$")
    assert error.reason is reason


async def test_missing_privilege_is_named(dsn):
    error = await _error_of(
        dsn,
        "CREATE TABLE public.secret (id integer)",
        "CREATE ROLE without_privileges",
        "SET LOCAL ROLE without_privileges",
        "SELECT * FROM public.secret",
    )
    assert error.reason is Reason.STORE_FORBIDDEN
    assert error.facts == {"store": "database", "why": "permission denied for table secret"}


async def test_other_database_errors_pass(dsn):
    async with await open_pool(dsn, schema="ingest") as pool:
        with pytest.raises(psycopg.errors.UndefinedTable), store_errors():
            async with pool.connection() as connection:
                await connection.execute("SELECT * FROM nothing")


async def test_schema_name_must_be_an_identifier(dsn):
    with pytest.raises(ValueError, match="schema"):
        await open_pool(dsn, schema="ingest -c role=postgres")
