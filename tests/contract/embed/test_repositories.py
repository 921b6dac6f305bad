"""Contract of both repositories of embeddings, run against the fake and PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from fakes.embed import DIMENSIONS, vector
from sage_embed.embeddings.model import (
    Failure,
    Filter,
    Plan,
    Progress,
    State,
    StoredSegments,
    Track,
    Video,
    WorkLostError,
)
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError


def plan(*, video_id: str | None = None, model: str = "scripted", tracks: tuple[str, ...] = ("visual",)) -> Plan:
    """Return a plan for a new video."""
    return Plan(
        video=Video(
            video_id or new_id("video"),
            duration_seconds=9.5,
            start_offset_seconds=0.08,
            has_audio=False,
            size_bytes=5_000_000_000,
            width=1920,
            height=1080,
            media=b"\x22\x06opaque",
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


async def create(
    repositories, requested: Plan | None = None, *, request_id: str = "", fingerprint: str = "f", force: bool = False
):
    """Create an embedding and return it."""
    return await repositories.api.create(
        new_id("embed"), requested or plan(), request_id=request_id, fingerprint=fingerprint, force=force
    )


async def claimed(repositories, requested: Plan | None = None) -> tuple[str, int]:
    """Create an embedding and claim it for its job; return both IDs."""
    embedding = await create(repositories, requested)
    job_id = await repositories.job_of(embedding.id)
    await repositories.work.claim(embedding.id, job_id)
    return embedding.id, job_id


async def test_a_created_embedding_is_pending_and_keeps_its_plan(repositories):
    requested = plan(tracks=("audio", "visual"))
    created = await create(repositories, requested)
    read = await repositories.api.get(created.id)
    assert read == created
    assert read.plan == requested
    assert read.state is State.PENDING
    assert read.tracks == (Track("audio"), Track("visual"))
    assert (read.revision, read.start_time, read.finish_time) == (1, None, None)


async def test_an_unknown_embedding_is_none_and_cannot_be_deleted(repositories):
    missing = new_id("embed")
    assert await repositories.api.get(missing) is None
    assert await repositories.api.cancel(missing) is None
    assert not await repositories.api.delete(missing)


async def test_a_known_request_id_returns_its_embedding(repositories):
    first = await create(repositories, request_id="r", fingerprint="f")
    assert (await create(repositories, request_id="r", fingerprint="f")).id == first.id
    assert (await repositories.api.find_request("r", fingerprint="f")).id == first.id
    assert await repositories.api.count_unfinished() == 1
    with pytest.raises(SageError) as caught:
        await create(repositories, request_id="r", fingerprint="other")
    assert caught.value.reason is Reason.REQUEST_ID_REUSED


async def test_requests_without_an_id_are_unrelated(repositories):
    assert (await create(repositories)).id != (await create(repositories)).id


async def test_the_list_is_newest_first_and_filtered(repositories):
    ids = [(await create(repositories, plan(model=model))).id for model in ("x", "y", "x")]
    await repositories.api.cancel(ids[0])

    async def listed(matching: Filter, before_id: str | None = None, limit: int = 10) -> list[str]:
        return [one.id for one in await repositories.api.list_page(matching, before_id=before_id, limit=limit)]

    assert await listed(Filter()) == ids[::-1]
    assert await listed(Filter(), limit=2) == ids[:0:-1]
    assert await listed(Filter(), before_id=ids[1]) == ids[:1]
    assert await listed(Filter(model="x")) == [ids[2], ids[0]]
    assert await listed(Filter(state=State.CANCELLED)) == ids[:1]
    video_id = (await repositories.api.get(ids[1])).plan.video.id
    assert await listed(Filter(video_id=video_id)) == [ids[1]]


async def test_a_claim_starts_the_work_and_returns_what_is_stored(repositories):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.save_task(embedding_id, job_id, "task-1")
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 3)], progress=None)
    begun = await repositories.api.get(embedding_id)
    again = await repositories.work.claim(embedding_id, job_id)
    assert again.state is State.PROCESSING
    assert again.provider_task_id == "task-1"
    assert again.tracks == (Track("visual", 3, 0.0, 6.0),)
    assert again.start_time == begun.start_time is not None


async def test_a_submission_is_kept_with_its_task(repositories):
    embedding_id, job_id = await claimed(repositories)
    begun = await repositories.api.get(embedding_id)
    assert (begun.submitted_url, begun.submitted_at) == ("", None)
    await repositories.work.save_submission(embedding_id, job_id, "https://s3.test/1?signature=s", key_fingerprint="k")
    asked = await repositories.work.claim(embedding_id, job_id)
    assert asked.submitted_url == "https://s3.test/1?signature=s"
    assert asked.submitted_key == "k"
    assert asked.submitted_at >= begun.start_time
    await repositories.work.save_submission(embedding_id, job_id, "https://s3.test/2?signature=s", key_fingerprint="k")
    assert (await repositories.api.get(embedding_id)).submitted_url == "https://s3.test/2?signature=s"
    await repositories.work.save_task(embedding_id, job_id, "task-1")
    known = await repositories.api.get(embedding_id)
    assert (known.submitted_url, known.provider_task_id) == ("https://s3.test/2?signature=s", "task-1")
    assert known.submitted_at is not None


async def test_a_new_or_refused_submission_replaces_the_task(repositories):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.save_submission(embedding_id, job_id, "https://s3.test/1", key_fingerprint="k")
    await repositories.work.save_task(embedding_id, job_id, "task-1")
    await repositories.work.save_submission(embedding_id, job_id, "https://s3.test/2", key_fingerprint="k")
    again = await repositories.api.get(embedding_id)
    assert (again.submitted_url, again.provider_task_id) == ("https://s3.test/2", "")
    await repositories.work.save_submission(embedding_id, job_id, "", key_fingerprint="")
    refused = await repositories.api.get(embedding_id)
    assert (refused.submitted_url, refused.submitted_at) == ("", None)


@pytest.mark.parametrize("task_id", ["task-1", ""])
@pytest.mark.parametrize("end", ["fail", "cancel"])
async def test_a_new_embedding_adopts_the_task_of_one_that_failed_or_was_cancelled(repositories, end, task_id):
    """Or its submission, which may have created a task. A task may be adopted again and again."""
    adopted = (task_id, "https://s3.test/1", "k", True)
    requested = plan()
    embedding_id, job_id = await claimed(repositories, requested)
    await repositories.work.save_submission(embedding_id, job_id, "https://s3.test/1", key_fingerprint="k")
    if task_id:
        await repositories.work.save_task(embedding_id, job_id, task_id)
    for _ in range(2):
        if end == "fail":
            job_id = await repositories.job_of(embedding_id)
            await repositories.work.fail(embedding_id, job_id, Failure(Reason.PROVIDER_FAILED, "No."))
        else:
            await repositories.api.cancel(embedding_id)
        embedding_id = (await create(repositories, requested)).id
        new = await repositories.work.claim(embedding_id, await repositories.job_of(embedding_id))
        assert (new.provider_task_id, new.submitted_url, new.submitted_key, new.task_adopted) == adopted
        assert new.submitted_at is not None
    await repositories.work.save_submission(
        embedding_id, await repositories.job_of(embedding_id), "https://s3.test/2", key_fingerprint="k"
    )
    assert not (await repositories.api.get(embedding_id)).task_adopted


async def test_no_task_is_adopted_by_another_recipe_or_force_or_while_it_is_in_use(repositories):
    requested = plan()
    embedding_id, job_id = await claimed(repositories, requested)
    await repositories.work.save_submission(embedding_id, job_id, "https://s3.test/1", key_fingerprint="k")
    await repositories.work.save_task(embedding_id, job_id, "task-1")
    await repositories.api.cancel(embedding_id)
    other = await create(repositories, replace(requested, clip_seconds=3.0))
    forced = await create(repositories, requested, force=True)
    assert (other.provider_task_id, forced.provider_task_id) == ("", "")
    await repositories.api.cancel(forced.id)
    user = await create(repositories, requested)
    assert user.provider_task_id == "task-1"
    forced = await create(repositories, requested, force=True)
    await repositories.api.cancel(forced.id)
    assert (await create(repositories, requested)).provider_task_id == ""


async def test_a_claim_states_the_time_of_the_repository(repositories):
    embedding_id, job_id = await claimed(repositories)
    claimed_again = await repositories.work.claim(embedding_id, job_id)
    assert claimed_again.claim_time >= claimed_again.start_time


async def test_a_task_belongs_to_one_embedding(repositories):
    first_id, first_job = await claimed(repositories)
    await repositories.work.save_task(first_id, first_job, "task-1")
    await repositories.work.save_task(first_id, first_job, "task-1")
    second_id, second_job = await claimed(repositories)
    with pytest.raises(SageError) as caught:
        await repositories.work.save_task(second_id, second_job, "task-1")
    assert caught.value.reason is Reason.PROVIDER_FAILED
    assert (await repositories.api.get(second_id)).provider_task_id == ""
    other_id, other_job = await claimed(repositories, replace(plan(), provider="others"))
    await repositories.work.save_task(other_id, other_job, "task-1")


async def test_cancelling_says_whether_the_provider_may_still_bill(repositories):
    marengo = replace(plan(), provider="twelvelabs")
    billed = "Cancelled. TwelveLabs has no way to stop a task, so it may still bill this one."
    waiting = await create(repositories, marengo)
    assert (await repositories.api.cancel(waiting.id)).progress.message == "Cancelled."
    begun_id, _ = await claimed(repositories, marengo)
    assert (await repositories.api.cancel(begun_id)).progress.message == "Cancelled."
    asked_id, job_id = await claimed(repositories, marengo)
    await repositories.work.save_submission(asked_id, job_id, "https://s3.test/1", key_fingerprint="k")
    assert (await repositories.api.cancel(asked_id)).progress.message == billed
    started_id, job_id = await claimed(repositories, marengo)
    await repositories.work.save_task(started_id, job_id, "task-1")
    cancelled = await repositories.api.cancel(started_id)
    assert cancelled.progress.message == billed
    assert await repositories.api.cancel(started_id) == cancelled


async def test_completing_drops_tracks_without_segments_and_keeps_the_plan(repositories):
    embedding_id, job_id = await claimed(repositories, plan(tracks=("audio", "transcription", "visual")))
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    assert [track.name for track in (await repositories.api.get(embedding_id)).tracks] == [
        "audio",
        "transcription",
        "visual",
    ]
    await repositories.work.complete(embedding_id, job_id, "Done.")
    done = await repositories.api.get(embedding_id)
    assert done.tracks == (Track("visual", 2, 0.0, 4.0),)
    assert done.plan.tracks == ("audio", "transcription", "visual")


async def test_an_embedding_may_complete_without_any_track(repositories):
    embedding_id, job_id = await claimed(repositories, plan(tracks=("transcription",)))
    await repositories.work.complete(embedding_id, job_id, "Done.")
    assert (await repositories.api.get(embedding_id)).tracks == ()


async def test_text_from_providers_is_stored_unchanged(repositories):
    words = 'no such file:\n\t"größe" 映画 🎬 %s {why} ' + "x" * 3000
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.save_progress(embedding_id, job_id, Progress(0.1, "half \ud83d of one"))
    assert (await repositories.api.get(embedding_id)).progress.message == "half ? of one"
    await repositories.work.fail(embedding_id, job_id, Failure(Reason.PROVIDER_FAILED, words))
    assert (await repositories.api.get(embedding_id)).failure.message == words


async def test_every_change_increments_the_revision(repositories):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.save_submission(embedding_id, job_id, "https://s3.test/1", key_fingerprint="k")
    await repositories.work.save_task(embedding_id, job_id, "task-1")
    await repositories.work.save_progress(embedding_id, job_id, Progress(0.1, "A tenth."))
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=Progress(0.4, "More."))
    await repositories.work.complete(embedding_id, job_id, "Done.")
    assert (await repositories.api.get(embedding_id)).revision == 7


async def test_progress_never_decreases(repositories):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.save_progress(embedding_id, job_id, Progress(0.5, "Half."))
    await repositories.work.save_progress(embedding_id, job_id, Progress(0.2, "Less."))
    assert (await repositories.api.get(embedding_id)).progress == Progress(0.5, "Less.")
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 1)], progress=Progress(0.3, "Still less."))
    assert (await repositories.api.get(embedding_id)).progress == Progress(0.5, "Still less.")


async def test_segments_are_read_as_they_were_stored(repositories):
    embedding_id, job_id = await claimed(repositories)
    for first_index, count in ((0, 3), (3, 1), (4, 4)):
        await repositories.work.append(embedding_id, job_id, "visual", [chunk(first_index, count)], progress=None)
    for first_index in range(8):
        for max_segments in (1, 2, 5, 100):
            segments = await repositories.api.read_segments(
                embedding_id, "visual", first_index=first_index, max_segments=max_segments
            )
            # It may return fewer segments than requested, but never more, and never none.
            expected = chunk(first_index, len(segments))
            assert 1 <= len(segments) <= max_segments
            assert segments.first_index == first_index
            assert segments.vectors == expected.vectors
            np.testing.assert_array_equal(segments.start_seconds, expected.start_seconds)
            np.testing.assert_array_equal(segments.end_seconds, expected.end_seconds)
    assert await repositories.api.read_segments(embedding_id, "visual", first_index=8, max_segments=9) is None
    assert await repositories.api.read_segments(embedding_id, "audio", first_index=0, max_segments=9) is None


async def test_segments_that_do_not_follow_are_refused(repositories):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    before = await repositories.api.get(embedding_id)
    for track, chunks in (("visual", [chunk(2, 1), chunk(4, 1)]), ("visual", [chunk(0, 2)]), ("audio", [chunk(0, 1)])):
        with pytest.raises(ValueError, match="follow"):
            await repositories.work.append(embedding_id, job_id, track, chunks, progress=None)
    assert await repositories.api.get(embedding_id) == before


async def test_a_completed_embedding_can_neither_fail_nor_be_cancelled(repositories):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    await repositories.work.complete(embedding_id, job_id, "Done.")
    done = await repositories.api.get(embedding_id)
    assert (done.state, done.progress, done.finish_time is not None) == (State.COMPLETED, Progress(1.0, "Done."), True)
    with pytest.raises(WorkLostError):
        await repositories.work.fail(embedding_id, job_id, Failure(Reason.INTERNAL, "No."))
    assert await repositories.api.cancel(embedding_id) == done
    assert await repositories.api.count_unfinished() == 0


async def test_a_failure_keeps_its_reason_and_drops_the_vectors(repositories):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    await repositories.work.fail(embedding_id, job_id, Failure(Reason.PROVIDER_FAILED, "It broke\0."))
    failed = await repositories.api.get(embedding_id)
    assert failed.state is State.FAILED
    assert failed.failure.reason is Reason.PROVIDER_FAILED
    assert failed.failure.message.startswith("It broke")
    assert failed.tracks == (Track("visual"),)
    assert await repositories.api.read_segments(embedding_id, "visual", first_index=0, max_segments=9) is None


@pytest.mark.parametrize("end", ["cancel", "delete"])
async def test_nothing_is_written_after_cancel_or_delete(repositories, end):
    embedding_id, job_id = await claimed(repositories)
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 2)], progress=None)
    await getattr(repositories.api, end)(embedding_id)
    after = await repositories.api.get(embedding_id)
    work = repositories.work
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
    assert await repositories.api.get(embedding_id) == after
    assert after is None or (after.state, after.tracks) == (State.CANCELLED, (Track("visual"),))


async def test_a_replaced_job_can_write_nothing_and_the_new_one_resumes(repositories):
    embedding_id, old_job = await claimed(repositories)
    await repositories.work.append(embedding_id, old_job, "visual", [chunk(0, 2)], progress=None)
    await repositories.work.requeue(embedding_id, old_job, delay=timedelta(0), message="Again.", counts_as_attempt=True)
    new_job = await repositories.job_of(embedding_id)
    assert new_job != old_job
    with pytest.raises(WorkLostError):
        await repositories.work.append(embedding_id, old_job, "visual", [chunk(2, 1)], progress=None)
    with pytest.raises(WorkLostError):
        await repositories.work.requeue(
            embedding_id, old_job, delay=timedelta(0), message="Twice.", counts_as_attempt=True
        )
    resumed = await repositories.work.claim(embedding_id, new_job)
    assert (resumed.tracks[0].segment_count, resumed.attempts) == (2, 1)


async def test_stored_segments_reset_the_count_of_attempts(repositories):
    embedding_id, job_id = await claimed(repositories)
    for counts in (True, True, False):
        await repositories.work.requeue(
            embedding_id, job_id, delay=timedelta(0), message="Again.", counts_as_attempt=counts
        )
        job_id = await repositories.job_of(embedding_id)
    assert (await repositories.work.claim(embedding_id, job_id)).attempts == 2
    await repositories.work.append(embedding_id, job_id, "visual", [chunk(0, 1)], progress=None)
    assert (await repositories.api.get(embedding_id)).attempts == 0


async def test_only_unfinished_work_of_dead_workers_is_lost(repositories):
    lost_id, lost_job = await claimed(repositories)
    finished_id, finished_job = await claimed(repositories)
    await claimed(repositories)
    await repositories.work.complete(finished_id, finished_job, "Done.")
    await repositories.lose(lost_job)
    await repositories.lose(finished_job)
    found = await repositories.work.lost(silent_for=timedelta(seconds=60), limit=10)
    assert [(embedding.id, job_id) for embedding, job_id in found] == [(lost_id, lost_job)]


async def test_concurrent_creates_with_one_request_id_make_one_embedding(repositories):
    # Their recipes differ, so only the request ID connects them.
    made = await asyncio.gather(*(create(repositories, request_id="same") for _ in range(8)))
    assert len({embedding.id for embedding in made}) == 1
    assert await repositories.api.count_unfinished() == 1
