"""Completing an upload in parts over stores in memory: what is whole becomes one video, whoever races or dies."""

import asyncio
from dataclasses import replace

import pytest
from fakes.ingest import unavailable
from sage_ingest.model import UploadState, object_key
from sage_ingest.ports import UnreadableError
from sage_runtime.errors import Reason
from support.parts_in_memory import DATA, EXPIRE_S, LIMITS, SHA256, SPEC, Ingest, refused
from support.waiting import until_turned


async def test_a_part_whose_record_is_not_the_stores_counts_as_missing() -> None:
    """Where the store has other bytes than recorded, as after two processes put one part, nothing is joined."""
    ingest = Ingest()
    upload = await ingest.whole()
    # A process stored these bytes and died before it recorded them.
    await ingest.objects.put_part(
        object_key(upload.video_id), multipart_id=upload.multipart_id, part_number=2, data=bytearray(1000)
    )
    error = await refused(ingest.completion.complete(upload.id))
    assert (error.reason, error.facts["part_numbers"]) == (Reason.PART_MISSING, "2")
    assert [part.number for part in await ingest.open.parts(upload)] == [1, 3]
    await ingest.put(upload, 2)
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256


async def test_missing_parts_are_named() -> None:
    """An upload without all parts is not completed; it stays open, and the parts that lack are named in short."""
    ingest = Ingest(replace(LIMITS, part_bytes=10))
    upload = await ingest.begin()
    for number in (1, 2, 4, 8, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27):
        data = DATA[(number - 1) * 10 : number * 10]
        await ingest.put(upload, number, data)
    error = await refused(ingest.completion.complete(upload.id))
    assert error.reason is Reason.PART_MISSING
    assert error.facts["part_numbers"] == "3,5-7,10,12,14,16,18,20,22,24 and 230 more"
    found = await ingest.open.get(upload.id)
    assert (found.state, found.completing) == (UploadState.OPEN, False)


@pytest.mark.parametrize("fault", [Reason.CHECKSUM_MISMATCH, Reason.VIDEO_UNREADABLE])
async def test_bytes_that_are_no_good_abort_the_upload(fault: Reason) -> None:
    """Other bytes than declared, or no video: nothing is kept, and completing again says the same."""
    ingest = Ingest()
    if fault is Reason.VIDEO_UNREADABLE:
        ingest.prober.answer = UnreadableError("it is a cake")
    upload = await ingest.whole(SPEC if fault is Reason.VIDEO_UNREADABLE else replace(SPEC, sha256="0" * 64))
    first = await refused(ingest.completion.complete(upload.id))
    again = await refused(ingest.completion.complete(upload.id))
    assert (first.reason, again.reason, again.facts) == (fault, fault, first.facts)
    assert await ingest.state(upload) is UploadState.ABORTED
    assert ingest.nothing_is_left
    assert (await refused(ingest.put(upload, 1))).reason is Reason.UPLOAD_CLOSED


@pytest.mark.parametrize("method", ["part_tags", "complete", "read_part", "probe"])
async def test_a_store_that_fails_leaves_the_upload_to_be_completed_again(method: str) -> None:
    """Where the object store is away for a moment, completing again succeeds with the parts that are there."""
    ingest = Ingest()
    upload = await ingest.whole()
    failing = ingest.prober if method == "probe" else ingest.objects
    failing.failures.errors[method] = unavailable()
    assert (await refused(ingest.completion.complete(upload.id))).reason is Reason.STORE_UNAVAILABLE
    failing.failures.errors.clear()
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256


@pytest.mark.parametrize("when", ["errors", "late_errors"])
async def test_a_commit_without_an_answer_is_asked_about_again(when: str) -> None:
    """Whether or not a commit whose answer was lost took place, completing again answers the one video."""
    ingest = Ingest()
    upload = await ingest.whole()
    getattr(ingest.uploads.failures, when)["complete_upload"] = unavailable()
    assert (await refused(ingest.completion.complete(upload.id))).reason is Reason.STORE_UNAVAILABLE
    getattr(ingest.uploads.failures, when).clear()
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256
    assert len(ingest.records.videos) == 1


async def test_completions_at_once_answer_one_video() -> None:
    """Of calls at the same time, in two processes, one works and all get its video."""
    ingest = Ingest()
    upload = await ingest.whole()
    _, _, other = ingest.process()
    calls = [one.complete(upload.id) for one in (ingest.completion, other, ingest.completion)]
    first, *rest = await asyncio.gather(*calls)
    assert all(video == first for video in rest)
    assert ingest.prober.failures.calls["probe"] == 1


