"""Stand-ins for what embed works with: engines, ingest, the store, the feed of changes."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_embed.adapters.rows import clean
from sage_embed.engine import (
    EngineEvent,
    EngineRequest,
    ModelInfo,
    Progressed,
    Segments,
    SegmentsProduced,
    Submitting,
    TaskStarted,
    Vectors,
)
from sage_embed.errors import request_id_reused, task_taken
from sage_embed.model import (
    Embedding,
    Failure,
    Filter,
    Plan,
    Progress,
    State,
    StoredSegments,
    Track,
    Video,
    WorkLostError,
    cancelled_message,
    states_before,
)
from sage_runtime.errors import Reason, SageError

DIMENSIONS = 8
MODEL = ModelInfo(
    name="scripted",
    revision="1",
    provider="tests",
    dimensions=DIMENSIONS,
    tracks=("visual", "audio"),
    min_clip_seconds=0.5,
    max_clip_seconds=10.0,
    max_video_seconds=3600.0,
)


def vector(index: int, dimensions: int = DIMENSIONS) -> Vectors:
    """Return the vector that `ScriptedEngine` makes for a segment."""
    return np.sin(np.arange(dimensions, dtype=np.float32) + index).astype(np.float32)


class Script:
    """Steers scripted engines, in this process or another, through files in a directory."""

    def __init__(self, directory: Path) -> None:
        self._allowed = directory / "allowed"
        self._computed = directory / "computed"

    def allow(self, count: int) -> None:
        """Let engines compute the segments with indexes under `count`. Without a call they compute all."""
        temporary = self._allowed.with_suffix(".new")
        temporary.write_text(str(count))
        temporary.replace(self._allowed)

    def computed(self) -> list[str]:
        """Return what engines did, in order: `visual 3`, `task task-1`."""
        return self._computed.read_text().splitlines() if self._computed.exists() else []

    def note(self, line: str) -> None:
        """Write down what an engine does."""
        with self._computed.open("a") as file:
            file.write(line + "\n")

    async def gate(self, index: int) -> None:
        """Return once the segment may be computed."""
        # The script may be in another process: there is no event to wait for.
        while self._allowed.exists() and index >= int(self._allowed.read_text()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


class ScriptedEngine:
    """Makes `vector(index)` for each clip, in the order of time, as its script allows.

    Args:
        script: Its script.
        model: The model that it offers.
        task_id: The provider's task that it starts, where it is to have one. It is submitted first.
        failures: Raised before a segment is computed, by index; each once.
        dwell_s: Seconds that it takes for each segment.
    """

    def __init__(
        self,
        script: Script,
        *,
        model: ModelInfo = MODEL,
        task_id: str = "",
        failures: dict[int, list[Exception]] | None = None,
        dwell_s: float = 0.0,
    ) -> None:
        self.script = script
        self.model = model
        self.task_id = task_id
        self.failures = failures or {}
        self.dwell_s = dwell_s
        self.urls: list[str] = []
        self.closed = 0

    async def models(self) -> Sequence[ModelInfo]:
        return [self.model]

    async def embed(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        try:
            self.urls.append(await request.video_url())
            if self.task_id and request.resume.provider_task_id is None:
                yield Submitting(self.urls[-1])
                self.script.note(f"task {self.task_id}")
                yield TaskStarted(self.task_id)
            count = math.ceil(request.duration_seconds / request.clip_seconds)
            done = dict(request.resume.segment_counts)
            for index in range(min(done[track] for track in request.tracks), count):
                await self.script.gate(index)
                await asyncio.sleep(self.dwell_s)
                if self.failures.get(index):
                    raise self.failures[index].pop(0)
                for track in request.tracks:
                    if done[track] <= index:
                        self.script.note(f"{track} {index}")
                        yield SegmentsProduced(self._segments(track, index, request))
                yield Progressed((index + 1) / count, f"Embedded {index + 1} of {count} clips.")
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        """Hold nothing."""

    def all_segments(self, request: EngineRequest) -> SegmentsProduced:
        """Return all segments of the first track at once."""
        parts = [
            self._segments(request.tracks[0], index, request)
            for index in range(math.ceil(request.duration_seconds / request.clip_seconds))
        ]
        return SegmentsProduced(
            Segments(
                track=request.tracks[0],
                first_index=0,
                start_seconds=[part.start_seconds[0] for part in parts],
                end_seconds=[part.end_seconds[0] for part in parts],
                vectors=np.concatenate([part.vectors for part in parts]),
            )
        )

    def _segments(self, track: str, index: int, request: EngineRequest) -> Segments:
        start = index * request.clip_seconds
        return Segments(
            track=track,
            first_index=index,
            start_seconds=[start],
            end_seconds=[min(start + request.clip_seconds, request.duration_seconds)],
            vectors=vector(index, self.model.dimensions)[np.newaxis],
        )


class InMemoryVideoCatalog:
    """Knows the videos that it is given."""

    def __init__(self, *videos: Video) -> None:
        self.videos = {video.id: video for video in videos}

    async def get(self, video_id: str) -> Video:
        if video_id not in self.videos:
            raise SageError(Reason.VIDEO_NOT_FOUND, video_id=video_id)
        return self.videos[video_id]

    async def url(self, video_id: str, *, variant: int) -> str:
        return f"http://videos.test/{(await self.get(video_id)).id}?variant={variant}"


class FakeIngest(ingest_pb2_grpc.IngestServiceServicer):
    """Ingest as far as embed sees it."""

    def __init__(self) -> None:
        self.videos: dict[str, ingest_pb2.Video] = {}
        self.urls: dict[str, int] = {}
        self.validities: list[int] = []
        self.address = ""
        self._urls_may_go = asyncio.Event()
        self._urls_may_go.set()

    def add(self, video_id: str, *, duration_seconds: float, ready: bool = True, sound: bool = False) -> str:
        """Add a video of 1280 by 720 pixels and 1 MB."""
        state = ingest_pb2.VIDEO_STATE_READY if ready else ingest_pb2.VIDEO_STATE_PROCESSING
        media = ingest_pb2.Media(duration_seconds=duration_seconds, start_offset_seconds=0.08, width=1280, height=720)
        if sound:
            media.audio.CopyFrom(ingest_pb2.Audio(codec="aac", channels=2, sample_rate=48_000))
        self.videos[video_id] = ingest_pb2.Video(id=video_id, state=state, media=media, size_bytes=1_000_000)
        return video_id

    def hold_urls(self) -> asyncio.Event:
        """Answer no URL until the event that is returned is set."""
        self._urls_may_go.clear()
        return self._urls_may_go

    async def GetVideo(
        self, request: ingest_pb2.GetVideoRequest, context: grpc.aio.ServicerContext
    ) -> ingest_pb2.GetVideoResponse:
        return ingest_pb2.GetVideoResponse(video=self._find(request.video_id))

    async def GetPlaybackUrl(
        self, request: ingest_pb2.GetPlaybackUrlRequest, context: grpc.aio.ServicerContext
    ) -> ingest_pb2.GetPlaybackUrlResponse:
        video_id = self._find(request.video_id).id
        # Every URL is another one, as signatures are.
        self.urls[video_id] = self.urls.get(video_id, 0) + 1
        self.validities.append(request.validity.seconds)
        await self._urls_may_go.wait()
        return ingest_pb2.GetPlaybackUrlResponse(url=f"http://videos.test/{video_id}?signature={self.urls[video_id]}")

    def _find(self, video_id: str) -> ingest_pb2.Video:
        if video_id not in self.videos:
            raise SageError(Reason.VIDEO_NOT_FOUND, video_id=video_id)
        return self.videos[video_id]


class FlagFeed:
    """A feed of changes that tells what the test tells it."""

    def __init__(self) -> None:
        self.subscribed = 0
        self._changed = asyncio.Event()

    def tell(self) -> None:
        self._changed.set()

    @contextmanager
    def subscribe(self, embedding_id: str) -> "Iterator[FlagFeed]":
        self.subscribed += 1
        try:
            yield self
        finally:
            self.subscribed -= 1

    async def wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()


@dataclass
class _Record:
    embedding: Embedding
    job_id: int
    request_id: str
    fingerprint: str
    chunks: dict[str, list[StoredSegments]] = field(default_factory=dict)


class InMemoryEmbeddingStore:
    """`EmbeddingStore` and `WorkStore` in a dictionary. `lost_jobs` says whose workers died, `away` that it is gone."""

    def __init__(self) -> None:
        self.records: dict[str, _Record] = {}
        self.delays: list[timedelta] = []
        self.lost_jobs: set[int] = set()
        self.away = 0
        self.changed: Callable[[], None] = lambda: None
        self._jobs = 0

    def job_of(self, embedding_id: str) -> int:
        return self.records[embedding_id].job_id

    async def create(self, embedding_id: str, plan: Plan, *, request_id: str, fingerprint: str) -> Embedding:
        if request_id and (known := await self.find_request(request_id, fingerprint=fingerprint)):
            return known
        embedding = Embedding(
            id=embedding_id,
            plan=plan,
            state=State.PENDING,
            progress=Progress(0.0, "Waiting for a worker."),
            tracks=tuple(Track(name) for name in plan.tracks),
            provider_task_id="",
            failure=None,
            create_time=datetime.now(UTC),
            start_time=None,
            finish_time=None,
            revision=1,
        )
        self.records[embedding_id] = _Record(embedding, self._new_job(), request_id, fingerprint)
        return embedding

    async def find_request(self, request_id: str, *, fingerprint: str) -> Embedding | None:
        for record in self.records.values():
            if record.request_id == request_id:
                if record.fingerprint != fingerprint:
                    raise request_id_reused(request_id)
                return record.embedding
        return None

    async def count_unfinished(self) -> int:
        return sum(not record.embedding.finished for record in self.records.values())

    async def get(self, embedding_id: str) -> Embedding | None:
        self._check()
        record = self.records.get(embedding_id)
        return record.embedding if record else None

    async def list_page(self, wanted: Filter, *, before_id: str | None, limit: int) -> list[Embedding]:
        found = [
            embedding
            for _, embedding in sorted(((id_, r.embedding) for id_, r in self.records.items()), reverse=True)
            if (before_id is None or embedding.id < before_id)
            and wanted.video_id in (None, embedding.plan.video.id)
            and wanted.state in (None, embedding.state)
            and wanted.model in (None, embedding.plan.model)
        ]
        return found[:limit]

    async def cancel(self, embedding_id: str) -> Embedding | None:
        record = self.records.get(embedding_id)
        if record is None:
            return None
        if record.embedding.state in states_before(State.CANCELLED):
            self._finish(record, State.CANCELLED, cancelled_message(record.embedding))
        return record.embedding

    async def delete(self, embedding_id: str) -> bool:
        return self.records.pop(embedding_id, None) is not None

    async def read_segments(
        self, embedding_id: str, track: str, *, first_index: int, max_segments: int
    ) -> StoredSegments | None:
        record = self.records.get(embedding_id)
        chunks = record.chunks.get(track, []) if record else []
        if not chunks:
            return None
        vectors = b"".join(chunk.vectors for chunk in chunks)
        starts = np.concatenate([chunk.start_seconds for chunk in chunks])
        ends = np.concatenate([chunk.end_seconds for chunk in chunks])
        size = len(vectors) // len(starts)
        last = min(len(starts), first_index + max_segments)
        if first_index >= last:
            return None
        wanted = slice(first_index, last)
        return StoredSegments(first_index, starts[wanted], ends[wanted], vectors[first_index * size : last * size])

    async def ping(self) -> None:
        self._check()

    async def claim(self, embedding_id: str, job_id: int) -> Embedding:
        record = self._own(embedding_id, job_id, State.PROCESSING)
        start_time = record.embedding.start_time or datetime.now(UTC)
        progress = Progress(record.embedding.progress.fraction, "Starting.")
        self._change(record, state=State.PROCESSING, start_time=start_time, progress=progress)
        return record.embedding

    async def save_submission(self, embedding_id: str, job_id: int, url: str, *, key_fingerprint: str) -> None:
        submission = {"submitted_url": url, "submitted_key": key_fingerprint, "submitted_at": datetime.now(UTC)}
        self._change(self._own(embedding_id, job_id), **submission)

    async def save_task(self, embedding_id: str, job_id: int, provider_task_id: str) -> None:
        own = self._own(embedding_id, job_id)
        for record in self.records.values():
            other = record.embedding
            same = (other.plan.provider, other.provider_task_id) == (own.embedding.plan.provider, provider_task_id)
            if record is not own and same:
                raise task_taken(provider_task_id)
        self._change(own, provider_task_id=provider_task_id, submitted_url="", attempts=0)

    async def save_progress(self, embedding_id: str, job_id: int, progress: Progress) -> None:
        record = self._own(embedding_id, job_id)
        self._change(record, progress=_forward(record.embedding.progress, progress))

    async def append(
        self,
        embedding_id: str,
        job_id: int,
        track: str,
        chunks: Sequence[StoredSegments],
        *,
        progress: Progress | None,
    ) -> None:
        record = self._own(embedding_id, job_id)
        stored = record.embedding.track(track)
        for chunk in chunks:
            if stored is None or chunk.first_index != stored.segment_count:
                raise ValueError("segments do not follow")
            start = stored.covered_start_seconds if stored.segment_count else float(chunk.start_seconds[0])
            stored = Track(track, stored.segment_count + len(chunk), start, float(chunk.end_seconds[-1]))
        tracks = tuple(stored if stored and old.name == track else old for old in record.embedding.tracks)
        record.chunks.setdefault(track, []).extend(chunks)
        progress = _forward(record.embedding.progress, progress) if progress else record.embedding.progress
        self._change(record, tracks=tracks, progress=progress, attempts=0)

    async def complete(self, embedding_id: str, job_id: int, message: str) -> None:
        record = self._own(embedding_id, job_id, State.COMPLETED)
        now = datetime.now(UTC)
        self._change(
            record,
            state=State.COMPLETED,
            progress=Progress(1.0, message),
            finish_time=now,
            tracks=tuple(track for track in record.embedding.tracks if track.segment_count),
            submitted_url="",
        )

    async def fail(self, embedding_id: str, job_id: int, failure: Failure) -> None:
        record = self._own(embedding_id, job_id, State.FAILED)
        record.embedding = replace(record.embedding, failure=Failure(failure.reason, clean(failure.message)))
        self._finish(record, State.FAILED, "Failed.")

    async def requeue(
        self, embedding_id: str, job_id: int, *, delay: timedelta, message: str, counts_as_attempt: bool
    ) -> None:
        record = self._own(embedding_id, job_id)
        record.job_id = self._new_job()
        self.delays.append(delay)
        progress = Progress(record.embedding.progress.fraction, message)
        self._change(record, progress=progress, attempts=record.embedding.attempts + counts_as_attempt)

    async def lost(self, *, silent_for: timedelta, limit: int) -> list[tuple[Embedding, int]]:
        found = [
            (record.embedding, record.job_id)
            for record in self.records.values()
            if not record.embedding.finished and record.job_id in self.lost_jobs
        ]
        return found[:limit]

    async def drop_dead_jobs(self, *, silent_for: timedelta) -> None:
        self.lost_jobs.clear()

    def _own(self, embedding_id: str, job_id: int, to: State | None = None) -> _Record:
        self._check()
        record = self.records.get(embedding_id)
        before = states_before(to or State.PROCESSING)
        if record is None or record.job_id != job_id or record.embedding.state not in before:
            raise WorkLostError
        return record

    def _change(self, record: _Record, **changes: object) -> None:
        record.embedding = replace(record.embedding, revision=record.embedding.revision + 1, **changes)
        self.changed()

    def _finish(self, record: _Record, state: State, message: str) -> None:
        record.chunks.clear()
        self._change(
            record,
            state=state,
            finish_time=datetime.now(UTC),
            submitted_url="",
            progress=Progress(record.embedding.progress.fraction, message),
            tracks=tuple(Track(track.name) for track in record.embedding.tracks),
        )

    def _new_job(self) -> int:
        self._jobs += 1
        return self._jobs

    def _check(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise SageError(Reason.STORE_UNAVAILABLE, store="database")


def _forward(old: Progress, new: Progress) -> Progress:
    return Progress(max(old.fraction, new.fraction), clean(new.message))
