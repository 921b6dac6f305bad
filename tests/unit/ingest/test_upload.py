"""Uploads over stores in memory: stored and understood, or nothing left."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes.ingest import InMemoryUploadRecords, InMemoryVideoObjects, InMemoryVideoRecords, StubProber, unavailable
from sage_ingest.capacity import Capacity, UploadLimits
from sage_ingest.model import Video, VideoSpec, object_key
from sage_ingest.ports import UnreadableError
from sage_ingest.sweep import Sweeper
from sage_ingest.tasks import Unabandoned
from sage_ingest.upload import Uploads
from sage_runtime.errors import Reason, SageError
from support.waiting import until_turned

DATA = bytes(range(256)) * 10
SHA256 = hashlib.sha256(DATA).hexdigest()
SPEC = VideoSpec("a.mp4", "video/mp4", len(DATA), "")
LIMITS = UploadLimits(
    part_bytes=100, parts_in_flight=2, total_parts_in_flight=3, max_uploads=2, idle_s=0.05, lease_s=60.0
)


class Ingest:
    """Uploads and everything they stand on, with a clock that tests move.

    Attributes:
        now: The time of leases in seconds.
    """

    def __init__(self, limits: UploadLimits = LIMITS) -> None:
        self.now = 0.0
        self.records = InMemoryVideoRecords(lambda: self.now)
        self.objects = InMemoryVideoObjects()
        self.prober = StubProber()
        self.unabandoned = Unabandoned()
        self.uploads = Uploads(
            self.records, self.objects, self.prober, capacity=Capacity(limits), unabandoned=self.unabandoned
        )
        self.sweeper = Sweeper(
            self.records,
            InMemoryUploadRecords(self.records),
            self.objects,
            lease_s=60.0,
            interval_s=1.0,
            forget_s=60.0,
        )

    async def upload(self, data: bytes = DATA, *, spec: VideoSpec = SPEC, request_id: str = "") -> Video:
        return await self.uploads.upload(spec, _chunks(data), request_id=request_id)

    async def refused(self, data: bytes = DATA, *, spec: VideoSpec = SPEC, request_id: str = "") -> Reason:
        with pytest.raises(SageError) as raised:
            await self.upload(data, spec=spec, request_id=request_id)
        return raised.value.reason

    @property
    def nothing_is_left(self) -> bool:
        return self.objects.is_empty and not self.records.pending and not self.records.videos

    async def nothing_is_left_after_a_sweep(self) -> bool:
        self.now += 61
        await self.sweeper.sweep()
        return self.nothing_is_left


async def _chunks(data: bytes, size: int = 33) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def test_a_whole_file_becomes_a_video() -> None:
    """The bytes are in the store under the video's id, with their checksum, and nothing is pending."""
    ingest = Ingest()
    video = await ingest.upload()
    assert (video.size_bytes, video.sha256, video.media) == (len(DATA), SHA256, ingest.prober.answer)
    assert ingest.objects.objects == {object_key(video.id): DATA}
    assert ingest.records.videos == {video.id: video}
    assert not ingest.records.pending
    assert not ingest.objects.multiparts


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        (DATA[:-1], {}, Reason.SIZE_MISMATCH),
        (b"", {}, Reason.SIZE_MISMATCH),
        (DATA + b"x", {}, Reason.SIZE_MISMATCH),
        (DATA, {"sha256": "0" * 64}, Reason.CHECKSUM_MISMATCH),
    ],
)
async def test_bytes_other_than_declared_leave_nothing(data: bytes, changes: dict, reason: Reason) -> None:
    """Too few bytes, too many, or others than declared are refused, and nothing is left."""
    ingest = Ingest()
    assert await ingest.refused(data, spec=replace(SPEC, **changes)) is reason
    assert ingest.nothing_is_left


async def test_what_is_no_video_leaves_nothing() -> None:
    """A file that the prober refuses is deleted; the error has its name and why."""
    ingest = Ingest()
    ingest.prober.answer = UnreadableError("it is a cake")
    with pytest.raises(SageError) as raised:
        await ingest.upload()
    assert raised.value.reason is Reason.VIDEO_UNREADABLE
    assert raised.value.facts == {"filename": "a.mp4", "why": "it is a cake"}
    assert ingest.nothing_is_left


