"""Taking in one video as a stream of chunks."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id

from sage_ingest import errors
from sage_ingest.capacity import Capacity
from sage_ingest.model import VIDEO_ID_PREFIX, Video, VideoSpec, object_key, was_uploaded_as
from sage_ingest.pacing import without_long_pauses
from sage_ingest.parts import PartGatherer, part_size
from sage_ingest.pending import drop_pending, lease_kept
from sage_ingest.ports import LeaseLostError, Prober, RequestIdTakenError, VideoObjects, VideoRecords
from sage_ingest.tasks import Unabandoned, task_group
from sage_ingest.transfer import PartSender
from sage_ingest.understanding import understand

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Uploads:
    """Takes videos in, so that one is either stored, verified and understood, or leaves nothing behind.

    Args:
        records: Where videos and pending objects are recorded.
        objects: Where the bytes go.
        prober: Tells what a file holds.
        capacity: What uploads share.
        unabandoned: Where cleaning up runs. The process closes it before the stores.
    """

    def __init__(
        self,
        records: VideoRecords,
        objects: VideoObjects,
        prober: Prober,
        *,
        capacity: Capacity,
        unabandoned: Unabandoned,
    ) -> None:
        self._records = records
        self._objects = objects
        self._prober = prober
        self._capacity = capacity
        self._limits = capacity.limits
        self._unabandoned = unabandoned

    async def upload(self, spec: VideoSpec, chunks: AsyncIterator[bytes], *, request_id: str) -> Video:
        """Store the bytes as a new video and return it.

        The end of `chunks` is no commit: the declared size must have come, and the declared checksum must match.

        Args:
            spec: What the client said of the video, checked.
            chunks: The bytes of the file in order.
            request_id: The client's id of this upload. Where a video has it already, that one is returned and no
                chunk is read. Empty: none.

        Raises:
            SageError: SIZE_MISMATCH, CHECKSUM_MISMATCH, VIDEO_UNREADABLE, REQUEST_ID_REUSED, LIMIT_EXCEEDED or
                STORE_UNAVAILABLE; nothing is left behind then, at the latest after a sweep.
        """
        if request_id and (earlier := await self._records.find_video(request_id)):
            return _answer_again(earlier, spec, request_id=request_id)
        with self._capacity.admitted(), self._unabandoned.call():
            return await self._take_in(spec, chunks, request_id=request_id)

    async def _take_in(self, spec: VideoSpec, chunks: AsyncIterator[bytes], *, request_id: str) -> Video:
        video_id = new_id(VIDEO_ID_PREFIX)
        key, holder, create_time = object_key(video_id), uuid.uuid4().hex, datetime.now(UTC)
        # Before the store hears of the key: a process that is killed leaves an entry that the sweep finds.
        await self._records.add_pending(key, holder=holder, lease_s=self._limits.lease_s)
        try:
            async with lease_kept(
                lambda: self._records.renew(key, holder=holder, lease_s=self._limits.lease_s),
                lease_s=self._limits.lease_s,
            ):
                sha256 = await self._receive(spec, chunks, key=key)
                media = await understand(self._prober, self._objects, spec, key=key)
        except BaseException as error:
            # A call to the store that had no answer may still take effect there, after it was cleaned up.
            uncertain = isinstance(error, SageError) and error.reason is Reason.STORE_UNAVAILABLE
            await self._unabandoned.run(
                drop_pending(self._records, self._objects, key, holder=holder, forget=not uncertain)
            )
            raise
        video = Video(
            id=video_id,
            filename=spec.filename,
            content_type=spec.content_type,
            size_bytes=spec.size_bytes,
            sha256=sha256,
            media=media,
            create_time=create_time,
            request_id=request_id,
        )
        return await self._unabandoned.run(self._commit(video, spec, key=key, holder=holder))

    async def _receive(self, spec: VideoSpec, chunks: AsyncIterator[bytes], *, key: str) -> str:
        part_bytes = part_size(spec.size_bytes, default_bytes=self._limits.part_bytes)
        gatherer = PartGatherer(total_bytes=spec.size_bytes, part_bytes=part_bytes, buffers=self._capacity.buffers)
        multipart_id = await self._objects.begin(key, content_type=spec.content_type)
        async with task_group() as tasks:
            sender = PartSender(
                self._objects,
                key=key,
                multipart_id=multipart_id,
                in_flight=self._limits.parts_in_flight,
                buffers=self._capacity.buffers,
                shared_slots=self._capacity.part_slots,
                tasks=tasks,
            )
            async with contextlib.aclosing(without_long_pauses(chunks, idle_s=self._limits.idle_s)) as paced:
                async for chunk in paced:
                    for part in gatherer.feed(chunk):
                        await sender.send(part)
            gatherer.finish()
        if spec.sha256 and sender.sha256 != spec.sha256:
            raise errors.checksum_mismatch("spec.sha256", declared_sha256=spec.sha256, received_sha256=sender.sha256)
        await self._objects.complete(key, multipart_id=multipart_id, tags=sender.tags, size_bytes=spec.size_bytes)
        return sender.sha256

    async def _commit(self, video: Video, spec: VideoSpec, *, key: str, holder: str) -> Video:
        try:
            await self._records.add_video(video, key=key, holder=holder)
        except LeaseLostError as error:
            await drop_pending(self._records, self._objects, key, holder=holder)
            raise errors.store_unavailable("database", detail="the upload was swept as abandoned") from error
        except RequestIdTakenError:
            # The same upload ran twice at once, and the other one ended first.
            await drop_pending(self._records, self._objects, key, holder=holder)
            earlier = await self._records.find_video(video.request_id)
            if earlier is None:
                raise errors.request_id_reused(video.request_id) from None
            return _answer_again(earlier, replace(spec, sha256=video.sha256), request_id=video.request_id)
        log.info("video stored", video_id=video.id, size_bytes=video.size_bytes)
        return video


def _answer_again(video: Video, spec: VideoSpec, *, request_id: str) -> Video:
    if not was_uploaded_as(video, spec):
        raise errors.request_id_reused(request_id)
    return video
