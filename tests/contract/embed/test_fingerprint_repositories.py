"""The contract of the repositories of fingerprints, over the fake and PostgreSQL."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
from fakes.fingerprints import FakeFingerprintRepository
from sage_embed.embeddings.model import Failure, Progress, State, Video, WorkLostError
from sage_embed.embeddings.postgres import PostgresEmbeddingRepository
from sage_embed.fingerprints.model import VERSION, StoredObject, object_key
from sage_embed.fingerprints.postgres import PostgresFingerprintRepository, PostgresFingerprintSweep
from sage_embed.jobs.postgres import PostgresWorkRepository
from sage_embed.jobs.queue import JobQueue
from sage_runtime.api import new_id
from sage_runtime.errors import Reason
from support.fingerprint_repositories import Fingerprints, make_video, plan

HOUR = timedelta(hours=1)


@pytest.fixture
def fake_fingerprints() -> Fingerprints:
    repository = FakeFingerprintRepository()

    async def job_of(video_id: str) -> int:
        return repository.job_of(video_id)

    async def make_older(video_id: str) -> None:
        repository.make_older(video_id)

    async def embed(video: Video) -> None:
        repository.embedded.add(video.id)

    async def discarded() -> list[str]:
        return sorted(repository.discarded)

    async def lose(job_id: int) -> None:
        repository.lost_jobs.add(job_id)

    return Fingerprints(repository, repository, job_of, make_older, embed, discarded, lose)


@pytest.fixture(params=["fake", "postgres"])
def fingerprints(request) -> Fingerprints:
    """Return the fake repositories, then those over PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_fingerprints")


@pytest.fixture
def video() -> Video:
    return make_video()


async def test_a_video_has_one_fingerprint(fingerprints, video):
    assert await fingerprints.api.reuse(video.id, request_id="") is None
    created = await fingerprints.api.create(video, request_id="")
    assert (created.state, created.version, created.revision) == (State.PENDING, VERSION, 1)
    assert created.video == video
    job_id = await fingerprints.job_of(video.id)
    assert await fingerprints.api.reuse(video.id, request_id="") == created
    assert (await fingerprints.api.create(video, request_id="")).create_time == created.create_time
    assert await fingerprints.job_of(video.id) == job_id
    assert await fingerprints.api.count_unfinished() == 1


async def test_concurrent_requests_record_one(fingerprints, video):
    found = await asyncio.gather(*(fingerprints.api.create(video, request_id=str(n)) for n in range(8)))
    assert len({one.create_time for one in found}) == 1


async def test_stored_objects_are_listed_in_order_and_counted(fingerprints, video):
    job_id = await fingerprints.begin(video)
    objects = [await fingerprints.store(video, job_id, first_block=first) for first in (0, 2, 4)]
    await fingerprints.work.complete(video.id, job_id, "Done.")
    done = await fingerprints.api.get(video.id)
    assert (done.state, done.block_count, done.frame_count, done.size_bytes) == (State.COMPLETED, 6, 150, 600)
    assert done.progress == Progress(1.0, "Done.")
    assert await fingerprints.api.objects(video.id) == objects


async def test_blocks_that_do_not_follow_are_refused(fingerprints, video):
    job_id = await fingerprints.begin(video)
    await fingerprints.store(video, job_id, first_block=0)
    with pytest.raises(ValueError, match="follow"):
        await fingerprints.store(video, job_id, first_block=3)
    assert (await fingerprints.api.get(video.id)).block_count == 2


async def test_another_job_continues_and_locks_out_the_first(fingerprints, video):
    old = await fingerprints.begin(video)
    first = await fingerprints.store(video, old, first_block=0)
    unstored = StoredObject(object_key(video.id, job_id=old, first_block=2), 2, 1, 100)
    await fingerprints.work.begin_object(video.id, old, unstored)
    await fingerprints.work.requeue(video.id, old, delay=timedelta(0), message="Again.", counts_as_attempt=True)
    new = await fingerprints.job_of(video.id)
    claimed = await fingerprints.work.claim(video.id, new)
    assert (claimed.block_count, claimed.attempts) == (2, 1)
    assert await fingerprints.api.objects(video.id) == [first]
    assert await fingerprints.discarded() == [unstored.key]
    for lost in (
        fingerprints.work.claim(video.id, old),
        fingerprints.work.save_progress(video.id, old, Progress(1, "")),
        fingerprints.work.begin_object(video.id, old, unstored),
        fingerprints.work.append(video.id, old, unstored, frame_count=1, progress=Progress(1, "")),
        fingerprints.work.complete(video.id, old, ""),
        fingerprints.work.fail(video.id, old, Failure(Reason.INTERNAL, "")),
        fingerprints.work.requeue(video.id, old, delay=timedelta(0), message="", counts_as_attempt=False),
    ):
        with pytest.raises(WorkLostError):
            await lost


