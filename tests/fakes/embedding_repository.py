"""Fakes of embed's repositories and of its feed of changes."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from sage_embed.embeddings.model import (
    Embedding,
    Failure,
    Filter,
    Plan,
    Progress,
    Recipe,
    State,
    StoredSegments,
    Track,
    WorkLostError,
    cancelled_message,
    states_before,
)
from sage_embed.embeddings.ports import ChangeFeed, EmbeddingRepository, Subscription, WorkRepository
from sage_embed.embeddings.rows import clean
from sage_embed.errors import TaskTakenError, request_id_reused
from sage_runtime.errors import Reason, SageError


class FlagFeed(ChangeFeed, Subscription):
    """A feed of changes that the test controls."""

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

    async def wait(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True


@dataclass
class _Record:
    embedding: Embedding
    job_id: int
    reusable: bool = True
    requested_without_id: bool = False
    watched: dict[str, datetime] = field(default_factory=dict)
    chunks: dict[str, list[StoredSegments]] = field(default_factory=dict)


class FakeEmbeddingRepository(EmbeddingRepository, WorkRepository):
    """Both repositories in dictionaries. Workers of `lost_jobs` are dead; the next `away` calls fail."""

    def __init__(self) -> None:
        self.records: dict[str, _Record] = {}
        self.requests: dict[str, tuple[str, str]] = {}
        self.withdrawn: set[str] = set()
        self.delays: list[timedelta] = []
        self.others = False
        self.lost_jobs: set[int] = set()
        self.away = 0
        self.changed: Callable[[], None] = lambda: None
        self._jobs = 0

    def job_of(self, embedding_id: str) -> int:
        return self.records[embedding_id].job_id

    async def create(
        self, embedding_id: str, plan: Plan, *, request_id: str, fingerprint: str, force: bool = False
    ) -> Embedding:
        if request_id and (known := await self.find_request(request_id, fingerprint=fingerprint)):
            return known
        if not force and (same := await self.reuse(plan.recipe, request_id=request_id, fingerprint=fingerprint)):
            return same
        for record in self._reusable(plan.recipe):
            record.reusable = False
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
        if not force:
            embedding = self._adopting(embedding)
        self.records[embedding_id] = _Record(embedding, self._new_job(), requested_without_id=not request_id)
        self._remember(request_id, fingerprint, embedding_id)
        return embedding

    def _adopting(self, embedding: Embedding) -> Embedding:
        others = sorted(self.records.items(), reverse=True)
        ended = [
            record.embedding
            for _, record in others
            if record.embedding.plan.recipe == embedding.plan.recipe
            and record.embedding.state in (State.FAILED, State.CANCELLED)
            and record.embedding.submitted_at is not None
        ]
        if not ended or any(
            self._owns(record, ended[0].plan.provider, ended[0].provider_task_id) for _, record in others
        ):
            return embedding
        return replace(
            embedding,
            provider_task_id=ended[0].provider_task_id,
            submitted_url=ended[0].submitted_url,
            submitted_key=ended[0].submitted_key,
            submitted_at=ended[0].submitted_at,
            task_adopted=True,
        )

    def _owns(self, record: _Record, provider: str, provider_task_id: str) -> bool:
        known = record.embedding
        if (known.plan.provider, known.provider_task_id) != (provider, provider_task_id):
            return False
        return provider_task_id != "" and known.state not in (State.FAILED, State.CANCELLED)

    async def reuse(self, recipe: Recipe, *, request_id: str, fingerprint: str) -> Embedding | None:
        for record in self._reusable(recipe):
            self._remember(request_id, fingerprint, record.embedding.id)
            record.requested_without_id |= not request_id
            return record.embedding
        return None

    async def find_request(self, request_id: str, *, fingerprint: str) -> Embedding | None:
        known, embedding_id = self.requests.get(request_id, ("", ""))
        if embedding_id not in self.records:
            return None
        if known != fingerprint:
            raise request_id_reused(request_id)
        return self.records[embedding_id].embedding

    async def count_unfinished(self) -> int:
        return sum(not record.embedding.finished for record in self.records.values())

    async def get(self, embedding_id: str) -> Embedding | None:
        self._check()
        record = self.records.get(embedding_id)
        return record.embedding if record else None

    async def list_page(self, matching: Filter, *, before_id: str | None, limit: int) -> list[Embedding]:
        found = [
            embedding
            for _, embedding in sorted(((id_, r.embedding) for id_, r in self.records.items()), reverse=True)
            if (before_id is None or embedding.id < before_id)
            and matching.video_id in (None, embedding.plan.video.id)
            and matching.state in (None, embedding.state)
            and matching.model in (None, embedding.plan.model)
        ]
        return found[:limit]

    async def cancel(self, embedding_id: str, *, withdrawing: str = "") -> Embedding | None:
        record = self.records.get(embedding_id)
        if record is None:
            return None
        if withdrawing:
            self.withdrawn.add(withdrawing)
            received = {request_id for request_id, (_, id_) in self.requests.items() if id_ == embedding_id}
            watched = any(expire_time > datetime.now(UTC) for expire_time in record.watched.values())
            if record.requested_without_id or received - self.withdrawn or watched:
                return record.embedding
        if record.embedding.state in states_before(State.CANCELLED):
            self._finish(record, State.CANCELLED, cancelled_message(record.embedding))
        return record.embedding

    async def keep_watches(self, replica: str, embedding_ids: Collection[str], *, valid_for: timedelta) -> None:
        self._check()
        for embedding_id in embedding_ids:
            record = self.records.get(embedding_id)
            if record and not record.embedding.finished:
                record.watched[replica] = datetime.now(UTC) + valid_for

    async def drop_watches(self, replica: str, embedding_ids: Collection[str]) -> None:
        self._check()
        for embedding_id in embedding_ids:
            if record := self.records.get(embedding_id):
                record.watched.pop(replica, None)

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
        part = slice(first_index, last)
        return StoredSegments(first_index, starts[part], ends[part], vectors[first_index * size : last * size])

    async def check(self) -> None:
        self._check()

    async def claim(self, embedding_id: str, job_id: int) -> Embedding:
        record = self._own(embedding_id, job_id, State.PROCESSING)
        start_time = record.embedding.start_time or datetime.now(UTC)
        progress = Progress(record.embedding.progress.fraction, "Starting.")
        self._change(record, state=State.PROCESSING, start_time=start_time, progress=progress)
        return replace(record.embedding, claim_time=datetime.now(UTC))

    async def save_submission(self, embedding_id: str, job_id: int, url: str, *, key_fingerprint: str) -> None:
        self._change(
            self._own(embedding_id, job_id),
            submitted_url=url,
            submitted_key=key_fingerprint,
            submitted_at=datetime.now(UTC) if url else None,
            provider_task_id="",
            task_adopted=False,
        )

    async def save_task(self, embedding_id: str, job_id: int, provider_task_id: str) -> None:
        own = self._own(embedding_id, job_id)
        for record in self.records.values():
            if record is not own and self._owns(record, own.embedding.plan.provider, provider_task_id):
                raise TaskTakenError(own.embedding.plan.provider, provider_task_id)
        self._change(own, provider_task_id=provider_task_id, attempts=0)

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

    async def others_wait(self, queues: Sequence[str], *, than: str = "") -> bool:
        return self.others

    async def lost(self, *, silent_for: timedelta, limit: int) -> list[tuple[Embedding, int]]:
        found = [
            (record.embedding, record.job_id)
            for record in self.records.values()
            if not record.embedding.finished and record.job_id in self.lost_jobs
        ]
        return found[:limit]

    async def drop_dead_jobs(self, *, silent_for: timedelta) -> None:
        self.lost_jobs.clear()

    def _remember(self, request_id: str, fingerprint: str, embedding_id: str) -> None:
        if request_id:
            self.requests[request_id] = (fingerprint, embedding_id)

    def _reusable(self, recipe: Recipe) -> list[_Record]:
        return [
            record
            for record in self.records.values()
            if record.reusable
            and record.embedding.state not in (State.FAILED, State.CANCELLED)
            and record.embedding.plan.recipe == recipe
        ]

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
