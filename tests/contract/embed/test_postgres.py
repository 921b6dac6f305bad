"""Behaviour specific to PostgreSQL: the queue next to the rows, errors, migrations and notifications."""

import asyncio
import importlib.resources
from dataclasses import replace
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from fakes.embed import DIMENSIONS
from psycopg.rows import dict_row
from sage_embed.config import SCHEMA
from sage_embed.embeddings.changes import PostgresChangeFeed
from sage_embed.embeddings.model import Plan, StoredSegments, Video
from sage_embed.embeddings.postgres import PostgresEmbeddingRepository
from sage_embed.embeddings.rows import to_embedding
from sage_embed.jobs import queue as schema
from sage_embed.jobs.queue import EMBED, FIRST_TURN_QUEUES, LOCAL_QUEUES, REMOTE_QUEUES, JobQueue
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError
from sage_runtime.postgres import migrate, open_pool


def make_plan() -> Plan:
    """Return a plan for a new video."""
    return Plan(
        video=Video(new_id("video"), duration_seconds=9.5, start_offset_seconds=0.0),
        model="scripted",
        model_revision="1",
        provider="tests",
        dimensions=DIMENSIONS,
        clip_seconds=2.0,
        tracks=("visual",),
    )


async def create(repositories, request_id: str = "") -> str:
    """Create an embedding and return its ID."""
    embedding = await repositories.api.create(new_id("embed"), make_plan(), request_id=request_id, fingerprint="f")
    return embedding.id


async def test_a_job_is_queued_in_the_callers_transaction(pool, count_jobs):
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        assert await JobQueue().put(connection, EMBED, new_id("embed"), queue="local") > 0
    assert await count_jobs() == {}


async def test_no_job_is_queued_if_the_row_cannot_be_stored(postgres_repositories, pool, count_jobs):
    async with pool.connection() as connection:
        await connection.execute("ALTER TABLE tracks ADD CONSTRAINT broken CHECK (name <> 'visual')")
    try:
        with pytest.raises(psycopg.errors.CheckViolation):
            await create(postgres_repositories)
    finally:
        async with pool.connection() as connection:
            await connection.execute("ALTER TABLE tracks DROP CONSTRAINT broken")
    assert await count_jobs() == {}
    assert await postgres_repositories.api.count_unfinished() == 0


@pytest.mark.parametrize(("provider", "queue"), [("local", "local"), ("twelvelabs", "remote")])
async def test_local_and_remote_work_wait_in_different_queues(postgres_repositories, pool, provider, queue):

    async def queues() -> list[str]:
        async with pool.connection() as connection:
            statement = "SELECT queue_name FROM procrastinate_jobs WHERE task_name = 'embed'"
            rows = await (await connection.execute(statement)).fetchall()
        return [row["queue_name"] for row in rows]

    plan = replace(make_plan(), provider=provider)
    created = await postgres_repositories.api.create(new_id("embed"), plan, request_id="", fingerprint="f")
    assert await queues() == [queue]
    job_id = await postgres_repositories.job_of(created.id)
    await postgres_repositories.work.requeue(
        created.id, job_id, delay=timedelta(0), message="Again.", counts_as_attempt=False
    )
    assert await queues() == [queue, queue]


async def test_work_that_was_begun_waits_in_a_later_queue(postgres_repositories, pool):
    created = await postgres_repositories.api.create(
        new_id("embed"), replace(make_plan(), provider="local"), request_id="", fingerprint="f"
    )
    work, job_id = postgres_repositories.work, await postgres_repositories.job_of(created.id)
    await work.claim(created.id, job_id)
    chunk = StoredSegments(0, np.array([0.0]), np.array([2.0]), bytes(4 * DIMENSIONS))
    await work.append(created.id, job_id, "visual", [chunk], progress=None)
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM procrastinate_jobs")
    assert not await work.others_wait(LOCAL_QUEUES)
    await work.requeue(created.id, job_id, delay=timedelta(0), message="Again.", counts_as_attempt=False)
    assert await work.others_wait(LOCAL_QUEUES)
    assert not await work.others_wait(FIRST_TURN_QUEUES)


async def test_work_that_is_not_due_does_not_wait(postgres_repositories):
    created = await create(postgres_repositories)
    job_id = await postgres_repositories.job_of(created)
    assert await postgres_repositories.work.others_wait(REMOTE_QUEUES)
    await postgres_repositories.work.requeue(
        created, job_id, delay=timedelta(minutes=1), message="Later.", counts_as_attempt=True
    )
    async with postgres_repositories.work._pool.connection() as connection:
        await connection.execute("DELETE FROM procrastinate_jobs WHERE scheduled_at IS NULL")
    assert not await postgres_repositories.work.others_wait(REMOTE_QUEUES)


async def test_one_request_id_queues_one_job(postgres_repositories, count_jobs):
    await asyncio.gather(*(create(postgres_repositories, "same") for _ in range(8)))
    assert await count_jobs() == {"todo": 1}


@pytest.mark.parametrize("end", ["cancel", "delete"])
async def test_ending_waiting_work_removes_its_job(postgres_repositories, count_jobs, end):
    embedding_id = await create(postgres_repositories)
    await getattr(postgres_repositories.api, end)(embedding_id)
    assert await count_jobs() == {}


async def test_jobs_of_dead_workers_are_dropped_once_replaced(postgres_repositories, count_jobs):
    silent_for = timedelta(seconds=60)
    embedding_id = await create(postgres_repositories)
    old_job = await postgres_repositories.job_of(embedding_id)
    await postgres_repositories.lose(old_job)
    await postgres_repositories.work.drop_dead_jobs(silent_for=silent_for)
    assert await count_jobs() == {"doing": 1}
    await postgres_repositories.work.requeue(
        embedding_id, old_job, delay=timedelta(0), message="Again.", counts_as_attempt=True
    )
    await postgres_repositories.work.drop_dead_jobs(silent_for=silent_for)
    assert await count_jobs() == {"todo": 1}


