"""Running one embedding, on its own."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from fakes.embed import DIMENSIONS, MODEL, InMemoryEmbeddingStore, InMemoryVideoCatalog, Script, ScriptedEngine
from sage_embed.engine import Progressed, Resume, Segments, SegmentsProduced, Submitting, TaskStarted
from sage_embed.engines import Engines
from sage_embed.model import Failure, Plan, State, Video
from sage_embed.record import RunPolicy
from sage_embed.recover import recover
from sage_embed.run import Runner
from sage_embed.worker import describe
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id

VIDEO = Video(new_id("video"), duration_seconds=9.5, start_offset_seconds=0.0)
PLAN = Plan(VIDEO, "scripted", "1", "tests", DIMENSIONS, 2.0, ("visual",))
POLICY = RunPolicy(max_attempts=3, retry_base_s=0.001, retry_max_s=0.004, progress_interval_s=60)


class EventsEngine(ScriptedEngine):
    """Yields the events that it is given."""

    def __init__(self, *events: object) -> None:
        super().__init__(Script.__new__(Script))
        self.events = events
        self.error: Exception | None = None

    async def embed(self, request):
        """See `Engine`."""
        for event in self.events:
            yield event
        if self.error:
            raise self.error


def make_runner(store, engine, *, policy: RunPolicy = POLICY) -> Runner:
    """Return a runner with one engine."""
    return Runner(
        store=store,
        videos=InMemoryVideoCatalog(VIDEO),
        engines=Engines([engine]),
        policy=policy,
        describe=describe,
    )


def segments(count: int, *, first_index: int = 0, dimensions: int = DIMENSIONS, fill: float = 1.0) -> SegmentsProduced:
    """Return an event with segments of a constant."""
    times = [2.0 * index for index in range(first_index, first_index + count)]
    rows = np.full((count, dimensions), fill, np.float32)
    return SegmentsProduced(Segments("visual", first_index, times, [time + 2 for time in times], rows))


@pytest.fixture
def store() -> InMemoryEmbeddingStore:
    """Return an empty store."""
    return InMemoryEmbeddingStore()


@pytest.fixture
def run(store):
    """Return a function that runs an embedding of PLAN with an engine and returns it as it is then."""

    async def run_with(engine: ScriptedEngine, embedding_id: str = "") -> object:
        if not embedding_id:
            embedding_id = (await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")).id
        await make_runner(store, engine).run(embedding_id, store.job_of(embedding_id))
        return await store.get(embedding_id)

    return run_with


async def test_progress_that_comes_fast_is_stored_seldom(run):
    """Of many events only the first is stored by itself; what is held back goes with the next segments."""
    fast = [Progressed(step / 100, f"Step {step}.") for step in range(50)]
    done = await run(EventsEngine(*fast, segments(2), *fast))
    # Created, claimed, one progress, one append, completed.
    assert done.revision == 5


async def test_progress_that_says_nothing_new_is_not_stored(store):
    """A task that waits says the same at every look: it is stored once."""
    told = [Progressed(0.1, "TwelveLabs works on it.")] * 5 + [Progressed(0.1, "TwelveLabs is nearly done.")] * 5
    embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    runner = make_runner(store, EventsEngine(*told, segments(2)), policy=replace(POLICY, progress_interval_s=0))
    await runner.run(embedding.id, store.job_of(embedding.id))
    # Created, claimed, two progresses, one append, completed.
    assert (await store.get(embedding.id)).revision == 6


async def test_each_event_is_stored_before_the_next_is_asked_for(store):
    """The URL is stored before the engine goes on to ask with it, and the task before it goes on to wait for it."""
    seen = []

    class Submits(ScriptedEngine):
        async def embed(self, request):
            url = await request.video_url()
            yield Submitting(url)
            stored = next(iter(store.records.values())).embedding
            seen.append((stored.submitted_url == url, stored.submitted_at is not None, stored.provider_task_id))
            yield TaskStarted("task-1")
            stored = next(iter(store.records.values())).embedding
            seen.append((stored.submitted_url, stored.provider_task_id))
            yield segments(5)

    embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    await make_runner(store, Submits(Script.__new__(Script))).run(embedding.id, store.job_of(embedding.id))
    assert seen == [(True, True, ""), ("", "task-1")]
    assert (await store.get(embedding.id)).state is State.COMPLETED


async def test_who_takes_over_hears_what_was_submitted(store, capsys):
    """The next run is told the URL and the moment of a submission without an answer, and each job has its own URL."""
    requests = []

    class Asks(ScriptedEngine):
        async def embed(self, request):
            requests.append(request)
            yield Submitting(await request.video_url())
            raise SageError(Reason.PROVIDER_UNREACHABLE, provider="Tests")

    plan = replace(PLAN, video=replace(VIDEO, has_audio=False))
    embedding = await store.create(new_id("embed"), plan, request_id="", fingerprint="")
    runner = make_runner(store, Asks(Script.__new__(Script)))
    await runner.run(embedding.id, store.job_of(embedding.id))
    first = await store.get(embedding.id)
    await runner.run(embedding.id, store.job_of(embedding.id))
    assert requests[0].resume == Resume(None, None, None, {"visual": 0})
    assert requests[1].resume == Resume(None, first.submitted_url, first.submitted_at, {"visual": 0})
    assert not requests[0].has_audio
    assert first.submitted_url != (await store.get(embedding.id)).submitted_url
    assert first.submitted_url not in repr(requests[1])
    assert first.submitted_url not in repr(first)
    assert "variant=" not in capsys.readouterr().out


async def test_no_picture_at_all_is_the_engines_failure(store):
    """A video always has a picture: an answer without its vectors is not an embedding."""
    plan = replace(PLAN, tracks=("visual", "audio"), provider="twelvelabs")
    embedding = await store.create(new_id("embed"), plan, request_id="", fingerprint="")
    await make_runner(store, EventsEngine()).run(embedding.id, store.job_of(embedding.id))
    failure = (await store.get(embedding.id)).failure
    assert failure == Failure(Reason.PROVIDER_FAILED, "TwelveLabs failed: it returned no vectors for track visual.")


async def test_a_track_of_sound_may_be_missing(store):
    """Where nobody speaks there is no transcription: the embedding completes without it."""
    plan = replace(PLAN, tracks=("transcription", "visual"))
    embedding = await store.create(new_id("embed"), plan, request_id="", fingerprint="")
    await make_runner(store, EventsEngine(segments(5))).run(embedding.id, store.job_of(embedding.id))
    done = await store.get(embedding.id)
    assert (done.state, [track.name for track in done.tracks]) == (State.COMPLETED, ["visual"])


@pytest.mark.parametrize(
    ("why", "end"),
    [('failed to fetch\nor "materialize" 映画 ' + "x" * 2048, "."), ("Why me?", ""), ("So it is.", "")],
)
async def test_a_provider_is_quoted_word_for_word(run, why, end):
    """Its words are all there, whatever is in them and however they end."""
    engine = EventsEngine(segments(1))
    engine.error = SageError(Reason.PROVIDER_FAILED, provider="TwelveLabs", why=why)
    assert (await run(engine)).failure.message == f"TwelveLabs failed: {why}{end}"


async def test_fractions_outside_of_their_range_are_bent_back(run, store):
    """An engine that overshoots does no harm."""
    seen = []
    store.changed = lambda: seen.append(next(iter(store.records.values())).embedding.progress.fraction)
    await run(EventsEngine(Progressed(1.7, "Too far."), segments(1)))
    assert max(seen) == 1.0


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (segments(2, fill=np.nan), Reason.PROVIDER_FAILED),
        (segments(2, dimensions=DIMENSIONS + 1), Reason.INTERNAL),
        (segments(2, first_index=3), Reason.INTERNAL),
    ],
)
async def test_vectors_that_are_not_what_was_promised_fail_the_embedding(run, event, reason):
    """Not finite, of another size or out of order: none of it is stored."""
    failed = await run(EventsEngine(event))
    assert failed.state is State.FAILED
    assert failed.failure.reason is reason
    assert failed.tracks[0].segment_count == 0


async def test_a_task_that_was_made_while_the_store_was_away_is_stored_when_it_is_back(store):
    """Its id is known here and nowhere else: it is kept until it can be stored, and the work goes on."""

    class Starts(ScriptedEngine):
        async def embed(self, request):
            yield Submitting(await request.video_url())
            store.away = 3
            yield TaskStarted("task-1")
            yield segments(5)

    embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    await make_runner(store, Starts(Script.__new__(Script))).run(embedding.id, store.job_of(embedding.id))
    done = await store.get(embedding.id)
    assert (done.state, done.provider_task_id) == (State.COMPLETED, "task-1")


async def test_what_lasts_is_told_at_once(run):
    """Of two that come fast the second is stored as well where it says that it lasts."""
    done = await run(EventsEngine(Progressed(0, "Asks."), Progressed(0, "Waits.", lasting=True), segments(5)))
    # Created, claimed, two progresses, one append, completed.
    assert done.revision == 6


async def test_a_store_that_is_away_gets_the_work_back_later(run, store, tmp_path):
    """Where neither success nor failure can be stored, the work is handed back once the store is there again."""
    engine = ScriptedEngine(Script(tmp_path))
    store_away = engine.script.note

    def note(line: str) -> None:
        store_away(line)
        if line == "visual 2":
            store.away = 4

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
async def test_a_task_that_is_paid_for_outlasts_our_own_outages(run, reason, state):
    """However often something of ours is away, the task is gone back to; a provider that is away is counted."""
    engine = EventsEngine(Submitting("https://s3/film?signed"), TaskStarted("task-1"))
    engine.error = SageError(reason, store="database", provider="TwelveLabs")
    embedding = await run(engine)
    engine.events = ()
    for _ in range(POLICY.max_attempts + 2):
        if embedding.state is State.PROCESSING:
            embedding = await run(engine, embedding.id)
    assert (embedding.state, embedding.provider_task_id) == (state, "task-1")
    engine.error = None
    engine.events = (segments(5),)
    if state is State.PROCESSING:
        assert (await run(engine, embedding.id)).state is State.COMPLETED


async def test_a_model_that_has_changed_meanwhile_does_not_mix_its_vectors(run, tmp_path):
    """An embedding begun with one revision is not finished with another."""
    failed = await run(ScriptedEngine(Script(tmp_path), model=replace(MODEL, revision="2")))
    assert failed.failure.reason is Reason.MODEL_UNAVAILABLE


async def test_cancelling_a_run_closes_the_engine_and_stores_nothing(store, tmp_path):
    """The run ends with the cancellation, and what is stored stays as it was."""
    script = Script(tmp_path)
    script.allow(2)
    engine = ScriptedEngine(script)
    embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    runner = make_runner(store, engine)
    running = asyncio.ensure_future(runner.run(embedding.id, store.job_of(embedding.id)))
    while "visual 1" not in script.computed():  # noqa: ASYNC110 - the engine tells through a file
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.closed == 1
    left = await store.get(embedding.id)
    assert (left.state, left.tracks[0].segment_count) == (State.PROCESSING, 2)


def test_waits_grow_up_to_the_longest():
    """Each wait is twice the one before, and none passes the maximum."""
    policy = RunPolicy(max_attempts=9, retry_base_s=2, retry_max_s=60)
    waits = [policy.wait(attempts).total_seconds() for attempts in (0, 1, 2, 3, 4, 5, 5000)]
    assert waits == [2, 4, 8, 16, 32, 60, 60]


async def test_lost_work_is_requeued_at_once_and_counted(store):
    """What a dead worker left is in the queue again, until it has killed too many."""
    embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    for attempts in (1, 2):
        store.lost_jobs.add(store.job_of(embedding.id))
        assert await recover(store=store, silent_for=timedelta(0), max_attempts=3) == 1
        assert (await store.get(embedding.id)).attempts == attempts
    store.lost_jobs.add(store.job_of(embedding.id))
    await recover(store=store, silent_for=timedelta(0), max_attempts=3)
    failed = await store.get(embedding.id)
    assert (failed.state, failed.failure.reason) == (State.FAILED, Reason.INTERNAL)
    assert store.delays == [timedelta(0)] * 2


async def test_work_that_another_process_requeued_first_is_left_alone(store):
    """Of two that look for lost work at once, the slower one finds nothing to do."""
    embedding = await store.create(new_id("embed"), PLAN, request_id="", fingerprint="")
    job_id = store.job_of(embedding.id)
    store.lost_jobs.add(job_id)
    found = await store.lost(silent_for=timedelta(0), limit=9)
    await recover(store=store, silent_for=timedelta(0), max_attempts=3)
    store.lost = lambda **_: asyncio.sleep(0, found)
    await recover(store=store, silent_for=timedelta(0), max_attempts=3)
    assert (await store.get(embedding.id)).attempts == 1


async def test_errors_that_may_pass_are_told_from_those_that_stay(run, store, tmp_path):
    """Only what may pass is requeued; the wait grows."""
    engine = ScriptedEngine(
        Script(tmp_path), failures={0: [SageError(Reason.SERVICE_UNAVAILABLE, service="ingest")] * 2}
    )
    embedding = await run(engine)
    await run(engine, embedding.id)
    assert [delay.total_seconds() for delay in store.delays] == [0.001, 0.002]
    engine.failures = {0: [SageError(Reason.PROVIDER_QUOTA_EXCEEDED, provider="tests", why="none left")]}
    assert (await run(engine, embedding.id)).state is State.FAILED
