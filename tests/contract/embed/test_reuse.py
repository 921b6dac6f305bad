"""Reuse of embeddings: one per recipe, whichever process is called and however many calls are concurrent."""

import asyncio
import importlib.resources
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from fakes.embed import MODEL, InMemoryVideoCatalog, Script, ScriptedEngine
from psycopg.rows import dict_row
from sage.ingest.v1 import media_pb2
from sage_embed import convert
from sage_embed.config import SCHEMA
from sage_embed.embeddings.lifecycle import CreateRequest, create
from sage_embed.embeddings.model import Embedding, Failure, State, Video
from sage_embed.embeddings.ports import EmbeddingRepository
from sage_embed.embeddings.postgres import PostgresEmbeddingRepository
from sage_embed.embeddings.rows import to_embedding
from sage_embed.engines.engine import Engines
from sage_embed.jobs.queue import JobQueue, migrate_all
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError
from sage_runtime.postgres import migrate, open_pool

VIDEO = Video(new_id("video"), duration_seconds=9.5, start_offset_seconds=0.0)
OTHER = replace(VIDEO, id=new_id("video"))


@pytest.fixture
def request_from(tmp_path) -> Callable:
    """Return a function that requests an embedding from a repository, and returns it and whether it was reused."""
    videos = InMemoryVideoCatalog(VIDEO, OTHER)

    async def call(
        repository: EmbeddingRepository, *, revision: str = "1", max_unfinished: int = 100, **fields: object
    ) -> tuple[Embedding, bool]:
        engine = ScriptedEngine(Script(tmp_path), model=replace(MODEL, revision=revision))
        return await create(
            CreateRequest(**{"video_id": VIDEO.id, **fields}),
            repository=repository,
            videos=videos,
            engines=Engines([engine]),
            max_unfinished=max_unfinished,
        )

    return call


@pytest.fixture
def request_embedding(repositories, request_from) -> Callable:
    """Return the function for the repository under test."""
    return partial(request_from, repositories.api)


@pytest.fixture
def finish(repositories) -> Callable:
    """Return a function that completes an embedding, or fails or cancels or deletes it."""

    async def call(embedding: Embedding, end: str) -> None:
        job_id = await repositories.job_of(embedding.id)
        match end:
            case "complete":
                await repositories.work.claim(embedding.id, job_id)
                await repositories.work.complete(embedding.id, job_id, "Done.")
            case "fail":
                await repositories.work.fail(embedding.id, job_id, Failure(Reason.PROVIDER_FAILED, "No."))
            case "cancel":
                await repositories.api.cancel(embedding.id)
            case "delete":
                await repositories.api.delete(embedding.id)

    return call


async def test_the_same_recipe_is_reused_while_pending_processing_and_completed(
    repositories, request_embedding, finish
):
    first, reused = await request_embedding()
    assert not reused
    assert await request_embedding() == (first, True)
    await repositories.work.claim(first.id, await repositories.job_of(first.id))
    processing, reused = await request_embedding()
    assert (processing.id, reused) == (first.id, True)
    await finish(first, "complete")
    completed, reused = await request_embedding()
    assert (completed.id, reused) == (first.id, True)


@pytest.mark.parametrize("end", ["fail", "cancel", "delete"])
async def test_a_failed_cancelled_or_deleted_embedding_is_not_reused(request_embedding, finish, end):
    first, _ = await request_embedding()
    await finish(first, end)
    second, reused = await request_embedding()
    assert second.id != first.id
    assert not reused
    assert await request_embedding() == (second, True)


async def test_work_that_was_requeued_is_still_reused(repositories, request_embedding):
    first, _ = await request_embedding()
    job_id = await repositories.job_of(first.id)
    await repositories.work.requeue(first.id, job_id, delay=timedelta(0), message="Again.", counts_as_attempt=True)
    again, reused = await request_embedding()
    assert (again.id, reused) == (first.id, True)


@pytest.mark.parametrize(
    "difference", [{"video_id": OTHER.id}, {"clip_seconds": 3}, {"tracks": ("audio", "visual")}, {"revision": "2"}]
)
async def test_a_different_recipe_is_not_reused(request_embedding, difference):
    first, _ = await request_embedding()
    second, reused = await request_embedding(**difference)
    assert second.id != first.id
    assert not reused


