"""Local and remote work: the choice of the model, and how many jobs a worker runs of each kind."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

import grpc
import psycopg
import pydantic
import pytest
from fakes.embed import MODEL, ScriptedEngine
from sage.embed.v1 import embed_pb2
from sage_embed.config import WorkerSettings
from sage_embed.engines.engine import Progressed, SegmentsProduced, Submitting, TaskStarted
from sage_runtime.api import new_id
from sage_runtime.client import to_sage_error
from sage_runtime.errors import Reason, SageError

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED


class WaitingEngine(ScriptedEngine):
    """Waits for a task until `ready` is set, as a provider's engine does, and counts the waiting ones."""

    def __init__(self, script) -> None:
        super().__init__(script, model=replace(MODEL, name="marengo3.0", provider="twelvelabs"))
        self.ready = asyncio.Event()
        self.waiting = 0

    async def embed(self, request):
        url = await request.video_url()
        yield Submitting(url)
        yield TaskStarted(new_id("task"))
        self.waiting += 1
        try:
            while not self.ready.is_set():
                yield Progressed(0.1, "TwelveLabs works on it.")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.ready.wait(), 0.2)
        finally:
            self.waiting -= 1
            self.closed += 1
        yield self.all_segments(request)


@pytest.fixture
def remote(script) -> WaitingEngine:
    """Return the engine of a provider."""
    return WaitingEngine(script)


@pytest.fixture
def engine(script) -> ScriptedEngine:
    """Return the local engine."""
    return ScriptedEngine(script, model=replace(MODEL, name="local", provider="local"))


@pytest.fixture
def make_engines(remote, engine) -> Callable:
    """Return a factory of both engines, the provider's first."""
    return lambda pool, settings, keys: [remote, engine]


async def test_the_default_is_the_first_usable_model(create, remote):
    usable = remote.model
    remote.model = replace(usable, unusable=SageError(Reason.API_KEY_MISSING, provider="TwelveLabs"))
    assert (await create()).model == "local"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(model="marengo3.0")
    assert to_sage_error(caught.value, service="embed").reason is Reason.API_KEY_MISSING
    remote.model = usable
    assert (await create()).model == "marengo3.0"
    assert (await create(model="local")).model == "local"


async def test_waiting_remote_work_does_not_delay_local_work(create, start_worker, finish, until, remote):
    ids = [embedding.id for embedding in await asyncio.gather(*(create(model="marengo3.0") for _ in range(200)))]
    async with start_worker(remote_concurrency=100), start_worker(remote_concurrency=100):
        await until(lambda: remote.waiting == 200)
        assert (await finish((await create(model="local")).id)).state == COMPLETED
        remote.ready.set()
        done = await asyncio.gather(*(finish(embedding_id) for embedding_id in ids))
    assert {embedding.state for embedding in done} == {COMPLETED}
    assert {embedding.tracks[0].segment_count for embedding in done} == {5}
    assert len({embedding.provider_task_id for embedding in done}) == 200


@pytest.mark.parametrize("end", ["CancelEmbedding", "DeleteEmbedding"])
async def test_ending_an_embedding_frees_its_slot_at_once(embed, create, start_worker, until, remote, end):
    async with start_worker(remote_concurrency=1):
        first = await create(model="marengo3.0")
        await until(lambda: remote.waiting == 1)
        second = await create(model="marengo3.0")
        request = {
            "CancelEmbedding": embed_pb2.CancelEmbeddingRequest,
            "DeleteEmbedding": embed_pb2.DeleteEmbeddingRequest,
        }
        await getattr(embed, end)(request[end](embedding_id=first.id))
        await until(lambda: remote.closed == 1)
        get = embed_pb2.GetEmbeddingRequest(embedding_id=second.id)

        async def begun() -> bool:
            return bool((await embed.GetEmbedding(get)).embedding.provider_task_id)

        await until(begun)


async def test_cancelling_says_whether_a_task_may_be_billed(embed, create, start_worker, until, remote):
    waiting = await create(model="marengo3.0")
    cancelled = (await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=waiting.id))).embedding
    assert cancelled.progress.message == "Cancelled."
    async with start_worker():
        begun = await create(model="marengo3.0")
        await until(lambda: remote.waiting == 1)
        cancelled = (await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=begun.id))).embedding
        assert cancelled.state == CANCELLED
        assert cancelled.progress.message == (
            "Cancelled. TwelveLabs has no way to stop a task, so it may still bill this one."
        )
        await until(lambda: remote.closed == 1)


@pytest.mark.parametrize(
    ("local", "remote_jobs", "does", "leaves"), [(1, 0, "local", "marengo3.0"), (0, 1, "marengo3.0", "local")]
)
async def test_a_worker_may_do_one_kind_of_work_only(
    embed, create, start_worker, finish, remote, local, remote_jobs, does, leaves
):
    remote.ready.set()
    left = await create(model=leaves)
    async with start_worker(concurrency=local, remote_concurrency=remote_jobs):
        assert (await finish((await create(model=does)).id)).state == COMPLETED
        request = embed_pb2.GetEmbeddingRequest(embedding_id=left.id)
        assert (await embed.GetEmbedding(request)).embedding.state == embed_pb2.EMBEDDING_STATE_PENDING
    async with start_worker():
        assert (await finish(left.id)).state == COMPLETED


