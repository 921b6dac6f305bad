"""What every store of embeddings does, whatever it is made of."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from fakes.embed import DIMENSIONS, vector
from sage_embed.model import Failure, Filter, Plan, Progress, State, StoredSegments, Track, Video, WorkLostError
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id


def plan(*, video_id: str | None = None, model: str = "scripted", tracks: tuple[str, ...] = ("visual",)) -> Plan:
    """Return what an embedding is to become."""
    return Plan(
        video=Video(
            video_id or new_id("video"),
            duration_seconds=9.5,
            start_offset_seconds=0.08,
            has_audio=False,
            size_bytes=5_000_000_000,
            width=1920,
            height=1080,
        ),
        model=model,
        model_revision="1",
        provider="tests",
        dimensions=DIMENSIONS,
        clip_seconds=2.0,
        tracks=tracks,
    )


def chunk(first_index: int, count: int) -> StoredSegments:
    """Return segments on a grid of 2 s."""
    starts = np.arange(first_index, first_index + count) * 2.0
    rows = np.stack([vector(index) for index in range(first_index, first_index + count)])
    return StoredSegments(first_index, starts, starts + 2.0, rows.astype("<f4").tobytes())


async def create(stores, wanted: Plan | None = None, *, request_id: str = "", fingerprint: str = "f"):
    """Create an embedding and return it."""
    return await stores.api.create(new_id("embed"), wanted or plan(), request_id=request_id, fingerprint=fingerprint)


async def claimed(stores, wanted: Plan | None = None) -> tuple[str, int]:
    """Create an embedding and claim it for its job; return both ids."""
    embedding = await create(stores, wanted)
    job_id = await stores.job_of(embedding.id)
    await stores.work.claim(embedding.id, job_id)
    return embedding.id, job_id


async def test_a_created_embedding_is_pending_and_keeps_its_plan(stores):
    """What is read back is what was asked for, PENDING, with its tracks still empty."""
    wanted = plan(tracks=("audio", "visual"))
    created = await create(stores, wanted)
    read = await stores.api.get(created.id)
    assert read == created
    assert read.plan == wanted
    assert read.state is State.PENDING
    assert read.tracks == (Track("audio"), Track("visual"))
    assert (read.revision, read.start_time, read.finish_time) == (1, None, None)


async def test_an_unknown_embedding_is_none(stores):
    """What is not there is None to read and to cancel, and cannot be deleted."""
    missing = new_id("embed")
    assert await stores.api.get(missing) is None
    assert await stores.api.cancel(missing) is None
    assert not await stores.api.delete(missing)


async def test_a_known_request_id_creates_nothing(stores):
    """The same request id answers the first embedding; another request under it is refused."""
    first = await create(stores, request_id="r", fingerprint="f")
    assert (await create(stores, request_id="r", fingerprint="f")).id == first.id
    assert (await stores.api.find_request("r", fingerprint="f")).id == first.id
    assert await stores.api.count_unfinished() == 1
    with pytest.raises(SageError) as caught:
        await create(stores, request_id="r", fingerprint="other")
    assert caught.value.reason is Reason.REQUEST_ID_REUSED


async def test_no_request_id_is_never_known(stores):
    """Embeddings without a request id have nothing to do with each other."""
    assert (await create(stores)).id != (await create(stores)).id


async def test_the_list_is_newest_first_and_filtered(stores):
    """The list begins with the newest, goes on before an id, and shows only what is wanted."""
    ids = [(await create(stores, plan(model=model))).id for model in ("x", "y", "x")]
    await stores.api.cancel(ids[0])

    async def listed(wanted: Filter, before_id: str | None = None, limit: int = 10) -> list[str]:
        return [one.id for one in await stores.api.list_page(wanted, before_id=before_id, limit=limit)]

    assert await listed(Filter()) == ids[::-1]
    assert await listed(Filter(), limit=2) == ids[:0:-1]
    assert await listed(Filter(), before_id=ids[1]) == ids[:1]
    assert await listed(Filter(model="x")) == [ids[2], ids[0]]
    assert await listed(Filter(state=State.CANCELLED)) == ids[:1]
    video_id = (await stores.api.get(ids[1])).plan.video.id
    assert await listed(Filter(video_id=video_id)) == [ids[1]]


async def test_a_claim_begins_the_work(stores):
    """A claim makes it PROCESSING and says how far earlier work came."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.save_task(embedding_id, job_id, "task-1")
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 3)], progress=None)
    begun = await stores.api.get(embedding_id)
    again = await stores.work.claim(embedding_id, job_id)
    assert again.state is State.PROCESSING
    assert again.provider_task_id == "task-1"
    assert again.tracks == (Track("visual", 3, 0.0, 6.0),)
    assert again.start_time == begun.start_time is not None