async def test_defaults_and_the_order_of_tracks_make_no_difference(request_embedding):
    first, _ = await request_embedding()
    assert await request_embedding(model="scripted", clip_seconds=2.0, tracks=("visual",)) == (first, True)
    both, _ = await request_embedding(tracks=("visual", "audio"))
    assert both.plan.tracks == ("audio", "visual")
    assert await request_embedding(tracks=("audio", "visual")) == (both, True)


@pytest.mark.parametrize("end", ["", "complete"])
async def test_a_forced_embedding_replaces_the_one_before(request_embedding, finish, end):
    first, _ = await request_embedding()
    await finish(first, end)
    forced, reused = await request_embedding(force=True)
    assert forced.id != first.id
    assert not reused
    assert await request_embedding() == (forced, True)


async def test_the_embedding_before_a_forced_one_is_never_reused_again(request_embedding, finish):
    first, _ = await request_embedding()
    await finish(first, "complete")
    forced, _ = await request_embedding(force=True)
    await finish(forced, "fail")
    third, reused = await request_embedding()
    assert third.id not in (first.id, forced.id)
    assert not reused


async def test_reuse_ignores_the_limit_of_unfinished_embeddings(request_embedding):
    first, _ = await request_embedding(max_unfinished=1)
    assert await request_embedding(max_unfinished=1) == (first, True)
    with pytest.raises(SageError) as caught:
        await request_embedding(max_unfinished=1, force=True)
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


async def test_a_request_id_keeps_the_embedding_that_it_reused(request_embedding, finish):
    first, _ = await request_embedding(request_id="first")
    assert await request_embedding(request_id="second") == (first, True)
    await finish(first, "fail")
    for request_id in ("first", "second"):
        again, reused = await request_embedding(request_id=request_id)
        assert (again.id, reused) == (first.id, True)
    new, reused = await request_embedding(request_id="third")
    assert (new.id == first.id, reused) == (False, False)


async def test_a_request_id_of_a_reused_embedding_identifies_one_request(request_embedding):
    await request_embedding()
    await request_embedding(request_id="r")
    for difference in ({"clip_seconds": 3.0}, {"force": True}):
        with pytest.raises(SageError) as caught:
            await request_embedding(request_id="r", **difference)
        assert caught.value.reason is Reason.REQUEST_ID_REUSED


async def test_deleting_an_embedding_frees_every_request_id_that_received_it(request_embedding, finish):
    first, _ = await request_embedding(request_id="first")
    await request_embedding(request_id="second")
    await finish(first, "delete")
    second, reused = await request_embedding(request_id="second", clip_seconds=3.0)
    assert (second.plan.clip_seconds, reused) == (3.0, False)


async def test_a_watched_embedding_is_cancelled_only_once_no_replica_serves_watches_of_it(
    repositories, request_embedding
):
    first, _ = await request_embedding(request_id="r")
    minute, past = timedelta(minutes=1), timedelta(minutes=-1)

    async def withdrawn() -> State:
        withdrawn = await repositories.api.cancel(first.id, withdrawing="r")
        assert withdrawn is not None
        return withdrawn.state

    for replica in ("one", "other"):
        await repositories.api.keep_watches(replica, [first.id, new_id("embed")], valid_for=minute)
    assert await withdrawn() is State.PENDING
    await repositories.api.drop_watches("one", [first.id])
    assert await withdrawn() is State.PENDING
    await repositories.api.keep_watches("other", [first.id], valid_for=past)
    assert await withdrawn() is State.CANCELLED
    await repositories.api.keep_watches("one", [first.id], valid_for=minute)
    assert await withdrawn() is State.CANCELLED


async def test_concurrent_requests_through_two_processes_make_one_embedding_and_one_job(
    embed_dsn, postgres_repositories, request_from, count_jobs
):
    async with (
        await open_pool(embed_dsn, schema=SCHEMA, max_size=8) as one,
        await open_pool(embed_dsn, schema=SCHEMA, max_size=8) as other,
    ):
        replicas = [PostgresEmbeddingRepository(pool, JobQueue()) for pool in (one, other)]
        requests = [
            request_from(replicas[number % 2], request_id=f"r{number}" if number % 3 else "") for number in range(60)
        ]
        results = await asyncio.gather(*requests)
    assert len({embedding.id for embedding, _ in results}) == 1
    assert Counter(reused for _, reused in results) == {True: 59, False: 1}
    assert await count_jobs() == {"todo": 1}
    # Each request ID remembers it.
    await postgres_repositories.api.cancel(results[0][0].id)
    again, reused = await request_from(postgres_repositories.api, request_id="r1")
    assert (again.id, reused) == (results[0][0].id, True)


