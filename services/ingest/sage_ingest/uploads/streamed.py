"""Streamed uploads: one video as a stream of chunks."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from sage_runtime.api import new_id
from sage_runtime.errors import STORE_REASONS, SageError, task_group

from sage_ingest import errors
from sage_ingest.config import IngestSettings
from sage_ingest.probing.ports import Prober
from sage_ingest.probing.prober import probe_object
from sage_ingest.uploads.parts import Capacity, PartGatherer, PartSender, at_least, part_size
from sage_ingest.videos.model import VIDEO_ID_PREFIX, Video, VideoSpec, object_key
from sage_ingest.videos.pending import PendingObjects, ShieldedTasks
from sage_ingest.videos.ports import LeaseLostError, RequestIdTakenError, VideoObjects, VideoRepository

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class StreamedUploads:
    """Receives videos. Each is either stored, verified and probed, or leaves nothing behind.

    Args:
        settings: Limits of uploads.
        videos: Stored videos.
        objects: The object store.
        pending: Objects that do not belong to a video yet.
        prober: Reads the media of a file.
        capacity: Shared by all uploads.
        shielded: Runs commits and cleaning up. Close it before the stores.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        videos: VideoRepository,
        objects: VideoObjects,
        pending: PendingObjects,
        prober: Prober,
        capacity: Capacity,
        shielded: ShieldedTasks,
    ) -> None:
        self._settings = settings
        self._videos = videos
        self._objects = objects
        self._pending = pending
        self._prober = prober
        self._capacity = capacity
        self._shielded = shielded

    async def upload(self, spec: VideoSpec, chunks: AsyncIterator[bytes], *, request_id: str) -> Video:
        """Store the bytes as a new video and return it.

        The end of `chunks` is not a commit: the declared size must have arrived, and the declared checksum must match.

        Args:
            spec: What the client declared, checked.
            chunks: The bytes of the file in order.
            request_id: The client's idempotency key. If a video has it already, that video is returned and no chunk is
                read. Empty: none.

        Raises:
            SageError: SIZE_MISMATCH, CHECKSUM_MISMATCH, VIDEO_UNREADABLE, REQUEST_ID_REUSED, LIMIT_EXCEEDED or
                STORE_FULL or STORE_UNAVAILABLE; then nothing is left behind, at the latest after a sweep.
        """
        if request_id and (earlier := await self._videos.find_video(request_id)):
            return _same_video(earlier, spec, request_id=request_id)
        with self._capacity.admitted(), self._shielded.cancelled_on_close():
            return await self._upload(spec, chunks, request_id=request_id)

    async def _upload(self, spec: VideoSpec, chunks: AsyncIterator[bytes], *, request_id: str) -> Video:
        await self._objects.check_accepts(spec.size_bytes)
        video_id = new_id(VIDEO_ID_PREFIX)
        key, holder, create_time = object_key(video_id), self._pending.new_holder(), datetime.now(UTC)
        await self._pending.add(key, holder=holder)
        try:
            async with self._pending.kept(key, holder=holder):
                sha256 = await self._receive(spec, chunks, key=key)
                media = await probe_object(self._prober, self._objects, spec, key=key)
        except BaseException as error:
            # A request to the store without a response may still take effect after the cleanup.
            uncertain = isinstance(error, SageError) and error.reason in STORE_REASONS
            await self._shielded.run(self._pending.discard(key, holder=holder, remove=not uncertain))
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
        return await self._shielded.run(self._commit(video, spec, key=key, holder=holder))

    async def _receive(self, spec: VideoSpec, chunks: AsyncIterator[bytes], *, key: str) -> str:
        gatherer = PartGatherer(
            total_bytes=spec.size_bytes,
            part_bytes=part_size(spec.size_bytes, default_bytes=self._settings.part_bytes),
            buffers=self._capacity.buffers,
        )
        multipart_id = await self._objects.begin(key, content_type=spec.content_type)
        async with task_group() as tasks:
            sender = PartSender(
                self._objects,
                key=key,
                multipart_id=multipart_id,
                in_flight=self._settings.parts_in_flight,
                capacity=self._capacity,
                tasks=tasks,
            )
            pace = at_least(
                chunks, bytes_per_s=self._settings.upload_min_bytes_per_s, over_s=self._settings.upload_idle_s
            )
            async with contextlib.aclosing(pace) as paced:
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
            await self._videos.add_video(video, key=key, holder=holder)
        except LeaseLostError as error:
            await self._pending.discard(key, holder=holder)
            raise errors.store_unavailable("database", detail="the upload was swept as abandoned") from error
        except RequestIdTakenError:
            # The same upload ran twice at once, and the other one finished first.
            await self._pending.discard(key, holder=holder)
            earlier = await self._videos.find_video(video.request_id)
            if earlier is None:
                raise errors.request_id_reused(video.request_id) from None
            return _same_video(earlier, replace(spec, sha256=video.sha256), request_id=video.request_id)
        log.info("video_stored", video_id=video.id, size_bytes=video.size_bytes)
        return video


def _same_video(video: Video, spec: VideoSpec, *, request_id: str) -> Video:
    if not video.was_uploaded_as(spec):
        raise errors.request_id_reused(request_id)
    return video
