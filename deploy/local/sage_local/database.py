"""The database: one for all services, a schema and a role with its own password for each."""

import psycopg
from psycopg import sql

DATABASE = "sage"
OWNERS = ("ingest", "embed")


async def prepare_database(admin_dsn: str, sage_dsn: str, *, passwords: dict[str, str]) -> None:
    """Make the database, its roles and their schemas, whatever of them is missing.

    Args:
        admin_dsn: The superuser's way into a database that is always there.
        sage_dsn: The superuser's way into the services' database.
        passwords: Each role's password. A role is called as its schema.
    """
    async with await psycopg.AsyncConnection.connect(admin_dsn, autocommit=True) as connection:
        found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if await found.fetchone() is None:
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    async with await psycopg.AsyncConnection.connect(sage_dsn) as connection:
        # Without this a service could leave tables where another finds them.
        await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for name, password in passwords.items():
            await _make_owner(connection, name, password)


async def _make_owner(connection: psycopg.AsyncConnection, name: str, password: str) -> None:
    role = sql.Identifier(name)
    found = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    if await found.fetchone() is None:
        await connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    await connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(role, role))