@pytest.mark.parametrize("stage", ["begin", "put_part", "complete", "probe", "add_video"])
async def test_a_cancelled_upload_leaves_nothing(stage: str) -> None:
    """Wherever an upload is cancelled, nothing is left: a commit that runs already ends first, and stands."""
    ingest = Ingest()
    part = {"probe": ingest.prober, "add_video": ingest.records}.get(stage, ingest.objects)
    gate = part.failures.close(stage)
    call = asyncio.ensure_future(ingest.upload())
    await until_turned(lambda: part.failures.calls[stage])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    await ingest.unabandoned.close()
    if stage == "add_video":
        assert len(ingest.records.videos) == len(ingest.objects.objects) == 1
        assert not ingest.records.pending
    else:
        assert ingest.nothing_is_left


async def test_cleaning_up_outlives_the_call() -> None:
    """A call that is cancelled again while it cleans up leaves nothing either."""
    ingest = Ingest()
    parts, discard = ingest.objects.failures.close("put_part"), ingest.objects.failures.close("discard")
    call = asyncio.ensure_future(ingest.upload())
    await until_turned(lambda: ingest.objects.failures.calls["put_part"])
    call.cancel()
    await until_turned(lambda: ingest.objects.failures.calls["discard"])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    parts.set()
    discard.set()
    await ingest.unabandoned.close()
    assert ingest.nothing_is_left


@pytest.mark.parametrize("method", ["begin", "put_part", "complete", "read", "discard"])
async def test_a_store_that_fails_leaves_nothing_after_a_sweep(method: str) -> None:
    """Where the object store fails, the upload fails with STORE_UNAVAILABLE and a sweep cleans up what is left."""
    ingest = Ingest()
    ingest.objects.failures.errors[method] = unavailable()
    if method == "read":
        ingest.prober.answer = unavailable()
    if method == "discard":
        ingest.prober.answer = UnreadableError("it is a cake")
    expected = Reason.VIDEO_UNREADABLE if method == "discard" else Reason.STORE_UNAVAILABLE
    assert await ingest.refused() is expected
    ingest.objects.failures.errors.clear()
    assert await ingest.nothing_is_left_after_a_sweep()


async def test_a_multipart_upload_whose_id_was_lost_is_swept() -> None:
    """An upload that began in the store although the answer was lost is found by its key."""
    ingest = Ingest()
    ingest.objects.failures.late_errors["begin"] = unavailable()
    assert await ingest.refused() is Reason.STORE_UNAVAILABLE
    assert ingest.records.pending, "the store may still begin it: the entry must stay"
    assert await ingest.nothing_is_left_after_a_sweep()


async def test_a_commit_without_an_answer_is_left_to_the_sweep() -> None:
    """A commit that happened though its answer was lost keeps its bytes: they belong to a video."""
    ingest = Ingest()
    ingest.records.failures.late_errors["add_video"] = unavailable()
    assert await ingest.refused() is Reason.STORE_UNAVAILABLE
    ingest.now += 61
    await ingest.sweeper.sweep()
    assert len(ingest.records.videos) == len(ingest.objects.objects) == 1


async def test_a_commit_that_failed_is_swept() -> None:
    """A commit that did not happen leaves an object that a sweep deletes."""
    ingest = Ingest()
    ingest.records.failures.errors["add_video"] = unavailable()
    assert await ingest.refused() is Reason.STORE_UNAVAILABLE
    assert await ingest.nothing_is_left_after_a_sweep()


async def test_a_database_that_is_away_stores_nothing() -> None:
    """Without an entry in the records the object store hears nothing of an upload."""
    ingest = Ingest()
    ingest.records.failures.errors["add_pending"] = unavailable()
    assert await ingest.refused() is Reason.STORE_UNAVAILABLE
    assert not ingest.objects.failures.calls


async def test_an_upload_that_was_swept_does_not_commit() -> None:
    """An upload whose lease ran out and was swept fails, and leaves nothing."""
    ingest = Ingest()
    gate = ingest.prober.failures.close("probe")
    call = asyncio.ensure_future(ingest.refused())
    await until_turned(lambda: ingest.prober.failures.calls["probe"])
    ingest.now += 61
    assert await ingest.sweeper.sweep() == 1
    gate.set()
    assert await call is Reason.STORE_UNAVAILABLE
    assert ingest.nothing_is_left


