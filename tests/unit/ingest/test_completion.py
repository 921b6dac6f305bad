"""Completing resumable uploads over fakes, with races, outages and dead processes."""

import asyncio
from dataclasses import replace

import pytest
from fakes.ingest import unavailable
from sage_ingest.probing.ports import UnreadableError
from sage_ingest.uploads.model import UploadState
from sage_ingest.videos.model import object_key
from sage_runtime.errors import Reason
from support.uploads_in_memory import DATA, EXPIRE_S, SHA256, SPEC, Uploads, refused
from support.waiting import until_turned


async def test_a_part_of_which_the_store_has_other_bytes_counts_as_missing() -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    # A process stored these bytes and died before it recorded them.
    await uploads.objects.put_part(
        object_key(upload.video_id), multipart_id=upload.multipart_id, part_number=2, data=bytearray(1000)
    )
    error = await refused(uploads.completion.complete(upload.id))
    assert (error.reason, error.facts["part_numbers"]) == (Reason.PART_MISSING, "2")
    assert [part.number for part in await uploads.resumable.parts(upload)] == [1, 3]
    await uploads.put(upload, 2)
    assert (await uploads.completion.complete(upload.id)).sha256 == SHA256


async def test_missing_parts_are_named() -> None:
    uploads = Uploads(part_bytes=10)
    upload = await uploads.create()
    for number in (1, 2, 4, 8, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27):
        data = DATA[(number - 1) * 10 : number * 10]
        await uploads.put(upload, number, data)
    error = await refused(uploads.completion.complete(upload.id))
    assert error.reason is Reason.PART_MISSING
    assert error.facts["part_numbers"] == "3,5-7,10,12,14,16,18,20,22,24 and 230 more"
    found = await uploads.resumable.get(upload.id)
    assert (found.state, found.completing) == (UploadState.OPEN, False)


@pytest.mark.parametrize("fault", [Reason.CHECKSUM_MISMATCH, Reason.VIDEO_UNREADABLE])
async def test_bad_bytes_abort_the_upload(fault: Reason) -> None:
    uploads = Uploads()
    if fault is Reason.VIDEO_UNREADABLE:
        uploads.prober.result = UnreadableError("it is a cake")
    upload = await uploads.whole(SPEC if fault is Reason.VIDEO_UNREADABLE else replace(SPEC, sha256="0" * 64))
    first = await refused(uploads.completion.complete(upload.id))
    again = await refused(uploads.completion.complete(upload.id))
    assert (first.reason, again.reason, again.facts) == (fault, fault, first.facts)
    assert await uploads.state(upload) is UploadState.ABORTED
    assert uploads.nothing_is_left
    assert (await refused(uploads.put(upload, 1))).reason is Reason.UPLOAD_CLOSED


@pytest.mark.parametrize("method", ["part_tags", "complete", "read_part", "probe"])
async def test_after_an_outage_of_the_store_completing_again_succeeds(method: str) -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    failing = uploads.prober if method == "probe" else uploads.objects
    failing.failures.errors[method] = unavailable()
    assert (await refused(uploads.completion.complete(upload.id))).reason is Reason.STORE_UNAVAILABLE
    failing.failures.errors.clear()
    assert (await uploads.completion.complete(upload.id)).sha256 == SHA256


@pytest.mark.parametrize("when", ["errors", "late_errors"])
async def test_after_a_lost_commit_response_completing_again_returns_the_one_video(when: str) -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    getattr(uploads.uploads.failures, when)["complete_upload"] = unavailable()
    assert (await refused(uploads.completion.complete(upload.id))).reason is Reason.STORE_UNAVAILABLE
    getattr(uploads.uploads.failures, when).clear()
    assert (await uploads.completion.complete(upload.id)).sha256 == SHA256
    assert len(uploads.videos.videos) == 1


async def test_concurrent_completions_in_two_processes_return_one_video() -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    other = uploads.process().completion
    calls = [one.complete(upload.id) for one in (uploads.completion, other, uploads.completion)]
    first, *rest = await asyncio.gather(*calls)
    assert all(video == first for video in rest)
    assert uploads.prober.failures.calls["probe"] == 1


