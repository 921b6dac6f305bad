"""Long fingerprints in parts, over PostgreSQL."""

import importlib.resources
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sage.ingest.v1 import media_pb2
from sage_embed.config import SCHEMA
from sage_embed.embeddings.model import Failure, Progress, State, Video, WorkLostError
from sage_embed.fingerprints.model import VERSION, Part, StoredObject, object_key, progress_at
from sage_embed.fingerprints.postgres import PostgresFingerprintRepository
from sage_embed.fingerprints.postgres_work import PostgresFingerprintWork
from sage_embed.jobs.queue import JobQueue, fingerprint_queue_of, migrate_all
from sage_runtime.api import new_id
from sage_runtime.errors import Reason
from sage_runtime.postgres import migrate, open_pool
from support.fingerprint_repositories import Fingerprints

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Split:
    """A fingerprint of ten blocks in two parts, the first of which is claimed.

    Attributes:
        video: Its video.
        fingerprints: The repositories.
        jobs: The jobs of the parts.
    """

    video: Video
    fingerprints: Fingerprints
    jobs: tuple[int, int]

    async def store_all(self, part: int) -> list[StoredObject]:
        """Store the blocks of a part."""
        return [
            await self.fingerprints.store(self.video, self.jobs[part], first_block=first, blocks=blocks)
            for first, blocks in ((5 * part, 2), (5 * part + 2, 3))
        ]


async def _parts(pool, video: Video) -> list[int]:
    """Return the jobs of the parts of a fingerprint."""
    query = "SELECT job_id FROM fingerprint_parts WHERE fingerprint_id = %s ORDER BY end_block"
    async with pool.connection() as connection:
        return [row["job_id"] for row in await (await connection.execute(query, (video.id,))).fetchall()]


@pytest.fixture
async def split(pool, postgres_fingerprints) -> Split:
    video = Video(new_id("video"), duration_seconds=95.0, start_offset_seconds=0.0)
    await postgres_fingerprints.api.create(video, request_id="")
    job_id = await postgres_fingerprints.job_of(video.id)
    claimed = await postgres_fingerprints.work.claim(video.id, job_id, part_blocks=6)
    assert claimed.part == Part(0, 5)
    first, second = await _parts(pool, video)
    assert first == job_id
    return Split(video, postgres_fingerprints, (first, second))


JUMPING = media_pb2.Media(timestamps_jump=True).SerializeToString()


@pytest.mark.parametrize(("seconds", "media"), [(9.5, b""), (95.0, JUMPING)], ids=["short", "decoded from its start"])
async def test_what_would_not_gain_is_not_split(pool, postgres_fingerprints, seconds, media):
    video = Video(new_id("video"), duration_seconds=seconds, start_offset_seconds=0.0, media=media)
    await postgres_fingerprints.api.create(video, request_id="")
    job_id = await postgres_fingerprints.job_of(video.id)
    assert (await postgres_fingerprints.work.claim(video.id, job_id, part_blocks=1)).part is None
    assert await _parts(pool, video) == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_split_fingerprint_is_complete_with_its_last_part(pool, count_jobs, split, order):
    work, objects = split.fingerprints.work, []
    assert await count_jobs("fingerprint") == {"todo": 2}
    assert (await work.claim(split.video.id, split.jobs[1], part_blocks=6)).part == Part(5, 10)
    for done, part in enumerate(order):
        objects += await split.store_all(part)
        now = await split.fingerprints.api.get(split.video.id)
        assert now.progress == progress_at(50 * (done + 1), 95)
        assert now.state is State.PROCESSING
        await work.complete(split.video.id, split.jobs[part], "Done.")
    done = await split.fingerprints.api.get(split.video.id)
    assert (done.state, done.block_count, done.frame_count, done.size_bytes) == (State.COMPLETED, 10, 250, 1000)
    assert done.progress == Progress(1.0, "Done.")
    assert await split.fingerprints.api.objects(split.video.id) == sorted(objects, key=lambda one: one.first_block)
    assert await _parts(pool, split.video) == []


async def test_a_part_is_complete_only_with_all_its_blocks_and_has_no_others(split):
    await split.fingerprints.store(split.video, split.jobs[0], first_block=0, blocks=2)
    with pytest.raises(ValueError, match="ends at block 2, not 5"):
        await split.fingerprints.work.complete(split.video.id, split.jobs[0], "Done.")
    with pytest.raises(ValueError, match="follow"):
        await split.fingerprints.store(split.video, split.jobs[1], first_block=2)
    with pytest.raises(psycopg.errors.CheckViolation):
        await split.fingerprints.store(split.video, split.jobs[0], first_block=2, blocks=4)


