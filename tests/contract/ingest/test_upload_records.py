"""What holds for the records of uploads in parts, wherever they are."""

import asyncio
import dataclasses
from datetime import UTC, datetime

import pytest
from fakes.ingest import MEDIA
from sage_ingest.model import Part, Upload, UploadState, Video, VideoSpec, object_key
from sage_ingest.ports import LeaseLostError, RequestIdTakenError
from sage_ingest.upload_ports import TooManyOpenError
from sage_runtime.errors import FieldViolation, Reason, SageError
from sage_runtime.ids import new_id

SPEC = VideoSpec("🎬 ../a\\b%_.mp4", "video/mp4", 25 * 1024**3, "ab" * 32)
PARTS = [Part(number, 5_242_880, f"{number:064x}", f'"tag-{number}"') for number in (1, 2, 10_000)]


def _upload(**changes: object) -> Upload:
    upload = Upload(
        id=new_id("upload"),
        video_id=new_id("video"),
        spec=SPEC,
        part_bytes=10 * 1024**2,
        multipart_id="multipart",
        request_id="",
        create_time=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    )
    return dataclasses.replace(upload, **changes)


def _video(upload: Upload) -> Video:
    spec = upload.spec
    return Video(
        id=upload.video_id,
        filename=spec.filename,
        content_type=spec.content_type,
        size_bytes=spec.size_bytes,
        sha256=spec.sha256,
        media=MEDIA,
        create_time=upload.create_time,
    )


async def _open(records, *, max_open: int = 100, **changes: object) -> Upload:
    upload = _upload(**changes)
    key = object_key(upload.video_id)
    await records.store.add_pending(key, holder="me", lease_s=60)
    await records.uploads.add_upload(upload, key=key, holder="me", expire_s=600, max_open=max_open)
    return upload


async def _complete(records, upload: Upload, *, completer: str = "c") -> None:
    assert await records.uploads.claim_completion(upload.id, completer=completer, lease_s=60)
    await records.uploads.complete_upload(
        upload.id, _video(upload), key=object_key(upload.video_id), completer=completer
    )


async def _abort(records, upload: Upload, **changes: object) -> bool:
    return await records.uploads.abort_upload(
        upload.id, key=object_key(upload.video_id), holder="me", lease_s=60, **changes
    )


async def _sweep(records) -> list[str]:
    await records.expire()
    return await records.store.claim_expired(holder="sweep", lease_s=60, limit=100)


async def _state(records, upload: Upload) -> UploadState:
    found = await records.uploads.get_upload(upload.id)
    assert found is not None
    return found.state


async def test_an_upload_comes_back_as_it_was(records) -> None:
    """Every field is kept; an open upload says when it expires, and is found by its request id."""
    upload = await _open(records, request_id="r")
    found = await records.uploads.get_upload(upload.id)
    assert found.expire_time is not None
    assert dataclasses.replace(found, expire_time=None) == upload
    assert await records.uploads.find_upload("r") == found
    assert await records.uploads.get_upload(new_id("upload")) is None
    assert await records.uploads.find_upload("other") is None


async def test_parts_come_back_by_number(records) -> None:
    """Parts in any order are listed by number, and one that comes again replaces the one before."""
    upload = await _open(records)
    assert await records.uploads.list_parts(upload.id) == []
    for part in reversed(PARTS):
        await records.uploads.add_part(upload.id, part, expire_s=600)
    assert await records.uploads.list_parts(upload.id) == PARTS
    again = Part(2, 7, "f" * 64, "another")
    await records.uploads.add_part(upload.id, again, expire_s=600)
    assert await records.uploads.list_parts(upload.id) == [PARTS[0], again, PARTS[2]]


async def test_parts_are_forgotten_by_their_bytes(records) -> None:
    """A part that was replaced meanwhile stays; nothing to forget is no error."""
    upload = await _open(records)
    for part in PARTS:
        await records.uploads.add_part(upload.id, part, expire_s=600)
    replaced = dataclasses.replace(PARTS[1], tag="old")
    await records.uploads.forget_parts(upload.id, [PARTS[0], replaced])
    await records.uploads.forget_parts(upload.id, [])
    assert await records.uploads.list_parts(upload.id) == PARTS[1:]


async def test_an_upload_needs_its_pending_object(records) -> None:
    """Whoever lost the object to a sweep cannot begin the upload."""
    upload = _upload()
    with pytest.raises(LeaseLostError):
        await records.uploads.add_upload(upload, key=object_key(upload.video_id), holder="me", expire_s=60, max_open=9)
    assert await records.uploads.get_upload(upload.id) is None


