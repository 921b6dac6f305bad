"""Ingest's ports in memory."""

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction

from fakes.failures import Failures
from sage_ingest.errors import store_unavailable
from sage_ingest.probing.ports import ByteSource, Prober
from sage_ingest.uploads.model import OpenUpload, Part, Upload, UploadState
from sage_ingest.uploads.ports import TooManyOpenError, UploadRepository
from sage_ingest.videos.model import (
    AudioTrack,
    Color,
    ColorRange,
    FieldOrder,
    FrameRateMode,
    Media,
    Timecode,
    Video,
    object_key,
)
from sage_ingest.videos.ports import LeaseLostError, Multipart, RequestIdTakenError, VideoObjects, VideoRepository
from sage_runtime.errors import Reason, SageError

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
    frame_rate_mode=FrameRateMode.CONSTANT,
    sample_aspect_ratio=Fraction(4, 3),
    mirrored=True,
    start_timecode=Timecode(1, 2, 3, 4, drop_frame=True),
    field_order=FieldOrder.TOP_FIRST,
    color=Color("bt709", "bt709", "bt709", ColorRange.LIMITED),
    audio_tracks=(AudioTrack("aac", 2, 48000, "stereo", "eng"), AudioTrack("ac3", 6, 48000, "5.1")),
)


def unavailable() -> SageError:
    """Return the error of a store that is down."""
    return store_unavailable("store", detail="a test stopped it")


def full() -> SageError:
    """Return the error of a store without room."""
    return SageError(Reason.STORE_FULL, store="store", why="a test filled it")


@dataclass
class _Pending:
    holder: str
    lease_until: float