async def test_a_submission_is_kept_until_its_task_is_known(stores):
    """What a provider is asked with is there for whoever takes over, and gone once the task has an id."""
    embedding_id, job_id = await claimed(stores)
    begun = await stores.api.get(embedding_id)
    assert (begun.submitted_url, begun.submitted_at) == ("", None)
    await stores.work.save_submission(embedding_id, job_id, "https://s3.test/1?signature=s", key_fingerprint="k")
    asked = await stores.work.claim(embedding_id, job_id)
    assert asked.submitted_url == "https://s3.test/1?signature=s"
    assert asked.submitted_key == "k"
    assert asked.submitted_at >= begun.start_time
    await stores.work.save_submission(embedding_id, job_id, "https://s3.test/2?signature=s", key_fingerprint="k")
    assert (await stores.api.get(embedding_id)).submitted_url == "https://s3.test/2?signature=s"
    await stores.work.save_task(embedding_id, job_id, "task-1")
    known = await stores.api.get(embedding_id)
    assert (known.submitted_url, known.provider_task_id) == ("", "task-1")
    assert known.submitted_at is not None


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
async def test_no_url_outlives_the_work(stores, end):
    """A URL lets anybody read the video: at the end of the work there is none, whatever the end."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.save_submission(embedding_id, job_id, "https://s3.test/1?signature=s", key_fingerprint="k")
    match end:
        case "complete":
            await stores.work.complete(embedding_id, job_id, "Done.")
        case "fail":
            await stores.work.fail(embedding_id, job_id, Failure(Reason.PROVIDER_FAILED, "No."))
        case _:
            await stores.api.cancel(embedding_id)
    assert (await stores.api.get(embedding_id)).submitted_url == ""


async def test_a_task_belongs_to_one_embedding(stores):
    """The task of one embedding is refused for another of the same provider, and is another one at another provider."""
    first_id, first_job = await claimed(stores)
    await stores.work.save_task(first_id, first_job, "task-1")
    await stores.work.save_task(first_id, first_job, "task-1")
    second_id, second_job = await claimed(stores)
    with pytest.raises(SageError) as caught:
        await stores.work.save_task(second_id, second_job, "task-1")
    assert caught.value.reason is Reason.PROVIDER_FAILED
    assert (await stores.api.get(second_id)).provider_task_id == ""
    other_id, other_job = await claimed(stores, replace(plan(), provider="others"))
    await stores.work.save_task(other_id, other_job, "task-1")


async def test_cancelling_says_where_a_provider_may_still_bill(stores):
    """Before anything was asked of a provider it is just cancelled; from the first attempt to ask on, it may bill."""
    marengo = replace(plan(), provider="twelvelabs")
    billed = "Cancelled. TwelveLabs has no way to stop a task, so it may still bill this one."
    waiting = await create(stores, marengo)
    assert (await stores.api.cancel(waiting.id)).progress.message == "Cancelled."
    begun_id, _ = await claimed(stores, marengo)
    assert (await stores.api.cancel(begun_id)).progress.message == "Cancelled."
    asked_id, job_id = await claimed(stores, marengo)
    await stores.work.save_submission(asked_id, job_id, "https://s3.test/1", key_fingerprint="k")
    assert (await stores.api.cancel(asked_id)).progress.message == billed
    started_id, job_id = await claimed(stores, marengo)
    await stores.work.save_task(started_id, job_id, "task-1")
    cancelled = await stores.api.cancel(started_id)
    assert cancelled.progress.message == billed
    assert await stores.api.cancel(started_id) == cancelled


async def test_a_track_without_segments_is_gone_at_the_end(stores):
    """What was asked for and does not exist is no track of a completed embedding, and the plan still has it."""
    embedding_id, job_id = await claimed(stores, plan(tracks=("audio", "visual", "transcription")))
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    assert [track.name for track in (await stores.api.get(embedding_id)).tracks] == ["audio", "visual", "transcription"]
    await stores.work.complete(embedding_id, job_id, "Done.")
    done = await stores.api.get(embedding_id)
    assert done.tracks == (Track("visual", 2, 0.0, 4.0),)
    assert done.plan.tracks == ("audio", "visual", "transcription")


async def test_an_embedding_may_have_no_track_at_all(stores):
    """Where only sound was asked for and nobody speaks, there is nothing, and it is complete."""
    embedding_id, job_id = await claimed(stores, plan(tracks=("transcription",)))
    await stores.work.complete(embedding_id, job_id, "Done.")
    assert (await stores.api.get(embedding_id)).tracks == ()


async def test_words_of_others_are_stored_as_they_are(stores):
    """Line breaks, quotes, other scripts and length survive; only what no text can hold is replaced."""
    words = 'no such file:\n\t"größe" 映画 🎬 %s {why} ' + "x" * 3000
    embedding_id, job_id = await claimed(stores)
    await stores.work.save_progress(embedding_id, job_id, Progress(0.1, "half \ud83d of one"))
    assert (await stores.api.get(embedding_id)).progress.message == "half ? of one"
    await stores.work.fail(embedding_id, job_id, Failure(Reason.PROVIDER_FAILED, words))
    assert (await stores.api.get(embedding_id)).failure.message == words


async def test_every_change_makes_the_revision_grow_by_one(stores):
    """Claim, submission, task, progress, segments and completion are one revision each."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.save_submission(embedding_id, job_id, "https://s3.test/1", key_fingerprint="k")
    await stores.work.save_task(embedding_id, job_id, "task-1")
    await stores.work.save_progress(embedding_id, job_id, Progress(0.1, "A tenth."))
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=Progress(0.4, "More."))
    await stores.work.complete(embedding_id, job_id, "Done.")
    assert (await stores.api.get(embedding_id)).revision == 7


