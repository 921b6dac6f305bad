"""The repositories that the contract tests run against: the fake and PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from fakes.embedding_repository import FakeEmbeddingRepository
from sage_embed.config import SCHEMA
from sage_embed.embeddings.model import Video
from sage_embed.embeddings.ports import EmbeddingRepository, WorkRepository
from sage_embed.embeddings.postgres import PostgresEmbeddingRepository
from sage_embed.fingerprints.postgres import PostgresFingerprintRepository, PostgresFingerprintSweep
from sage_embed.fingerprints.postgres_work import PostgresFingerprintWork
from sage_embed.jobs.postgres import PostgresWorkRepository
from sage_embed.jobs.queue import JobQueue, migrate_all
from sage_runtime.api import new_id
from sage_runtime.postgres import Pool, open_pool
from support.fingerprint_repositories import Fingerprints, plan

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Repositories:
    """Both repositories of the same embeddings.

    Attributes:
        api: As the API uses them.
        work: As a worker uses them.
        job_of: Returns the ID of the job that owns an embedding.
        lose: Makes the worker of a job count as dead.
    """

    api: EmbeddingRepository
    work: WorkRepository
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
    """Return connections to a database with embed's empty schema."""
    async with await open_pool(embed_dsn, schema=SCHEMA) as pool:
        async with pool.connection() as connection:
            await connection.execute(
                "TRUNCATE embeddings, fingerprints, fingerprint_objects, procrastinate_jobs, procrastinate_workers "
                "CASCADE"
            )
        yield pool


@pytest.fixture
def postgres_repositories(pool) -> Repositories:
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

    return Repositories(PostgresEmbeddingRepository(pool, queue), PostgresWorkRepository(pool, queue), job_of, lose)


@pytest.fixture
def fake_repositories() -> Repositories:
    repository = FakeEmbeddingRepository()

    async def job_of(embedding_id: str) -> int:
        return repository.job_of(embedding_id)

    async def lose(job_id: int) -> None:
        repository.lost_jobs.add(job_id)

    return Repositories(repository, repository, job_of, lose)


@pytest.fixture(params=["fake", "postgres"])
def repositories(request) -> Repositories:
    """Return the fake repositories, then those over PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_repositories")


@pytest.fixture
def count_jobs(pool) -> Callable[..., Awaitable[dict[str, int]]]:
    """Return a function that counts the jobs of one kind of work in the queue by status."""

    async def count(task: str = "embed") -> dict[str, int]:
        async with pool.connection() as connection:
            query = (
                "SELECT status::text AS status, count(*) AS n FROM procrastinate_jobs "
                "WHERE task_name = %s GROUP BY status"
            )
            rows = await (await connection.execute(query, (task,))).fetchall()
        return {row["status"]: row["n"] for row in rows}

    return count


@pytest.fixture
def postgres_fingerprints(pool) -> Fingerprints:
    queue = JobQueue()

    async def job_of(video_id: str) -> int:
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT job_id FROM fingerprints WHERE id = %s", (video_id,))
            row = await cursor.fetchone()
        assert row is not None
        return row["job_id"]

    async def make_older(video_id: str) -> None:
        async with pool.connection() as connection:
            # The version of the code is the first there is.
            await connection.execute("ALTER TABLE fingerprints DROP CONSTRAINT IF EXISTS fingerprints_version_check")
            await connection.execute("UPDATE fingerprints SET version = version - 1 WHERE id = %s", (video_id,))

    async def embed(video: Video) -> None:
        repository = PostgresEmbeddingRepository(pool, queue)
        await repository.create(new_id("embed"), plan(video), request_id="", fingerprint="")

    async def discarded() -> list[str]:
        async with pool.connection() as connection:
            await connection.execute("UPDATE fingerprint_objects SET remove_time = now() WHERE remove_time IS NOT NULL")
        return sorted(await PostgresFingerprintSweep(pool, queue).claim_discarded(again_after=HOUR, limit=99))

    async def lose(job_id: int) -> None:
        async with pool.connection() as connection:
            await connection.execute("DELETE FROM procrastinate_jobs WHERE id = %s", (job_id,))

    api, work = PostgresFingerprintRepository(pool, queue), PostgresFingerprintWork(pool, queue)
    return Fingerprints(api, work, job_of, make_older, embed, discarded, lose)
