"""Uploads in parts over stores in memory: parts in any order, and every way to end but completion."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes.ingest import unavailable
from sage_ingest.model import PartSpec, UploadState, object_key
from sage_runtime.errors import Reason
from support.parts_in_memory import DATA, EXPIRE_S, LIMITS, SHA256, SPEC, Ingest, chunks, part_of, refused
from support.waiting import until_turned


async def test_parts_in_any_order_become_a_video() -> None:
    """The bytes are joined by number, the checksum is of the whole, and nothing is pending."""
    ingest = Ingest()
    upload = await ingest.begin(replace(SPEC, sha256=""))
    assert (upload.part_bytes, upload.part_count, upload.expire_time is not None) == (1000, 3, True)
    await ingest.put_all(upload)
    assert [part.number for part in await ingest.open.parts(upload)] == [1, 2, 3]
    video = await ingest.completion.complete(upload.id)
    assert (video.sha256, video.size_bytes, video.media) == (SHA256, len(DATA), ingest.prober.answer)
    assert ingest.objects.objects == {object_key(video.id): DATA}
    assert not ingest.records.pending
    assert not ingest.objects.multiparts
    assert await ingest.completion.complete(upload.id) == video


async def test_another_process_goes_on() -> None:
    """What one process took in, another one completes."""
    ingest = Ingest()
    upload = await ingest.begin()
    await ingest.put(upload, 2)
    _, open_uploads, completion = ingest.process()
    for number in (1, 3):
        data = part_of(number)
        await open_uploads.put_part(PartSpec(upload.id, number, len(data), ""), chunks(data))
    assert (await completion.complete(upload.id)).sha256 == SHA256


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
async def test_a_part_that_is_not_as_declared_leaves_the_one_before(data, changes, reason, field) -> None:
    """A part with other bytes than declared is refused, and the part that was there stays as it was."""
    ingest = Ingest()
    upload = await ingest.begin()
    before = await ingest.put(upload, 1)
    error = await refused(ingest.put(upload, 1, data, **changes))
    assert (error.reason, [violation.field for violation in error.violations]) == (reason, [field])
    assert await ingest.open.parts(upload) == [before]
    assert ingest.objects.failures.calls["put_part"] == 1


async def test_a_part_put_again_replaces_the_one_before() -> None:
    """The last one counts, in the records and in the video."""
    ingest = Ingest()
    upload = await ingest.begin()
    await ingest.put(upload, 1, bytes(1000))
    await ingest.put_all(upload)
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256


async def test_two_puts_of_one_part_take_turns() -> None:
    """Of puts at the same time the one that is stored last is the one that is recorded."""
    ingest = Ingest()
    upload = await ingest.begin()
    gate = ingest.objects.failures.close("put_part")
    calls = [asyncio.ensure_future(ingest.put(upload, 1, bytes([number]) * 1000)) for number in range(3)]
    await until_turned(lambda: ingest.objects.failures.calls["put_part"])
    for _ in range(100):
        await asyncio.sleep(0)
    assert ingest.objects.failures.calls["put_part"] == 1
    gate.set()
    await asyncio.gather(*calls)
    (recorded,) = await ingest.open.parts(upload)
    ((_, stored),) = next(iter(ingest.objects.multiparts.values())).parts.items()
    assert recorded.sha256 == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize("parts", [0, 1, 3])
async def test_an_aborted_upload_leaves_nothing(parts: int) -> None:
    """Its parts are gone at once, the entry with the sweep; aborting again answers the same."""
    ingest = Ingest()
    upload = await ingest.begin()
    for number in range(1, parts + 1):
        await ingest.put(upload, number)
    for _ in range(2):
        assert (await ingest.open.abort(upload.id)).state is UploadState.ABORTED
    assert ingest.objects.is_empty
    await ingest.sweep()
    assert ingest.nothing_is_left
    for call in (ingest.put(upload, 1), ingest.completion.complete(upload.id)):
        error = await refused(call)
        assert (error.reason, error.facts["state"]) == (Reason.UPLOAD_CLOSED, "ABORTED")


async def test_an_abort_while_a_part_is_on_its_way_leaves_nothing() -> None:
    """The part is refused when it arrives, and the sweep gets what it left."""
    ingest = Ingest()
    upload = await ingest.begin()
    gate = ingest.uploads.failures.close("add_part")
    call = asyncio.ensure_future(refused(ingest.put(upload, 1)))
    await until_turned(lambda: ingest.uploads.failures.calls["add_part"])
    await ingest.open.abort(upload.id)
    gate.set()
    assert (await call).reason is Reason.UPLOAD_CLOSED
    await ingest.sweep()
    assert ingest.nothing_is_left


async def test_an_upload_that_nobody_finishes_is_swept() -> None:
    """Long after the last part, and not before, it is swept; later it is forgotten."""
    ingest = Ingest()
    upload = await ingest.begin()
    await ingest.sweep(after_s=EXPIRE_S - 1)
    await ingest.put(upload, 1)
    await ingest.sweep(after_s=EXPIRE_S - 1)
    assert await ingest.state(upload) is UploadState.OPEN
    await ingest.sweep(after_s=2)
    assert ingest.nothing_is_left
    assert await ingest.state(upload) is UploadState.ABORTED
    await ingest.sweep(after_s=EXPIRE_S + 1)
    assert (await refused(ingest.open.get(upload.id))).reason is Reason.UPLOAD_NOT_FOUND


@pytest.mark.parametrize(("method", "when"), [("begin", "errors"), ("begin", "late_errors"), ("add_upload", "errors")])
async def test_beginning_without_an_answer_is_left_to_the_sweep(method: str, when: str) -> None:
    """Where a store fails in the middle of beginning, nothing is left after a sweep."""
    ingest = Ingest()
    failing = ingest.uploads if method == "add_upload" else ingest.objects
    getattr(failing.failures, when)[method] = unavailable()
    assert (await refused(ingest.begin())).reason is Reason.STORE_UNAVAILABLE
    await ingest.sweep()
    assert ingest.nothing_is_left


async def test_a_store_that_is_slow_to_begin_is_waited_for() -> None:
    """The key is not swept meanwhile, however long it takes."""
    ingest = Ingest(replace(LIMITS, lease_s=0.03))
    gate = ingest.objects.failures.close("begin")
    call = asyncio.ensure_future(ingest.begin())
    await until_turned(lambda: ingest.objects.failures.calls["begin"])
    ingest.now += 1
    renewed = ingest.records.failures.calls["renew"]
    await until_turned(lambda: ingest.records.failures.calls["renew"] > renewed)
    assert await ingest.sweeper.sweep() == 0
    gate.set()
    assert await ingest.state(await call) is UploadState.OPEN


async def test_what_begins_after_it_was_swept_leaves_nothing() -> None:
    """Where the sweep looked before the store began, whoever began cleans up."""
    ingest = Ingest()
    gate = ingest.objects.failures.close("begin")
    call = asyncio.ensure_future(refused(ingest.begin()))
    await until_turned(lambda: ingest.objects.failures.calls["begin"])
    await ingest.sweep()
    gate.set()
    assert (await call).reason is Reason.STORE_UNAVAILABLE
    assert ingest.nothing_is_left


async def test_a_request_id_answers_the_same_upload() -> None:
    """Begun again, also at the same time, it is the same upload with its parts; for another file it is refused."""
    ingest = Ingest()
    first, *others = await asyncio.gather(*(ingest.begin(request_id="r") for _ in range(3)))
    assert {upload.id for upload in others} == {first.id}
    assert len(ingest.objects.multiparts) == 1
    assert len(ingest.records.pending) == 1
    error = await refused(ingest.begin(replace(SPEC, filename="b.mp4"), request_id="r"))
    assert error.reason is Reason.REQUEST_ID_REUSED
    await ingest.open.abort(first.id)
    assert (await ingest.begin(request_id="r")).id != first.id


async def test_one_open_upload_too_many_is_refused() -> None:
    """Past the limit none begins, nothing of it is left, and one that ends makes room."""
    ingest = Ingest()
    uploads = [await ingest.begin() for _ in range(3)]
    error = await refused(ingest.begin())
    assert (error.reason, error.facts["max"]) == (Reason.LIMIT_EXCEEDED, "3")
    assert len(ingest.objects.multiparts) == len(ingest.records.pending) == 3
    await ingest.open.abort(uploads[0].id)
    await ingest.begin()


async def test_parts_at_once_are_bounded() -> None:
    """Past the limit parts are refused, as uploads are; a client that is gone frees its place when its part is in."""
    ingest = Ingest()
    upload = await ingest.begin()
    gate = ingest.objects.failures.close("put_part")
    calls = [asyncio.ensure_future(ingest.put(upload, 1 + number % 3)) for number in range(4)]
    await until_turned(lambda: ingest.objects.failures.calls["put_part"] == 3)
    assert (await refused(ingest.put(upload, 1))).reason is Reason.LIMIT_EXCEEDED
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    assert (await refused(ingest.put(upload, 1))).reason is Reason.LIMIT_EXCEEDED
    gate.set()
    await asyncio.gather(*calls[1:])
    assert len(await ingest.open.parts(upload)) == 3
    await ingest.put(upload, 1)


async def test_a_client_that_stops_sending_is_given_up() -> None:
    """A part without data for too long is refused, and its place is free again."""

    async def stalling() -> AsyncIterator[bytes]:
        yield part_of(1)[:500]
        await asyncio.Event().wait()

    ingest = Ingest()
    upload = await ingest.begin()
    for _ in range(LIMITS.max_uploads + 1):
        error = await refused(ingest.open.put_part(PartSpec(upload.id, 1, 1000, ""), stalling()))
        assert (error.reason, error.facts["max"]) == (Reason.LIMIT_EXCEEDED, "0.05")