async def test_a_request_id_belongs_to_one_upload(records) -> None:
    """A second upload with the request id of one that is open or completed is refused; empty ids belong to all."""
    first = await _open(records, request_id="r")
    with pytest.raises(RequestIdTakenError):
        await _open(records, request_id="r")
    await _complete(records, first)
    with pytest.raises(RequestIdTakenError):
        await _open(records, request_id="r")
    await _open(records)
    await _open(records)


async def test_an_aborted_upload_frees_its_request_id(records) -> None:
    """Aborted or swept, an upload is not found by its request id, and another may have it."""
    assert await _abort(records, await _open(records, request_id="r"))
    assert await records.uploads.find_upload("r") is None
    await _open(records, request_id="r")
    await _sweep(records)
    assert await records.uploads.find_upload("r") is None
    await _open(records, request_id="r")


async def test_a_deleted_video_frees_its_request_id(records) -> None:
    """The upload of a video that is deleted is forgotten."""
    upload = await _open(records, request_id="r")
    await _complete(records, upload)
    key = object_key(upload.video_id)
    assert await records.store.remove_video(upload.video_id, key=key, holder="me", lease_s=60)
    assert await records.uploads.get_upload(upload.id) is None
    await _open(records, request_id="r")


async def test_open_uploads_are_counted(records) -> None:
    """As many as allowed may be open, also where they are begun at once; closed ones do not count."""
    begun = await asyncio.gather(*(_open(records, max_open=3) for _ in range(5)), return_exceptions=True)
    opened = [one for one in begun if isinstance(one, Upload)]
    assert len(opened) == 3
    assert sum(isinstance(one, TooManyOpenError) for one in begun) == 2
    await _abort(records, opened[0])
    await _complete(records, opened[1])
    await _open(records, max_open=2)


async def test_a_part_puts_off_the_end(records) -> None:
    """An upload expires that long after its last part; holding it open never brings the end nearer."""

    async def expires() -> datetime:
        return (await records.uploads.get_upload(upload.id)).expire_time

    upload = await _open(records)
    first = await expires()
    await records.uploads.hold_open(upload.id, expire_s=6)
    assert await expires() == first
    await records.uploads.hold_open(upload.id, expire_s=1200)
    second = await expires()
    assert second > first
    await records.uploads.add_part(upload.id, PARTS[0], expire_s=2400)
    assert await expires() > second


async def test_an_upload_that_nobody_finishes_is_swept(records) -> None:
    """A sweep that takes over the object aborts the upload: it takes no more parts and has none."""
    upload = await _open(records)
    await records.uploads.add_part(upload.id, PARTS[0], expire_s=600)
    assert await records.store.claim_expired(holder="sweep", lease_s=60, limit=100) == []
    assert await _sweep(records) == [object_key(upload.video_id)]
    found = await records.uploads.get_upload(upload.id)
    assert (found.state, found.expire_time) == (UploadState.ABORTED, None)
    assert await records.uploads.list_parts(upload.id) == []
    with pytest.raises(LeaseLostError):
        await records.uploads.add_part(upload.id, PARTS[1], expire_s=600)
    with pytest.raises(LeaseLostError):
        await records.uploads.hold_open(upload.id, expire_s=600)
    assert not await records.uploads.claim_completion(upload.id, completer="c", lease_s=60)
    assert not await _abort(records, upload)


async def test_a_completed_upload_is_a_video(records) -> None:
    """Upload and video change in one step: the object is nobody's to sweep, and the upload takes no more."""
    upload = await _open(records)
    await records.uploads.add_part(upload.id, PARTS[0], expire_s=600)
    await _complete(records, upload)
    assert await records.store.get_video(upload.video_id) == _video(upload)
    found = await records.uploads.get_upload(upload.id)
    assert (found.state, found.completing, found.expire_time) == (UploadState.COMPLETED, False, None)
    assert await records.uploads.list_parts(upload.id) == PARTS[:1]
    assert await _sweep(records) == []
    with pytest.raises(LeaseLostError):
        await records.uploads.add_part(upload.id, PARTS[1], expire_s=600)
    assert not await _abort(records, upload)
    assert not await records.uploads.claim_completion(upload.id, completer="other", lease_s=60)


