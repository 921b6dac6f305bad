"""Contract of `UploadRepository`."""

import asyncio
import dataclasses
from datetime import UTC, datetime

import pytest
from fakes.ingest import MEDIA
from sage_ingest.uploads.model import Part, Upload, UploadState
from sage_ingest.uploads.ports import TooManyOpenError
from sage_ingest.videos.model import Video, VideoSpec, object_key
from sage_ingest.videos.ports import LeaseLostError, RequestIdTakenError
from sage_runtime.api import new_id
from sage_runtime.errors import FieldViolation, Reason, SageError

SPEC = VideoSpec("🎬 ../a\\b%_.mp4", "video/mp4", 25 * 1024**3, "ab" * 32, video_track=3)
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


def _key(upload: Upload) -> str:
    return object_key(upload.video_id)


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


async def _open(repositories, *, max_open: int = 100, **changes: object) -> Upload:
    upload = _upload(**changes)
    key = object_key(upload.video_id)
    await repositories.videos.add_pending(key, holder="me", lease_s=60)
    await repositories.uploads.add_upload(upload, key=key, holder="me", expire_s=600, max_open=max_open)
    return upload


async def _complete(repositories, upload: Upload, *, completer: str = "c") -> None:
    assert await repositories.uploads.claim_completion(upload.id, completer=completer, lease_s=60)
    await repositories.uploads.complete_upload(
        upload.id, _video(upload), key=object_key(upload.video_id), completer=completer
    )


async def _abort(repositories, upload: Upload, **changes: object) -> bool:
    return await repositories.uploads.abort_upload(
        upload.id, key=object_key(upload.video_id), holder="me", lease_s=60, **changes
    )


async def _sweep(repositories) -> list[str]:
    await repositories.expire()
    return await repositories.videos.claim_expired(holder="sweep", lease_s=60, limit=100)


async def _state(repositories, upload: Upload) -> UploadState:
    found = await repositories.uploads.get_upload(upload.id)
    assert found is not None
    return found.state


async def test_every_field_of_an_upload_is_stored(repositories) -> None:
    upload = await _open(repositories, request_id="r")
    found = await repositories.uploads.get_upload(upload.id)
    assert found.expire_time is not None
    assert dataclasses.replace(found, expire_time=None) == upload
    assert await repositories.uploads.find_upload("r") == found
    assert await repositories.uploads.get_upload(new_id("upload")) is None
    assert await repositories.uploads.find_upload("other") is None


async def test_parts_are_listed_by_number_and_replaced(repositories) -> None:
    upload = await _open(repositories)
    assert await repositories.uploads.list_parts(upload.id) == []
    for part in reversed(PARTS):
        await repositories.uploads.add_part(upload.id, part, expire_s=600)
    assert await repositories.uploads.list_parts(upload.id) == PARTS
    again = Part(2, 7, "f" * 64, "another")
    await repositories.uploads.add_part(upload.id, again, expire_s=600)
    assert await repositories.uploads.list_parts(upload.id) == [PARTS[0], again, PARTS[2]]


async def test_removing_parts_keeps_those_that_replaced_them(repositories) -> None:
    upload = await _open(repositories)
    for part in PARTS:
        await repositories.uploads.add_part(upload.id, part, expire_s=600)
    replaced = dataclasses.replace(PARTS[1], tag="old")
    await repositories.uploads.remove_parts(upload.id, [PARTS[0], replaced])
    await repositories.uploads.remove_parts(upload.id, [])
    assert await repositories.uploads.list_parts(upload.id) == PARTS[1:]


async def test_an_upload_cannot_be_added_without_its_pending_object(repositories) -> None:
    upload = _upload()
    with pytest.raises(LeaseLostError):
        await repositories.uploads.add_upload(upload, key=_key(upload), holder="me", expire_s=60, max_open=9)
    assert await repositories.uploads.get_upload(upload.id) is None


async def test_a_request_id_belongs_to_one_upload(repositories) -> None:
    first = await _open(repositories, request_id="r")
    with pytest.raises(RequestIdTakenError):
        await _open(repositories, request_id="r")
    await _complete(repositories, first)
    with pytest.raises(RequestIdTakenError):
        await _open(repositories, request_id="r")
    await _open(repositories)
    await _open(repositories)


async def test_an_aborted_upload_frees_its_request_id(repositories) -> None:
    assert await _abort(repositories, await _open(repositories, request_id="r"))
    assert await repositories.uploads.find_upload("r") is None
    await _open(repositories, request_id="r")
    await _sweep(repositories)
    assert await repositories.uploads.find_upload("r") is None
    await _open(repositories, request_id="r")