async def test_a_part_is_resumed_by_another_job_and_disturbs_no_other(pool, split):
    work, video = split.fingerprints.work, split.video
    stored = await split.fingerprints.store(video, split.jobs[1], first_block=5)
    sending = {}
    for job_id, first in ((split.jobs[0], 0), (split.jobs[1], 7)):
        sending[job_id] = StoredObject(object_key(video.id, job_id=job_id, first_block=first), first, 1, 100)
        await work.begin_object(video.id, job_id, sending[job_id])
    await split.fingerprints.lose(split.jobs[1])
    ((lost, job_id),) = await work.lost(silent_for=HOUR, limit=9)
    assert (lost.id, lost.part, job_id) == (video.id, Part(7, 10), split.jobs[1])
    await work.requeue(video.id, job_id, delay=timedelta(0), message="Again.", counts_as_attempt=True)
    first, new = await _parts(pool, video)
    assert (first, new != split.jobs[1]) == (split.jobs[0], True)
    with pytest.raises(WorkLostError):
        await work.complete(video.id, split.jobs[1], "Done.")
    claimed = await work.claim(video.id, new, part_blocks=1)
    assert (claimed.part, claimed.attempts) == (Part(7, 10), 1)
    assert await split.fingerprints.api.objects(video.id) == [stored]
    assert await split.fingerprints.discarded() == [sending[split.jobs[1]].key]
    # The other job continues where it was.
    await work.append(video.id, split.jobs[0], sending[split.jobs[0]], frame_count=25, progress=Progress(0, ""))


@pytest.mark.parametrize("ending", ["cancel", "delete", "fail", "renew"])
async def test_what_ends_a_split_fingerprint_ends_all_its_parts(pool, count_jobs, split, ending):
    video, objects = split.video, await split.store_all(0)
    if ending == "fail":
        await split.fingerprints.work.fail(video.id, split.jobs[1], Failure(Reason.PROVIDER_FAILED, "It broke."))
        # The job that failed is about to end.
        assert await count_jobs("fingerprint") == {"todo": 1}
    elif ending == "renew":
        await split.fingerprints.make_older(video.id)
        await split.fingerprints.api.create(video, request_id="")
        assert await count_jobs("fingerprint") == {"todo": 1}
    else:
        await getattr(split.fingerprints.api, ending)(video.id)
        assert await count_jobs("fingerprint") == {}
    assert await _parts(pool, video) == []
    assert await split.fingerprints.discarded() == sorted(one.key for one in objects)
    for job_id in split.jobs:
        with pytest.raises(WorkLostError):
            await split.fingerprints.work.complete(video.id, job_id, "Done.")


async def test_a_split_one_of_an_older_version_is_split_again(pool, split):
    await split.store_all(0)
    await split.fingerprints.make_older(split.video.id)
    claimed = await split.fingerprints.work.claim(split.video.id, split.jobs[1], part_blocks=6)
    assert (claimed.version, claimed.block_count, claimed.part) == (VERSION, 0, Part(0, 5))
    first, second = await _parts(pool, split.video)
    assert (first, second in split.jobs) == (split.jobs[1], False)
    with pytest.raises(WorkLostError):
        await split.fingerprints.work.complete(split.video.id, split.jobs[0], "Done.")


async def test_only_what_is_missing_is_split(pool, postgres_fingerprints):
    video = Video(new_id("video"), duration_seconds=95.0, start_offset_seconds=0.0)
    job_id = await postgres_fingerprints.begin(video)
    await postgres_fingerprints.store(video, job_id, first_block=0)
    assert (await postgres_fingerprints.work.claim(video.id, job_id, part_blocks=4)).part == Part(2, 6)
    # Once there are parts, they stay as they are.
    assert (await postgres_fingerprints.work.claim(video.id, job_id, part_blocks=1)).part == Part(2, 6)


async def test_parts_do_not_make_way_for_each_other(split):
    work, queue_name = split.fingerprints.work, fingerprint_queue_of(begun=True)
    assert await work.others_wait([queue_name])
    assert not await work.others_wait([queue_name], than=split.video.id)
    assert await work.others_wait([queue_name], than=new_id("video"))


def _migrate_before_parts(dsn: str, folder: Path) -> None:
    """Bring a database to the schema before fingerprints had parts."""
    for file in (importlib.resources.files("sage_embed") / "migrations").iterdir():
        if file.name < "0010":
            (folder / file.name).write_text(file.read_text())
    migrate(dsn, schema=SCHEMA, migrations=folder)


async def test_a_fingerprint_begun_before_there_were_parts_is_split_when_it_is_resumed(make_database, tmp_path):
    dsn = make_database()
    _migrate_before_parts(dsn, tmp_path)
    with psycopg.connect(dsn, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute(
            "INSERT INTO fingerprints (id, version, video_duration_seconds, video_start_offset_seconds, "
            "video_has_audio, video_size_bytes, video_width, video_height, video_media, state, progress, job_id, "
            "attempts, block_count, frame_count, size_bytes) VALUES ('video_1', %s, 95, 0, false, 1, 64, 48, '', "
            "'PROCESSING', 0.2, 7, 1, 2, 50, 200)",
            (VERSION,),
        )
        connection.execute("INSERT INTO fingerprint_objects VALUES ('key', 'video_1', 0, 2, 200, true, NULL)")
    migrate_all(dsn, schema=SCHEMA)
    async with await open_pool(dsn, schema=SCHEMA) as pool:
        api, work = PostgresFingerprintRepository(pool, JobQueue()), PostgresFingerprintWork(pool, JobQueue())
        ((lost, job_id),) = await work.lost(silent_for=HOUR, limit=9)
        assert (lost.block_count, lost.attempts, lost.part, job_id) == (2, 1, None, 7)
        claimed = await work.claim("video_1", 7, part_blocks=4)
        assert (claimed.part, claimed.attempts) == (Part(2, 6), 0)
        assert [one.key for one in await api.objects("video_1")] == ["key"]
        ((lost, job_id),) = await work.lost(silent_for=HOUR, limit=9)
        assert (lost.part, job_id) == (Part(2, 6), 7)