async def test_work_whose_job_is_gone_is_lost(postgres_repositories, pool):
    embedding_id = await create(postgres_repositories)
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM procrastinate_jobs")
    found = await postgres_repositories.work.lost(silent_for=timedelta(seconds=60), limit=10)
    assert [embedding.id for embedding, _ in found] == [embedding_id]


async def test_an_unreachable_database_is_store_unavailable():
    async with await open_pool("postgresql://127.0.0.1:1/none", schema=SCHEMA) as pool:
        pool.timeout = 0.1
        repository = PostgresEmbeddingRepository(pool, JobQueue())
        for call in (
            repository.get(new_id("embed")),
            repository.create(new_id("embed"), make_plan(), request_id="", fingerprint="f"),
        ):
            with pytest.raises(SageError) as caught:
                await call
            assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_lost_connection_while_queueing_raises_psycopgs_error(pool):
    async with pool.connection() as connection:
        await connection.close()
        with pytest.raises(psycopg.OperationalError):
            await JobQueue().put(connection, EMBED, new_id("embed"), queue="local")


async def test_the_feed_reports_changes_of_the_watched_embedding_only(embed_dsn, postgres_repositories):
    watched, other = await create(postgres_repositories), await create(postgres_repositories)
    feed = PostgresChangeFeed(embed_dsn, max_subscriptions=1)
    async with feed.running():
        with feed.subscribe(watched) as subscription:
            # The feed wakes every subscription when it starts to listen.
            await subscription.wait(5)
            await postgres_repositories.api.cancel(other)
            started = asyncio.get_running_loop().time()
            await subscription.wait(0.2)
            assert asyncio.get_running_loop().time() - started > 0.15
            await postgres_repositories.api.cancel(watched)
            await subscription.wait(30)
            assert asyncio.get_running_loop().time() - started < 5
            with pytest.raises(SageError) as caught, feed.subscribe(other):
                pass
            assert caught.value.reason is Reason.LIMIT_EXCEEDED
    assert feed.subscription_count == 0


async def test_the_feed_reconnects_and_wakes_every_subscription(embed_dsn, postgres_repositories, pool):
    embedding_id = await create(postgres_repositories)
    feed = PostgresChangeFeed(embed_dsn, max_subscriptions=10)
    async with feed.running():
        with feed.subscribe(embedding_id) as subscription:
            await subscription.wait(5)
            async with pool.connection() as connection:
                cursor = await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE query LIKE 'LISTEN sage_embedding%' AND datname = current_database()"
                )
                assert cursor.rowcount == 1
            await asyncio.wait_for(subscription.wait(60), timeout=10)
            await postgres_repositories.api.cancel(embedding_id)
            await asyncio.wait_for(subscription.wait(60), timeout=10)


def test_old_embeddings_keep_their_requested_tracks(make_database, tmp_path):
    dsn = make_database()
    ours = importlib.resources.files("sage_embed") / "migrations"
    (tmp_path / "0001_embeddings.sql").write_text((ours / "0001_embeddings.sql").read_text())
    migrate(dsn, schema=SCHEMA, migrations=tmp_path)
    with psycopg.connect(dsn, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute(
            "INSERT INTO embeddings (id, request_fingerprint, video_id, video_duration_seconds, "
            "video_start_offset_seconds, model, model_revision, provider, dimensions, clip_seconds, state, job_id) "
            "VALUES ('embed_1', 'f', 'video_1', 9.5, 0, 'local', '1', 'local', 8, 2, 'PENDING', 1)"
        )
        connection.execute(
            "INSERT INTO tracks (embedding_id, name, position) VALUES ('embed_1', 'visual', 2), ('embed_1', 'audio', 1)"
        )
    schema.migrate_all(dsn, schema=SCHEMA)
    with psycopg.connect(dsn, options=f"-c search_path={SCHEMA}", row_factory=dict_row) as connection:
        (row,) = connection.execute("SELECT * FROM embeddings_with_tracks").fetchall()
    assert to_embedding(row).plan.tracks == ("audio", "visual")
    assert [track.name for track in to_embedding(row).tracks] == ["audio", "visual"]


def test_migrating_again_changes_nothing(make_database):
    dsn = make_database()
    schema.migrate_all(dsn, schema=SCHEMA)
    before = _tables(dsn)
    schema.migrate_all(dsn, schema=SCHEMA)
    assert _tables(dsn) == before
    assert {"embeddings", "segment_chunks", "procrastinate_jobs"} <= {row["relname"] for row in before}


def test_new_migrations_of_procrastinate_are_applied_once(make_database, monkeypatch, tmp_path):
    dsn = make_database()
    schema.migrate_all(dsn, schema=SCHEMA)
    for file in (importlib.resources.files("procrastinate") / "sql" / "migrations").iterdir():
        if file.name.endswith(".sql"):
            (tmp_path / file.name).write_text("SELECT this_must_not_run;")
    (tmp_path / "99.00.00_01_new.sql").write_text("CREATE TABLE procrastinate_news (percent text DEFAULT '%');")
    monkeypatch.setattr(schema.SchemaManager, "get_migrations_path", staticmethod(lambda: str(tmp_path)))
    schema.migrate_all(dsn, schema=SCHEMA)
    schema.migrate_all(dsn, schema=SCHEMA)
    assert "procrastinate_news" in {row["relname"] for row in _tables(dsn)}


def _tables(dsn: str) -> list[dict[str, object]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(
            "SELECT c.oid, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname = %s AND relkind = 'r' ORDER BY relname",
            (SCHEMA,),
        ).fetchall()
