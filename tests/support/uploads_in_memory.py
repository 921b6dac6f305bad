"""Uploads over fakes, with a clock that tests move."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from fakes.ingest import FakeProber, FakeUploadRepository, FakeVideoObjects, FakeVideoRepository
from sage_ingest.config import IngestSettings
from sage_ingest.uploads.completion import Completion
from sage_ingest.uploads.model import Part, PartSpec, Upload, UploadState
from sage_ingest.uploads.parts import Capacity
from sage_ingest.uploads.resumable import ResumableUploads
from sage_ingest.uploads.streamed import StreamedUploads
from sage_ingest.uploads.sweep import Sweeper
from sage_ingest.videos.model import VideoSpec
from sage_ingest.videos.pending import PendingObjects, ShieldedTasks
from sage_runtime.errors import SageError

DATA = bytes(range(256)) * 10
PART_BYTES = 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
SPEC = VideoSpec("a.mp4", "video/mp4", len(DATA), SHA256)
EXPIRE_S = 600.0


def settings(**changes: object) -> IngestSettings:
    """Return settings with small limits, which no validation would accept."""
    valid = IngestSettings(database_url="postgresql://127.0.0.1:9/none", s3_bucket="none")
    limits = {
        "part_bytes": PART_BYTES,
        "parts_in_flight": 2,
        "total_parts_in_flight": 3,
        "max_concurrent_uploads": 4,
        "max_open_uploads": 3,
        "upload_idle_s": 0.05,
        "upload_lease_s": 60.0,
        "upload_expire_s": EXPIRE_S,
        "sweep_interval_s": 0.01,
    }
    return valid.model_copy(update={**limits, **changes})


@dataclass(frozen=True)
class Process:
    """The use cases of one process."""

    shielded: ShieldedTasks
    streamed: StreamedUploads
    resumable: ResumableUploads
    completion: Completion
    sweeper: Sweeper


class Uploads:
    """Uploads over fakes.

    Attributes:
        now: The time of leases in seconds.
    """

    def __init__(self, **changes: object) -> None:
        self.now = 0.0
        self.settings = settings(**changes)
        self.videos = FakeVideoRepository(lambda: self.now)
        self.uploads = FakeUploadRepository(self.videos)
        self.objects = FakeVideoObjects()
        self.prober = FakeProber()
        process = self.process()
        self.shielded, self.streamed, self.resumable = process.shielded, process.streamed, process.resumable
        self.completion, self.sweeper = process.completion, process.sweeper

    def process(self) -> Process:
        """Return the use cases of another process over the same stores."""
        shielded, capacity = ShieldedTasks(), Capacity(self.settings)
        pending = PendingObjects(self.videos, self.objects, lease_s=self.settings.upload_lease_s)
        streamed = StreamedUploads(
            self.settings,
            videos=self.videos,
            objects=self.objects,
            pending=pending,
            prober=self.prober,
            capacity=capacity,
            shielded=shielded,
        )
        resumable = ResumableUploads(
            self.settings,
            uploads=self.uploads,
            objects=self.objects,
            pending=pending,
            capacity=capacity,
            shielded=shielded,
        )
        completion = Completion(
            self.settings,
            uploads=self.uploads,
            videos=self.videos,
            objects=self.objects,
            pending=pending,
            prober=self.prober,
            capacity=capacity,
            shielded=shielded,
        )
        sweeper = Sweeper(self.settings, videos=self.videos, uploads=self.uploads, objects=self.objects)
        return Process(shielded, streamed, resumable, completion, sweeper)

    async def create(self, spec: VideoSpec = SPEC, *, request_id: str = "") -> Upload:
        return await self.resumable.create(spec, request_id=request_id)

    async def put(self, upload: Upload, number: int, /, data: bytes | None = None, **changes: object) -> Part:
        data = part_of(number) if data is None else data
        spec = PartSpec(upload.id, number, len(data), hashlib.sha256(data).hexdigest())
        return await self.resumable.put_part(replace(spec, **changes), chunks(data))

    async def put_all(self, upload: Upload) -> None:
        await asyncio.gather(*(self.put(upload, number) for number in (3, 1, 2)))

    async def whole(self, spec: VideoSpec = SPEC) -> Upload:
        upload = await self.create(spec)
        await self.put_all(upload)
        return upload

    async def state(self, upload: Upload) -> UploadState:
        return (await self.resumable.get(upload.id)).state

    async def sweep(self, after_s: float = 61) -> None:
        self.now += after_s
        await self.sweeper.sweep()

    @property
    def nothing_is_left(self) -> bool:
        return self.objects.is_empty and not self.videos.pending and not self.videos.videos


def part_of(number: int) -> bytes:
    """Return the bytes of a part."""
    return DATA[(number - 1) * PART_BYTES : number * PART_BYTES]


async def chunks(data: bytes, size: int = 333) -> AsyncIterator[bytes]:
    """Yield bytes as a client sends them, and let other tasks run in between."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def refused(call: object) -> SageError:
    """Return the error that a call raises."""
    with pytest.raises(SageError) as raised:
        await call
    return raised.value