async def test_one_completes_at_a_time(records) -> None:
    """Of many that claim a completion at once one has it, until it releases it or its lease runs out."""
    upload = await _open(records)
    claims = await asyncio.gather(
        *(records.uploads.claim_completion(upload.id, completer=f"c{n}", lease_s=60) for n in range(5))
    )
    assert sum(claims) == 1
    winner = f"c{claims.index(True)}"
    assert (await records.uploads.get_upload(upload.id)).completing
    with pytest.raises(LeaseLostError):
        await records.uploads.hold_open(upload.id, expire_s=600)
    await records.uploads.release_completion(upload.id, completer="nobody")
    assert not await records.uploads.claim_completion(upload.id, completer="late", lease_s=60)
    await records.uploads.release_completion(upload.id, completer=winner)
    assert await records.uploads.claim_completion(upload.id, completer="late", lease_s=60)
    await records.expire()
    assert not (await records.uploads.get_upload(upload.id)).completing
    assert await records.uploads.claim_completion(upload.id, completer="later", lease_s=60)
    with pytest.raises(LeaseLostError):
        await records.uploads.renew_completion(upload.id, completer="late", lease_s=60)
    with pytest.raises(LeaseLostError):
        await records.uploads.complete_upload(
            upload.id, _video(upload), key=object_key(upload.video_id), completer="late"
        )
    assert await _state(records, upload) is UploadState.OPEN
    assert await records.store.get_video(upload.video_id) is None


async def test_an_upload_does_not_expire_while_it_is_completed(records) -> None:
    """Claiming a completion and renewing it keep the sweep away."""
    upload = await _open(records)
    await records.expire()
    assert await records.uploads.claim_completion(upload.id, completer="c", lease_s=60)
    assert await records.store.claim_expired(holder="sweep", lease_s=60, limit=9) == []
    await records.expire()
    await records.uploads.renew_completion(upload.id, completer="c", lease_s=60)
    assert await records.store.claim_expired(holder="sweep", lease_s=60, limit=9) == []
    await records.uploads.complete_upload(upload.id, _video(upload), key=object_key(upload.video_id), completer="c")


async def test_an_abort_during_completion_wins(records) -> None:
    """Who completes an upload that is aborted meanwhile cannot go on, and the object is left to clean up."""
    upload = await _open(records)
    assert await records.uploads.claim_completion(upload.id, completer="c", lease_s=60)
    assert await _abort(records, upload)
    with pytest.raises(LeaseLostError):
        await records.uploads.renew_completion(upload.id, completer="c", lease_s=60)
    with pytest.raises(LeaseLostError):
        await records.uploads.complete_upload(upload.id, _video(upload), key=object_key(upload.video_id), completer="c")
    assert await _sweep(records) == [object_key(upload.video_id)]


async def test_why_an_upload_was_refused_is_kept(records) -> None:
    """The error that ended an upload comes back with reason, facts and fields."""
    failure = SageError(
        Reason.VIDEO_UNREADABLE, violations=(FieldViolation("content", "must be a video."),), filename="ä", why="cake"
    )
    upload = await _open(records)
    assert await _abort(records, upload, failure=failure)
    kept = (await records.uploads.get_upload(upload.id)).failure
    assert (kept.reason, kept.facts, kept.violations) == (failure.reason, failure.facts, failure.violations)


async def test_closed_uploads_are_forgotten_in_time(records) -> None:
    """What ended long ago is forgotten, with its parts; what ended just now or is open stays."""
    uploads = [await _open(records) for _ in range(3)]
    await records.uploads.add_part(uploads[0].id, PARTS[0], expire_s=600)
    await _complete(records, uploads[0])
    await _abort(records, uploads[1])
    await records.uploads.forget_closed(older_than_s=60)
    assert await records.uploads.get_upload(uploads[0].id)
    await records.age()
    await records.uploads.forget_closed(older_than_s=60)
    assert [await records.uploads.get_upload(upload.id) is None for upload in uploads] == [True, True, False]
    assert await records.uploads.list_parts(uploads[0].id) == []
    assert await records.store.get_video(uploads[0].video_id)


async def test_parts_aborts_sweeps_and_completions_at_once_agree(records) -> None:
    """Whatever happens at the same time, an upload ends one way and nobody waits in a circle."""
    for _ in range(5):
        upload = await _open(records)
        await records.expire()
        outcomes = await asyncio.gather(
            *(records.uploads.add_part(upload.id, part, expire_s=600) for part in PARTS),
            records.store.claim_expired(holder="sweep", lease_s=60, limit=9),
            _complete(records, upload),
            _abort(records, upload),
            return_exceptions=True,
        )
        assert not [one for one in outcomes if isinstance(one, SageError)]
        state = await _state(records, upload)
        assert state in (UploadState.COMPLETED, UploadState.ABORTED, UploadState.OPEN)
        assert (await records.store.get_video(upload.video_id) is not None) == (state is UploadState.COMPLETED)
        assert (outcomes[-1] is True) <= (state is UploadState.ABORTED)
