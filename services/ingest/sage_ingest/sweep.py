"""Cleaning up: what processes that died have left, uploads in parts that nobody finished, closed ones of long ago."""

import asyncio
import uuid

import structlog
from sage_runtime.errors import SageError

from sage_ingest.ports import VideoObjects, VideoRecords
from sage_ingest.upload_ports import UploadRecords

_BATCH = 20

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Sweeper:
    """Discards pending objects whose lease ran out. Any number of processes may sweep at once.

    Args:
        records: Where pending objects are recorded.
        uploads: Where uploads in parts are recorded.
        objects: Where they are.
        lease_s: Seconds that an entry is held while it is worked on; another sweep tries again afterwards.
        interval_s: Seconds between sweeps.
        forget_s: Seconds after which an upload in parts that was closed is forgotten.
    """

    def __init__(
        self,
        records: VideoRecords,
        uploads: UploadRecords,
        objects: VideoObjects,
        *,
        lease_s: float,
        interval_s: float,
        forget_s: float,
    ) -> None:
        self._records = records
        self._uploads = uploads
        self._objects = objects
        self._lease_s = lease_s
        self._interval_s = interval_s
        self._forget_s = forget_s

    async def run(self) -> None:
        """Sweep, now and then again, until cancelled."""
        while True:
            try:
                await self.sweep()
            except SageError as error:
                log.warning("sweep failed", detail=error.detail)
            await asyncio.sleep(self._interval_s)

    async def sweep(self) -> int:
        """Discard every pending object whose lease ran out and return how many were.

        One that the store does not discard now is tried again once the lease that this sweep took runs out.

        Raises:
            SageError: STORE_UNAVAILABLE, of the records.
        """
        swept = 0
        holder = uuid.uuid4().hex
        while keys := await self._records.claim_expired(holder=holder, lease_s=self._lease_s, limit=_BATCH):
            for key in keys:
                try:
                    await self._objects.discard(key)
                except SageError as error:
                    log.warning("abandoned object not swept", key=key, detail=error.detail)
                    continue
                await self._records.forget(key, holder=holder)
                swept += 1
                log.info("abandoned object swept", key=key)
        await self._uploads.forget_closed(older_than_s=self._forget_s)
        return swept