@pytest.mark.parametrize("ending", ["cancelled", "failed", "older"])
async def test_one_that_cannot_be_used_is_made_again(fingerprints, video, ending):
    job_id = await fingerprints.begin(video)
    stored = await fingerprints.store(video, job_id, first_block=0)
    if ending == "cancelled":
        assert (await fingerprints.api.cancel(video.id)).state is State.CANCELLED
    elif ending == "failed":
        await fingerprints.work.fail(video.id, job_id, Failure(Reason.PROVIDER_FAILED, "It broke."))
        assert (await fingerprints.api.get(video.id)).failure == Failure(Reason.PROVIDER_FAILED, "It broke.")
    else:
        await fingerprints.work.complete(video.id, job_id, "Done.")
        await fingerprints.make_older(video.id)
    before = await fingerprints.api.get(video.id)
    assert await fingerprints.api.reuse(video.id, request_id="") is None
    again = await fingerprints.api.create(video, request_id="")
    assert (again.state, again.version, again.block_count, again.failure) == (State.PENDING, VERSION, 0, None)
    assert again.revision > before.revision
    assert await fingerprints.api.objects(video.id) == []
    assert await fingerprints.discarded() == [stored.key]


async def test_a_worker_starts_one_of_an_older_version_again(fingerprints, video):
    job_id = await fingerprints.begin(video)
    stored = await fingerprints.store(video, job_id, first_block=0)
    await fingerprints.make_older(video.id)
    claimed = await fingerprints.work.claim(video.id, job_id)
    assert (claimed.version, claimed.block_count) == (VERSION, 0)
    assert await fingerprints.discarded() == [stored.key]


async def test_a_withdrawn_request_cancels_only_if_no_other_is_left(fingerprints, video):
    await fingerprints.api.create(video, request_id="a")
    await fingerprints.api.reuse(video.id, request_id="b")
    assert (await fingerprints.api.cancel(video.id, withdrawing="a")).state is State.PENDING
    assert (await fingerprints.api.cancel(video.id, withdrawing="b")).state is State.CANCELLED


async def test_a_request_without_an_id_cannot_be_withdrawn(fingerprints, video):
    await fingerprints.api.create(video, request_id="")
    await fingerprints.api.reuse(video.id, request_id="a")
    assert (await fingerprints.api.cancel(video.id, withdrawing="a")).state is State.PENDING
    assert (await fingerprints.api.cancel(video.id)).state is State.CANCELLED


async def test_an_unfinished_embedding_keeps_it(fingerprints, video):
    await fingerprints.api.create(video, request_id="a")
    await fingerprints.embed(video)
    assert (await fingerprints.api.cancel(video.id, withdrawing="a")).state is State.PENDING


async def test_a_deleted_one_is_gone_with_its_work(fingerprints, video):
    job_id = await fingerprints.begin(video)
    stored = await fingerprints.store(video, job_id, first_block=0)
    assert await fingerprints.api.delete(video.id)
    assert not await fingerprints.api.delete(video.id)
    assert await fingerprints.api.get(video.id) is None
    assert await fingerprints.api.cancel(video.id) is None
    with pytest.raises(WorkLostError):
        await fingerprints.work.complete(video.id, job_id, "")
    assert await fingerprints.discarded() == [stored.key]


async def test_work_of_a_lost_worker_is_found(fingerprints, video):
    job_id = await fingerprints.begin(video)
    assert await fingerprints.work.lost(silent_for=HOUR, limit=9) == []
    await fingerprints.lose(job_id)
    assert [(one.id, job) for one, job in await fingerprints.work.lost(silent_for=HOUR, limit=9)] == [
        (video.id, job_id)
    ]


@pytest.mark.parametrize(("provider", "jobs"), [("local", {}), ("twelvelabs", {"todo": 1})])
async def test_a_new_embedding_creates_the_fingerprint_of_its_video(pool, count_jobs, video, provider, jobs):
    repository = PostgresEmbeddingRepository(pool, JobQueue())
    await repository.create(new_id("embed"), plan(video, provider=provider), request_id="", fingerprint="")
    assert (await PostgresFingerprintRepository(pool, JobQueue()).get(video.id)).video == video
    assert await count_jobs("embed") == {"todo": 1}
    # The local model's job makes it.
    assert await count_jobs("fingerprint") == jobs


@dataclass(frozen=True)
class Shared:
    """A fingerprint that shares the job of an embedding, with two stored blocks."""

    embeddings: PostgresEmbeddingRepository
    embedding_id: str
    embedding_work: PostgresWorkRepository
    job_id: int
    stored: StoredObject


@pytest.fixture
async def shared(pool, postgres_fingerprints, video) -> Shared:
    embeddings = PostgresEmbeddingRepository(pool, JobQueue())
    embedding = await embeddings.create(new_id("embed"), plan(video, provider="local"), request_id="", fingerprint="")
    job_id = await postgres_fingerprints.job_of(video.id)
    work = PostgresWorkRepository(pool, JobQueue())
    await work.claim(embedding.id, job_id)
    await postgres_fingerprints.work.claim(video.id, job_id)
    stored = await postgres_fingerprints.store(video, job_id, first_block=0)
    return Shared(embeddings, embedding.id, work, job_id, stored)


