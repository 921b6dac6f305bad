"""Uploads in parts over stores in memory: parts in any order, races, and every way to end."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from fakes.ingest import InMemoryUploadRecords, InMemoryVideoObjects, InMemoryVideoRecords, StubProber, unavailable
from sage_ingest.capacity import Capacity, UploadLimits
from sage_ingest.completion import Completion
from sage_ingest.model import Part, PartSpec, Upload, UploadState, VideoSpec, object_key
from sage_ingest.open_uploads import OpenUploads
from sage_ingest.ports import UnreadableError
from sage_ingest.sweep import Sweeper
from sage_ingest.tasks import Unabandoned
from sage_runtime.errors import Reason, SageError

DATA = bytes(range(256)) * 10
PART_BYTES = 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
SPEC = VideoSpec("a.mp4", "video/mp4", len(DATA), SHA256)
EXPIRE_S = 600.0
LIMITS = UploadLimits(
    part_bytes=PART_BYTES, parts_in_flight=2, total_parts_in_flight=3, max_uploads=4, idle_s=0.05, lease_s=60.0
)


class Ingest:
    """Uploads in parts and everything they stand on, with a clock that tests move.

    Attributes:
        now: The time of leases in seconds.
    """

    def __init__(self, limits: UploadLimits = LIMITS) -> None:
        self.now = 0.0
        self.records = InMemoryVideoRecords(lambda: self.now)
        self.uploads = InMemoryUploadRecords(self.records)
        self.objects = InMemoryVideoObjects()
        self.prober = StubProber()
        self.limits = limits
        self.unabandoned, self.open, self.completion = self.process()
        self.sweeper = Sweeper(
            self.records, self.uploads, self.objects, lease_s=60.0, interval_s=1.0, forget_s=EXPIRE_S
        )

    def process(self) -> tuple[Unabandoned, OpenUploads, Completion]:
        """Return what one process has of its own."""
        unabandoned, capacity = Unabandoned(), Capacity(self.limits)
        open_uploads = OpenUploads(
            self.uploads,
            self.records,
            self.objects,
            capacity=capacity,
            expire_s=EXPIRE_S,
            max_open=3,
            unabandoned=unabandoned,
        )
        completion = Completion(
            open_uploads,
            self.uploads,
            self.records,
            self.objects,
            self.prober,
            capacity=capacity,
            unabandoned=unabandoned,
        )
        return unabandoned, open_uploads, completion

    async def begin(self, spec: VideoSpec = SPEC, *, request_id: str = "") -> Upload:
        return await self.open.begin(spec, request_id=request_id)

    async def put(self, upload: Upload, number: int, /, data: bytes | None = None, **changes: object) -> Part:
        data = _part_of(number) if data is None else data
        spec = PartSpec(upload.id, number, len(data), hashlib.sha256(data).hexdigest())
        return await self.open.put_part(replace(spec, **changes), _chunks(data))

    async def put_all(self, upload: Upload) -> None:
        await asyncio.gather(*(self.put(upload, number) for number in (3, 1, 2)))

    async def whole(self, spec: VideoSpec = SPEC) -> Upload:
        upload = await self.begin(spec)
        await self.put_all(upload)
        return upload

    async def state(self, upload: Upload) -> UploadState:
        return (await self.open.get(upload.id)).state

    async def sweep(self, after_s: float = 61) -> None:
        self.now += after_s
        await self.sweeper.sweep()

    @property
    def nothing_is_left(self) -> bool:
        return self.objects.is_empty and not self.records.pending and not self.records.videos


def _part_of(number: int) -> bytes:
    return DATA[(number - 1) * PART_BYTES : number * PART_BYTES]


async def _chunks(data: bytes, size: int = 333) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - fakes have no events for everything
            await asyncio.sleep(0)


async def _refused(call: object) -> SageError:
    with pytest.raises(SageError) as raised:
        await call
    return raised.value


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
        data = _part_of(number)
        await open_uploads.put_part(PartSpec(upload.id, number, len(data), ""), _chunks(data))
    assert (await completion.complete(upload.id)).sha256 == SHA256


@pytest.mark.parametrize(
    ("data", "changes", "reason", "field"),
    [
        (_part_of(1)[:-1], {"size_bytes": 1000}, Reason.SIZE_MISMATCH, "size_bytes"),
        (b"", {"size_bytes": 1000}, Reason.SIZE_MISMATCH, "size_bytes"),
        (_part_of(1) + b"x", {"size_bytes": 1000}, Reason.SIZE_MISMATCH, "size_bytes"),
        (_part_of(1), {"sha256": "0" * 64}, Reason.CHECKSUM_MISMATCH, "sha256"),
        (_part_of(1)[:-1], {}, Reason.PART_INVALID, "size_bytes"),
        (_part_of(1), {"number": 4}, Reason.PART_INVALID, "part_number"),
    ],
)
async def test_a_part_that_is_not_as_declared_leaves_the_one_before(data, changes, reason, field) -> None:
    """A part with other bytes than declared is refused, and the part that was there stays as it was."""
    ingest = Ingest()
    upload = await ingest.begin()
    before = await ingest.put(upload, 1)
    error = await _refused(ingest.put(upload, 1, data, **changes))
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
    await _until(lambda: ingest.objects.failures.calls["put_part"])
    for _ in range(100):
        await asyncio.sleep(0)
    assert ingest.objects.failures.calls["put_part"] == 1
    gate.set()
    await asyncio.gather(*calls)
    (recorded,) = await ingest.open.parts(upload)
    ((_, stored),) = next(iter(ingest.objects.multiparts.values())).parts.items()
    assert recorded.sha256 == hashlib.sha256(stored).hexdigest()


async def test_a_part_whose_record_is_not_the_stores_counts_as_missing() -> None:
    """Where the store has other bytes than recorded, as after two processes put one part, nothing is joined."""
    ingest = Ingest()
    upload = await ingest.whole()
    # A process stored these bytes and died before it recorded them.
    await ingest.objects.put_part(
        object_key(upload.video_id), multipart_id=upload.multipart_id, part_number=2, data=bytearray(1000)
    )
    error = await _refused(ingest.completion.complete(upload.id))
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
    error = await _refused(ingest.completion.complete(upload.id))
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
    first = await _refused(ingest.completion.complete(upload.id))
    again = await _refused(ingest.completion.complete(upload.id))
    assert (first.reason, again.reason, again.facts) == (fault, fault, first.facts)
    assert await ingest.state(upload) is UploadState.ABORTED
    assert ingest.nothing_is_left
    assert (await _refused(ingest.put(upload, 1))).reason is Reason.UPLOAD_CLOSED


@pytest.mark.parametrize("method", ["part_tags", "complete", "read_part", "probe"])
async def test_a_store_that_fails_leaves_the_upload_to_be_completed_again(method: str) -> None:
    """Where the object store is away for a moment, completing again succeeds with the parts that are there."""
    ingest = Ingest()
    upload = await ingest.whole()
    failing = ingest.prober if method == "probe" else ingest.objects
    failing.failures.errors[method] = unavailable()
    assert (await _refused(ingest.completion.complete(upload.id))).reason is Reason.STORE_UNAVAILABLE
    failing.failures.errors.clear()
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256


@pytest.mark.parametrize("when", ["errors", "late_errors"])
async def test_a_commit_without_an_answer_is_asked_about_again(when: str) -> None:
    """Whether or not a commit whose answer was lost took place, completing again answers the one video."""
    ingest = Ingest()
    upload = await ingest.whole()
    getattr(ingest.uploads.failures, when)["complete_upload"] = unavailable()
    assert (await _refused(ingest.completion.complete(upload.id))).reason is Reason.STORE_UNAVAILABLE
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
    await _until(lambda: ingest.uploads.failures.calls["get_upload"] > looked + 1)
    assert ingest.uploads.failures.calls["claim_completion"] == 1
    await ingest.uploads.release_completion(upload.id, completer="somebody")
    assert (await call).sha256 == SHA256


async def test_a_completion_goes_on_without_its_client() -> None:
    """A client that is gone costs nothing: the next call gets the video."""
    ingest = Ingest()
    upload = await ingest.whole()
    gate = ingest.prober.failures.close("probe")
    call = asyncio.ensure_future(ingest.completion.complete(upload.id))
    await _until(lambda: ingest.prober.failures.calls["probe"])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await _refused(ingest.put(upload, 1))).facts["state"] == "COMPLETING"
    gate.set()
    await _until(lambda: ingest.records.videos)
    assert (await ingest.completion.complete(upload.id)).sha256 == SHA256
    assert ingest.prober.failures.calls["probe"] == 1


async def test_a_process_that_stops_hands_the_completion_on() -> None:
    """A process that stops does not finish a long completion, and another one takes over at once."""
    ingest = Ingest()
    upload = await ingest.whole()
    gate = ingest.prober.failures.close("probe")
    call = asyncio.ensure_future(ingest.completion.complete(upload.id))
    await _until(lambda: ingest.prober.failures.calls["probe"])
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
    await _until(lambda: ingest.uploads.failures.calls["renew_completion"] > 1)
    ingest.now += EXPIRE_S + 1
    renewed = ingest.uploads.failures.calls["renew_completion"]
    await _until(lambda: ingest.uploads.failures.calls["renew_completion"] > renewed)
    assert await ingest.sweeper.sweep() == 0
    gate.set()
    assert (await call).sha256 == SHA256


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
        error = await _refused(call)
        assert (error.reason, error.facts["state"]) == (Reason.UPLOAD_CLOSED, "ABORTED")


async def test_a_completed_upload_cannot_be_aborted() -> None:
    """What has become a video stays one."""
    ingest = Ingest()
    upload = await ingest.whole()
    await ingest.completion.complete(upload.id)
    assert (await _refused(ingest.open.abort(upload.id))).facts["state"] == "COMPLETED"
    assert (await _refused(ingest.put(upload, 1))).facts["state"] == "COMPLETED"
    assert len(ingest.objects.objects) == 1


@pytest.mark.parametrize("stage", ["complete", "probe"])
async def test_an_abort_during_completion_leaves_nothing(stage: str) -> None:
    """Whoever completes loses, and the sweep gets what was joined after the abort had looked."""
    ingest = Ingest()
    upload = await ingest.whole()
    busy = ingest.prober if stage == "probe" else ingest.objects
    gate = busy.failures.close(stage)
    call = asyncio.ensure_future(_refused(ingest.completion.complete(upload.id)))
    await _until(lambda: busy.failures.calls[stage])
    await ingest.open.abort(upload.id)
    # What the store was told to join before may come into being after the abort has looked.
    ingest.objects.objects[object_key(upload.video_id)] = DATA
    gate.set()
    assert (await call).reason is Reason.STORE_UNAVAILABLE
    assert (await _refused(ingest.completion.complete(upload.id))).reason is Reason.UPLOAD_CLOSED
    await ingest.sweep()
    assert ingest.nothing_is_left


async def test_an_abort_while_a_part_is_on_its_way_leaves_nothing() -> None:
    """The part is refused when it arrives, and the sweep gets what it left."""
    ingest = Ingest()
    upload = await ingest.begin()
    gate = ingest.uploads.failures.close("add_part")
    call = asyncio.ensure_future(_refused(ingest.put(upload, 1)))
    await _until(lambda: ingest.uploads.failures.calls["add_part"])
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
    assert (await _refused(ingest.open.get(upload.id))).reason is Reason.UPLOAD_NOT_FOUND


@pytest.mark.parametrize(("method", "when"), [("begin", "errors"), ("begin", "late_errors"), ("add_upload", "errors")])
async def test_beginning_without_an_answer_is_left_to_the_sweep(method: str, when: str) -> None:
    """Where a store fails in the middle of beginning, nothing is left after a sweep."""
    ingest = Ingest()
    failing = ingest.uploads if method == "add_upload" else ingest.objects
    getattr(failing.failures, when)[method] = unavailable()
    assert (await _refused(ingest.begin())).reason is Reason.STORE_UNAVAILABLE
    await ingest.sweep()
    assert ingest.nothing_is_left


async def test_a_store_that_is_slow_to_begin_is_waited_for() -> None:
    """The key is not swept meanwhile, however long it takes."""
    ingest = Ingest(replace(LIMITS, lease_s=0.03))
    gate = ingest.objects.failures.close("begin")
    call = asyncio.ensure_future(ingest.begin())
    await _until(lambda: ingest.objects.failures.calls["begin"])
    ingest.now += 1
    renewed = ingest.records.failures.calls["renew"]
    await _until(lambda: ingest.records.failures.calls["renew"] > renewed)
    assert await ingest.sweeper.sweep() == 0
    gate.set()
    assert await ingest.state(await call) is UploadState.OPEN


async def test_what_begins_after_it_was_swept_leaves_nothing() -> None:
    """Where the sweep looked before the store began, whoever began cleans up."""
    ingest = Ingest()
    gate = ingest.objects.failures.close("begin")
    call = asyncio.ensure_future(_refused(ingest.begin()))
    await _until(lambda: ingest.objects.failures.calls["begin"])
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
    error = await _refused(ingest.begin(replace(SPEC, filename="b.mp4"), request_id="r"))
    assert error.reason is Reason.REQUEST_ID_REUSED
    await ingest.open.abort(first.id)
    assert (await ingest.begin(request_id="r")).id != first.id


async def test_one_open_upload_too_many_is_refused() -> None:
    """Past the limit none begins, nothing of it is left, and one that ends makes room."""
    ingest = Ingest()
    uploads = [await ingest.begin() for _ in range(3)]
    error = await _refused(ingest.begin())
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
    await _until(lambda: ingest.objects.failures.calls["put_part"] == 3)
    assert (await _refused(ingest.put(upload, 1))).reason is Reason.LIMIT_EXCEEDED
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    assert (await _refused(ingest.put(upload, 1))).reason is Reason.LIMIT_EXCEEDED
    gate.set()
    await asyncio.gather(*calls[1:])
    assert len(await ingest.open.parts(upload)) == 3
    await ingest.put(upload, 1)


async def test_a_client_that_stops_sending_is_given_up() -> None:
    """A part without data for too long is refused, and its place is free again."""

    async def stalling() -> AsyncIterator[bytes]:
        yield _part_of(1)[:500]
        await asyncio.Event().wait()

    ingest = Ingest()
    upload = await ingest.begin()
    for _ in range(LIMITS.max_uploads + 1):
        error = await _refused(ingest.open.put_part(PartSpec(upload.id, 1, 1000, ""), stalling()))
        assert (error.reason, error.facts["max"]) == (Reason.LIMIT_EXCEEDED, "0.05")


async def test_reading_back_shares_its_room() -> None:
    """Many completions at once get through with fewer slots than they would like, and give back all of them."""
    ingest = Ingest(replace(LIMITS, total_parts_in_flight=2))
    uploads = [await ingest.whole() for _ in range(3)]
    videos = await asyncio.gather(*(ingest.completion.complete(upload.id) for upload in uploads))
    assert {video.sha256 for video in videos} == {SHA256}
    await ingest.put_all(await ingest.begin())
