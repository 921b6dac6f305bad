"""Fakes of what fingerprints need: a maker, a store and the repositories."""

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from fakes.embed import MODEL, Script, ScriptedEngine
from sage_embed.embeddings.model import Failure, Progress, State, Video, WorkLostError, states_before
from sage_embed.engines.engine import BlockMade, EngineEvent, EngineRequest, FingerprintMade, SegmentsProduced
from sage_embed.fingerprints.model import VERSION, Block, Fingerprint, StoredObject
from sage_embed.fingerprints.ports import (
    FingerprintMaker,
    FingerprintObjects,
    FingerprintRepository,
    FingerprintWork,
    MakeRequest,
)

FRAMES_PER_BLOCK = 25


def block_bytes(video_id: str, index: int, size: int = 1000) -> bytes:
    """Return the bytes that `ScriptedMaker` makes for a block of a second."""
    seed = hashlib.sha256(f"{video_id} {index}".encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


class NoBlocks(FingerprintMaker):
    """Makes fingerprints without blocks, for tests of something else: they need no store."""

    async def make(self, request: MakeRequest) -> AsyncGenerator[Block, None]:
        for block in ():
            yield block


class ScriptedMaker(FingerprintMaker):
    """Makes `block_bytes` for each second of a video, in order, as its script allows.

    Args:
        script: Its script, which notes `block 3`.
        block_size: Bytes of a block.
        block_seconds: Length of a block. Parts are counted in blocks of `BLOCK_SECONDS`.
    """

    def __init__(self, script: Script, *, block_size: int = 1000, block_seconds: float = 1.0) -> None:
        self.script = script
        self.block_seconds = block_seconds
        self.block_size = block_size
        self.failures: dict[int, list[Exception]] = {}
        self.closed = 0

    async def make(self, request: MakeRequest) -> AsyncGenerator[Block, None]:
        try:
            await request.video_url()
            duration = request.video.duration_seconds
            count = math.ceil(duration / self.block_seconds)
            for index in range(request.first_block, count if request.end_block is None else request.end_block):
                await self.script.gate(index)
                if self.failures.get(index):
                    raise self.failures[index].pop(0)
                self.script.note(f"block {index}")
                data = block_bytes(request.video.id, index, self.block_size)
                yield Block(index, data, FRAMES_PER_BLOCK, min((index + 1) * self.block_seconds, duration))
        finally:
            self.closed += 1


class OnePassEngine(ScriptedEngine):
    """Embeds as a local engine and, on request, makes the blocks of `ScriptedMaker` in the same pass.

    Args:
        script: Its script, which notes `pass 3` for a block.
    """

    def __init__(self, script: Script) -> None:
        super().__init__(script, model=replace(MODEL, name="local", provider="local"))

    async def embed(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        first, count = request.first_block, math.ceil(request.duration_seconds)
        async with aclosing(super().embed(request)) as events:
            async for event in events:
                yield event
                if first is not None and isinstance(event, SegmentsProduced):
                    end = math.ceil(event.segments.end_seconds[-1])
                    for block in self._blocks(first, end, request):
                        yield block
                    first = max(first, end)
        if first is not None:
            for block in self._blocks(first, count, request):
                yield block
            yield FingerprintMade()

    def _blocks(self, first: int, end: int, request: EngineRequest) -> Iterator[BlockMade]:
        video_id = urlsplit(self.urls[-1]).path.strip("/")
        for index in range(first, end):
            self.script.note(f"pass {index}")
            done = min(index + 1.0, request.duration_seconds)
            yield BlockMade(Block(index, block_bytes(video_id, index), FRAMES_PER_BLOCK, done))


class InMemoryFingerprintObjects(FingerprintObjects):
    """Objects in a dictionary. Each call of `put` takes one of `failures`, and raises it unless it is `None`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failures: list[Exception | None] = []

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.sleep(0)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.objects[key] = data

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        return self.objects[key][offset : offset + length]

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)

    async def check(self) -> None:
        return


@dataclass
class _Record:
    fingerprint: Fingerprint
    job_id: int
    requested_without_id: bool = False
    requests: set[str] = field(default_factory=set)
    objects: dict[str, StoredObject] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)


class FakeFingerprintRepository(FingerprintRepository, FingerprintWork):
    """Both repositories in dictionaries. Workers of `lost_jobs` are dead. Nothing is split."""

    def __init__(self) -> None:
        self.records: dict[str, _Record] = {}
        self.discarded: list[str] = []
        self.embedded: set[str] = set()
        self.delays: list[timedelta] = []
        self.lost_jobs: set[int] = set()
        self._jobs = 0

    def job_of(self, video_id: str) -> int:
        return self.records[video_id].job_id

    def make_older(self, video_id: str) -> None:
        record = self.records[video_id]
        record.fingerprint = replace(record.fingerprint, version=VERSION - 1)

    async def reuse(self, video_id: str, *, request_id: str) -> Fingerprint | None:
        record = self.records.get(video_id)
        if record is None or not record.fingerprint.reusable:
            return None
        self._note(record, request_id)
        return record.fingerprint

    async def create(self, video: Video, *, request_id: str) -> Fingerprint:
        existing = await self.reuse(video.id, request_id=request_id)
        if existing is not None:
            return existing
        revision = 1
        if video.id in self.records:
            self._discard(self.records[video.id])
            revision = self.records[video.id].fingerprint.revision + 1
        fingerprint = Fingerprint(
            video=video,
            version=VERSION,
            state=State.PENDING,
            progress=Progress(0.0, "Waiting for a worker."),
            failure=None,
            create_time=datetime.now(UTC),
            start_time=None,
            finish_time=None,
            revision=revision,
        )
        record = self.records[video.id] = _Record(fingerprint, self._new_job())
        self._note(record, request_id)
        return fingerprint

    async def count_unfinished(self) -> int:
        return sum(not record.fingerprint.finished for record in self.records.values())

    async def get(self, video_id: str) -> Fingerprint | None:
        record = self.records.get(video_id)
        return None if record is None else record.fingerprint

    async def cancel(self, video_id: str, *, withdrawing: str = "") -> Fingerprint | None:
        record = self.records.get(video_id)
        if record is None:
            return None
        if not record.fingerprint.finished:
            record.requests.discard(withdrawing)
            wanted = record.requested_without_id or record.requests or video_id in self.embedded
            if not (withdrawing and wanted):
                self._finish(record, State.CANCELLED, "Cancelled.")
        return record.fingerprint

    async def delete(self, video_id: str) -> bool:
        record = self.records.pop(video_id, None)
        if record is not None:
            self._discard(record)
        return record is not None

    async def objects(self, video_id: str) -> list[StoredObject]:
        record = self.records.get(video_id)
        found = [] if record is None else [record.objects[key] for key in record.stored]
        return sorted(found, key=lambda stored: stored.first_block)

    async def check(self) -> None:
        return

    async def claim(self, video_id: str, job_id: int, /, *, part_blocks: int = 0) -> Fingerprint:
        record = self._own(video_id, job_id)
        for key in record.objects.keys() - record.stored:
            del record.objects[key]
            self.discarded.append(key)
        if record.fingerprint.version < VERSION:
            self._discard(record)
            self._change(record, version=VERSION, block_count=0, frame_count=0, size_bytes=0, progress=Progress(0, ""))
        progress = Progress(record.fingerprint.progress.fraction, "Starting.")
        start_time = record.fingerprint.start_time or datetime.now(UTC)
        self._change(record, state=State.PROCESSING, progress=progress, start_time=start_time)
        return record.fingerprint

    async def save_progress(self, video_id: str, job_id: int, progress: Progress, /) -> None:
        record = self._own(video_id, job_id)
        self._change(record, progress=progress)

    async def begin_object(self, video_id: str, job_id: int, stored: StoredObject) -> None:
        self._own(video_id, job_id).objects[stored.key] = stored

    async def append(
        self, video_id: str, job_id: int, stored: StoredObject, *, frame_count: int, progress: Progress
    ) -> None:
        record = self._own(video_id, job_id)
        now = record.fingerprint
        if stored.first_block != now.block_count or record.objects.get(stored.key) != stored:
            raise ValueError("blocks do not follow")
        record.stored.add(stored.key)
        self._change(
            record,
            progress=progress,
            attempts=0,
            block_count=now.block_count + stored.block_count,
            frame_count=now.frame_count + frame_count,
            size_bytes=now.size_bytes + stored.size_bytes,
        )

    async def complete(self, video_id: str, job_id: int, message: str, /) -> None:
        record = self._own(video_id, job_id, State.COMPLETED)
        self._change(record, state=State.COMPLETED, progress=Progress(1.0, message), finish_time=datetime.now(UTC))

    async def fail(self, video_id: str, job_id: int, failure: Failure, /) -> None:
        record = self._own(video_id, job_id, State.FAILED)
        record.fingerprint = replace(record.fingerprint, failure=failure)
        self._finish(record, State.FAILED, "Failed.")

    async def requeue(
        self, video_id: str, job_id: int, /, *, delay: timedelta, message: str, counts_as_attempt: bool
    ) -> None:
        record = self._own(video_id, job_id)
        record.job_id = self._new_job()
        self.delays.append(delay)
        now = record.fingerprint
        progress = Progress(now.progress.fraction, message)
        self._change(record, progress=progress, attempts=now.attempts + counts_as_attempt)

    async def others_wait(self, queues: Sequence[str], *, than: str = "") -> bool:
        return False

    async def lost(self, *, silent_for: timedelta, limit: int) -> list[tuple[Fingerprint, int]]:
        return [
            (record.fingerprint, record.job_id)
            for record in self.records.values()
            if not record.fingerprint.finished and record.job_id in self.lost_jobs
        ][:limit]

    async def drop_dead_jobs(self, *, silent_for: timedelta) -> None:
        self.lost_jobs.clear()

    def _note(self, record: _Record, request_id: str) -> None:
        if request_id:
            record.requests.add(request_id)
        else:
            record.requested_without_id = True

    def _own(self, video_id: str, job_id: int, to: State | None = None) -> _Record:
        record = self.records.get(video_id)
        before = states_before(to or State.PROCESSING)
        if record is None or record.job_id != job_id or record.fingerprint.state not in before:
            raise WorkLostError
        return record

    def _change(self, record: _Record, **changes: object) -> None:
        record.fingerprint = replace(record.fingerprint, revision=record.fingerprint.revision + 1, **changes)

    def _finish(self, record: _Record, state: State, message: str) -> None:
        self._discard(record)
        progress = Progress(record.fingerprint.progress.fraction, message)
        nothing = {"block_count": 0, "frame_count": 0, "size_bytes": 0}
        self._change(record, state=state, progress=progress, finish_time=datetime.now(UTC), **nothing)

    def _discard(self, record: _Record) -> None:
        self.discarded += record.objects
        record.objects, record.stored = {}, set()

    def _new_job(self) -> int:
        self._jobs += 1
        return self._jobs