async def test_a_deleted_video_frees_its_request_id(repositories) -> None:
    upload = await _open(repositories, request_id="r")
    await _complete(repositories, upload)
    key = object_key(upload.video_id)
    assert await repositories.videos.remove_video(upload.video_id, key=key, holder="me", lease_s=60)
    assert await repositories.uploads.get_upload(upload.id) is None
    await _open(repositories, request_id="r")


async def test_open_uploads_are_counted(repositories) -> None:
    begun = await asyncio.gather(*(_open(repositories, max_open=3) for _ in range(5)), return_exceptions=True)
    opened = [one for one in begun if isinstance(one, Upload)]
    assert len(opened) == 3
    assert sum(isinstance(one, TooManyOpenError) for one in begun) == 2
    await _abort(repositories, opened[0])
    await _complete(repositories, opened[1])
    await _open(repositories, max_open=2)


async def test_a_part_extends_the_expiry_and_holding_open_never_shortens_it(repositories) -> None:

    async def expires() -> datetime:
        return (await repositories.uploads.get_upload(upload.id)).expire_time

    upload = await _open(repositories)
    first = await expires()
    await repositories.uploads.hold_open(upload.id, expire_s=6)
    assert await expires() == first
    await repositories.uploads.hold_open(upload.id, expire_s=1200)
    second = await expires()
    assert second > first
    await repositories.uploads.add_part(upload.id, PARTS[0], expire_s=2400)
    assert await expires() > second


async def test_an_expired_upload_is_swept(repositories) -> None:
    upload = await _open(repositories)
    await repositories.uploads.add_part(upload.id, PARTS[0], expire_s=600)
    assert await repositories.videos.claim_expired(holder="sweep", lease_s=60, limit=100) == []
    assert await _sweep(repositories) == [object_key(upload.video_id)]
    found = await repositories.uploads.get_upload(upload.id)
    assert (found.state, found.expire_time) == (UploadState.ABORTED, None)
    assert await repositories.uploads.list_parts(upload.id) == []
    with pytest.raises(LeaseLostError):
        await repositories.uploads.add_part(upload.id, PARTS[1], expire_s=600)
    with pytest.raises(LeaseLostError):
        await repositories.uploads.hold_open(upload.id, expire_s=600)
    assert not await repositories.uploads.claim_completion(upload.id, completer="c", lease_s=60)
    assert not await _abort(repositories, upload)


async def test_completing_turns_the_upload_into_a_video_in_one_step(repositories) -> None:
    upload = await _open(repositories)
    await repositories.uploads.add_part(upload.id, PARTS[0], expire_s=600)
    await _complete(repositories, upload)
    assert await repositories.videos.get_video(upload.video_id) == _video(upload)
    found = await repositories.uploads.get_upload(upload.id)
    assert (found.state, found.completing, found.expire_time) == (UploadState.COMPLETED, False, None)
    assert await repositories.uploads.list_parts(upload.id) == PARTS[:1]
    assert await _sweep(repositories) == []
    with pytest.raises(LeaseLostError):
        await repositories.uploads.add_part(upload.id, PARTS[1], expire_s=600)
    assert not await _abort(repositories, upload)
    assert not await repositories.uploads.claim_completion(upload.id, completer="other", lease_s=60)


async def test_one_completer_at_a_time_holds_the_lease(repositories) -> None:
    upload = await _open(repositories)
    claims = await asyncio.gather(
        *(repositories.uploads.claim_completion(upload.id, completer=f"c{n}", lease_s=60) for n in range(5))
    )
    assert sum(claims) == 1
    winner = f"c{claims.index(True)}"
    assert (await repositories.uploads.get_upload(upload.id)).completing
    with pytest.raises(LeaseLostError):
        await repositories.uploads.hold_open(upload.id, expire_s=600)
    await repositories.uploads.release_completion(upload.id, completer="another")
    assert not await repositories.uploads.claim_completion(upload.id, completer="late", lease_s=60)
    await repositories.uploads.release_completion(upload.id, completer=winner)
    assert await repositories.uploads.claim_completion(upload.id, completer="late", lease_s=60)
    await repositories.expire()
    assert not (await repositories.uploads.get_upload(upload.id)).completing
    assert await repositories.uploads.claim_completion(upload.id, completer="later", lease_s=60)
    with pytest.raises(LeaseLostError):
        await repositories.uploads.renew_completion(upload.id, completer="late", lease_s=60)
    with pytest.raises(LeaseLostError):
        await repositories.uploads.complete_upload(
            upload.id, _video(upload), key=object_key(upload.video_id), completer="late"
        )
    assert await _state(repositories, upload) is UploadState.OPEN
    assert await repositories.videos.get_video(upload.video_id) is None


