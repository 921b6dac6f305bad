"""What only the store over PostgreSQL has: the queue beside the rows, its errors, its migrations, its notifications."""

import asyncio
import importlib.resources
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from fakes.embed import DIMENSIONS
from psycopg.rows import dict_row
from sage_embed.adapters import schema
from sage_embed.adapters.changes import PostgresChangeFeed
from sage_embed.adapters.embeddings import PostgresEmbeddingStore
from sage_embed.adapters.queue import JobQueue
from sage_embed.adapters.rows import to_embedding
from sage_embed.config import SCHEMA
from sage_embed.model import Plan, Video
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id
from sage_runtime.migrations import migrate
from sage_runtime.postgres import open_pool

PLAN = Plan(
    video=Video(new_id("video"), duration_seconds=9.5, start_offset_seconds=0.0),
    model="scripted",
    model_revision="1",
    provider="tests",
    dimensions=DIMENSIONS,
    clip_seconds=2.0,
    tracks=("visual",),
)


async def create(stores, request_id: str = "") -> str:
    """Create an embedding and return its id."""
    embedding = await stores.api.create(new_id("embed"), PLAN, request_id=request_id, fingerprint="f")
    return embedding.id


async def test_the_job_is_queued_in_the_callers_transaction(pool, count_jobs):
    """A job that was put into the queue by a transaction that is rolled back was never there."""
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        assert await JobQueue().put(connection, new_id("embed"), provider="local") > 0
    assert await count_jobs() == {}


async def test_neither_row_nor_job_without_the_other(postgres_stores, pool, count_jobs):
    """Where the row cannot be stored, no job is left in the queue."""
    async with pool.connection() as connection:
        await connection.execute("ALTER TABLE tracks ADD CONSTRAINT broken CHECK (name <> 'visual')")
    try:
        with pytest.raises(psycopg.errors.CheckViolation):
            await create(postgres_stores)
    finally:
        async with pool.connection() as connection:
            await connection.execute("ALTER TABLE tracks DROP CONSTRAINT broken")
    assert await count_jobs() == {}
    assert await postgres_stores.api.count_unfinished() == 0


@pytest.mark.parametrize(("provider", "queue"), [("local", "local"), ("twelvelabs", "remote")])
async def test_work_waits_in_the_queue_of_its_kind(postgres_stores, pool, provider, queue):
    """What is computed here and what a provider computes have queues of their own, and stay in them when requeued."""

    async def queues() -> list[str]:
        async with pool.connection() as connection:
            rows = await (await connection.execute("SELECT queue_name FROM procrastinate_jobs")).fetchall()
        return [row["queue_name"] for row in rows]

    plan = replace(PLAN, provider=provider)
    created = await postgres_stores.api.create(new_id("embed"), plan, request_id="", fingerprint="f")
    assert await queues() == [queue]
    job_id = await postgres_stores.job_of(created.id)
    await postgres_stores.work.requeue(
        created.id, job_id, delay=timedelta(0), message="Again.", counts_as_attempt=False
    )
    assert await queues() == [queue, queue]


async def test_one_request_id_queues_one_job(postgres_stores, count_jobs):
    """Calls at once under one request id leave one job, not one each."""
    await asyncio.gather(*(create(postgres_stores, "same") for _ in range(8)))
    assert await count_jobs() == {"todo": 1}


@pytest.mark.parametrize("end", ["cancel", "delete"])
async def test_work_that_waits_leaves_the_queue(postgres_stores, count_jobs, end):
    """Cancelling and deleting take the job out of the queue with them."""
    embedding_id = await create(postgres_stores)
    await getattr(postgres_stores.api, end)(embedding_id)
    assert await count_jobs() == {}


