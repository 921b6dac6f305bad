"""Uploads in parts: beginning one, putting its parts, looking at it, dropping it."""

import asyncio
import contextlib
import hashlib
import uuid
import weakref
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import structlog
from sage_runtime.ids import check_id, new_id

from sage_ingest import errors
from sage_ingest.capacity import Capacity
from sage_ingest.model import (
    UPLOAD_ID_PREFIX,
    VIDEO_ID_PREFIX,
    Part,
    PartSpec,
    Upload,
    UploadState,
    VideoSpec,
    object_key,
)
from sage_ingest.pacing import without_long_pauses
from sage_ingest.parts import PartGatherer, part_size
from sage_ingest.pending import drop_pending, lease_kept
from sage_ingest.ports import (
    LeaseLostError,
    RequestIdTakenError,
    VideoObjects,
    VideoRecords,
)
from sage_ingest.spec import check_part
from sage_ingest.tasks import Unabandoned
from sage_ingest.upload_ports import TooManyOpenError, UploadRecords

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class OpenUploads:
    """Uploads in parts, until they are completed (`completion`).

    Args:
        uploads: Where they are recorded.
        records: Where pending objects are recorded.
        objects: Where the bytes go.
        capacity: What uploads share.
        expire_s: Seconds after the last part when an upload is swept.
        max_open: How many may be open.
        unabandoned: Where storing a part and cleaning up run. The process closes it before the stores.
    """

    def __init__(
        self,
        uploads: UploadRecords,
        records: VideoRecords,
        objects: VideoObjects,
        *,
        capacity: Capacity,
        expire_s: float,
        max_open: int,
        unabandoned: Unabandoned,
    ) -> None:
        self._uploads = uploads
        self._records = records
        self._objects = objects
        self._capacity = capacity
        self._expire_s = expire_s
        self._max_open = max_open
        self._unabandoned = unabandoned
        self._storing: weakref.WeakValueDictionary[tuple[str, int], asyncio.Lock] = weakref.WeakValueDictionary()

    async def begin(self, spec: VideoSpec, *, request_id: str) -> Upload:
        """Begin an upload and return it; one that has the request id already, and is not aborted, is returned again.

        Raises:
            SageError: REQUEST_ID_REUSED, LIMIT_EXCEEDED or STORE_UNAVAILABLE.
        """
        if request_id and (earlier := await self._uploads.find_upload(request_id)):
            return _answer_again(earlier, spec)
        with self._unabandoned.call():
            return await self._begin(spec, request_id=request_id)

    async def _begin(self, spec: VideoSpec, *, request_id: str) -> Upload:
        upload_id, video_id = new_id(UPLOAD_ID_PREFIX), new_id(VIDEO_ID_PREFIX)
        key, holder, create_time = object_key(video_id), uuid.uuid4().hex, datetime.now(UTC)
        await self._records.add_pending(key, holder=holder, lease_s=self._capacity.limits.lease_s)
        upload = Upload(
            id=upload_id,
            video_id=video_id,
            spec=spec,
            part_bytes=part_size(spec.size_bytes, default_bytes=self._capacity.limits.part_bytes),
            multipart_id=await self._begin_multipart(key, holder=holder, content_type=spec.content_type),
            request_id=request_id,
            create_time=create_time,
        )
        try:
            await self._uploads.add_upload(
                upload, key=key, holder=holder, expire_s=self._expire_s, max_open=self._max_open
            )
        except (RequestIdTakenError, TooManyOpenError, LeaseLostError) as error:
            await self._unabandoned.run(drop_pending(self._records, self._objects, key, holder=holder))
            if isinstance(error, LeaseLostError):
                raise errors.store_unavailable("database", detail="beginning an upload outlasted its lease") from error
            if isinstance(error, TooManyOpenError):
                raise errors.too_many_open_uploads(self._max_open) from error
            # The same call was made twice at once, and the other one was first.
            earlier = await self._uploads.find_upload(request_id)
            if earlier is None:
                raise errors.request_id_reused(request_id) from error
            return _answer_again(earlier, spec)
        # Any other end is the sweep's: records that did not answer may have the upload nevertheless.
        log.info("upload begun", upload_id=upload_id, size_bytes=spec.size_bytes)
        return await self.get(upload_id)

    async def _begin_multipart(self, key: str, *, holder: str, content_type: str) -> str:
        lease_s = self._capacity.limits.lease_s
        try:
            # A store that hesitates may take longer than a lease. Were the key swept meanwhile, nobody would look at it
            # again, and what comes into being there afterwards would stay.
            async with lease_kept(lambda: self._records.renew(key, holder=holder, lease_s=lease_s), lease_s=lease_s):
                return await self._objects.begin(key, content_type=content_type)
        except BaseException:
            # Without an answer it may still take effect: the sweep looks at the key once more.
            await self._unabandoned.run(drop_pending(self._records, self._objects, key, holder=holder, forget=False))
            raise

    async def get(self, upload_id: str) -> Upload:
        """Return an upload.

        Raises:
            SageError: FIELD_INVALID, UPLOAD_NOT_FOUND or STORE_UNAVAILABLE.
        """
        check_id(upload_id, prefix=UPLOAD_ID_PREFIX, field="upload_id")
        upload = await self._uploads.get_upload(upload_id)
        if upload is None:
            raise errors.upload_not_found(upload_id)
        return upload

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """Return the parts of an upload that have arrived, by number."""
        return await self._uploads.list_parts(upload.id)

    async def put_part(self, spec: PartSpec, chunks: AsyncIterator[bytes]) -> Part:
        """Store one part in place of the one before with its number, and return it.

        The end of `chunks` is no commit: the declared size must have come, and the declared checksum must match.

        Raises:
            SageError: UPLOAD_NOT_FOUND, UPLOAD_CLOSED, PART_INVALID, SIZE_MISMATCH, CHECKSUM_MISMATCH, LIMIT_EXCEEDED
                or STORE_UNAVAILABLE. Where nothing was stored, the part before stays.
        """
        upload = await self.get(spec.upload_id)
        _check_takes_parts(upload)
        check_part(upload, spec)
        with contextlib.ExitStack() as admission:
            admission.enter_context(self._capacity.admitted())
            with self._unabandoned.call():
                data, sha256 = await self._receive(spec, chunks)
            # A part that is whole is stored although its client may be gone: it will ask what has arrived. The memory
            # counts until then.
            return await self._unabandoned.run(
                self._store(upload, spec.number, data, sha256=sha256, admission=admission.pop_all())
            )

    async def _receive(self, spec: PartSpec, chunks: AsyncIterator[bytes]) -> tuple[bytearray, str]:
        gatherer = PartGatherer(
            total_bytes=spec.size_bytes,
            part_bytes=spec.size_bytes,
            buffers=self._capacity.buffers,
            field="size_bytes",
        )
        filled: list[bytearray] = []
        paced = without_long_pauses(chunks, idle_s=self._capacity.limits.idle_s)
        async with contextlib.aclosing(paced):
            async for chunk in paced:
                filled += gatherer.feed(chunk)
        gatherer.finish()
        (data,) = filled
        sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
        if spec.sha256 and sha256 != spec.sha256:
            raise errors.checksum_mismatch("sha256", declared_sha256=spec.sha256, received_sha256=sha256)
        return data, sha256

    async def _store(
        self, upload: Upload, number: int, data: bytearray, *, sha256: str, admission: contextlib.ExitStack
    ) -> Part:
        # Two puts of one part take turns, so that what is recorded last is what the store got last. Where they are in
        # two processes their order may differ; completing notices by the tags.
        turn = self._storing.setdefault((upload.id, number), asyncio.Lock())
        with admission:
            async with turn, self._capacity.part_slots:
                key = object_key(upload.video_id)
                try:
                    # While the part is on its way no sweep may take the upload.
                    await self._uploads.hold_open(upload.id, expire_s=self._expire_s)
                    tag = await self._objects.put_part(
                        key, multipart_id=upload.multipart_id, part_number=number, data=data
                    )
                    part = Part(number, len(data), sha256, tag)
                    await self._uploads.add_part(upload.id, part, expire_s=self._expire_s)
                except LeaseLostError:
                    _check_takes_parts(await self.get(upload.id))
                    raise errors.store_unavailable("database", detail="the upload is held by somebody else") from None
                finally:
                    self._capacity.buffers.give_back(data)
        return part

    async def abort(self, upload_id: str) -> Upload:
        """Drop an upload and its parts and return it, ABORTED; again where it is so already.

        Raises:
            SageError: FIELD_INVALID, UPLOAD_NOT_FOUND, UPLOAD_CLOSED or STORE_UNAVAILABLE.
        """
        upload = await self.get(upload_id)
        if upload.state is UploadState.OPEN:
            await self._unabandoned.run(self._abort(upload))
            upload = await self.get(upload_id)
        if upload.state is UploadState.COMPLETED:
            raise errors.upload_closed(upload_id, state=upload.state, what_to_do="DeleteVideo deletes its video.")
        return upload

    async def _abort(self, upload: Upload) -> None:
        key, holder = object_key(upload.video_id), uuid.uuid4().hex
        if await self._uploads.abort_upload(upload.id, key=key, holder=holder, lease_s=self._capacity.limits.lease_s):
            # A part or a completion may be on its way to the store right now: the sweep looks at the key once more.
            await drop_pending(self._records, self._objects, key, holder=holder, forget=False)
            log.info("upload aborted", upload_id=upload.id)


def _answer_again(upload: Upload, spec: VideoSpec) -> Upload:
    if upload.spec != spec:
        raise errors.request_id_reused(upload.request_id)
    return upload


def _check_takes_parts(upload: Upload) -> None:
    if upload.state is not UploadState.OPEN:
        raise errors.upload_closed(upload.id, state=upload.state)
    if upload.completing:
        raise errors.upload_closed(upload.id, state="COMPLETING", what_to_do="Complete it again for its video.")