async def test_an_upload_does_not_expire_during_completion(repositories) -> None:
    upload = await _open(repositories)
    await repositories.expire()
    assert await repositories.uploads.claim_completion(upload.id, completer="c", lease_s=60)
    assert await repositories.videos.claim_expired(holder="sweep", lease_s=60, limit=9) == []
    await repositories.expire()
    await repositories.uploads.renew_completion(upload.id, completer="c", lease_s=60)
    assert await repositories.videos.claim_expired(holder="sweep", lease_s=60, limit=9) == []
    await repositories.uploads.complete_upload(
        upload.id, _video(upload), key=object_key(upload.video_id), completer="c"
    )


async def test_an_abort_wins_over_a_completion(repositories) -> None:
    upload = await _open(repositories)
    assert await repositories.uploads.claim_completion(upload.id, completer="c", lease_s=60)
    assert await _abort(repositories, upload)
    with pytest.raises(LeaseLostError):
        await repositories.uploads.renew_completion(upload.id, completer="c", lease_s=60)
    with pytest.raises(LeaseLostError):
        await repositories.uploads.complete_upload(
            upload.id, _video(upload), key=object_key(upload.video_id), completer="c"
        )
    assert await _sweep(repositories) == [object_key(upload.video_id)]


async def test_the_error_that_aborted_an_upload_is_stored(repositories) -> None:
    failure = SageError(
        Reason.VIDEO_UNREADABLE, violations=(FieldViolation("content", "must be a video."),), filename="ä", why="cake"
    )
    upload = await _open(repositories)
    assert await _abort(repositories, upload, failure=failure)
    kept = (await repositories.uploads.get_upload(upload.id)).failure
    assert (kept.reason, kept.facts, kept.violations) == (failure.reason, failure.facts, failure.violations)


async def test_old_closed_uploads_are_removed_with_their_parts(repositories) -> None:
    uploads = [await _open(repositories) for _ in range(3)]
    await repositories.uploads.add_part(uploads[0].id, PARTS[0], expire_s=600)
    await _complete(repositories, uploads[0])
    await _abort(repositories, uploads[1])
    await repositories.uploads.remove_closed(older_than_s=60)
    assert await repositories.uploads.get_upload(uploads[0].id)
    await repositories.age()
    await repositories.uploads.remove_closed(older_than_s=60)
    assert [await repositories.uploads.get_upload(upload.id) is None for upload in uploads] == [True, True, False]
    assert await repositories.uploads.list_parts(uploads[0].id) == []
    assert await repositories.videos.get_video(uploads[0].video_id)


async def test_concurrent_parts_aborts_sweeps_and_completions_have_one_outcome(repositories) -> None:
    for _ in range(5):
        upload = await _open(repositories)
        await repositories.expire()
        outcomes = await asyncio.gather(
            *(repositories.uploads.add_part(upload.id, part, expire_s=600) for part in PARTS),
            repositories.videos.claim_expired(holder="sweep", lease_s=60, limit=9),
            _complete(repositories, upload),
            _abort(repositories, upload),
            return_exceptions=True,
        )
        assert not [one for one in outcomes if isinstance(one, SageError)]
        state = await _state(repositories, upload)
        assert state in (UploadState.COMPLETED, UploadState.ABORTED, UploadState.OPEN)
        assert (await repositories.videos.get_video(upload.video_id) is not None) == (state is UploadState.COMPLETED)
        assert (outcomes[-1] is True) <= (state is UploadState.ABORTED)


async def test_open_uploads_are_listed_newest_first_with_the_size_of_their_parts(repositories) -> None:
    old, new, aborted = [await _open(repositories) for _ in range(3)]
    for part in PARTS[:2]:
        await repositories.uploads.add_part(old.id, part, expire_s=600)
    await repositories.uploads.abort_upload(aborted.id, key=_key(aborted), holder="me", lease_s=60)
    found = await repositories.uploads.list_open(before_id=None, limit=10)
    assert [(one.upload.id, one.received_bytes) for one in found] == [(new.id, 0), (old.id, 2 * 5_242_880)]
    assert found[1].upload == await repositories.uploads.get_upload(old.id)
    assert [one.upload.id for one in await repositories.uploads.list_open(before_id=new.id, limit=10)] == [old.id]
    assert [one.upload.id for one in await repositories.uploads.list_open(before_id=None, limit=1)] == [new.id]
