"""Resumable uploads over fakes, except for completion."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes.ingest import full, unavailable
from sage_ingest.uploads.model import PartSpec, UploadState
from sage_ingest.videos.model import object_key
from sage_runtime.errors import Reason
from support.uploads_in_memory import DATA, EXPIRE_S, SHA256, SPEC, Uploads, chunks, part_of, refused
from support.waiting import until_turned


async def test_parts_in_any_order_become_a_video() -> None:
    uploads = Uploads()
    upload = await uploads.create(replace(SPEC, sha256=""))
    assert (upload.part_bytes, upload.part_count, upload.expire_time is not None) == (1000, 3, True)
    await uploads.put_all(upload)
    assert [part.number for part in await uploads.resumable.parts(upload)] == [1, 2, 3]
    video = await uploads.completion.complete(upload.id)
    assert (video.sha256, video.size_bytes, video.media) == (SHA256, len(DATA), uploads.prober.result)
    assert uploads.objects.objects == {object_key(video.id): DATA}
    assert not uploads.videos.pending
    assert not uploads.objects.multiparts
    assert await uploads.completion.complete(upload.id) == video


async def test_another_process_completes_an_upload() -> None:
    uploads = Uploads()
    upload = await uploads.create()
    await uploads.put(upload, 2)
    other = uploads.process()
    for number in (1, 3):
        data = part_of(number)
        await other.resumable.put_part(PartSpec(upload.id, number, len(data), ""), chunks(data))
    assert (await other.completion.complete(upload.id)).sha256 == SHA256


@pytest.mark.parametrize(
    ("data", "changes", "reason", "field"),
    [
        (part_of(1)[:-1], {"size_bytes": 1000}, Reason.SIZE_MISMATCH, "size_bytes"),
        (b"", {"size_bytes": 1000}, Reason.SIZE_MISMATCH, "size_bytes"),
        (part_of(1) + b"x", {"size_bytes": 1000}, Reason.SIZE_MISMATCH, "size_bytes"),
        (part_of(1), {"sha256": "0" * 64}, Reason.CHECKSUM_MISMATCH, "sha256"),
        (part_of(1)[:-1], {}, Reason.PART_INVALID, "size_bytes"),
        (part_of(1), {"number": 4}, Reason.PART_INVALID, "part_number"),
    ],
)
async def test_a_part_other_than_declared_leaves_the_one_before(data, changes, reason, field) -> None:
    uploads = Uploads()
    upload = await uploads.create()
    before = await uploads.put(upload, 1)
    error = await refused(uploads.put(upload, 1, data, **changes))
    assert (error.reason, [violation.field for violation in error.violations]) == (reason, [field])
    assert await uploads.resumable.parts(upload) == [before]
    assert uploads.objects.failures.calls["put_part"] == 1


async def test_a_part_that_is_sent_again_replaces_the_previous_one() -> None:
    uploads = Uploads()
    upload = await uploads.create()
    await uploads.put(upload, 1, bytes(1000))
    await uploads.put_all(upload)
    assert (await uploads.completion.complete(upload.id)).sha256 == SHA256


async def test_concurrent_requests_for_one_part_are_stored_one_after_the_other() -> None:
    uploads = Uploads()
    upload = await uploads.create()
    gate = uploads.objects.failures.close("put_part")
    calls = [asyncio.ensure_future(uploads.put(upload, 1, bytes([number]) * 1000)) for number in range(3)]
    await until_turned(lambda: uploads.objects.failures.calls["put_part"])
    for _ in range(100):
        await asyncio.sleep(0)
    assert uploads.objects.failures.calls["put_part"] == 1
    gate.set()
    await asyncio.gather(*calls)
    (recorded,) = await uploads.resumable.parts(upload)
    ((_, stored),) = next(iter(uploads.objects.multiparts.values())).parts.items()
    assert recorded.sha256 == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize("parts", [0, 1, 3])
async def test_an_aborted_upload_leaves_nothing(parts: int) -> None:
    uploads = Uploads()
    upload = await uploads.create()
    for number in range(1, parts + 1):
        await uploads.put(upload, number)
    for _ in range(2):
        assert (await uploads.resumable.abort(upload.id)).state is UploadState.ABORTED
    assert uploads.objects.is_empty
    await uploads.sweep()
    assert uploads.nothing_is_left
    for call in (uploads.put(upload, 1), uploads.completion.complete(upload.id)):
        error = await refused(call)
        assert (error.reason, error.facts["state"]) == (Reason.UPLOAD_CLOSED, "ABORTED")


async def test_an_abort_while_a_part_is_stored_leaves_nothing() -> None:
    uploads = Uploads()
    upload = await uploads.create()
    gate = uploads.uploads.failures.close("add_part")
    call = asyncio.ensure_future(refused(uploads.put(upload, 1)))
    await until_turned(lambda: uploads.uploads.failures.calls["add_part"])
    await uploads.resumable.abort(upload.id)
    gate.set()
    assert (await call).reason is Reason.UPLOAD_CLOSED
    await uploads.sweep()
    assert uploads.nothing_is_left


async def test_an_expired_upload_is_swept() -> None:
    uploads = Uploads()
    upload = await uploads.create()
    await uploads.sweep(after_s=EXPIRE_S - 1)
    await uploads.put(upload, 1)
    await uploads.sweep(after_s=EXPIRE_S - 1)
    assert await uploads.state(upload) is UploadState.OPEN
    await uploads.sweep(after_s=2)
    assert uploads.nothing_is_left
    assert await uploads.state(upload) is UploadState.ABORTED
    await uploads.sweep(after_s=EXPIRE_S + 1)
    assert (await refused(uploads.resumable.get(upload.id))).reason is Reason.UPLOAD_NOT_FOUND


@pytest.mark.parametrize(("method", "when"), [("begin", "errors"), ("begin", "late_errors"), ("add_upload", "errors")])
async def test_an_upload_whose_creation_failed_is_swept(method: str, when: str) -> None:
    uploads = Uploads()
    failing = uploads.uploads if method == "add_upload" else uploads.objects
    getattr(failing.failures, when)[method] = unavailable()
    assert (await refused(uploads.create())).reason is Reason.STORE_UNAVAILABLE
    await uploads.sweep()
    assert uploads.nothing_is_left


async def test_a_slow_creation_is_not_swept() -> None:
    uploads = Uploads(upload_lease_s=0.03)
    gate = uploads.objects.failures.close("begin")
    call = asyncio.ensure_future(uploads.create())
    await until_turned(lambda: uploads.objects.failures.calls["begin"])
    uploads.now += 1
    renewed = uploads.videos.failures.calls["renew_pending"]
    await until_turned(lambda: uploads.videos.failures.calls["renew_pending"] > renewed)
    assert await uploads.sweeper.sweep() == 0
    gate.set()
    assert await uploads.state(await call) is UploadState.OPEN


async def test_a_creation_that_was_swept_meanwhile_leaves_nothing() -> None:
    uploads = Uploads()
    gate = uploads.objects.failures.close("begin")
    call = asyncio.ensure_future(refused(uploads.create()))
    await until_turned(lambda: uploads.objects.failures.calls["begin"])
    await uploads.sweep()
    gate.set()
    assert (await call).reason is Reason.STORE_UNAVAILABLE
    assert uploads.nothing_is_left


async def test_a_request_id_returns_the_same_upload() -> None:
    uploads = Uploads()
    first, *others = await asyncio.gather(*(uploads.create(request_id="r") for _ in range(3)))
    assert {upload.id for upload in others} == {first.id}
    assert len(uploads.objects.multiparts) == 1
    assert len(uploads.videos.pending) == 1
    error = await refused(uploads.create(replace(SPEC, filename="b.mp4"), request_id="r"))
    assert error.reason is Reason.REQUEST_ID_REUSED
    await uploads.resumable.abort(first.id)
    assert (await uploads.create(request_id="r")).id != first.id


async def test_one_open_upload_too_many_is_refused() -> None:
    uploads = Uploads()
    opened = [await uploads.create() for _ in range(3)]
    error = await refused(uploads.create())
    assert (error.reason, error.facts["max"]) == (Reason.LIMIT_EXCEEDED, "3")
    assert len(uploads.objects.multiparts) == len(uploads.videos.pending) == 3
    await uploads.resumable.abort(opened[0].id)
    await uploads.create()


async def test_concurrent_parts_are_bounded() -> None:
    uploads = Uploads()
    upload = await uploads.create()
    gate = uploads.objects.failures.close("put_part")
    calls = [asyncio.ensure_future(uploads.put(upload, 1 + number % 3)) for number in range(4)]
    await until_turned(lambda: uploads.objects.failures.calls["put_part"] == 3)
    assert (await refused(uploads.put(upload, 1))).reason is Reason.LIMIT_EXCEEDED
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    assert (await refused(uploads.put(upload, 1))).reason is Reason.LIMIT_EXCEEDED
    gate.set()
    await asyncio.gather(*calls[1:])
    assert len(await uploads.resumable.parts(upload)) == 3
    await uploads.put(upload, 1)


async def test_a_client_that_stops_sending_is_refused() -> None:

    async def stalling() -> AsyncIterator[bytes]:
        yield part_of(1)[:500]
        await asyncio.Event().wait()

    uploads = Uploads()
    upload = await uploads.create()
    for _ in range(uploads.settings.max_concurrent_uploads + 1):
        error = await refused(uploads.resumable.put_part(PartSpec(upload.id, 1, 1000, ""), stalling()))
        assert (error.reason, error.facts["max"]) == (Reason.LIMIT_EXCEEDED, "0.05")


async def test_an_upload_that_does_not_fit_is_not_created() -> None:
    uploads = Uploads()
    uploads.objects.room_bytes = len(DATA) - 1
    assert (await refused(uploads.create())).reason is Reason.STORE_FULL
    assert uploads.nothing_is_left


async def test_a_part_without_room_aborts_the_upload_and_removes_its_parts_at_once() -> None:
    uploads = Uploads()
    upload = await uploads.create(request_id="r")
    await uploads.put(upload, 1)
    uploads.objects.failures.errors["put_part"] = full()
    assert (await refused(uploads.put(upload, 2))).reason is Reason.STORE_FULL
    assert uploads.objects.is_empty
    assert await uploads.state(upload) is UploadState.ABORTED
    # Parts that were in flight with it, and a completion, fail for the same reason.
    for call in (uploads.put(upload, 3), uploads.completion.complete(upload.id)):
        assert (await refused(call)).reason is Reason.STORE_FULL
    uploads.objects.failures.errors.clear()
    assert (await uploads.create(request_id="r")).id != upload.id


async def test_open_uploads_are_listed_newest_first_with_what_has_arrived() -> None:
    uploads = Uploads()
    first, second, aborted = [await uploads.create() for _ in range(3)]
    await uploads.resumable.abort(aborted.id)
    await uploads.put(first, 1)
    page = await uploads.resumable.list(page_size=1, page_token="")
    assert [(one.upload.id, one.received_bytes) for one in page.uploads] == [(second.id, 0)]
    page = await uploads.resumable.list(page_size=1, page_token=page.next_page_token)
    assert [(one.upload.id, one.received_bytes) for one in page.uploads] == [(first.id, 1000)]
    assert not page.next_page_token
    assert (await refused(uploads.resumable.list(page_size=1, page_token="x"))).reason is Reason.PAGE_TOKEN_INVALID