@pytest.mark.parametrize("ending", ["fail", "cancel", "delete"])
async def test_a_shared_fingerprint_outlives_its_embedding(
    pool, postgres_fingerprints, count_jobs, video, shared, ending
):
    if ending == "fail":
        await shared.embedding_work.fail(shared.embedding_id, shared.job_id, Failure(Reason.INTERNAL, ""))
    elif ending == "cancel":
        await shared.embeddings.cancel(shared.embedding_id)
    else:
        await shared.embeddings.delete(shared.embedding_id)
    job_id = await postgres_fingerprints.job_of(video.id)
    assert job_id != shared.job_id
    assert await count_jobs("fingerprint") == {"todo": 1}
    with pytest.raises(WorkLostError):
        await postgres_fingerprints.work.complete(video.id, shared.job_id, "")
    claimed = await postgres_fingerprints.work.claim(video.id, job_id)
    assert (claimed.block_count, claimed.attempts) == (2, 0)
    assert await postgres_fingerprints.api.objects(video.id) == [shared.stored]


async def test_a_shared_fingerprint_is_requeued_with_its_embedding(
    pool, postgres_fingerprints, count_jobs, video, shared
):
    await postgres_fingerprints.lose(shared.job_id)
    # Only the embedding is recovered.
    assert await postgres_fingerprints.work.lost(silent_for=HOUR, limit=9) == []
    ((_, lost_job_id),) = await shared.embedding_work.lost(silent_for=HOUR, limit=9)
    await shared.embedding_work.requeue(
        shared.embedding_id, lost_job_id, delay=timedelta(0), message="", counts_as_attempt=True
    )
    assert await count_jobs("fingerprint") == {}
    job_id = await postgres_fingerprints.job_of(video.id)
    assert job_id != shared.job_id
    await shared.embedding_work.claim(shared.embedding_id, job_id)
    assert (await postgres_fingerprints.work.claim(video.id, job_id)).block_count == 2


@pytest.mark.parametrize("ending", ["cancel", "delete"])
async def test_an_embedding_outlives_the_fingerprint_that_shares_its_job(
    pool, postgres_fingerprints, count_jobs, video, shared, ending
):
    await getattr(postgres_fingerprints.api, ending)(video.id)
    assert await postgres_fingerprints.discarded() == [shared.stored.key]
    assert await count_jobs("embed") == {"todo": 1}
    # It is made again by a separate job, which the embedding's cannot disturb.
    await postgres_fingerprints.api.create(video, request_id="")
    assert await count_jobs("embed") == await count_jobs("fingerprint") == {"todo": 1}
    with pytest.raises(WorkLostError):
        await postgres_fingerprints.work.claim(video.id, shared.job_id)
    await shared.embedding_work.complete(shared.embedding_id, shared.job_id, "Done.")


async def test_reusing_an_embedding_creates_a_missing_fingerprint_but_repeats_no_failed_one(pool, video):
    fingerprints = PostgresFingerprintRepository(pool, JobQueue())
    repository = PostgresEmbeddingRepository(pool, JobQueue())
    await repository.create(new_id("embed"), plan(video), request_id="", fingerprint="")
    await fingerprints.delete(video.id)
    await repository.reuse(plan(video).recipe, request_id="", fingerprint="")
    assert (await fingerprints.get(video.id)).state is State.PENDING
    await fingerprints.cancel(video.id)
    await repository.reuse(plan(video).recipe, request_id="", fingerprint="")
    assert (await fingerprints.get(video.id)).state is State.CANCELLED


async def test_only_videos_without_an_embedding_are_checked(pool):
    fingerprints, sweep = PostgresFingerprintRepository(pool, JobQueue()), PostgresFingerprintSweep(pool, JobQueue())
    embedded, alone = make_video(), make_video()
    repository = PostgresEmbeddingRepository(pool, JobQueue())
    embedding = await repository.create(new_id("embed"), plan(embedded), request_id="", fingerprint="")
    await fingerprints.create(alone, request_id="")
    assert await sweep.claim_unchecked(older_than=HOUR, limit=9) == []
    assert await sweep.claim_unchecked(older_than=timedelta(0), limit=9) == [alone.id]
    assert not await sweep.delete(embedded.id)
    await repository.delete(embedding.id)
    assert await sweep.delete(embedded.id)


async def test_a_discarded_object_is_returned_to_one_sweep_once_its_time_has_come(pool, postgres_fingerprints, video):
    sweep = PostgresFingerprintSweep(pool, JobQueue())
    job_id = await postgres_fingerprints.begin(video)
    stored = await postgres_fingerprints.store(video, job_id, first_block=0)
    await postgres_fingerprints.api.delete(video.id)
    # A client may still be reading it.
    assert await sweep.claim_discarded(again_after=HOUR, limit=9) == []
    assert await postgres_fingerprints.discarded() == [stored.key]
    assert await sweep.claim_discarded(again_after=HOUR, limit=9) == []
    await sweep.forget([stored.key])
    assert await postgres_fingerprints.discarded() == []
