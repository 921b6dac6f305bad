"""Completing a resumable upload: its parts become an object, the object becomes a video."""

import asyncio
import hashlib
import uuid
from collections import deque
from collections.abc import Collection

import structlog
from sage_runtime.errors import Reason, SageError, task_group
from sage_runtime.process.settings import MIB

from sage_ingest import errors
from sage_ingest.config import IngestSettings
from sage_ingest.probing.ports import Prober
from sage_ingest.probing.prober import probe_object
from sage_ingest.uploads.model import Upload, UploadState
from sage_ingest.uploads.parts import Capacity
from sage_ingest.uploads.ports import UploadRepository
from sage_ingest.videos.model import Video, object_key
from sage_ingest.videos.pending import PendingObjects, ShieldedTasks, lease_kept
from sage_ingest.videos.ports import LeaseLostError, VideoObjects, VideoRepository

# Interval at which a call that waits for another call's completion checks for the result.
_POLL_S = 0.25
# The bytes themselves are wrong: completing again cannot succeed.
_FINAL = {Reason.CHECKSUM_MISMATCH, Reason.VIDEO_UNREADABLE}
# Large enough that the overhead of a request does not show; no larger than the smallest part, so that the bound on
# memory for parts holds for reading too.
_READ_BYTES = 5 * MIB

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Completion:
    """Turns resumable uploads into videos.

    One call in one process does the work, and continues if its client disconnects. Other calls wait for the
    result. If the process dies, its lease expires and the next call takes over.

    Args:
        settings: Limits of uploads.
        uploads: Stored resumable uploads.
        videos: Stored videos.
        objects: The object store.
        pending: Objects that do not belong to a video yet.
        prober: Reads the media of a file.
        capacity: Shared by all uploads.
        shielded: Does the work. Close it before the stores.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        uploads: UploadRepository,
        videos: VideoRepository,
        objects: VideoObjects,
        pending: PendingObjects,
        prober: Prober,
        capacity: Capacity,
        shielded: ShieldedTasks,
    ) -> None:
        self._uploads = uploads
        self._videos = videos
        self._objects = objects
        self._pending = pending
        self._prober = prober
        self._capacity = capacity
        self._lease_s = settings.upload_lease_s
        self._parts_in_flight = settings.parts_in_flight
        self._shielded = shielded

    async def complete(self, upload_id: str) -> Video:
        """Return the video that an upload becomes or has become.

        Raises:
            SageError: UPLOAD_NOT_FOUND, UPLOAD_CLOSED, PART_MISSING or STORE_UNAVAILABLE: the upload is unchanged.
                CHECKSUM_MISMATCH or VIDEO_UNREADABLE: it is aborted, and completing it again raises the same.
        """
        while True:
            upload = await self._uploads.get_upload(upload_id)
            if upload is None:
                raise errors.upload_not_found(upload_id)
            if upload.state is UploadState.COMPLETED:
                video = await self._videos.get_video(upload.video_id)
                if video is None:
                    raise errors.video_not_found(upload.video_id)
                return video
            if upload.state is UploadState.ABORTED:
                raise upload.failure or errors.upload_closed(upload_id, state=upload.state)
            completer = uuid.uuid4().hex
            # Read first, because even a failed claim writes.
            if not upload.completing and await self._uploads.claim_completion(
                upload_id, completer=completer, lease_s=self._lease_s
            ):
                return await self._shielded.run(self._complete(upload, completer=completer))
            await asyncio.sleep(_POLL_S)

    async def _complete(self, upload: Upload, *, completer: str) -> Video:
        try:
            # A process that stops does not wait for a large file: another one takes over.
            with self._shielded.cancelled_on_close():
                return await self._become_video(upload, completer=completer)
        except SageError as error:
            if error.reason in _FINAL:
                await self._abort(upload, error)
            raise
        finally:
            await self._shielded.run(self._release(upload, completer=completer))

    async def _become_video(self, upload: Upload, *, completer: str) -> Video:
        key, spec = object_key(upload.video_id), upload.spec
        try:
            async with lease_kept(
                lambda: self._uploads.renew_completion(upload.id, completer=completer, lease_s=self._lease_s),
                lease_s=self._lease_s,
            ):
                await self._join(upload, key=key)
                async with task_group() as checks:
                    reading = checks.create_task(
                        read_sha256(
                            self._objects,
                            key,
                            size_bytes=spec.size_bytes,
                            capacity=self._capacity,
                            read_ahead=self._parts_in_flight,
                        )
                    )
                    probing = checks.create_task(probe_object(self._prober, self._objects, spec, key=key))
            sha256 = reading.result()
            if spec.sha256 not in ("", sha256):
                raise errors.checksum_mismatch("spec.sha256", declared_sha256=spec.sha256, received_sha256=sha256)
            video = Video(
                id=upload.video_id,
                filename=spec.filename,
                content_type=spec.content_type,
                size_bytes=spec.size_bytes,
                sha256=sha256,
                media=probing.result(),
                create_time=upload.create_time,
            )
            await self._uploads.complete_upload(upload.id, video, key=key, completer=completer)
        except LeaseLostError as error:
            raise errors.store_unavailable("database", detail="the completion outlasted its lease") from error
        log.info("upload_completed", upload_id=upload.id, video_id=video.id, size_bytes=video.size_bytes)
        return video

    async def _join(self, upload: Upload, *, key: str) -> None:
        parts = await self._uploads.list_parts(upload.id)
        stored = await self._objects.part_tags(key, multipart_id=upload.multipart_id)
        # A multipart upload that no longer exists has become the object in an earlier attempt. Otherwise the store
        # must have exactly the bytes that were recorded: two processes that stored one part at once, or one that died
        # between storing and recording, may have left different ones.
        others = [part for part in parts if stored is not None and (part.number, part.tag) not in stored]
        await self._uploads.remove_parts(upload.id, others)
        _check_all_arrived(upload, {part.number for part in parts} - {part.number for part in others})
        await self._objects.complete(
            key,
            multipart_id=upload.multipart_id,
            tags=[part.tag for part in parts],
            size_bytes=upload.spec.size_bytes,
        )

    async def _abort(self, upload: Upload, error: SageError) -> None:
        key, holder = object_key(upload.video_id), self._pending.new_holder()
        if await self._uploads.abort_upload(upload.id, key=key, holder=holder, lease_s=self._lease_s, failure=error):
            await self._pending.discard(key, holder=holder)
            log.info("upload_rejected", upload_id=upload.id, reason=str(error.reason))

    async def _release(self, upload: Upload, *, completer: str) -> None:
        try:
            await self._uploads.release_completion(upload.id, completer=completer)
        except SageError as error:
            # Its lease expires.
            log.warning("completion_not_released", upload_id=upload.id, detail=error.detail)


def _check_all_arrived(upload: Upload, arrived: Collection[int]) -> None:
    missing = [number for number in range(1, upload.part_count + 1) if number not in arrived]
    if missing:
        raise errors.part_missing(upload.id, numbers=missing)


async def read_sha256(objects: VideoObjects, key: str, *, size_bytes: int, capacity: Capacity, read_ahead: int) -> str:
    """Return the SHA-256 of an object as hexadecimal digits, read back from the store.

    Several ranges are read ahead of the one that is hashed. Each occupies one of the slots that parts in flight share,
    and is hashed before this waits for another slot: a waiting task holds nothing that others wait for.

    Args:
        objects: The store.
        key: The object.
        size_bytes: Its size.
        capacity: Slots that all uploads share.
        read_ahead: Maximum number of ranges in flight.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    digest = hashlib.sha256()
    slots, reads = capacity.part_slots, deque[asyncio.Task[bytes]]()

    async def read(offset: int) -> bytes:
        return await objects.read_part(key, offset=offset, length=min(_READ_BYTES, size_bytes - offset))

    async def hash_first() -> None:
        await asyncio.to_thread(digest.update, await reads[0])
        reads.popleft()
        slots.release()

    try:
        async with task_group() as tasks:
            for offset in range(0, size_bytes, _READ_BYTES):
                while reads and (slots.locked() or len(reads) == read_ahead):
                    await hash_first()
                await slots.acquire()
                reads.append(tasks.create_task(read(offset)))
            while reads:
                await hash_first()
    finally:
        for _ in reads:
            slots.release()
    return digest.hexdigest()
