"""Completing an upload in parts: the parts become an object, the object a video."""

import asyncio
import uuid
from collections.abc import Collection

import structlog
from sage_runtime.errors import Reason, SageError

from sage_ingest import errors
from sage_ingest.capacity import Capacity
from sage_ingest.model import Upload, UploadState, Video, object_key
from sage_ingest.open_uploads import OpenUploads
from sage_ingest.pending import drop_pending, lease_kept
from sage_ingest.ports import LeaseLostError, Prober, VideoObjects, VideoRecords
from sage_ingest.readback import read_back_sha256
from sage_ingest.tasks import Unabandoned, task_group
from sage_ingest.understanding import understand
from sage_ingest.upload_ports import UploadRecords

# How often a call that waits for another's completion looks.
_LOOK_S = 0.25
# The bytes themselves are at fault: completing again could not succeed.
_FINAL = {Reason.CHECKSUM_MISMATCH, Reason.VIDEO_UNREADABLE}

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Completion:
    """Turns uploads in parts into videos.

    One call does the work, in whichever process; it goes on where its client is gone. The others wait for what comes
    of it. Where its process dies, its claim runs out and the next call takes over.

    Args:
        open_uploads: The uploads.
        uploads: Where they are recorded.
        records: Where videos and pending objects are recorded.
        objects: Where the bytes are.
        prober: Tells what a file holds.
        capacity: What uploads share.
        unabandoned: Where the work runs. The process closes it before the stores.
    """

    def __init__(
        self,
        open_uploads: OpenUploads,
        uploads: UploadRecords,
        records: VideoRecords,
        objects: VideoObjects,
        prober: Prober,
        *,
        capacity: Capacity,
        unabandoned: Unabandoned,
    ) -> None:
        self._open_uploads = open_uploads
        self._uploads = uploads
        self._records = records
        self._objects = objects
        self._prober = prober
        self._capacity = capacity
        self._lease_s = capacity.limits.lease_s
        self._unabandoned = unabandoned

    async def complete(self, upload_id: str) -> Video:
        """Return the video that an upload becomes, or became before.

        Raises:
            SageError: FIELD_INVALID, UPLOAD_NOT_FOUND, UPLOAD_CLOSED, PART_MISSING or STORE_UNAVAILABLE: the upload
                is as before. CHECKSUM_MISMATCH or VIDEO_UNREADABLE: it is aborted, and says the same when it is asked
                again.
        """
        while True:
            upload = await self._open_uploads.get(upload_id)
            if upload.state is UploadState.COMPLETED:
                video = await self._records.get_video(upload.video_id)
                if video is None:
                    raise errors.video_not_found(upload.video_id)
                return video
            if upload.state is UploadState.ABORTED:
                raise upload.failure or errors.upload_closed(upload_id, state=upload.state)
            completer = uuid.uuid4().hex
            # Looked at first, since a claim writes even where it comes to nothing.
            if not upload.completing and await self._uploads.claim_completion(
                upload_id, completer=completer, lease_s=self._lease_s
            ):
                return await self._unabandoned.run(self._complete(upload, completer=completer))
            await asyncio.sleep(_LOOK_S)

    async def _complete(self, upload: Upload, *, completer: str) -> Video:
        try:
            # A process that stops does not wait for a large file: another one takes over.
            with self._unabandoned.call():
                return await self._become_video(upload, completer=completer)
        except SageError as error:
            if error.reason in _FINAL:
                await self._give_up(upload, error)
            raise
        finally:
            await self._unabandoned.run(self._release(upload, completer=completer))

    async def _become_video(self, upload: Upload, *, completer: str) -> Video:
        key = object_key(upload.video_id)
        try:
            async with lease_kept(
                lambda: self._uploads.renew_completion(upload.id, completer=completer, lease_s=self._lease_s),
                lease_s=self._lease_s,
            ):
                await self._join(upload, key=key)
                async with task_group() as checks:
                    reading = checks.create_task(
                        read_back_sha256(self._objects, key, size_bytes=upload.spec.size_bytes, capacity=self._capacity)
                    )
                    probing = checks.create_task(understand(self._prober, self._objects, upload.spec, key=key))
            sha256 = reading.result()
            if upload.spec.sha256 not in ("", sha256):
                raise errors.checksum_mismatch(
                    "spec.sha256", declared_sha256=upload.spec.sha256, received_sha256=sha256
                )
            video = Video(
                id=upload.video_id,
                filename=upload.spec.filename,
                content_type=upload.spec.content_type,
                size_bytes=upload.spec.size_bytes,
                sha256=sha256,
                media=probing.result(),
                create_time=upload.create_time,
            )
            await self._uploads.complete_upload(upload.id, video, key=key, completer=completer)
        except LeaseLostError as error:
            raise errors.store_unavailable("database", detail="the completion outlasted its lease") from error
        log.info("upload completed", upload_id=upload.id, video_id=video.id, size_bytes=video.size_bytes)
        return video

    async def _join(self, upload: Upload, *, key: str) -> None:
        parts = await self._uploads.list_parts(upload.id)
        stored = await self._objects.part_tags(key, multipart_id=upload.multipart_id)
        # A multipart upload that is no more has become the object, in an attempt that came no further. Otherwise the
        # store has to have the very bytes that were recorded: two processes that put one part at once, or one that
        # died between storing and recording, may have left others.
        others = [part for part in parts if stored is not None and (part.number, part.tag) not in stored]
        await self._uploads.forget_parts(upload.id, others)
        _check_complete(upload, {part.number for part in parts} - {part.number for part in others})
        await self._objects.complete(
            key,
            multipart_id=upload.multipart_id,
            tags=[part.tag for part in parts],
            size_bytes=upload.spec.size_bytes,
        )

    async def _give_up(self, upload: Upload, error: SageError) -> None:
        key, holder = object_key(upload.video_id), uuid.uuid4().hex
        if await self._uploads.abort_upload(upload.id, key=key, holder=holder, lease_s=self._lease_s, failure=error):
            await drop_pending(self._records, self._objects, key, holder=holder)
            log.info("upload refused", upload_id=upload.id, reason=str(error.reason))

    async def _release(self, upload: Upload, *, completer: str) -> None:
        try:
            await self._uploads.release_completion(upload.id, completer=completer)
        except SageError as error:
            log.warning("completion not released; its claim runs out", upload_id=upload.id, detail=error.detail)


def _check_complete(upload: Upload, arrived: Collection[int]) -> None:
    missing = [number for number in range(1, upload.part_count + 1) if number not in arrived]
    if missing:
        raise errors.part_missing(upload.id, numbers=missing)