async def test_concurrent_forced_requests_leave_one_reusable_embedding(embed_dsn, postgres_repositories, request_from):
    api = postgres_repositories.api
    async with await open_pool(embed_dsn, schema=SCHEMA, max_size=8) as pool:
        other = PostgresEmbeddingRepository(pool, JobQueue())
        results = await asyncio.gather(
            *(request_from(repository, force=force) for repository in (api, other) for force in [True] * 6)
        )
    assert len({embedding.id for embedding, _ in results}) == 12
    reused = {(await request_from(api))[0].id for _ in range(3)}
    assert len(reused) == 1
    assert reused < {embedding.id for embedding, _ in results}


async def test_requests_that_race_with_cancellations_leave_one_embedding(postgres_repositories, request_from):
    async def cancel_repeatedly() -> None:
        for _ in range(20):
            embedding, _ = await request_from(postgres_repositories.api)
            await postgres_repositories.api.cancel(embedding.id)

    await asyncio.gather(cancel_repeatedly(), cancel_repeatedly(), cancel_repeatedly())
    last, reused = await request_from(postgres_repositories.api)
    assert not reused
    assert await postgres_repositories.api.count_unfinished() == 1
    assert await request_from(postgres_repositories.api) == (last, True)


def _migrate_before_reuse(dsn: str, folder: Path) -> None:
    """Bring a database to the schema of version 0.1, before embeddings were reused."""
    files = importlib.resources.files("sage_embed") / "migrations"
    for file in files.iterdir():
        if file.name < "0005":
            (folder / file.name).write_text(file.read_text())
    migrate(dsn, schema=SCHEMA, migrations=folder)


def test_the_newest_old_embedding_of_a_recipe_becomes_the_reusable_one(make_database, tmp_path):
    dsn = make_database()
    _migrate_before_reuse(dsn, tmp_path)
    rows = [
        # ID, request ID, state, tracks
        ("embed_1", "r1", "COMPLETED", ["visual", "audio"]),
        ("embed_2", None, "COMPLETED", ["audio", "visual"]),
        ("embed_3", "r3", "FAILED", ["audio", "visual"]),
        ("embed_4", None, "PENDING", ["visual"]),
        ("embed_5", None, "CANCELLED", ["visual"]),
    ]
    with psycopg.connect(dsn, options=f"-c search_path={SCHEMA}", row_factory=dict_row) as connection:
        for embedding_id, request_id, state, tracks in rows:
            connection.execute(
                "INSERT INTO embeddings (id, request_id, request_fingerprint, video_id, video_duration_seconds, "
                "video_start_offset_seconds, model, model_revision, provider, dimensions, clip_seconds, state, job_id, "
                "requested_tracks, failure_reason, failure_message, finish_time) "
                "VALUES (%s, %s, 'f', 'video_1', 9.5, 0, 'local', '1', 'local', 8, 2, %s, 1, %s, %s, %s, %s)",
                (
                    embedding_id,
                    request_id,
                    state,
                    tracks,
                    "INTERNAL" if state == "FAILED" else None,
                    "Why." if state == "FAILED" else None,
                    None if state == "PENDING" else "2026-01-01",
                ),
            )
            connection.execute(
                "INSERT INTO tracks (embedding_id, name, position) "
                "SELECT %s, name, position FROM unnest(%s::text[]) WITH ORDINALITY AS track (name, position)",
                (embedding_id, tracks),
            )
    migrate_all(dsn, schema=SCHEMA)
    with psycopg.connect(dsn, options=f"-c search_path={SCHEMA}", row_factory=dict_row) as connection:
        embeddings = connection.execute("SELECT * FROM embeddings_with_tracks ORDER BY id").fetchall()
        requests = connection.execute(
            "SELECT request_id, fingerprint, embedding_id FROM embedding_requests ORDER BY request_id"
        ).fetchall()
    assert [row["id"] for row in embeddings if row["reusable"]] == ["embed_2", "embed_4"]
    first = to_embedding(embeddings[0])
    assert first.plan.tracks == tuple(track.name for track in first.tracks) == ("audio", "visual")
    assert requests == [
        {"request_id": "r1", "fingerprint": "f", "embedding_id": "embed_1"},
        {"request_id": "r3", "fingerprint": "f", "embedding_id": "embed_3"},
    ]
    # Of old embeddings only the duration is known.
    assert convert.from_embedding(first).media == media_pb2.Media(duration_seconds=9.5)