async def test_waiting_for_a_completion_writes_nothing() -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    assert await uploads.uploads.claim_completion(upload.id, completer="another", lease_s=60)
    call = asyncio.ensure_future(uploads.completion.complete(upload.id))
    looked = uploads.uploads.failures.calls["get_upload"]
    await until_turned(lambda: uploads.uploads.failures.calls["get_upload"] > looked + 1)
    assert uploads.uploads.failures.calls["claim_completion"] == 1
    await uploads.uploads.release_completion(upload.id, completer="another")
    assert (await call).sha256 == SHA256


async def test_a_completion_continues_without_its_client() -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    gate = uploads.prober.failures.close("probe")
    call = asyncio.ensure_future(uploads.completion.complete(upload.id))
    await until_turned(lambda: uploads.prober.failures.calls["probe"])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await refused(uploads.put(upload, 1))).facts["state"] == "COMPLETING"
    gate.set()
    await until_turned(lambda: uploads.videos.videos)
    assert (await uploads.completion.complete(upload.id)).sha256 == SHA256
    assert uploads.prober.failures.calls["probe"] == 1


async def test_a_process_that_stops_hands_the_completion_on() -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    gate = uploads.prober.failures.close("probe")
    call = asyncio.ensure_future(uploads.completion.complete(upload.id))
    await until_turned(lambda: uploads.prober.failures.calls["probe"])
    await uploads.shielded.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    other = uploads.process().completion
    assert (await other.complete(upload.id)).sha256 == SHA256


async def test_a_completion_of_a_dead_process_is_taken_over() -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    assert await uploads.uploads.claim_completion(upload.id, completer="dead", lease_s=60)
    parts = await uploads.resumable.parts(upload)
    await uploads.objects.complete(
        object_key(upload.video_id),
        multipart_id=upload.multipart_id,
        tags=[part.tag for part in parts],
        size_bytes=len(DATA),
    )
    uploads.now += 61
    assert (await uploads.completion.complete(upload.id)).sha256 == SHA256


async def test_a_long_completion_keeps_its_lease() -> None:
    uploads = Uploads(upload_lease_s=0.03)
    upload = await uploads.whole()
    gate = uploads.prober.failures.close("probe")
    call = asyncio.ensure_future(uploads.completion.complete(upload.id))
    await until_turned(lambda: uploads.uploads.failures.calls["renew_completion"] > 1)
    uploads.now += EXPIRE_S + 1
    renewed = uploads.uploads.failures.calls["renew_completion"]
    await until_turned(lambda: uploads.uploads.failures.calls["renew_completion"] > renewed)
    assert await uploads.sweeper.sweep() == 0
    gate.set()
    assert (await call).sha256 == SHA256


async def test_a_completed_upload_cannot_be_aborted() -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    await uploads.completion.complete(upload.id)
    assert (await refused(uploads.resumable.abort(upload.id))).facts["state"] == "COMPLETED"
    assert (await refused(uploads.put(upload, 1))).facts["state"] == "COMPLETED"
    assert len(uploads.objects.objects) == 1


@pytest.mark.parametrize("stage", ["complete", "probe"])
async def test_an_abort_during_completion_leaves_nothing(stage: str) -> None:
    uploads = Uploads()
    upload = await uploads.whole()
    busy = uploads.prober if stage == "probe" else uploads.objects
    gate = busy.failures.close(stage)
    call = asyncio.ensure_future(refused(uploads.completion.complete(upload.id)))
    await until_turned(lambda: busy.failures.calls[stage])
    await uploads.resumable.abort(upload.id)
    # A join that the store was told to do earlier may create the object after the abort has looked for it.
    uploads.objects.objects[object_key(upload.video_id)] = DATA
    gate.set()
    assert (await call).reason is Reason.STORE_UNAVAILABLE
    assert (await refused(uploads.completion.complete(upload.id))).reason is Reason.UPLOAD_CLOSED
    await uploads.sweep()
    assert uploads.nothing_is_left


async def test_concurrent_completions_share_few_slots_and_release_them() -> None:
    uploads = Uploads(total_parts_in_flight=2)
    opened = [await uploads.whole() for _ in range(3)]
    videos = await asyncio.gather(*(uploads.completion.complete(upload.id) for upload in opened))
    assert {video.sha256 for video in videos} == {SHA256}
    await uploads.put_all(await uploads.create())