async def test_dead_jobs_are_dropped_and_live_work_is_not(postgres_stores, count_jobs):
    """The job of a dead worker goes once its work has a new one; before that it stays."""
    silent_for = timedelta(seconds=60)
    embedding_id = await create(postgres_stores)
    old_job = await postgres_stores.job_of(embedding_id)
    await postgres_stores.lose(old_job)
    await postgres_stores.work.drop_dead_jobs(silent_for=silent_for)
    assert await count_jobs() == {"doing": 1}
    await postgres_stores.work.requeue(
        embedding_id, old_job, delay=timedelta(0), message="Again.", counts_as_attempt=True
    )
    await postgres_stores.work.drop_dead_jobs(silent_for=silent_for)
    assert await count_jobs() == {"todo": 1}


async def test_work_whose_job_is_gone_is_lost(postgres_stores, pool):
    """An unfinished embedding without any job in the queue is found, so that nothing waits for ever."""
    embedding_id = await create(postgres_stores)
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM procrastinate_jobs")
    found = await postgres_stores.work.lost(silent_for=timedelta(seconds=60), limit=10)
    assert [embedding.id for embedding, _ in found] == [embedding_id]


async def test_a_database_that_is_away_is_store_unavailable():
    """Without a database every method says so in a way that may be tried again."""
    async with await open_pool("postgresql://127.0.0.1:1/none", schema=SCHEMA) as pool:
        pool.timeout = 0.1
        store = PostgresEmbeddingStore(pool, JobQueue())
        for call in (
            store.get(new_id("embed")),
            store.create(new_id("embed"), PLAN, request_id="", fingerprint="f"),
        ):
            with pytest.raises(SageError) as caught:
                await call
            assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_lost_connection_while_queueing_is_store_unavailable(pool):
    """The queue's own errors come out as the database's, for the caller to translate."""
    async with pool.connection() as connection:
        await connection.close()
        with pytest.raises(psycopg.OperationalError):
            await JobQueue().put(connection, new_id("embed"), provider="local")


async def test_the_feed_tells_of_changes_and_of_nothing_else(embed_dsn, postgres_stores):
    """A subscription wakes at a change of its embedding, not at another's, and is gone when its block ends."""
    watched, other = await create(postgres_stores), await create(postgres_stores)
    feed = PostgresChangeFeed(embed_dsn, max_subscriptions=1)
    async with feed.running():
        with feed.subscribe(watched) as subscription:
            # The feed wakes everybody when it begins to listen.
            await subscription.wait(5)
            await postgres_stores.api.cancel(other)
            started = asyncio.get_running_loop().time()
            await subscription.wait(0.2)
            assert asyncio.get_running_loop().time() - started > 0.15
            await postgres_stores.api.cancel(watched)
            await subscription.wait(30)
            assert asyncio.get_running_loop().time() - started < 5
            with pytest.raises(SageError) as caught, feed.subscribe(other):
                pass
            assert caught.value.reason is Reason.LIMIT_EXCEEDED
    assert feed.subscription_count == 0


async def test_the_feed_connects_again_and_wakes_everybody(embed_dsn, postgres_stores, pool):
    """A feed whose connection was cut listens again, and its watchers look at what they may have missed."""
    embedding_id = await create(postgres_stores)
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
            await postgres_stores.api.cancel(embedding_id)
            await asyncio.wait_for(subscription.wait(60), timeout=10)


def test_embeddings_of_before_keep_their_tracks(make_database, tmp_path):
    """The tracks of embeddings that were made before they were kept apart are those that were asked for."""
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
    """A second run finds everything as it should be."""
    dsn = make_database()
    schema.migrate_all(dsn, schema=SCHEMA)
    before = _tables(dsn)
    schema.migrate_all(dsn, schema=SCHEMA)
    assert _tables(dsn) == before
    assert {"embeddings", "segment_chunks", "procrastinate_jobs"} <= {row["relname"] for row in before}


def test_the_queues_own_migrations_are_applied_when_it_gains_one(make_database, monkeypatch, tmp_path):
    """A newer procrastinate brings a migration: it is applied once, the older ones are not applied again."""
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
