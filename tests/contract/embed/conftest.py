"""The stores that the contract holds for: the fake and PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from fakes.embed import InMemoryEmbeddingStore
from sage_embed.adapters.embeddings import PostgresEmbeddingStore
from sage_embed.adapters.queue import JobQueue
from sage_embed.adapters.schema import migrate_all
from sage_embed.adapters.work import PostgresWorkStore
from sage_embed.config import SCHEMA
from sage_embed.ports import EmbeddingStore, WorkStore
from sage_runtime.postgres import Pool, open_pool


@dataclass(frozen=True)
class Stores:
    """A store from both sides.

    Attributes:
        api: As the API uses it.
        work: As a worker uses it.
        job_of: Returns the job that may write to an embedding.
        lose: Makes the worker of a job one that died.
    """

    api: EmbeddingStore
    work: WorkStore
    job_of: Callable[[str], Awaitable[int]]
    lose: Callable[[int], Awaitable[None]]


@pytest.fixture(scope="session")
def embed_dsn(make_database) -> str:
    """Return a database with embed's schema."""
    dsn = make_database()
    migrate_all(dsn, schema=SCHEMA)
    return dsn


@pytest.fixture
async def pool(embed_dsn) -> AsyncIterator[Pool]:
    """Return connections to a database with embed's schema and nothing in it."""
    async with await open_pool(embed_dsn, schema=SCHEMA) as pool:
        async with pool.connection() as connection:
            await connection.execute("TRUNCATE embeddings, procrastinate_jobs, procrastinate_workers CASCADE")
        yield pool


@pytest.fixture
def postgres_stores(pool) -> Stores:
    """Return the store over PostgreSQL."""
    queue = JobQueue()

    async def job_of(embedding_id: str) -> int:
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT job_id FROM embeddings WHERE id = %s", (embedding_id,))
            row = await cursor.fetchone()
        assert row is not None
        return row["job_id"]

    async def lose(job_id: int) -> None:
        async with pool.connection() as connection:
            await connection.execute(
                "WITH worker AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')"
                " RETURNING id) UPDATE procrastinate_jobs SET status = 'doing', worker_id = worker.id FROM worker "
                "WHERE procrastinate_jobs.id = %s",
                (job_id,),
            )

    return Stores(PostgresEmbeddingStore(pool, queue), PostgresWorkStore(pool, queue), job_of, lose)


@pytest.fixture
def memory_stores() -> Stores:
    """Return the store in memory."""
    store = InMemoryEmbeddingStore()

    async def job_of(embedding_id: str) -> int:
        return store.job_of(embedding_id)

    async def lose(job_id: int) -> None:
        store.lost_jobs.add(job_id)

    return Stores(store, store, job_of, lose)


@pytest.fixture(params=["memory", "postgres"])
def stores(request) -> Stores:
    """Return each store in turn."""
    return request.getfixturevalue(f"{request.param}_stores")


@pytest.fixture
def count_jobs(pool) -> Callable[[], Awaitable[dict[str, int]]]:
    """Return how many jobs there are in the queue, by status."""

    async def count() -> dict[str, int]:
        async with pool.connection() as connection:
            query = "SELECT status::text AS status, count(*) AS n FROM procrastinate_jobs GROUP BY status"
            rows = await (await connection.execute(query)).fetchall()
        return {row["status"]: row["n"] for row in rows}

    return count