async def test_progress_never_goes_back(stores):
    """A smaller fraction leaves the larger one, with the new message."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.save_progress(embedding_id, job_id, Progress(0.5, "Half."))
    await stores.work.save_progress(embedding_id, job_id, Progress(0.2, "Less."))
    assert (await stores.api.get(embedding_id)).progress == Progress(0.5, "Less.")
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 1)], progress=Progress(0.3, "Still less."))
    assert (await stores.api.get(embedding_id)).progress == Progress(0.5, "Still less.")


async def test_segments_are_read_as_they_were_stored(stores):
    """Pieces of any size, begun anywhere, hold the vectors and times that were stored."""
    embedding_id, job_id = await claimed(stores)
    for first_index, count in ((0, 3), (3, 1), (4, 4)):
        await stores.work.append(embedding_id, job_id, "visual", [chunk(first_index, count)], progress=None)
    for first_index in range(8):
        for max_segments in (1, 2, 5, 100):
            piece = await stores.api.read_segments(
                embedding_id, "visual", first_index=first_index, max_segments=max_segments
            )
            # A store may end a piece where a chunk ends, but it never hands out more than was asked for, or nothing.
            expected = chunk(first_index, len(piece))
            assert 1 <= len(piece) <= max_segments
            assert piece.first_index == first_index
            assert piece.vectors == expected.vectors
            np.testing.assert_array_equal(piece.start_seconds, expected.start_seconds)
            np.testing.assert_array_equal(piece.end_seconds, expected.end_seconds)
    assert await stores.api.read_segments(embedding_id, "visual", first_index=8, max_segments=9) is None
    assert await stores.api.read_segments(embedding_id, "audio", first_index=0, max_segments=9) is None


async def test_segments_that_do_not_follow_are_refused(stores):
    """A gap, a repetition or a track that is not in the plan stores nothing, not even the chunks before it."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    before = await stores.api.get(embedding_id)
    for track, chunks in (("visual", [chunk(2, 1), chunk(4, 1)]), ("visual", [chunk(0, 2)]), ("audio", [chunk(0, 1)])):
        with pytest.raises(ValueError, match="follow"):
            await stores.work.append(embedding_id, job_id, track, chunks, progress=None)
    assert await stores.api.get(embedding_id) == before


