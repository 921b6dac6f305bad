"""Fakes of what embed calls: engines and ingest."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import grpc
import numpy as np
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc, media_pb2
from sage_embed.embeddings.model import Video
from sage_embed.engines.engine import (
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
        dwell_s: Seconds per segment.
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
    """A catalog of the given videos."""

    def __init__(self, *videos: Video) -> None:
        self.videos = {video.id: video for video in videos}

    async def get(self, video_id: str) -> Video:
        if video_id not in self.videos:
            raise SageError(Reason.VIDEO_NOT_FOUND, video_id=video_id)
        return self.videos[video_id]

    async def url(self, video_id: str, *, variant: int) -> str:
        return f"http://videos.test/{(await self.get(video_id)).id}?variant={variant}"


class FakeIngest(ingest_pb2_grpc.IngestServiceServicer):
    """The part of ingest that embed calls."""

    def __init__(self) -> None:
        self.videos: dict[str, ingest_pb2.Video] = {}
        self.urls: dict[str, int] = {}
        self.validities: list[int] = []
        self.address = ""
        self._urls_may_go = asyncio.Event()
        self._urls_may_go.set()

    def add(self, video_id: str, *, duration_seconds: float, sound: bool = False) -> str:
        """Add a video of 1280 by 720 pixels and 1 MB."""
        media = media_pb2.Media(duration_seconds=duration_seconds, start_offset_seconds=0.08, width=1280, height=720)
        if sound:
            media.audio_tracks.add(codec="aac", channels=2, sample_rate=48_000)
        self.videos[video_id] = ingest_pb2.Video(id=video_id, media=media, size_bytes=1_000_000)
        return video_id

    def hold_urls(self) -> asyncio.Event:
        """Return no URL until the returned event is set."""
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
        # Every URL differs, as signatures do.
        self.urls[video_id] = self.urls.get(video_id, 0) + 1
        self.validities.append(request.validity.seconds)
        await self._urls_may_go.wait()
        return ingest_pb2.GetPlaybackUrlResponse(url=f"http://videos.test/{video_id}?signature={self.urls[video_id]}")

    def _find(self, video_id: str) -> ingest_pb2.Video:
        if video_id not in self.videos:
            raise SageError(Reason.VIDEO_NOT_FOUND, video_id=video_id)
        return self.videos[video_id]
