"""Ingest's ports in memory."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction

from sage_ingest.errors import store_unavailable
from sage_ingest.model import Audio, Media, Part, Upload, UploadState, Video, object_key
from sage_ingest.ports import ByteSource, LeaseLostError, RequestIdTakenError
from sage_ingest.upload_ports import TooManyOpenError
from sage_runtime.errors import SageError

MEDIA = Media(
    duration_seconds=2.0,
    start_offset_seconds=0.0,
    container="mov,mp4,m4a,3gp,3g2,mj2",
    video_codec="h264",
    width=64,
    height=48,
    rotation_degrees=0,
    frame_rate=Fraction(30000, 1001),
    frame_count=60,
    audio=Audio(codec="aac", channels=2, sample_rate=48000),
)


def unavailable() -> SageError:
    """What a store that is away raises."""
    return store_unavailable("store", detail="a test took it away")


class Failures:
    """Makes methods fail or wait, by name.

    Attributes:
        errors: Raised by the method instead of doing its work.
        late_errors: Raised by the method after it has done its work, as where the answer was lost.
        gates: Waited for by the method before its work.
        calls: How often each method was called.
    """

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.late_errors: dict[str, BaseException] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()

    def close(self, method: str) -> asyncio.Event:
        """Make a method wait until the event that is returned is set."""
        gate = self.gates[method] = asyncio.Event()
        return gate

    async def before(self, method: str) -> None:
        """Count a call, wait and fail as asked."""
        self.calls[method] += 1
        if method in self.gates:
            await self.gates[method].wait()
        if method in self.errors:
            raise self.errors[method]

    def after(self, method: str) -> None:
        """Fail as asked."""
        if method in self.late_errors:
            raise self.late_errors[method]


@dataclass
class _Pending:
    holder: str
    lease_until: float


class InMemoryVideoRecords:
    """`VideoRecords` in dictionaries.

    Args:
        clock: What leases run on, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures = Failures()
        self.videos: dict[str, Video] = {}
        self.pending: dict[str, _Pending] = {}
        self.uploads: dict[str, Upload] = {}
        self.clock = clock

    async def add_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        await self.failures.before("add_pending")
        self.pending[key] = _Pending(holder, self.clock() + lease_s)

    async def renew(self, key: str, *, holder: str, lease_s: float) -> None:
        await self.failures.before("renew")
        self.held(key, holder).lease_until = self.clock() + lease_s

    async def forget(self, key: str, *, holder: str) -> None:
        await self.failures.before("forget")
        if key in self.pending and self.pending[key].holder == holder:
            del self.pending[key]

    async def claim_expired(self, *, holder: str, lease_s: float, limit: int) -> list[str]:
        await self.failures.before("claim_expired")
        now = self.clock()
        expired = sorted((entry.lease_until, key) for key, entry in self.pending.items() if entry.lease_until < now)
        keys = [key for _, key in expired[:limit]]
        for key in keys:
            upload = self.uploads.get(self.pending[key].holder)
            if upload is not None:
                self.uploads[upload.id] = replace(upload, state=UploadState.ABORTED)
            self.pending[key] = _Pending(holder, now + lease_s)
        return keys

    async def add_video(self, video: Video, *, key: str, holder: str) -> None:
        await self.failures.before("add_video")
        self.held(key, holder)
        if video.request_id and await self.find_video(video.request_id):
            raise RequestIdTakenError(video.request_id)
        del self.pending[key]
        self.videos[video.id] = video
        self.failures.after("add_video")

    async def remove_video(self, video_id: str, *, key: str, holder: str, lease_s: float) -> bool:
        await self.failures.before("remove_video")
        if self.videos.pop(video_id, None) is None:
            return False
        self.uploads = {upload.id: upload for upload in self.uploads.values() if upload.video_id != video_id}
        self.pending[key] = _Pending(holder, self.clock() + lease_s)
        return True

    async def get_video(self, video_id: str) -> Video | None:
        await self.failures.before("get_video")
        return self.videos.get(video_id)

    async def find_video(self, request_id: str) -> Video | None:
        return next((video for video in self.videos.values() if video.request_id == request_id), None)

    async def list_videos(self, *, before_id: str | None, limit: int, filename_contains: str) -> list[Video]:
        await self.failures.before("list_videos")
        wanted = filename_contains.casefold()
        found = [
            video
            for video_id, video in sorted(self.videos.items(), reverse=True)
            if (before_id is None or video_id < before_id) and wanted in video.filename.casefold()
        ]
        return found[:limit]

    async def check(self) -> None:
        await self.failures.before("check")

    def held(self, key: str, holder: str) -> _Pending:
        """Return the entry of a pending object where the holder has it."""
        entry = self.pending.get(key)
        if entry is None or entry.holder != holder:
            raise LeaseLostError(key)
        return entry