async def test_completion_is_final(stores):
    """What completed has a finish time and all of its progress, and can neither fail nor be cancelled."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    await stores.work.complete(embedding_id, job_id, "Done.")
    done = await stores.api.get(embedding_id)
    assert (done.state, done.progress, done.finish_time is not None) == (State.COMPLETED, Progress(1.0, "Done."), True)
    with pytest.raises(WorkLostError):
        await stores.work.fail(embedding_id, job_id, Failure(Reason.INTERNAL, "No."))
    assert await stores.api.cancel(embedding_id) == done
    assert await stores.api.count_unfinished() == 0


async def test_a_failure_says_why_and_drops_the_vectors(stores):
    """A failed embedding keeps the reason and the sentence, and holds no segments."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    await stores.work.fail(embedding_id, job_id, Failure(Reason.PROVIDER_FAILED, "It broke\0."))
    failed = await stores.api.get(embedding_id)
    assert failed.state is State.FAILED
    assert failed.failure.reason is Reason.PROVIDER_FAILED
    assert failed.failure.message.startswith("It broke")
    assert failed.tracks == (Track("visual"),)
    assert await stores.api.read_segments(embedding_id, "visual", first_index=0, max_segments=9) is None


@pytest.mark.parametrize("end", ["cancel", "delete"])
async def test_nothing_is_written_after_the_end(stores, end):
    """Once cancelled or deleted, no event of the worker changes anything: it can never complete."""
    embedding_id, job_id = await claimed(stores)
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    await getattr(stores.api, end)(embedding_id)
    after = await stores.api.get(embedding_id)
    work = stores.work
    for write in (
        work.claim(embedding_id, job_id),
        work.save_submission(embedding_id, job_id, "https://s3.test/1", key_fingerprint="k"),
        work.save_task(embedding_id, job_id, "task"),
        work.save_progress(embedding_id, job_id, Progress(1.0, "Too late.")),
        work.append(embedding_id, job_id, "visual", [chunk(2, 1)], progress=None),
        work.complete(embedding_id, job_id, "Too late."),
        work.fail(embedding_id, job_id, Failure(Reason.INTERNAL, "Too late.")),
        work.requeue(embedding_id, job_id, delay=timedelta(0), message="Too late.", counts_as_attempt=True),
    ):
        with pytest.raises(WorkLostError):
            await write
    assert await stores.api.get(embedding_id) == after
    assert after is None or (after.state, after.tracks) == (State.CANCELLED, (Track("visual"),))


async def test_whoever_was_replaced_writes_no_more(stores):
    """After a requeue the job of before has lost its right, and the new one goes on from what is stored."""
    embedding_id, old_job = await claimed(stores)
    await stores.work.append(embedding_id, old_job, "visual", [chunk(0, 2)], progress=None)
    await stores.work.requeue(embedding_id, old_job, delay=timedelta(0), message="Again.", counts_as_attempt=True)
    new_job = await stores.job_of(embedding_id)
    assert new_job != old_job
    with pytest.raises(WorkLostError):
        await stores.work.append(embedding_id, old_job, "visual", [chunk(2, 1)], progress=None)
    with pytest.raises(WorkLostError):
        await stores.work.requeue(embedding_id, old_job, delay=timedelta(0), message="Twice.", counts_as_attempt=True)
    resumed = await stores.work.claim(embedding_id, new_job)
    assert (resumed.tracks[0].segment_count, resumed.attempts) == (2, 1)


async def test_attempts_count_runs_without_a_segment(stores):
    """A requeue counts where it is to, and stored segments begin a new count."""
    embedding_id, job_id = await claimed(stores)
    for counts in (True, True, False):
        await stores.work.requeue(embedding_id, job_id, delay=timedelta(0), message="Again.", counts_as_attempt=counts)
        job_id = await stores.job_of(embedding_id)
    assert (await stores.work.claim(embedding_id, job_id)).attempts == 2
    await stores.work.append(embedding_id, job_id, "visual", [chunk(0, 1)], progress=None)
    assert (await stores.api.get(embedding_id)).attempts == 0


async def test_the_work_of_a_dead_worker_is_found(stores):
    """Only unfinished work whose worker gave no heartbeat is lost."""
    lost_id, lost_job = await claimed(stores)
    finished_id, finished_job = await claimed(stores)
    await claimed(stores)
    await stores.work.complete(finished_id, finished_job, "Done.")
    await stores.lose(lost_job)
    await stores.lose(finished_job)
    found = await stores.work.lost(silent_for=timedelta(seconds=60), limit=10)
    assert [(embedding.id, job_id) for embedding, job_id in found] == [(lost_id, lost_job)]


async def test_creating_at_once_under_one_request_id_makes_one(stores):
    """Of many calls at once with the same request id one creates and all answer the same embedding."""
    wanted = plan()
    made = await asyncio.gather(*(create(stores, wanted, request_id="same") for _ in range(8)))
    assert len({embedding.id for embedding in made}) == 1
    assert await stores.api.count_unfinished() == 1
