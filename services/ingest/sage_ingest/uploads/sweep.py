"""The sweep: cleans up after dead processes and lost responses, and removes expired and closed resumable uploads."""

import asyncio
import uuid
from time import monotonic

import structlog
from sage_runtime.errors import SageError

from sage_ingest.config import IngestSettings
from sage_ingest.uploads.ports import UploadRepository
from sage_ingest.videos.ports import VideoObjects, VideoRepository

_BATCH = 20
# Looking for strays lists every multipart upload in the bucket, and few ever exist.
_STRAYS_INTERVAL_S = 3600.0

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
        self._strays_due = 0.0

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
            SageError: One of `STORE_REASONS`, of the repositories or from looking for strays.
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
        if monotonic() >= self._strays_due:
            await self.abort_strays()
            self._strays_due = monotonic() + _STRAYS_INTERVAL_S
        return swept

    async def abort_strays(self) -> int:
        """Abort old multipart uploads of videos that no pending object knows, and return how many there were.

        A store whose response to `begin` was lost may begin a multipart upload after its key was swept. Every known one
        has a pending object from before it begins until it ends, in any replica. Only those that have the key of a
        video and received no part for `stray_upload_expire_s` are aborted: other programs, and other installations of
        SAGE, may use the same bucket.

        Raises:
            SageError: One of `STORE_REASONS`.
        """
        older_than_s = max(self._settings.stray_upload_expire_s, 2 * self._settings.upload_expire_s)
        found = await self._objects.list_multiparts(older_than_s=older_than_s)
        known = await self._videos.pending_keys({one.key for one in found})
        strays = [one for one in found if one.key not in known]
        for stray in strays:
            await self._objects.abort(stray)
            log.warning("stray_upload_aborted", key=stray.key, multipart_id=stray.multipart_id)
        return len(strays)