class InMemoryUploadRecords:
    """`UploadRecords` in dictionaries, beside those of videos.

    Args:
        records: Where pending objects and videos are, and the clock.
    """

    def __init__(self, records: InMemoryVideoRecords) -> None:
        self.failures = Failures()
        self._records = records
        self._parts: dict[str, dict[int, Part]] = {}
        self._completers: dict[str, _Pending] = {}
        self._closed: dict[str, float] = {}

    async def add_upload(self, upload: Upload, *, key: str, holder: str, expire_s: float, max_open: int) -> None:
        await self.failures.before("add_upload")
        if sum(one.state is UploadState.OPEN for one in self._records.uploads.values()) >= max_open:
            raise TooManyOpenError
        if upload.request_id and await self.find_upload(upload.request_id):
            raise RequestIdTakenError
        self._records.held(key, holder)
        self._records.pending[key] = _Pending(upload.id, self._records.clock() + expire_s)
        self._records.uploads[upload.id] = upload

    async def get_upload(self, upload_id: str) -> Upload | None:
        await self.failures.before("get_upload")
        upload = self._records.uploads.get(upload_id)
        if upload is None:
            return None
        entry = self._records.pending.get(object_key(upload.video_id))
        expires = entry is not None and upload.state is UploadState.OPEN
        return replace(
            upload,
            completing=upload.state is UploadState.OPEN and self._is_completing(upload_id),
            expire_time=datetime.fromtimestamp(entry.lease_until, UTC) if expires else None,
        )

    async def find_upload(self, request_id: str) -> Upload | None:
        for upload in self._records.uploads.values():
            if upload.request_id == request_id and upload.state is not UploadState.ABORTED:
                return await self.get_upload(upload.id)
        return None

    async def list_parts(self, upload_id: str) -> list[Part]:
        upload = self._records.uploads.get(upload_id)
        if upload is None or upload.state is UploadState.ABORTED:
            return []
        return [part for _, part in sorted(self._parts.get(upload_id, {}).items())]

    async def hold_open(self, upload_id: str, *, expire_s: float) -> None:
        await self.failures.before("hold_open")
        entry = self._entry(upload_id)
        if self._is_completing(upload_id):
            raise LeaseLostError
        entry.lease_until = max(entry.lease_until, self._records.clock() + expire_s)

    async def add_part(self, upload_id: str, part: Part, *, expire_s: float) -> None:
        await self.failures.before("add_part")
        self._entry(upload_id).lease_until = self._records.clock() + expire_s
        self._parts.setdefault(upload_id, {})[part.number] = part

    async def forget_parts(self, upload_id: str, parts: Collection[Part]) -> None:
        for part in parts:
            if self._parts[upload_id].get(part.number) == part:
                del self._parts[upload_id][part.number]

    async def claim_completion(self, upload_id: str, *, completer: str, lease_s: float) -> bool:
        await self.failures.before("claim_completion")
        upload = self._records.uploads.get(upload_id)
        if upload is None or upload.state is not UploadState.OPEN or self._is_completing(upload_id):
            return False
        self._hold(upload_id, completer=completer, lease_s=lease_s)
        return True

    async def renew_completion(self, upload_id: str, *, completer: str, lease_s: float) -> None:
        await self.failures.before("renew_completion")
        self._completer(upload_id, completer)
        self._hold(upload_id, completer=completer, lease_s=lease_s)

    async def release_completion(self, upload_id: str, *, completer: str) -> None:
        await self.failures.before("release_completion")
        if upload_id in self._completers and self._completers[upload_id].holder == completer:
            del self._completers[upload_id]

    async def complete_upload(self, upload_id: str, video: Video, *, key: str, completer: str) -> None:
        await self.failures.before("complete_upload")
        self._completer(upload_id, completer)
        await self._records.add_video(video, key=key, holder=upload_id)
        self._close(upload_id, UploadState.COMPLETED)
        self.failures.after("complete_upload")

    async def abort_upload(
        self, upload_id: str, *, key: str, holder: str, lease_s: float, failure: SageError | None = None
    ) -> bool:
        await self.failures.before("abort_upload")
        upload = self._records.uploads.get(upload_id)
        if upload is None or upload.state is not UploadState.OPEN:
            return False
        self._records.pending[key] = _Pending(holder, self._records.clock() + lease_s)
        self._close(upload_id, UploadState.ABORTED, failure=failure)
        return True

    async def forget_closed(self, *, older_than_s: float) -> None:
        await self.failures.before("forget_closed")
        for upload in list(self._records.uploads.values()):
            if upload.state is not UploadState.OPEN:
                # One that a sweep aborted has no time of its own; it was just now.
                closed = self._closed.setdefault(upload.id, self._records.clock())
                if closed < self._records.clock() - older_than_s:
                    del self._records.uploads[upload.id]

    def _entry(self, upload_id: str) -> _Pending:
        upload = self._records.uploads.get(upload_id)
        if upload is None or upload.state is not UploadState.OPEN:
            raise LeaseLostError
        return self._records.held(object_key(upload.video_id), upload_id)

    def _is_completing(self, upload_id: str) -> bool:
        held = self._completers.get(upload_id)
        return held is not None and held.lease_until > self._records.clock()

    def _hold(self, upload_id: str, *, completer: str, lease_s: float) -> None:
        until = self._records.clock() + lease_s
        entry = self._entry(upload_id)
        entry.lease_until = max(entry.lease_until, until)
        self._completers[upload_id] = _Pending(completer, until)

    def _completer(self, upload_id: str, completer: str) -> None:
        self._entry(upload_id)
        if upload_id not in self._completers or self._completers[upload_id].holder != completer:
            raise LeaseLostError

    def _close(self, upload_id: str, state: UploadState, *, failure: SageError | None = None) -> None:
        upload = self._records.uploads[upload_id]
        self._records.uploads[upload_id] = replace(upload, state=state, failure=failure)
        self._closed[upload_id] = self._records.clock()


