"""Streamed uploads over fakes: stored and probed, or nothing left."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes.ingest import full, unavailable
from sage_ingest.probing.ports import UnreadableError
from sage_ingest.videos.model import Video, VideoSpec, object_key
from sage_runtime.errors import Reason, SageError
from support.uploads_in_memory import DATA, SHA256, Uploads, chunks
from support.waiting import until_turned

SPEC = VideoSpec("a.mp4", "video/mp4", len(DATA), "")


class Streamed(Uploads):
    """Streamed uploads in parts of 100 bytes, at most two uploads at once."""

    def __init__(self, **changes: object) -> None:
        super().__init__(**{"part_bytes": 100, "max_concurrent_uploads": 2, **changes})

    async def upload(self, data: bytes = DATA, *, spec: VideoSpec = SPEC, request_id: str = "") -> Video:
        return await self.streamed.upload(spec, chunks(data, 33), request_id=request_id)

    async def refused(self, data: bytes = DATA, *, spec: VideoSpec = SPEC, request_id: str = "") -> Reason:
        with pytest.raises(SageError) as raised:
            await self.upload(data, spec=spec, request_id=request_id)
        return raised.value.reason

    async def nothing_is_left_after_a_sweep(self) -> bool:
        await self.sweep()
        return self.nothing_is_left


async def test_a_complete_file_becomes_a_video() -> None:
    uploads = Streamed()
    video = await uploads.upload()
    assert (video.size_bytes, video.sha256, video.media) == (len(DATA), SHA256, uploads.prober.result)
    assert uploads.objects.objects == {object_key(video.id): DATA}
    assert uploads.videos.videos == {video.id: video}
    assert not uploads.videos.pending
    assert not uploads.objects.multiparts


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
    uploads = Streamed()
    assert await uploads.refused(data, spec=replace(SPEC, **changes)) is reason
    assert uploads.nothing_is_left


async def test_an_unreadable_file_leaves_nothing() -> None:
    uploads = Streamed()
    uploads.prober.result = UnreadableError("it is a cake")
    with pytest.raises(SageError) as raised:
        await uploads.upload()
    assert raised.value.reason is Reason.VIDEO_UNREADABLE
    assert raised.value.facts == {"filename": "a.mp4", "why": "it is a cake"}
    assert uploads.nothing_is_left


@pytest.mark.parametrize("stage", ["begin", "put_part", "complete", "probe", "add_video"])
async def test_a_cancelled_upload_leaves_nothing(stage: str) -> None:
    uploads = Streamed()
    part = {"probe": uploads.prober, "add_video": uploads.videos}.get(stage, uploads.objects)
    gate = part.failures.close(stage)
    call = asyncio.ensure_future(uploads.upload())
    await until_turned(lambda: part.failures.calls[stage])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    await uploads.shielded.close()
    if stage == "add_video":
        assert len(uploads.videos.videos) == len(uploads.objects.objects) == 1
        assert not uploads.videos.pending
    else:
        assert uploads.nothing_is_left


async def test_cleaning_up_outlives_the_call() -> None:
    uploads = Streamed()
    parts, discard = uploads.objects.failures.close("put_part"), uploads.objects.failures.close("discard")
    call = asyncio.ensure_future(uploads.upload())
    await until_turned(lambda: uploads.objects.failures.calls["put_part"])
    call.cancel()
    await until_turned(lambda: uploads.objects.failures.calls["discard"])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    parts.set()
    discard.set()
    await uploads.shielded.close()
    assert uploads.nothing_is_left


@pytest.mark.parametrize("method", ["begin", "put_part", "complete", "read", "discard"])
async def test_a_store_that_fails_leaves_nothing_after_a_sweep(method: str) -> None:
    uploads = Streamed()
    uploads.objects.failures.errors[method] = unavailable()
    if method == "read":
        uploads.prober.result = unavailable()
    if method == "discard":
        uploads.prober.result = UnreadableError("it is a cake")
    expected = Reason.VIDEO_UNREADABLE if method == "discard" else Reason.STORE_UNAVAILABLE
    assert await uploads.refused() is expected
    uploads.objects.failures.errors.clear()
    assert await uploads.nothing_is_left_after_a_sweep()


async def test_a_multipart_upload_whose_id_was_lost_is_swept() -> None:
    uploads = Streamed()
    uploads.objects.failures.late_errors["begin"] = unavailable()
    assert await uploads.refused() is Reason.STORE_UNAVAILABLE
    assert uploads.videos.pending, "the store may still begin it: the entry must stay"
    assert await uploads.nothing_is_left_after_a_sweep()


async def test_a_commit_whose_response_was_lost_keeps_its_bytes() -> None:
    uploads = Streamed()
    uploads.videos.failures.late_errors["add_video"] = unavailable()
    assert await uploads.refused() is Reason.STORE_UNAVAILABLE
    uploads.now += 61
    await uploads.sweeper.sweep()
    assert len(uploads.videos.videos) == len(uploads.objects.objects) == 1


async def test_a_failed_commit_is_swept() -> None:
    uploads = Streamed()
    uploads.videos.failures.errors["add_video"] = unavailable()
    assert await uploads.refused() is Reason.STORE_UNAVAILABLE
    assert await uploads.nothing_is_left_after_a_sweep()


async def test_without_the_database_nothing_is_sent_to_the_store() -> None:
    uploads = Streamed()
    uploads.videos.failures.errors["add_pending"] = unavailable()
    assert await uploads.refused() is Reason.STORE_UNAVAILABLE
    assert not uploads.objects.failures.calls


async def test_a_swept_upload_does_not_commit() -> None:
    uploads = Streamed()
    gate = uploads.prober.failures.close("probe")
    call = asyncio.ensure_future(uploads.refused())
    await until_turned(lambda: uploads.prober.failures.calls["probe"])
    uploads.now += 61
    assert await uploads.sweeper.sweep() == 1
    gate.set()
    assert await call is Reason.STORE_UNAVAILABLE
    assert uploads.nothing_is_left


async def test_a_long_upload_keeps_its_lease() -> None:
    uploads = Streamed(upload_lease_s=0.03)
    gate = uploads.prober.failures.close("probe")
    call = asyncio.ensure_future(uploads.upload())
    await until_turned(lambda: uploads.prober.failures.calls["probe"])
    uploads.now += 0.025
    renewed = uploads.videos.failures.calls["renew_pending"]
    await until_turned(lambda: uploads.videos.failures.calls["renew_pending"] > renewed)
    uploads.now += 0.02
    assert await uploads.sweeper.sweep() == 0
    gate.set()
    assert (await call).sha256 == SHA256


async def test_parts_in_flight_are_bounded() -> None:
    uploads = Streamed()
    gate = uploads.objects.failures.close("put_part")
    calls = [asyncio.ensure_future(uploads.upload())]
    await until_turned(lambda: uploads.objects.failures.calls["put_part"] == 2)
    calls.append(asyncio.ensure_future(uploads.upload()))
    await until_turned(lambda: uploads.objects.failures.calls["put_part"] == 3)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert uploads.objects.failures.calls["put_part"] == 3
    gate.set()
    assert {video.sha256 for video in await asyncio.gather(*calls)} == {SHA256}


async def test_one_concurrent_upload_too_many_is_refused() -> None:
    uploads = Streamed()
    gate = uploads.prober.failures.close("probe")
    calls = [asyncio.ensure_future(uploads.upload()) for _ in range(2)]
    await until_turned(lambda: uploads.prober.failures.calls["probe"] == 2)
    assert await uploads.refused() is Reason.LIMIT_EXCEEDED
    gate.set()
    await asyncio.gather(*calls)
    await uploads.upload()


async def test_a_client_that_stops_sending_is_refused() -> None:

    async def stalling() -> AsyncIterator[bytes]:
        yield DATA[:500]
        await asyncio.Event().wait()

    uploads = Streamed()
    with pytest.raises(SageError) as raised:
        await uploads.streamed.upload(SPEC, stalling(), request_id="")
    assert raised.value.reason is Reason.LIMIT_EXCEEDED
    assert raised.value.facts["max"] == "0.05"
    assert uploads.nothing_is_left


async def test_a_repeated_request_id_returns_the_same_video_without_reading() -> None:

    async def unread() -> AsyncIterator[bytes]:
        pytest.fail("a chunk was read")
        yield b""

    uploads = Streamed()
    video = await uploads.upload(request_id="r1")
    assert await uploads.streamed.upload(SPEC, unread(), request_id="r1") == video
    assert await uploads.upload(spec=replace(SPEC, sha256=SHA256), request_id="r1") == video
    assert len(uploads.objects.objects) == 1


@pytest.mark.parametrize("changes", [{"filename": "b.mp4"}, {"size_bytes": 1}, {"sha256": "0" * 64}])
async def test_a_request_id_of_another_file_is_refused(changes: dict) -> None:
    uploads = Streamed()
    await uploads.upload(request_id="r1")
    assert await uploads.refused(spec=replace(SPEC, **changes), request_id="r1") is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize("same", [True, False])
async def test_concurrent_uploads_with_one_request_id_store_one_video(same: bool) -> None:
    uploads = Streamed()
    gate = uploads.videos.failures.close("add_video")
    other = DATA if same else DATA[::-1]
    calls = [asyncio.ensure_future(uploads.upload(data, request_id="r1")) for data in (DATA, other)]
    await until_turned(lambda: uploads.videos.failures.calls["add_video"] == 2)
    gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert len(uploads.videos.videos) == len(uploads.objects.objects) == 1
    assert not uploads.videos.pending
    if same:
        assert results[0] == results[1]
    else:
        assert sorted(str(result) for result in results if isinstance(result, SageError)) == ["REQUEST_ID_REUSED"]


async def test_uploads_without_a_request_id_make_new_videos() -> None:
    uploads = Streamed()
    assert (await uploads.upload()).id != (await uploads.upload()).id


async def test_an_upload_that_does_not_fit_is_refused_before_anything_is_stored() -> None:
    uploads = Streamed()
    uploads.objects.room_bytes = len(DATA) - 1
    assert await uploads.refused() is Reason.STORE_FULL
    assert not uploads.objects.failures.calls
    assert uploads.nothing_is_left


async def test_an_upload_that_fills_the_store_gives_its_room_back_at_once() -> None:
    uploads = Streamed()
    uploads.objects.failures.errors["complete"] = full()
    assert await uploads.refused() is Reason.STORE_FULL
    assert uploads.objects.is_empty
    assert await uploads.nothing_is_left_after_a_sweep()


async def _trickle(data: bytes) -> AsyncIterator[bytes]:
    """Yield the same chunk forever, far more often than once in the time limit."""
    while True:
        yield data
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("data", [b"", b"x"])
async def test_chunks_without_progress_end_an_upload_and_free_its_slot(data: bytes) -> None:
    uploads = Streamed(max_concurrent_uploads=1, upload_idle_s=0.2, upload_min_bytes_per_s=2000.0)
    async with asyncio.timeout(5):
        with pytest.raises(SageError) as raised:
            await uploads.streamed.upload(SPEC, _trickle(data), request_id="")
    assert raised.value.reason is Reason.LIMIT_EXCEEDED
    await uploads.nothing_is_left_after_a_sweep()
    await uploads.upload()


async def test_a_slow_upload_with_enough_bytes_succeeds() -> None:
    """It takes several times the seconds in which the bytes must arrive."""
    uploads = Streamed(upload_idle_s=0.2, upload_min_bytes_per_s=500.0)

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 64):
            yield DATA[start : start + 64]
            await asyncio.sleep(0.02)

    assert (await uploads.streamed.upload(SPEC, slowly(), request_id="")).sha256 == SHA256


async def test_time_that_the_store_takes_does_not_count_against_the_client() -> None:
    uploads = Streamed(upload_idle_s=0.1, upload_min_bytes_per_s=1e6, total_parts_in_flight=1, parts_in_flight=1)
    gate = uploads.objects.failures.close("put_part")
    call = asyncio.ensure_future(uploads.upload())
    await until_turned(lambda: uploads.objects.failures.calls["put_part"])
    await asyncio.sleep(0.3)
    assert not call.done()
    gate.set()
    assert (await call).sha256 == SHA256
