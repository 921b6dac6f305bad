"""One job of a fingerprint, without a queue, and the sweep."""

import pytest
from fakes.embed import InMemoryVideoCatalog, Script
from fakes.fingerprints import FakeFingerprintRepository, InMemoryFingerprintObjects, ScriptedMaker, block_bytes
from sage_embed.app import describe
from sage_embed.config import WorkerSettings
from sage_embed.embeddings.model import State, Video
from sage_embed.fingerprints import run as fingerprint_run
from sage_embed.fingerprints.model import VERSION
from sage_embed.fingerprints.run import FingerprintRunner
from sage_embed.fingerprints.sweep import Sweeper
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError

VIDEO = Video(new_id("video"), duration_seconds=9.5, start_offset_seconds=0.0)
SETTINGS = WorkerSettings(
    database_url="postgresql://",
    s3_bucket="none",
    max_attempts=3,
    retry_base_s=0.001,
    retry_max_s=0.004,
    fingerprint_object_bytes=2000,
)
EXPECTED = [block_bytes(VIDEO.id, index) for index in range(10)]


class Setting:
    """A runner with fakes around it."""

    def __init__(self, script: Script, settings: WorkerSettings = SETTINGS) -> None:
        self.repository = FakeFingerprintRepository()
        self.objects = InMemoryFingerprintObjects()
        self.videos = InMemoryVideoCatalog(VIDEO)
        self.maker = ScriptedMaker(script)
        self.runner = FingerprintRunner(
            work=self.repository,
            objects=self.objects,
            videos=self.videos,
            maker=self.maker,
            settings=settings,
            describe=describe,
        )

    async def run(self):
        """Run the fingerprint's job once and return the fingerprint."""
        await self.repository.create(VIDEO, request_id="")
        await self.runner.run(VIDEO.id, self.repository.job_of(VIDEO.id))
        return self.repository.records[VIDEO.id].fingerprint

    async def data(self) -> bytes:
        """Return the stored bytes."""
        return b"".join([self.objects.objects[one.key] for one in await self.repository.objects(VIDEO.id)])


@pytest.fixture
def setting(tmp_path) -> Setting:
    return Setting(Script(tmp_path))


def unavailable(store: str) -> SageError:
    return SageError(Reason.STORE_UNAVAILABLE, store=store)


async def test_blocks_are_gathered_into_objects(setting):
    done = await setting.run()
    assert (done.state, done.block_count, done.size_bytes) == (State.COMPLETED, 10, 10_000)
    assert [len(data) for data in setting.objects.objects.values()] == [2000] * 5
    assert await setting.data() == b"".join(EXPECTED)


async def test_small_blocks_are_stored_after_a_while(tmp_path):
    hurried = SETTINGS.model_copy(update={"fingerprint_object_bytes": 10**6, "fingerprint_store_s": 1e-9})
    setting = Setting(Script(tmp_path), hurried)
    assert (await setting.run()).state is State.COMPLETED
    assert len(setting.objects.objects) == 10


async def test_a_store_that_fails_in_the_middle_costs_one_object(setting):
    setting.objects.failures = [None, None, unavailable("fingerprint store")]
    paused = await setting.run()
    assert (paused.state, paused.block_count, paused.attempts) == (State.PROCESSING, 4, 1)
    assert paused.progress.message == "The fingerprint store cannot be reached. SAGE tries again in 1 s."
    done = await setting.run()
    assert done.state is State.COMPLETED
    assert await setting.data() == b"".join(EXPECTED)
    computed = setting.maker.script.computed()
    assert (computed.count("block 3"), computed.count("block 4")) == (1, 2)


async def test_an_object_that_the_database_does_not_know_of_is_made_again_and_swept(setting, monkeypatch):
    append, calls = setting.repository.append, []

    async def lose_once(*arguments, **values) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise unavailable("database")
        await append(*arguments, **values)

    monkeypatch.setattr(setting.repository, "append", lose_once)
    assert (await setting.run()).block_count == 2
    (lost,) = setting.objects.objects.keys() - {one.key for one in await setting.repository.objects(VIDEO.id)}
    assert (await setting.run()).state is State.COMPLETED
    assert await setting.data() == b"".join(EXPECTED)
    assert setting.repository.discarded == [lost]


async def test_failures_in_a_row_are_bounded_and_leave_nothing(setting):
    setting.objects.failures = [unavailable("fingerprint store")] * 9
    for _ in range(2):
        assert (await setting.run()).state is State.PROCESSING
    failed = await setting.run()
    assert failed.state is State.FAILED
    assert failed.failure.reason is Reason.STORE_UNAVAILABLE
    assert await setting.repository.objects(VIDEO.id) == []


async def test_a_film_that_is_gone_from_the_store_was_deleted(setting):
    async def make(request):
        # The URL outlives the video.
        setting.videos.videos.clear()
        raise SageError(Reason.STORE_MISCONFIGURED, store="video store", why="it does not have the film")
        yield

    setting.maker.make = make
    failed = await setting.run()
    assert (failed.state, failed.failure.reason) == (State.FAILED, Reason.VIDEO_NOT_FOUND)
    assert VIDEO.id in failed.failure.message


async def test_a_newer_version_is_left_to_a_newer_worker(setting, monkeypatch):
    monkeypatch.setattr(fingerprint_run, "VERSION", VERSION - 1)
    waiting = await setting.run()
    assert (waiting.state, waiting.block_count, waiting.version) == (State.PROCESSING, 0, VERSION)
    assert setting.repository.delays


async def test_blocks_out_of_order_are_a_bug_and_no_fingerprint(setting):
    async def make(request):
        async for block in ScriptedMaker(setting.maker.script).make(request):
            if block.index != 5:
                yield block

    setting.maker.make = make
    failed = await setting.run()
    assert (failed.state, failed.failure.reason) == (State.FAILED, Reason.INTERNAL)


class Sweep:
    """What is left over, for one sweep."""

    def __init__(self, *, unchecked: list[str], discarded: list[str]) -> None:
        self.unchecked, self.discarded = [unchecked], [discarded]
        self.deleted: list[str] = []
        self.forgotten: list[str] = []

    async def claim_unchecked(self, *, older_than, limit) -> list[str]:
        return self.unchecked.pop() if self.unchecked else []

    async def claim_discarded(self, *, again_after, limit) -> list[str]:
        return self.discarded.pop() if self.discarded else []

    async def forget(self, keys) -> None:
        self.forgotten += keys

    async def delete(self, video_id) -> bool:
        self.deleted.append(video_id)
        return True


async def test_only_videos_that_ingest_does_not_know_count_as_deleted(setting):
    class Videos(InMemoryVideoCatalog):
        async def get(self, video_id: str) -> Video:
            if video_id == "away":
                raise SageError(Reason.SERVICE_UNAVAILABLE, service="ingest")
            return await super().get(video_id)

    sweep = Sweep(unchecked=[VIDEO.id, "away", "video_gone"], discarded=["a", "b"])
    setting.objects.objects = {"a": b"1", "b": b"2", "c": b"3"}
    sweeper = Sweeper(sweep=sweep, objects=setting.objects, videos=Videos(VIDEO), settings=SETTINGS)
    await sweeper.sweep()
    assert sweep.deleted == ["video_gone"]
    assert sweep.forgotten == ["a", "b"]
    assert setting.objects.objects == {"c": b"3"}
