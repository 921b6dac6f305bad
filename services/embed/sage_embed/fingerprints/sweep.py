"""The sweep: removes objects that no fingerprint has, and fingerprints of deleted videos."""

import asyncio
from datetime import timedelta
from typing import NoReturn

import structlog
from sage_runtime.errors import Reason, SageError

from sage_embed.config import WorkerSettings
from sage_embed.embeddings.ports import VideoCatalog
from sage_embed.fingerprints.ports import FingerprintObjects, FingerprintSweep

log = structlog.get_logger()

_BATCH = 50
# If removing an object fails, it is tried again after this time.
_AGAIN_AFTER = timedelta(minutes=5)


class Sweeper:
    """Removes what is left over. Any number of processes may sweep at once.

    Args:
        sweep: Finds what is left over.
        objects: Stores the blocks.
        videos: Tells which videos exist.
        settings: Intervals.
    """

    def __init__(
        self, *, sweep: FingerprintSweep, objects: FingerprintObjects, videos: VideoCatalog, settings: WorkerSettings
    ) -> None:
        self._sweep = sweep
        self._objects = objects
        self._videos = videos
        self._settings = settings

    async def sweep_forever(self) -> NoReturn:
        """Sweep at intervals until cancelled."""
        while True:
            try:
                await self.sweep()
            except SageError as error:
                log.warning("fingerprint_sweep_failed", detail=error.detail)
            await asyncio.sleep(self._settings.fingerprint_sweep_s)

    async def sweep(self) -> None:
        """Delete fingerprints of deleted videos, then remove discarded objects.

        Raises:
            SageError: STORE_UNAVAILABLE and the like, or SERVICE_UNAVAILABLE.
        """
        older_than = timedelta(seconds=self._settings.fingerprint_check_s)
        # The rest are left to the next sweep.
        for video_id in await self._sweep.claim_unchecked(older_than=older_than, limit=_BATCH):
            if await self._is_deleted(video_id) and await self._sweep.delete(video_id):
                log.info("fingerprint_swept", fingerprint_id=video_id)
        while keys := await self._sweep.claim_discarded(again_after=_AGAIN_AFTER, limit=_BATCH):
            await self._objects.remove(keys)
            await self._sweep.forget(keys)
            log.info("fingerprint_objects_removed", count=len(keys))

    async def _is_deleted(self, video_id: str) -> bool:
        try:
            await self._videos.get(video_id)
        except SageError as error:
            if error.reason is Reason.VIDEO_NOT_FOUND:
                return True
            log.warning("video_not_checked", video_id=video_id, reason=error.reason)
        return False