@dataclass
class _Multipart:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)


class InMemoryVideoObjects:
    """`VideoObjects` in dictionaries."""

    def __init__(self) -> None:
        self.failures = Failures()
        self.objects: dict[str, bytes] = {}
        self.multiparts: dict[str, _Multipart] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left in it, finished or not."""
        return not self.objects and not self.multiparts

    async def begin(self, key: str, *, content_type: str) -> str:
        await self.failures.before("begin")
        multipart_id = f"multipart-{self.failures.calls['begin']}"
        self.multiparts[multipart_id] = _Multipart(key)
        self.failures.after("begin")
        return multipart_id

    async def put_part(self, key: str, *, multipart_id: str, part_number: int, data: bytearray) -> str:
        await self.failures.before("put_part")
        if multipart_id not in self.multiparts:
            raise unavailable()
        self.multiparts[multipart_id].parts[part_number] = bytes(data)
        self.failures.after("put_part")
        return _tag(bytes(data))

    async def part_tags(self, key: str, *, multipart_id: str) -> frozenset[tuple[int, str]] | None:
        await self.failures.before("part_tags")
        if multipart_id not in self.multiparts:
            return None
        return frozenset((number, _tag(data)) for number, data in self.multiparts[multipart_id].parts.items())

    async def complete(self, key: str, *, multipart_id: str, tags: Sequence[str], size_bytes: int) -> None:
        await self.failures.before("complete")
        if multipart_id not in self.multiparts:
            # Keys are used once: an object of this size is this upload, completed before.
            if len(self.objects.get(key, b"")) == size_bytes:
                return
            raise unavailable()
        parts = self.multiparts[multipart_id].parts
        assert list(tags) == [_tag(parts[number]) for number in sorted(parts)]
        self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        del self.multiparts[multipart_id]
        self.failures.after("complete")

    async def discard(self, key: str) -> None:
        await self.failures.before("discard")
        self.multiparts = {name: upload for name, upload in self.multiparts.items() if upload.key != key}
        self.objects.pop(key, None)

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        await self.failures.before("read")
        if key not in self.objects:
            raise unavailable()
        return self.objects[key][offset : offset + length]

    async def read_part(self, key: str, *, offset: int, length: int) -> bytes:
        await self.failures.before("read_part")
        return await self.read(key, offset=offset, length=length)

    async def playback_url(self, key: str, *, filename: str, content_type: str, validity_s: int) -> str:
        await self.failures.before("playback_url")
        return f"memory://{key}?validity_s={validity_s}"

    async def check(self) -> None:
        await self.failures.before("check")


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


class StubProber:
    """A `Prober` that answers what it is told to.

    Attributes:
        answer: Returned, or raised where it is an error.
    """

    def __init__(self, answer: Media | Exception = MEDIA) -> None:
        self.answer = answer
        self.failures = Failures()

    async def probe(self, source: ByteSource) -> Media:
        await self.failures.before("probe")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class BytesSource:
    """A `ByteSource` over bytes.

    Attributes:
        read_bytes: How many were read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.read_bytes = 0

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    async def read(self, *, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return self._data[offset : offset + length]
