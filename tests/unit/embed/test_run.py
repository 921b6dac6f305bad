"""One job, without a queue."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from fakes.embed import DIMENSIONS, MODEL, InMemoryVideoCatalog, Script, ScriptedEngine
from fakes.embedding_repository import FakeEmbeddingRepository
from fakes.fingerprints import FakeFingerprintRepository, InMemoryFingerprintObjects, NoBlocks, OnePassEngine
from sage_embed.app import describe
from sage_embed.config import WorkerSettings
from sage_embed.embeddings.model import Failure, Plan, Progress, State, Video
from sage_embed.engines.engine import (
    Engines,
    Progressed,
    Resume,
    Segments,
    SegmentsProduced,
    SubmissionRefused,
    Submitting,
    TaskStarted,
)
from sage_embed.fingerprints.run import FingerprintRunner
from sage_embed.jobs import run as jobs_run
from sage_embed.jobs.run import Runner
from sage_embed.jobs.runner import recover
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError

VIDEO = Video(new_id("video"), duration_seconds=9.5, start_offset_seconds=0.0)
PLAN = Plan(VIDEO, "scripted", "1", "tests", DIMENSIONS, 2.0, ("visual",))
SETTINGS = WorkerSettings(
    database_url="postgresql://", s3_bucket="none", max_attempts=3, retry_base_s=0.001, retry_max_s=0.004
)


class EventsEngine(ScriptedEngine):
    """Yields given events, then raises an error if it has one."""

    def __init__(self, *events: object) -> None:
        super().__init__(Script.__new__(Script))
        self.events = events
        self.error: Exception | None = None

    async def embed(self, request):
        for event in self.events:
            yield event
        if self.error:
            raise self.error


def make_runner(repository, engine, fingerprints=None, objects=None, settings=SETTINGS) -> Runner:
    """Return a runner with one engine."""
    return Runner(
        repository=repository,
        videos=InMemoryVideoCatalog(VIDEO),
        engines=Engines([engine]),
        fingerprints=FingerprintRunner(
            work=FakeFingerprintRepository() if fingerprints is None else fingerprints,
            objects=InMemoryFingerprintObjects() if objects is None else objects,
            videos=InMemoryVideoCatalog(VIDEO),
            maker=NoBlocks(),
            settings=settings,
            describe=describe,
        ),
        settings=SETTINGS,
        describe=describe,
    )


def segments(count: int, *, first_index: int = 0, dimensions: int = DIMENSIONS, fill: float = 1.0) -> SegmentsProduced:
    """Return an event with segments whose vectors are constant."""
    times = [2.0 * index for index in range(first_index, first_index + count)]
    rows = np.full((count, dimensions), fill, np.float32)
    return SegmentsProduced(Segments("visual", first_index, times, [time + 2 for time in times], rows))


@pytest.fixture(autouse=True)
def _slow_progress(monkeypatch) -> None:
    """Throttle progress for longer than a test takes."""
    monkeypatch.setattr(jobs_run, "_PROGRESS_INTERVAL_S", 60)


@pytest.fixture
def repository() -> FakeEmbeddingRepository:
    """Return an empty repository."""
    return FakeEmbeddingRepository()


@pytest.fixture
def run(repository):
    """Return a function that runs an embedding of PLAN with an engine and returns the embedding."""

    async def run_with(engine: ScriptedEngine, embedding_id: str = "") -> object:
        if not embedding_id:
            embedding_id = (await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")).id
        await make_runner(repository, engine).run(embedding_id, repository.job_of(embedding_id))
        return await repository.get(embedding_id)

    return run_with


async def test_fast_progress_is_throttled(run):
    fast = [Progressed(step / 100, f"Step {step}.") for step in range(50)]
    done = await run(EventsEngine(*fast, segments(2), *fast))
    # Created, claimed, one progress, one append, completed.
    assert done.revision == 5


async def test_repeated_progress_is_stored_once(run, monkeypatch):
    monkeypatch.setattr(jobs_run, "_PROGRESS_INTERVAL_S", 0)
    told = [Progressed(0.1, "TwelveLabs is embedding the video.")] * 5 + [
        Progressed(0.1, "TwelveLabs is nearly done.")
    ] * 5
    done = await run(EventsEngine(*told, segments(2)))
    # Created, claimed, two progresses, one append, completed.
    assert done.revision == 6


async def test_segments_and_their_progress_are_stored_in_one_write(repository):
    """Also within the interval in which progress alone would be throttled."""
    produced = replace(segments(2), progress=Progress(0.4, "Embedded 4 of 9 s."))
    engine = EventsEngine(Progressed(0.1, "Begins."), produced, segments(3, first_index=2))
    seen = []

    def note() -> None:
        stored = next(iter(repository.records.values())).embedding
        seen.append((stored.tracks[0].segment_count, stored.progress.fraction))

    embedding = await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    repository.changed = note
    await make_runner(repository, engine).run(embedding.id, repository.job_of(embedding.id))
    # Claimed, progress, segments with progress, segments without, completed.
    assert seen == [(0, 0.0), (0, 0.1), (2, 0.4), (5, 0.4), (5, 1.0)]


async def test_each_event_is_stored_before_the_engine_continues(repository):
    seen = []

    class Submits(ScriptedEngine):
        async def embed(self, request):
            url = await request.video_url()
            yield Submitting(url)
            stored = next(iter(repository.records.values())).embedding
            seen.append((stored.submitted_url == url, stored.submitted_at is not None, stored.provider_task_id))
            yield TaskStarted("task-1")
            stored = next(iter(repository.records.values())).embedding
            seen.append((stored.submitted_url == url, stored.provider_task_id))
            yield segments(5)

    embedding = await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    await make_runner(repository, Submits(Script.__new__(Script))).run(embedding.id, repository.job_of(embedding.id))
    assert seen == [(True, True, ""), (True, "task-1")]
    assert (await repository.get(embedding.id)).state is State.COMPLETED


async def test_the_next_run_is_told_the_previous_submission(repository, capsys):
    """Each job uses its own URL."""
    requests = []

    class Asks(ScriptedEngine):
        async def embed(self, request):
            requests.append(request)
            yield Submitting(await request.video_url())
            raise SageError(Reason.PROVIDER_UNREACHABLE, provider="Tests")

    plan = replace(PLAN, video=replace(VIDEO, has_audio=False))
    embedding = await repository.create(new_id("embed"), plan, request_id="", fingerprint="")
    runner = make_runner(repository, Asks(Script.__new__(Script)))
    await runner.run(embedding.id, repository.job_of(embedding.id))
    first = await repository.get(embedding.id)
    await runner.run(embedding.id, repository.job_of(embedding.id))
    assert requests[0].resume == Resume(None, None, None, {"visual": 0})
    submitted = Resume(None, first.submitted_url, first.submitted_at, {"visual": 0}, waiting_since=first.submitted_at)
    assert requests[1].resume == submitted
    assert requests[1].now >= first.submitted_at
    assert not requests[0].has_audio
    assert first.submitted_url != (await repository.get(embedding.id)).submitted_url
    assert first.submitted_url not in repr(requests[1])
    assert first.submitted_url not in repr(first)
    assert "variant=" not in capsys.readouterr().out


async def test_a_missing_visual_track_is_a_failure_of_the_provider(repository):
    plan = replace(PLAN, tracks=("visual", "audio"), provider="twelvelabs")
    embedding = await repository.create(new_id("embed"), plan, request_id="", fingerprint="")
    await make_runner(repository, EventsEngine()).run(embedding.id, repository.job_of(embedding.id))
    failure = (await repository.get(embedding.id)).failure
    assert failure == Failure(Reason.PROVIDER_FAILED, "TwelveLabs failed: it returned no vectors for track visual.")


async def test_a_sound_track_may_be_missing(repository):
    plan = replace(PLAN, tracks=("transcription", "visual"))
    embedding = await repository.create(new_id("embed"), plan, request_id="", fingerprint="")
    await make_runner(repository, EventsEngine(segments(5))).run(embedding.id, repository.job_of(embedding.id))
    done = await repository.get(embedding.id)
    assert (done.state, [track.name for track in done.tracks]) == (State.COMPLETED, ["visual"])


@pytest.mark.parametrize(
    ("why", "end"),
    [('failed to fetch\nor "materialize" 映画 ' + "x" * 2048, "."), ("Why me?", ""), ("So it is.", "")],
)
async def test_a_provider_is_quoted_verbatim(run, why, end):
    engine = EventsEngine(segments(1))
    engine.error = SageError(Reason.PROVIDER_FAILED, provider="TwelveLabs", why=why)
    assert (await run(engine)).failure.message == f"TwelveLabs failed: {why}{end}"


async def test_fractions_are_clamped_to_their_range(run, repository):
    seen = []
    repository.changed = lambda: seen.append(next(iter(repository.records.values())).embedding.progress.fraction)
    await run(EventsEngine(Progressed(1.7, "Too far."), segments(1)))
    assert max(seen) == 1.0


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (segments(2, fill=np.nan), Reason.PROVIDER_FAILED),
        (segments(2, fill=0.0), Reason.PROVIDER_FAILED),
        (segments(2, dimensions=DIMENSIONS + 1), Reason.INTERNAL),
        (segments(2, first_index=3), Reason.INTERNAL),
    ],
)
async def test_unexpected_vectors_fail_the_embedding_and_are_not_stored(run, event, reason):
    failed = await run(EventsEngine(event))
    assert failed.state is State.FAILED
    assert failed.failure.reason is reason
    assert failed.tracks[0].segment_count == 0


async def test_a_task_is_stored_however_long_the_database_is_unavailable(repository):
    class Starts(ScriptedEngine):
        async def embed(self, request):
            yield Submitting(await request.video_url())
            repository.away = 3
            yield TaskStarted("task-1")
            yield segments(5)

    embedding = await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    await make_runner(repository, Starts(Script.__new__(Script))).run(embedding.id, repository.job_of(embedding.id))
    done = await repository.get(embedding.id)
    assert (done.state, done.provider_task_id) == (State.COMPLETED, "task-1")


async def test_a_failure_after_a_task_was_started_says_that_it_may_be_billed(run):
    engine = EventsEngine(Submitting("https://s3/film"), TaskStarted("task-1"))
    engine.error = SageError(Reason.PROVIDER_FAILED, provider="TwelveLabs", why="it broke")
    assert (await run(engine)).failure.message == "TwelveLabs failed: it broke. tests may still bill task task-1."
    engine.error = ValueError("unexpected")
    assert (
        "may still bill task" in (await run(EventsEngine(*engine.events, segments(2, first_index=3)))).failure.message
    )


async def test_a_refused_submission_leaves_no_task_to_adopt(run):
    engine = EventsEngine(Submitting("https://s3/film"), SubmissionRefused())
    engine.error = SageError(Reason.API_KEY_INVALID, provider="TwelveLabs")
    failed = await run(engine)
    assert (failed.submitted_url, failed.submitted_at) == ("", None)
    assert "bill" not in failed.failure.message


async def test_the_message_counts_what_is_covered(run):
    done = await run(EventsEngine(segments(2)))
    assert done.progress.message.startswith("Embedded 4 of 9.5 s of video. tests returned nothing after 4 s")


async def test_lasting_progress_is_stored_at_once(run):
    done = await run(EventsEngine(Progressed(0, "Asks."), Progressed(0, "Waits.", lasting=True), segments(5)))
    # Created, claimed, two progresses, one append, completed.
    assert done.revision == 6


async def test_work_is_released_once_the_database_is_back(run, repository, tmp_path):
    """If neither success nor failure could be stored."""
    engine = ScriptedEngine(Script(tmp_path))
    store_away = engine.script.note

    def note(line: str) -> None:
        store_away(line)
        if line == "visual 2":
            repository.away = 4

    engine.script.note = note
    interrupted = await run(engine)
    assert interrupted.state is State.PROCESSING
    assert interrupted.attempts == 0
    engine.script.note = store_away
    done = await run(engine, interrupted.id)
    assert done.state is State.COMPLETED
    assert done.tracks[0].segment_count == 5


@pytest.mark.parametrize(
    ("reason", "state"), [(Reason.STORE_UNAVAILABLE, State.PROCESSING), (Reason.PROVIDER_UNREACHABLE, State.FAILED)]
)
async def test_a_paid_task_survives_outages_of_sage_itself(run, reason, state):
    """Failures of the provider do count."""
    engine = EventsEngine(Submitting("https://s3/film?signed"), TaskStarted("task-1"))
    engine.error = SageError(reason, repository="database", provider="TwelveLabs")
    embedding = await run(engine)
    engine.events = ()
    for _ in range(SETTINGS.max_attempts + 2):
        if embedding.state is State.PROCESSING:
            embedding = await run(engine, embedding.id)
    assert (embedding.state, embedding.provider_task_id) == (state, "task-1")
    engine.error = None
    engine.events = (segments(5),)
    if state is State.PROCESSING:
        assert (await run(engine, embedding.id)).state is State.COMPLETED


async def test_an_embedding_is_not_continued_with_another_model_revision(run, tmp_path):
    failed = await run(ScriptedEngine(Script(tmp_path), model=replace(MODEL, revision="2")))
    assert failed.failure.reason is Reason.MODEL_UNAVAILABLE


async def test_cancelling_a_run_closes_the_engine_and_stores_nothing(repository, tmp_path):
    script = Script(tmp_path)
    script.allow(2)
    engine = ScriptedEngine(script)
    embedding = await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    runner = make_runner(repository, engine)
    running = asyncio.ensure_future(runner.run(embedding.id, repository.job_of(embedding.id)))
    while "visual 1" not in script.computed():  # noqa: ASYNC110 - the engine reports through a file
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.closed == 1
    left = await repository.get(embedding.id)
    assert (left.state, left.tracks[0].segment_count) == (State.PROCESSING, 2)


def test_waits_double_up_to_the_longest():
    settings = WorkerSettings(database_url="postgresql://", s3_bucket="none", retry_base_s=2, retry_max_s=60)
    waits = [settings.retry_wait(attempts).total_seconds() for attempts in (0, 1, 2, 3, 4, 5, 5000)]
    assert waits == [2, 4, 8, 16, 32, 60, 60]


async def test_lost_work_is_requeued_until_it_has_killed_too_many_workers(repository):
    embedding = await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    for attempts in (1, 2):
        repository.lost_jobs.add(repository.job_of(embedding.id))
        assert await recover(repository=repository, silent_for=timedelta(0), max_attempts=3) == 1
        assert (await repository.get(embedding.id)).attempts == attempts
    repository.lost_jobs.add(repository.job_of(embedding.id))
    await recover(repository=repository, silent_for=timedelta(0), max_attempts=3)
    failed = await repository.get(embedding.id)
    assert (failed.state, failed.failure.reason) == (State.FAILED, Reason.INTERNAL)
    assert repository.delays == [timedelta(0)] * 2


async def test_work_that_another_process_has_requeued_is_skipped(repository):
    embedding = await repository.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    job_id = repository.job_of(embedding.id)
    repository.lost_jobs.add(job_id)
    found = await repository.lost(silent_for=timedelta(0), limit=9)
    await recover(repository=repository, silent_for=timedelta(0), max_attempts=3)
    repository.lost = lambda **_: asyncio.sleep(0, found)
    await recover(repository=repository, silent_for=timedelta(0), max_attempts=3)
    assert (await repository.get(embedding.id)).attempts == 1


async def test_only_temporary_errors_are_retried(run, repository, tmp_path):
    engine = ScriptedEngine(
        Script(tmp_path), failures={0: [SageError(Reason.SERVICE_UNAVAILABLE, service="ingest")] * 2}
    )
    embedding = await run(engine)
    await run(engine, embedding.id)
    assert [delay.total_seconds() for delay in repository.delays] == [0.001, 0.002]
    engine.failures = {0: [SageError(Reason.PROVIDER_QUOTA_EXCEEDED, provider="tests", why="none left")]}
    assert (await run(engine, embedding.id)).state is State.FAILED


async def test_blocks_that_cannot_be_stored_do_not_stop_the_embedding(repository, tmp_path):
    fingerprints, objects = FakeFingerprintRepository(), InMemoryFingerprintObjects()
    objects.failures = [None, SageError(Reason.STORE_UNAVAILABLE, store="fingerprint store")]
    await repository.create("embed_1", replace(PLAN, model="local", provider="local"), request_id="", fingerprint="")
    await fingerprints.create(VIDEO, request_id="")
    job_id = repository.job_of("embed_1")
    fingerprints.records[VIDEO.id].job_id = job_id
    settings = SETTINGS.model_copy(update={"fingerprint_object_bytes": 2000})
    engine = OnePassEngine(Script(tmp_path))
    await make_runner(repository, engine, fingerprints, objects, settings).run("embed_1", job_id)
    assert (await repository.get("embed_1")).state is State.COMPLETED
    left = await fingerprints.get(VIDEO.id)
    # What was stored counts, and a separate job resumes it.
    assert (left.state, left.block_count, left.attempts) == (State.PROCESSING, 2, 0)
    assert fingerprints.job_of(VIDEO.id) != job_id