async def test_a_long_upload_keeps_its_lease() -> None:
    """An upload renews its lease while it waits, so that no sweep takes it."""
    ingest = Ingest(replace(LIMITS, lease_s=0.03))
    gate = ingest.prober.failures.close("probe")
    call = asyncio.ensure_future(ingest.upload())
    await until_turned(lambda: ingest.prober.failures.calls["probe"])
    ingest.now += 0.025
    renewed = ingest.records.failures.calls["renew"]
    await until_turned(lambda: ingest.records.failures.calls["renew"] > renewed)
    ingest.now += 0.02
    assert await ingest.sweeper.sweep() == 0
    gate.set()
    assert (await call).sha256 == SHA256


async def test_parts_in_flight_are_bounded() -> None:
    """An upload has no more parts on their way than it may, and all uploads together no more than they may."""
    ingest = Ingest()
    gate = ingest.objects.failures.close("put_part")
    calls = [asyncio.ensure_future(ingest.upload())]
    await until_turned(lambda: ingest.objects.failures.calls["put_part"] == 2)
    calls.append(asyncio.ensure_future(ingest.upload()))
    await until_turned(lambda: ingest.objects.failures.calls["put_part"] == 3)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert ingest.objects.failures.calls["put_part"] == 3
    gate.set()
    assert {video.sha256 for video in await asyncio.gather(*calls)} == {SHA256}


async def test_one_upload_too_many_is_refused() -> None:
    """Past the limit uploads are refused with the limit, and taken again when one has ended."""
    ingest = Ingest()
    gate = ingest.prober.failures.close("probe")
    calls = [asyncio.ensure_future(ingest.upload()) for _ in range(2)]
    await until_turned(lambda: ingest.prober.failures.calls["probe"] == 2)
    assert await ingest.refused() is Reason.LIMIT_EXCEEDED
    gate.set()
    await asyncio.gather(*calls)
    await ingest.upload()


async def test_a_client_that_stops_sending_is_given_up() -> None:
    """A stream without data for too long is refused, and nothing is left."""

    async def stalling() -> AsyncIterator[bytes]:
        yield DATA[:500]
        await asyncio.Event().wait()

    ingest = Ingest()
    with pytest.raises(SageError) as raised:
        await ingest.uploads.upload(SPEC, stalling(), request_id="")
    assert raised.value.reason is Reason.LIMIT_EXCEEDED
    assert raised.value.facts["max"] == "0.05"
    assert ingest.nothing_is_left


async def test_a_request_id_answers_the_same_video_again() -> None:
    """A second upload with the same request id stores nothing and reads nothing."""

    async def unread() -> AsyncIterator[bytes]:
        pytest.fail("a chunk was read")
        yield b""

    ingest = Ingest()
    video = await ingest.upload(request_id="r1")
    assert await ingest.uploads.upload(SPEC, unread(), request_id="r1") == video
    assert await ingest.upload(spec=replace(SPEC, sha256=SHA256), request_id="r1") == video
    assert len(ingest.objects.objects) == 1


@pytest.mark.parametrize("changes", [{"filename": "b.mp4"}, {"size_bytes": 1}, {"sha256": "0" * 64}])
async def test_a_request_id_of_another_file_is_refused(changes: dict) -> None:
    """A request id that another file was uploaded under is refused."""
    ingest = Ingest()
    await ingest.upload(request_id="r1")
    assert await ingest.refused(spec=replace(SPEC, **changes), request_id="r1") is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize("same", [True, False])
async def test_the_same_request_id_twice_at_once_stores_one_video(same: bool) -> None:
    """Of two uploads at once with one request id the first to end is kept; an equal one answers it too."""
    ingest = Ingest()
    gate = ingest.records.failures.close("add_video")
    other = DATA if same else DATA[::-1]
    calls = [asyncio.ensure_future(ingest.upload(data, request_id="r1")) for data in (DATA, other)]
    await until_turned(lambda: ingest.records.failures.calls["add_video"] == 2)
    gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert len(ingest.records.videos) == len(ingest.objects.objects) == 1
    assert not ingest.records.pending
    if same:
        assert answers[0] == answers[1]
    else:
        assert sorted(str(answer) for answer in answers if isinstance(answer, SageError)) == ["REQUEST_ID_REUSED"]


async def test_no_request_id_makes_a_new_video_each_time() -> None:
    """Without a request id every upload is a new video."""
    ingest = Ingest()
    assert (await ingest.upload()).id != (await ingest.upload()).id