class FakeVideoRepository(VideoRepository):
    """Dictionaries; `clock` is the time of leases in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures = Failures()
        self.videos: dict[str, Video] = {}
        self.pending: dict[str, _Pending] = {}
        self.uploads: dict[str, Upload] = {}
        self.clock = clock

    async def add_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        await self.failures.before("add_pending")
        self.pending[key] = _Pending(holder, self.clock() + lease_s)

    async def renew_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        await self.failures.before("renew_pending")
        self.held(key, holder).lease_until = self.clock() + lease_s

    async def remove_pending(self, key: str, *, holder: str) -> None:
        await self.failures.before("remove_pending")
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

    async def pending_keys(self, keys: Collection[str]) -> set[str]:
        return {key for key in keys if key in self.pending}

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

    async def list_videos(
        self, *, before_id: str | None, limit: int, filename_contains: str = "", sha256: str = ""
    ) -> list[Video]:
        await self.failures.before("list_videos")
        text = filename_contains.casefold()
        found = [
            video
            for video_id, video in sorted(self.videos.items(), reverse=True)
            if (before_id is None or video_id < before_id)
            and text in video.filename.casefold()
            and sha256 in ("", video.sha256)
        ]
        return found[:limit]

    async def check(self) -> None:
        await self.failures.before("check")

    def held(self, key: str, holder: str) -> _Pending:
        """Return a pending object that the holder has."""
        entry = self.pending.get(key)
        if entry is None or entry.holder != holder:
            raise LeaseLostError(key)
        return entry


class FakeUploadRepository(UploadRepository):
    """Dictionaries, in addition to those of `videos`, which also has the clock."""

    def __init__(self, videos: FakeVideoRepository) -> None:
        self.failures = Failures()
        self._videos = videos
        self._parts: dict[str, dict[int, Part]] = {}
        self._completers: dict[str, _Pending] = {}
        self._closed: dict[str, float] = {}

    async def add_upload(self, upload: Upload, *, key: str, holder: str, expire_s: float, max_open: int) -> None:
        await self.failures.before("add_upload")
        if sum(one.state is UploadState.OPEN for one in self._videos.uploads.values()) >= max_open:
            raise TooManyOpenError
        if upload.request_id and await self.find_upload(upload.request_id):
            raise RequestIdTakenError
        self._videos.held(key, holder)
        self._videos.pending[key] = _Pending(upload.id, self._videos.clock() + expire_s)
        self._videos.uploads[upload.id] = upload

    async def get_upload(self, upload_id: str) -> Upload | None:
        await self.failures.before("get_upload")
        upload = self._videos.uploads.get(upload_id)
        if upload is None:
            return None
        entry = self._videos.pending.get(object_key(upload.video_id))
        expires = entry is not None and upload.state is UploadState.OPEN
        return replace(
            upload,
            completing=upload.state is UploadState.OPEN and self._is_completing(upload_id),
            expire_time=datetime.fromtimestamp(entry.lease_until, UTC) if expires else None,
        )

    async def find_upload(self, request_id: str) -> Upload | None:
        for upload in self._videos.uploads.values():
            if upload.request_id == request_id and upload.state is not UploadState.ABORTED:
                return await self.get_upload(upload.id)
        return None

    async def list_open(self, *, before_id: str | None, limit: int) -> list[OpenUpload]:
        found = []
        for upload_id, upload in sorted(self._videos.uploads.items(), reverse=True):
            current = await self.get_upload(upload_id)
            if (
                current is not None
                and upload.state is UploadState.OPEN
                and (before_id is None or upload_id < before_id)
            ):
                size = sum(part.size_bytes for part in await self.list_parts(upload_id))
                found.append(OpenUpload(current, size))
        return found[:limit]

    async def list_parts(self, upload_id: str) -> list[Part]:
        upload = self._videos.uploads.get(upload_id)
        if upload is None or upload.state is UploadState.ABORTED:
            return []
        return [part for _, part in sorted(self._parts.get(upload_id, {}).items())]

    async def hold_open(self, upload_id: str, *, expire_s: float) -> None:
        await self.failures.before("hold_open")
        entry = self._entry(upload_id)
        if self._is_completing(upload_id):
            raise LeaseLostError
        entry.lease_until = max(entry.lease_until, self._videos.clock() + expire_s)

    async def add_part(self, upload_id: str, part: Part, *, expire_s: float) -> None:
        await self.failures.before("add_part")
        self._entry(upload_id).lease_until = self._videos.clock() + expire_s
        self._parts.setdefault(upload_id, {})[part.number] = part

    async def remove_parts(self, upload_id: str, parts: Collection[Part]) -> None:
        for part in parts:
            if self._parts[upload_id].get(part.number) == part:
                del self._parts[upload_id][part.number]

    async def claim_completion(self, upload_id: str, *, completer: str, lease_s: float) -> bool:
        await self.failures.before("claim_completion")
        upload = self._videos.uploads.get(upload_id)
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
        await self._videos.add_video(video, key=key, holder=upload_id)
        self._close(upload_id, UploadState.COMPLETED)
        self.failures.after("complete_upload")

    async def abort_upload(
        self, upload_id: str, *, key: str, holder: str, lease_s: float, failure: SageError | None = None
    ) -> bool:
        await self.failures.before("abort_upload")
        upload = self._videos.uploads.get(upload_id)
        if upload is None or upload.state is not UploadState.OPEN:
            return False
        self._videos.pending[key] = _Pending(holder, self._videos.clock() + lease_s)
        self._close(upload_id, UploadState.ABORTED, failure=failure)
        return True

    async def remove_closed(self, *, older_than_s: float) -> None:
        await self.failures.before("remove_closed")
        for upload in list(self._videos.uploads.values()):
            if upload.state is not UploadState.OPEN:
                # A sweep that aborts an upload does not set the time: use the current one.
                closed = self._closed.setdefault(upload.id, self._videos.clock())
                if closed < self._videos.clock() - older_than_s:
                    del self._videos.uploads[upload.id]

    def _entry(self, upload_id: str) -> _Pending:
        upload = self._videos.uploads.get(upload_id)
        if upload is None or upload.state is not UploadState.OPEN:
            raise LeaseLostError
        return self._videos.held(object_key(upload.video_id), upload_id)

    def _is_completing(self, upload_id: str) -> bool:
        held = self._completers.get(upload_id)
        return held is not None and held.lease_until > self._videos.clock()

    def _hold(self, upload_id: str, *, completer: str, lease_s: float) -> None:
        until = self._videos.clock() + lease_s
        entry = self._entry(upload_id)
        entry.lease_until = max(entry.lease_until, until)
        self._completers[upload_id] = _Pending(completer, until)

    def _completer(self, upload_id: str, completer: str) -> None:
        self._entry(upload_id)
        if upload_id not in self._completers or self._completers[upload_id].holder != completer:
            raise LeaseLostError

    def _close(self, upload_id: str, state: UploadState, *, failure: SageError | None = None) -> None:
        upload = self._videos.uploads[upload_id]
        self._videos.uploads[upload_id] = replace(upload, state=state, failure=failure)
        self._closed[upload_id] = self._videos.clock()


@dataclass
class _Multipart:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)
    age_s: float = 0.0


class FakeVideoObjects(VideoObjects):
    """Dictionaries; `room_bytes` is the size of the largest part or file that fits, if that is known."""

    def __init__(self) -> None:
        self.room_bytes: int | None = None
        self.failures = Failures()
        self.objects: dict[str, bytes] = {}
        self.multiparts: dict[str, _Multipart] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it has neither objects nor multipart uploads."""
        return not self.objects and not self.multiparts

    async def begin(self, key: str, *, content_type: str) -> str:
        await self.failures.before("begin")
        multipart_id = f"multipart-{self.failures.calls['begin']}"
        self.multiparts[multipart_id] = _Multipart(key)
        self.failures.after("begin")
        return multipart_id

    async def check_accepts(self, size_bytes: int) -> None:
        if self.room_bytes is not None and size_bytes > self.room_bytes:
            raise full()

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
            # A key is used once: an object of this size is this upload, completed before.
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

    async def list_multiparts(self, *, older_than_s: float) -> list[Multipart]:
        await self.failures.before("list_multiparts")
        old = {name: one for name, one in self.multiparts.items() if one.age_s > older_than_s}
        return [Multipart(one.key, name) for name, one in old.items() if one.key.startswith("videos/")]

    async def abort(self, multipart: Multipart) -> None:
        self.multiparts.pop(multipart.multipart_id, None)

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

    async def check_writable(self) -> None:
        await self.failures.before("check_writable")
        await self.check_accepts(1)


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


class FakeProber(Prober):
    """Returns `result`, or raises it if it is an error."""

    def __init__(self, result: Media | Exception = MEDIA) -> None:
        self.result = result
        self.failures = Failures()

    async def probe(self, source: ByteSource, *, video_track: int | None = None) -> Media:
        await self.failures.before("probe")
        if isinstance(self.result, Exception):
            raise self.result
        return self.result if video_track is None else replace(self.result, video_track=video_track)


class BytesSource(ByteSource):
    """Bytes in memory; `read_bytes` is the number of bytes that were read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.read_bytes = 0

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    async def read(self, *, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return self._data[offset : offset + length]