def test_a_worker_without_any_kind_of_work_is_refused():
    with pytest.raises(pydantic.ValidationError, match="would do nothing"):
        WorkerSettings(database_url="postgresql://", s3_bucket="none", concurrency=0, remote_concurrency=0)


async def test_jobs_of_the_queue_of_version_0_1_are_done(create, start_worker, finish, database_url):
    embedding = await create(model="local")
    with psycopg.connect(database_url, options="-c search_path=embed") as connection:
        connection.execute("UPDATE procrastinate_jobs SET queue_name = 'embed'")
    async with start_worker():
        assert (await finish(embedding.id)).state == COMPLETED


LONG_S = 3000.0


class PatientEngine(ScriptedEngine):
    """Computes long videos only while `running` is set; a segment of them takes a moment."""

    def __init__(self, script) -> None:
        super().__init__(script, model=replace(MODEL, name="local", provider="local"))
        self.running = asyncio.Event()
        self.long_segments: list[int] = []

    async def embed(self, request):
        events = super().embed(request)
        async with contextlib.aclosing(events):
            async for event in events:
                if request.duration_seconds == LONG_S:
                    await self.running.wait()
                    await asyncio.sleep(0.02)
                    if isinstance(event, SegmentsProduced):
                        self.long_segments.append(event.segments.first_index)
                yield event


@pytest.fixture
def long_video(ingest) -> str:
    """Return a video of many clips."""
    return ingest.add(new_id("video"), duration_seconds=LONG_S)


class TestTurns:
    """Long and short videos share a worker."""

    @pytest.fixture
    def engine(self, script) -> PatientEngine:
        """Return the local engine."""
        return PatientEngine(script)

    async def state(self, embed, embedding) -> embed_pb2.Embedding:
        """Return an embedding in its current state."""
        return (await embed.GetEmbedding(embed_pb2.GetEmbeddingRequest(embedding_id=embedding.id))).embedding

    @pytest.mark.parametrize("concurrency", [1, 2])
    async def test_a_short_video_does_not_wait_for_long_ones(
        self, embed, create, start_worker, finish, until, engine, long_video, concurrency
    ):
        engine.running.set()
        longs = [await create(model="local", video_id=long_video) for _ in range(3)]
        async with start_worker(concurrency=concurrency, turn_s=0.1):
            await until(lambda: engine.long_segments)
            assert (await finish((await create(model="local")).id)).state == COMPLETED
            for long in longs:
                assert (await self.state(embed, long)).state != COMPLETED

    async def test_a_place_is_kept_for_videos_that_had_no_turn(
        self, embed, create, start_worker, finish, until, engine, long_video
    ):
        """Even if the long ones cannot make way."""
        engine.running.set()
        longs = [await create(model="local", video_id=long_video) for _ in range(2)]

        async def both_had_a_turn() -> bool:
            states = [await self.state(embed, long) for long in longs]
            return all(any(track.segment_count for track in state.tracks) for state in states)

        async with start_worker(concurrency=1, turn_s=0):
            await until(both_had_a_turn)
        engine.running.clear()
        begun = len(engine.urls)
        async with start_worker(concurrency=2):
            await until(lambda: len(engine.urls) > begun)
            assert (await finish((await create(model="local")).id)).state == COMPLETED
            assert len(engine.urls) == begun + 2
            assert COMPLETED not in [(await self.state(embed, long)).state for long in longs]

    async def test_a_video_that_made_way_is_resumed_without_losing_a_segment(
        self, embed, create, start_worker, finish, engine, ingest, script
    ):
        engine.running.set()
        ids = [(await create(model="local")).id for _ in range(3)]
        async with start_worker(concurrency=1, turn_s=0):
            for embedding_id in ids:
                done = await finish(embedding_id)
                assert done.state == COMPLETED
                assert done.tracks[0].segment_count == 5
        assert sorted(script.computed()) == sorted(f"visual {index}" for index in range(5) for _ in ids)
        assert len(engine.urls) > len(ids)

    async def test_a_long_video_keeps_its_place_while_nothing_waits(
        self, create, start_worker, until, engine, long_video, database_url
    ):
        engine.running.set()
        await create(model="local", video_id=long_video)
        with psycopg.connect(database_url, options="-c search_path=embed") as connection:
            connection.execute("UPDATE fingerprints SET state = 'COMPLETED', finish_time = now()")
            connection.execute("DELETE FROM procrastinate_jobs WHERE task_name = 'fingerprint'")
        async with start_worker(concurrency=1, turn_s=0):
            await until(lambda: len(engine.long_segments) >= 10)
        assert len(engine.urls) == 1


async def test_every_job_has_different_urls(create, start_worker, finish, ingest, remote):
    remote.ready.set()
    ids = [(await create(model="marengo3.0")).id for _ in range(5)]
    async with start_worker():
        for embedding_id in ids:
            await finish(embedding_id)
    assert len(set(ingest.validities)) == len(ingest.validities) == 5
    assert min(ingest.validities) >= 6 * 3600
    assert max(ingest.validities) < 7 * 3600
