"""Resumable uploads: creating one, storing its parts, reading it, aborting it."""

import asyncio
import contextlib
import hashlib
import weakref
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import structlog
from sage_runtime.api import make_page_token, new_id, page_size_of, read_page_token
from sage_runtime.errors import Reason, SageError

from sage_ingest import errors
from sage_ingest.config import IngestSettings
from sage_ingest.uploads.model import (
    UPLOAD_ID_PREFIX,
    Part,
    PartSpec,
    Upload,
    UploadPage,
    UploadState,
    check_part,
)
from sage_ingest.uploads.parts import Capacity, PartGatherer, at_least, part_size
from sage_ingest.uploads.ports import TooManyOpenError, UploadRepository
from sage_ingest.videos.model import VIDEO_ID_PREFIX, VideoSpec, object_key
from sage_ingest.videos.pending import PendingObjects, ShieldedTasks
from sage_ingest.videos.ports import LeaseLostError, RequestIdTakenError, VideoObjects

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ResumableUploads:
    """Resumable uploads until they are completed (`uploads.completion`).

    Args:
        settings: Limits of uploads.
        uploads: Stored resumable uploads.
        objects: The object store.
        pending: Objects that do not belong to a video yet.
        capacity: Shared by all uploads.
        shielded: Stores parts and cleans up. Close it before the stores.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        uploads: UploadRepository,
        objects: VideoObjects,
        pending: PendingObjects,
        capacity: Capacity,
        shielded: ShieldedTasks,
    ) -> None:
        self._settings = settings
        self._uploads = uploads
        self._objects = objects
        self._pending = pending
        self._capacity = capacity
        self._shielded = shielded
        self._storing: weakref.WeakValueDictionary[tuple[str, int], asyncio.Lock] = weakref.WeakValueDictionary()

    async def create(self, spec: VideoSpec, *, request_id: str) -> Upload:
        """Create an upload and return it. If one that is not aborted has the request ID, that one is returned.

        Raises:
            SageError: REQUEST_ID_REUSED, LIMIT_EXCEEDED, STORE_FULL or STORE_UNAVAILABLE.
        """
        if request_id and (earlier := await self._uploads.find_upload(request_id)):
            return _same_upload(earlier, spec)
        with self._shielded.cancelled_on_close():
            return await self._create(spec, request_id=request_id)

    async def _create(self, spec: VideoSpec, *, request_id: str) -> Upload:
        await self._objects.check_accepts(spec.size_bytes)
        upload_id, video_id = new_id(UPLOAD_ID_PREFIX), new_id(VIDEO_ID_PREFIX)
        key, holder, create_time = object_key(video_id), self._pending.new_holder(), datetime.now(UTC)
        await self._pending.add(key, holder=holder)
        upload = Upload(
            id=upload_id,
            video_id=video_id,
            spec=spec,
            part_bytes=part_size(spec.size_bytes, default_bytes=self._settings.part_bytes),
            multipart_id=await self._begin_multipart(key, holder=holder, content_type=spec.content_type),
            request_id=request_id,
            create_time=create_time,
        )
        max_open = self._settings.max_open_uploads
        try:
            await self._uploads.add_upload(
                upload, key=key, holder=holder, expire_s=self._settings.upload_expire_s, max_open=max_open
            )
        except (RequestIdTakenError, TooManyOpenError, LeaseLostError) as error:
            await self._shielded.run(self._pending.discard(key, holder=holder))
            if isinstance(error, LeaseLostError):
                raise errors.store_unavailable("database", detail="creating an upload outlasted its lease") from error
            if isinstance(error, TooManyOpenError):
                raise errors.too_many_open_uploads(max_open) from error
            # The same call was made twice at once, and the other one finished first.
            earlier = await self._uploads.find_upload(request_id)
            if earlier is None:
                raise errors.request_id_reused(request_id) from error
            return _same_upload(earlier, spec)
        # Every other failure is left to the sweep: if the repository gave no response, it may have the upload.
        log.info("upload_created", upload_id=upload_id, size_bytes=spec.size_bytes)
        return await self.get(upload_id)

    async def _begin_multipart(self, key: str, *, holder: str, content_type: str) -> str:
        try:
            # A slow store may need longer than a lease. If the key were swept meanwhile, nothing would check it
            # again, and whatever the store creates there later would remain.
            async with self._pending.kept(key, holder=holder):
                return await self._objects.begin(key, content_type=content_type)
        except BaseException:
            # A request without a response may still take effect: the sweep checks the key once more.
            await self._shielded.run(self._pending.discard(key, holder=holder, remove=False))
            raise

    async def get(self, upload_id: str) -> Upload:
        """Return an upload.

        Raises:
            SageError: UPLOAD_NOT_FOUND or STORE_UNAVAILABLE.
        """
        upload = await self._uploads.get_upload(upload_id)
        if upload is None:
            raise errors.upload_not_found(upload_id)
        return upload

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """Return the parts of an upload that have arrived, by number."""
        return await self._uploads.list_parts(upload.id)

    async def list(self, *, page_size: int, page_token: str) -> UploadPage:
        """Return a page of the open uploads, newest first.

        Args:
            page_size: Zero for the default; coerced to the maximum.
            page_token: From the previous page; empty for the first page.

        Raises:
            SageError: PAGE_TOKEN_INVALID or STORE_UNAVAILABLE.
        """
        limit, scope = page_size_of(page_size), "uploads"
        before_id = read_page_token(page_token, scope=scope)
        # One extra entry shows whether there is a next page.
        found = await self._uploads.list_open(before_id=before_id, limit=limit + 1)
        if len(found) <= limit:
            return UploadPage(found, "")
        return UploadPage(found[:limit], make_page_token(found[limit - 1].upload.id, scope=scope))

    async def put_part(self, spec: PartSpec, chunks: AsyncIterator[bytes]) -> Part:
        """Store one part, replacing the one with its number, and return it.

        The end of `chunks` is not a commit: the declared size must have arrived, and the declared checksum must match.

        Raises:
            SageError: UPLOAD_NOT_FOUND, UPLOAD_CLOSED, PART_INVALID, SIZE_MISMATCH, CHECKSUM_MISMATCH, LIMIT_EXCEEDED
                or STORE_UNAVAILABLE. If nothing was stored, the previous part remains. STORE_FULL: the upload is
                aborted, since its parts take the room that is missing.
        """
        upload = await self.get(spec.upload_id)
        _check_accepts_parts(upload)
        check_part(upload, spec)
        with contextlib.ExitStack() as admission:
            admission.enter_context(self._capacity.admitted())
            with self._shielded.cancelled_on_close():
                data, sha256 = await self._receive(spec, chunks)
            # A complete part is stored even if its client is gone, since it will ask for the stored parts. Its
            # memory counts until then.
            return await self._shielded.run(
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
        pace = at_least(chunks, bytes_per_s=self._settings.upload_min_bytes_per_s, over_s=self._settings.upload_idle_s)
        async with contextlib.aclosing(pace) as paced:
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
        # Two requests for one part run one after the other, so that the part recorded last is the one stored last. In
        # two processes their order may differ; completion detects that by the tags.
        turn = self._storing.setdefault((upload.id, number), asyncio.Lock())
        expire_s = self._settings.upload_expire_s
        with admission:
            async with turn, self._capacity.part_slots:
                try:
                    # No sweep may claim the upload while the part is in flight.
                    await self._uploads.hold_open(upload.id, expire_s=expire_s)
                    tag = await self._objects.put_part(
                        object_key(upload.video_id), multipart_id=upload.multipart_id, part_number=number, data=data
                    )
                    part = Part(number, len(data), sha256, tag)
                    await self._uploads.add_part(upload.id, part, expire_s=expire_s)
                except SageError as error:
                    if error.reason is Reason.STORE_FULL:
                        await self._abort_full(upload, error)
                    raise
                except LeaseLostError:
                    _check_accepts_parts(await self.get(upload.id))
                    raise errors.store_unavailable(
                        "database", detail="another holder has the lease on the upload's object"
                    ) from None
                finally:
                    self._capacity.buffers.release(data)
        return part

    async def abort(self, upload_id: str) -> Upload:
        """Abort an upload, drop its parts and return it. Idempotent.

        Raises:
            SageError: UPLOAD_NOT_FOUND, UPLOAD_CLOSED or STORE_UNAVAILABLE.
        """
        upload = await self.get(upload_id)
        if upload.state is UploadState.OPEN:
            await self._shielded.run(self._abort(upload))
            upload = await self.get(upload_id)
        if upload.state is UploadState.COMPLETED:
            raise errors.upload_closed(
                upload_id, state=upload.state, what_to_do="To delete its video, use DeleteVideo."
            )
        return upload

    async def _abort(self, upload: Upload, *, failure: SageError | None = None) -> None:
        key, holder = object_key(upload.video_id), self._pending.new_holder()
        if await self._uploads.abort_upload(
            upload.id, key=key, holder=holder, lease_s=self._pending.lease_s, failure=failure
        ):
            # A part or a completion may be in flight to the store: the sweep checks the key once more.
            await self._pending.discard(key, holder=holder, remove=False)
            log.info("upload_aborted", upload_id=upload.id, reason=str(failure.reason) if failure else "")

    async def _abort_full(self, upload: Upload, error: SageError) -> None:
        try:
            await self._abort(upload, failure=error)
        except SageError as failed:
            # The upload expires.
            log.warning("full_upload_not_aborted", upload_id=upload.id, detail=failed.detail)


def _same_upload(upload: Upload, spec: VideoSpec) -> Upload:
    if upload.spec != spec:
        raise errors.request_id_reused(upload.request_id)
    return upload


def _check_accepts_parts(upload: Upload) -> None:
    if upload.failure is not None and upload.failure.reason is Reason.STORE_FULL:
        # Parts that were in flight together fail for the same reason.
        raise upload.failure
    if upload.state is not UploadState.OPEN:
        raise errors.upload_closed(upload.id, state=upload.state)
    if upload.completing:
        raise errors.upload_closed(upload.id, state="COMPLETING", what_to_do="Call CompleteUpload to get its video.")