async def test_waiting_for_a_completion_writes_nothing() -> None:
    """Who finds a completion under way looks for its end and does not ask for the claim."""
    ingest = Ingest()
    upload = await ingest.whole()
    assert await ingest.uploads.claim_completion(upload.id, completer="somebody", lease_s=60)
    call = asyncio.ensure_future(ingest.completion.complete(upload.id))
    looked = ingest.uploads.failures.calls["get_upload"]
    await until_turned(lambda: ingest.uploads.failures.calls["get_upload"] > looked + 1)
    assert ingest.uploads.failures.calls["claim_completion"] == 1
    await ingest.uploads.release_completion(upload.id, completer="somebody")
    assert (await call).sha256 == SHA256


async def test_a_completion_goes_on_without_its_client() -> None:
    """A client that is gone costs nothing: the next call gets the video."""
    ingest = Ingest()
    upload = await ingest.whole()
    gate = ingest.prober.failures.close("probe")
    call = asyncio.ensure_future(ingest.completion.complete(upload.id))
    await until_turned(lambda: ingest.prober.failures.calls["probe"])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await refused(ingest.put(upload, 1))).facts["state"] == "COMPLETING"
    gate.set()
    await until_turned(lambda: ingest.records.videos)
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256
    assert ingest.prober.failures.calls["probe"] == 1


async def test_a_process_that_stops_hands_the_completion_on() -> None:
    """A process that stops does not finish a long completion, and another one takes over at once."""
    ingest = Ingest()
    upload = await ingest.whole()
    gate = ingest.prober.failures.close("probe")
    call = asyncio.ensure_future(ingest.completion.complete(upload.id))
    await until_turned(lambda: ingest.prober.failures.calls["probe"])
    await ingest.unabandoned.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    _, _, other = ingest.process()
    assert (await other.complete(upload.id)).sha256 == SHA256


async def test_a_completion_whose_process_died_is_taken_over() -> None:
    """Its claim runs out, and who asks next completes; the object that was joined already is taken as it is."""
    ingest = Ingest()
    upload = await ingest.whole()
    assert await ingest.uploads.claim_completion(upload.id, completer="dead", lease_s=60)
    parts = await ingest.open.parts(upload)
    await ingest.objects.complete(
        object_key(upload.video_id),
        multipart_id=upload.multipart_id,
        tags=[part.tag for part in parts],
        size_bytes=len(DATA),
    )
    ingest.now += 61
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256


async def test_a_long_completion_keeps_its_claim() -> None:
    """It is renewed while the work goes on, so that neither a second one begins nor a sweep takes the upload."""
    ingest = Ingest(replace(LIMITS, lease_s=0.03))
    upload = await ingest.whole()
    gate = ingest.prober.failures.close("probe")
    call = asyncio.ensure_future(ingest.completion.complete(upload.id))
    await until_turned(lambda: ingest.uploads.failures.calls["renew_completion"] > 1)
    ingest.now += EXPIRE_S + 1
    renewed = ingest.uploads.failures.calls["renew_completion"]
    await until_turned(lambda: ingest.uploads.failures.calls["renew_completion"] > renewed)
    assert await ingest.sweeper.sweep() == 0
    gate.set()
    assert (await call).sha256 == SHA256


async def test_a_completed_upload_cannot_be_aborted() -> None:
    """What has become a video stays one."""
    ingest = Ingest()
    upload = await ingest.whole()
    await ingest.completion.complete(upload.id)
    assert (await refused(ingest.open.abort(upload.id))).facts["state"] == "COMPLETED"
    assert (await refused(ingest.put(upload, 1))).facts["state"] == "COMPLETED"
    assert len(ingest.objects.objects) == 1


@pytest.mark.parametrize("stage", ["complete", "probe"])
async def test_an_abort_during_completion_leaves_nothing(stage: str) -> None:
    """Whoever completes loses, and the sweep gets what was joined after the abort had looked."""
    ingest = Ingest()
    upload = await ingest.whole()
    busy = ingest.prober if stage == "probe" else ingest.objects
    gate = busy.failures.close(stage)
    call = asyncio.ensure_future(refused(ingest.completion.complete(upload.id)))
    await until_turned(lambda: busy.failures.calls[stage])
    await ingest.open.abort(upload.id)
    # What the store was told to join before may come into being after the abort has looked.
    ingest.objects.objects[object_key(upload.video_id)] = DATA
    gate.set()
    assert (await call).reason is Reason.STORE_UNAVAILABLE
    assert (await refused(ingest.completion.complete(upload.id))).reason is Reason.UPLOAD_CLOSED
    await ingest.sweep()
    assert ingest.nothing_is_left


async def test_reading_back_shares_its_room() -> None:
    """Many completions at once get through with fewer slots than they would like, and give back all of them."""
    ingest = Ingest(replace(LIMITS, total_parts_in_flight=2))
    uploads = [await ingest.whole() for _ in range(3)]
    videos = await asyncio.gather(*(ingest.completion.complete(upload.id) for upload in uploads))
    assert {video.sha256 for video in videos} == {SHA256}
    await ingest.put_all(await ingest.begin())
