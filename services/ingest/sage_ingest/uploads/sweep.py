"""The sweep: cleans up after dead processes, and removes expired and old closed resumable uploads."""

import asyncio
import uuid

import structlog
from sage_runtime.errors import SageError

from sage_ingest.config import IngestSettings
from sage_ingest.uploads.ports import UploadRepository
from sage_ingest.videos.ports import VideoObjects, VideoRepository

_BATCH = 20

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Sweeper:
    """Discards pending objects whose lease expired. Any number of processes may sweep at once.

    Args:
        settings: Intervals and leases.
        videos: Stores pending objects.
        uploads: Stores resumable uploads.
        objects: The object store.
    """

    def __init__(
        self, settings: IngestSettings, *, videos: VideoRepository, uploads: UploadRepository, objects: VideoObjects
    ) -> None:
        self._settings = settings
        self._videos = videos
        self._uploads = uploads
        self._objects = objects

    async def run(self) -> None:
        """Sweep at intervals until cancelled."""
        while True:
            try:
                await self.sweep()
            except SageError as error:
                log.warning("sweep_failed", detail=error.detail)
            await asyncio.sleep(self._settings.sweep_interval_s)

    async def sweep(self) -> int:
        """Discard every pending object whose lease expired and return how many there were.

        An object that the store cannot discard now is tried again once this sweep's lease on it expires.

        Raises:
            SageError: STORE_UNAVAILABLE, of the repositories.
        """
        swept, holder, lease_s = 0, uuid.uuid4().hex, self._settings.upload_lease_s
        while keys := await self._videos.claim_expired(holder=holder, lease_s=lease_s, limit=_BATCH):
            for key in keys:
                try:
                    await self._objects.discard(key)
                except SageError as error:
                    log.warning("abandoned_object_not_swept", key=key, detail=error.detail)
                    continue
                await self._videos.remove_pending(key, holder=holder)
                swept += 1
                log.info("abandoned_object_swept", key=key)
        await self._uploads.remove_closed(older_than_s=self._settings.upload_expire_s)
        return swept
