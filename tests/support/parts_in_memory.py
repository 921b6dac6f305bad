"""Uploads in parts over stores in memory, with a clock that tests move."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes.ingest import InMemoryUploadRecords, InMemoryVideoObjects, InMemoryVideoRecords, StubProber
from sage_ingest.capacity import Capacity, UploadLimits
from sage_ingest.completion import Completion
from sage_ingest.model import Part, PartSpec, Upload, UploadState, VideoSpec
from sage_ingest.open_uploads import OpenUploads
from sage_ingest.sweep import Sweeper
from sage_ingest.tasks import Unabandoned
from sage_runtime.errors import SageError

DATA = bytes(range(256)) * 10
PART_BYTES = 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
SPEC = VideoSpec("a.mp4", "video/mp4", len(DATA), SHA256)
EXPIRE_S = 600.0
LIMITS = UploadLimits(
    part_bytes=PART_BYTES, parts_in_flight=2, total_parts_in_flight=3, max_uploads=4, idle_s=0.05, lease_s=60.0
)


class Ingest:
    """Uploads in parts and everything they stand on, with a clock that tests move.

    Attributes:
        now: The time of leases in seconds.
    """

    def __init__(self, limits: UploadLimits = LIMITS) -> None:
        self.now = 0.0
        self.records = InMemoryVideoRecords(lambda: self.now)
        self.uploads = InMemoryUploadRecords(self.records)
        self.objects = InMemoryVideoObjects()
        self.prober = StubProber()
        self.limits = limits
        self.unabandoned, self.open, self.completion = self.process()
        self.sweeper = Sweeper(
            self.records, self.uploads, self.objects, lease_s=60.0, interval_s=1.0, forget_s=EXPIRE_S
        )

    def process(self) -> tuple[Unabandoned, OpenUploads, Completion]:
        """Return what one process has of its own."""
        unabandoned, capacity = Unabandoned(), Capacity(self.limits)
        open_uploads = OpenUploads(
            self.uploads,
            self.records,
            self.objects,
            capacity=capacity,
            expire_s=EXPIRE_S,
            max_open=3,
            unabandoned=unabandoned,
        )
        completion = Completion(
            open_uploads,
            self.uploads,
            self.records,
            self.objects,
            self.prober,
            capacity=capacity,
            unabandoned=unabandoned,
        )
        return unabandoned, open_uploads, completion

    async def begin(self, spec: VideoSpec = SPEC, *, request_id: str = "") -> Upload:
        return await self.open.begin(spec, request_id=request_id)

    async def put(self, upload: Upload, number: int, /, data: bytes | None = None, **changes: object) -> Part:
        data = part_of(number) if data is None else data
        spec = PartSpec(upload.id, number, len(data), hashlib.sha256(data).hexdigest())
        return await self.open.put_part(replace(spec, **changes), chunks(data))

    async def put_all(self, upload: Upload) -> None:
        await asyncio.gather(*(self.put(upload, number) for number in (3, 1, 2)))

    async def whole(self, spec: VideoSpec = SPEC) -> Upload:
        upload = await self.begin(spec)
        await self.put_all(upload)
        return upload

    async def state(self, upload: Upload) -> UploadState:
        return (await self.open.get(upload.id)).state

    async def sweep(self, after_s: float = 61) -> None:
        self.now += after_s
        await self.sweeper.sweep()

    @property
    def nothing_is_left(self) -> bool:
        return self.objects.is_empty and not self.records.pending and not self.records.videos


def part_of(number: int) -> bytes:
    """Return the bytes of a part."""
    return DATA[(number - 1) * PART_BYTES : number * PART_BYTES]


async def chunks(data: bytes, size: int = 333) -> AsyncIterator[bytes]:
    """Yield bytes as they come from a client, and let others run in between."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def refused(call: object) -> SageError:
    """Return the error that a call ends with."""
    with pytest.raises(SageError) as raised:
        await call
    return raised.value
