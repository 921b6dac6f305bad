"""Stand-ins for the embed service that the compare service reads from, and for the port in front of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sage.embed.v1 import embed_pb2, embed_pb2_grpc, fingerprint_pb2, fingerprint_pb2_grpc
from sage.ingest.v1 import media_pb2
from sage_compare.inputs.client import to_media
from sage_compare.inputs.embedding import Embedding, FrameClock, TimeRange, Track
from sage_compare.inputs.fingerprints import FingerprintReader, StoredFingerprint
from sage_compare.inputs.segments import EmbeddingReader, Segments
from sage_fingerprint.codec import encode
from sage_fingerprint.model import (
    CHROMA_COLUMNS,
    CHROMA_ROWS,
    COLUMNS,
    ROWS,
    SOUND_BANDS,
    SOUND_RATE,
    VERSION,
    Fingerprint,
)
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError
from sage_runtime.server import ServiceRegistration

MODEL_TRACKS = {"local": ("visual",), "marengo3.0": ("visual", "audio", "transcription")}


@dataclass(frozen=True)
class StoredTrack:
    """The segments of one track: start, end and a row of numbers each."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    vectors: NDArray[np.float32]

    @property
    def covered(self) -> TimeRange | None:
        return TimeRange(float(self.starts[0]), float(self.ends[-1])) if len(self.starts) else None


def stored_track(vectors: ArrayLike, *, clip_seconds: float = 2.0, end: float | None = None) -> StoredTrack:
    """Return segments on a grid from 0. The last one ends at `end` if that is given."""
    rows = np.asarray(vectors, np.float32)
    starts = np.arange(len(rows)) * clip_seconds
    ends = starts + clip_seconds
    if end is not None:
        ends[-1] = end
    return StoredTrack(starts, ends, rows)


@dataclass(frozen=True)
class StoredEmbedding:
    """An embedding and its vectors, as the embed service would hold them."""

    tracks: dict[str, StoredTrack]
    duration: float
    id: str = field(default_factory=lambda: new_id("embed"))
    video_id: str = field(default_factory=lambda: new_id("video"))
    model: str = "local"
    model_revision: str = "1"
    dimensions: int = 0
    clip_seconds: float = 2.0
    state: str = "COMPLETED"
    revision: int = 7
    requested_tracks: tuple[str, ...] | None = None
    frame_rate: Fraction | None = Fraction(24)
    frame_rate_mode: str = "CONSTANT"
    frame_count: int | None = None
    audio: tuple[media_pb2.AudioTrack, ...] = (media_pb2.AudioTrack(codec="aac", channels=2, language="eng"),)

    def __post_init__(self) -> None:
        if not self.dimensions:
            widths = {track.vectors.shape[1] for track in self.tracks.values()}
            object.__setattr__(self, "dimensions", widths.pop() if widths else 4)
        if self.requested_tracks is None:
            object.__setattr__(self, "requested_tracks", tuple(self.tracks))

    def but(self, **changes: object) -> "StoredEmbedding":
        """Return another embedding, with a new ID, that differs in these fields.

        New tracks are also the requested ones unless `requested_tracks` is given.
        """
        requested = {"requested_tracks": None} if "tracks" in changes else {}
        return replace(self, **{"id": new_id("embed"), **requested, **changes})

    @property
    def media(self) -> media_pb2.Media:
        """What the video's file holds."""
        media = media_pb2.Media(
            duration_seconds=self.duration,
            container="mp4",
            video_codec="h264",
            frame_rate_mode=media_pb2.FrameRateMode.Value(f"FRAME_RATE_MODE_{self.frame_rate_mode}"),
            frame_count=self.frame_count,
            start_timecode=media_pb2.Timecode(hours=10, drop_frame=True),
            audio_tracks=self.audio,
        )
        if self.frame_rate is not None:
            media.frame_rate.numerator, media.frame_rate.denominator = self.frame_rate.as_integer_ratio()
        return media


def stored(vectors: ArrayLike, **fields: object) -> StoredEmbedding:
    """Return a completed embedding with one `visual` track of 2 s segments that covers its video to the end."""
    track = stored_track(vectors)
    duration = float(track.ends[-1]) if len(track.ends) else 0.0
    return StoredEmbedding(**{"tracks": {"visual": track}, "duration": duration, **fields})


class InMemoryEmbeddingReader(EmbeddingReader):
    """The `EmbeddingReader` port over a dictionary.

    `reads` counts how often each track was read; while `gate` is closed, reads wait; `failure` is raised once.
    """

    def __init__(self, *embeddings: StoredEmbedding) -> None:
        self.stored = {embedding.id: embedding for embedding in embeddings}
        self.reads: Counter[tuple[str, str]] = Counter()
        self.waiting = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def get(self, embedding_id: str) -> Embedding:
        found = self._find(embedding_id)
        return Embedding(
            id=found.id,
            video_id=found.video_id,
            clock=FrameClock(
                found.duration,
                rate=found.frame_rate,
                stated_count=found.frame_count if found.frame_rate_mode == "CONSTANT" else None,
            ),
            media=to_media(found.media),
            media_message=found.media.SerializeToString(),
            model=found.model,
            model_revision=found.model_revision,
            dimensions=found.dimensions,
            clip_seconds=found.clip_seconds,
            state=found.state,
            requested_tracks=found.requested_tracks,
            tracks=tuple(Track(name, len(track.starts), track.covered) for name, track in found.tracks.items()),
            revision=found.revision,
        )

    async def read_segments(self, embedding: Embedding, track: str) -> Segments:
        found = _readable(self._find(embedding.id), track)
        self.reads[embedding.id, track] += 1
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return Segments.of(found.starts, found.ends, found.vectors)

    async def tracks_of_model(self, model: str) -> frozenset[str]:
        return frozenset(MODEL_TRACKS.get(model, ()))

    async def check(self) -> None:
        """Always well."""

    def _find(self, embedding_id: str) -> StoredEmbedding:
        if embedding_id not in self.stored:
            raise SageError(Reason.EMBEDDING_NOT_FOUND, embedding_id=embedding_id)
        return self.stored[embedding_id]


class FakeEmbedServicer(embed_pb2_grpc.EmbedServiceServicer):
    """The RPCs of the embed service that the compare service calls, with the errors of the real one.

    `calls` counts calls by method. `rows_per_message` is small so that a track needs several messages. `tamper`
    changes a message before it is sent. Health follows `well`.
    """

    def __init__(self, *embeddings: StoredEmbedding, rows_per_message: int = 3) -> None:
        self.stored = {embedding.id: embedding for embedding in embeddings}
        self.calls: Counter[str] = Counter()
        self.rows_per_message = rows_per_message
        self.tamper: Callable[[embed_pb2.ReadSegmentsResponse], embed_pb2.ReadSegmentsResponse] = lambda message: (
            message
        )
        self.well = True

    def put(self, *embeddings: StoredEmbedding) -> None:
        self.stored.update({embedding.id: embedding for embedding in embeddings})

    def registration(self) -> ServiceRegistration:
        """Return the service for a server to serve."""

        async def check() -> None:
            if not self.well:
                raise ConnectionError("the test said so")

        return ServiceRegistration(
            name="sage.embed.v1.EmbedService",
            add=lambda server: embed_pb2_grpc.add_EmbedServiceServicer_to_server(self, server),
            check=check,
        )

    async def GetEmbedding(
        self, request: embed_pb2.GetEmbeddingRequest, context: grpc.aio.ServicerContext
    ) -> embed_pb2.GetEmbeddingResponse:
        self.calls["GetEmbedding"] += 1
        found = self._find(request.embedding_id)
        return embed_pb2.GetEmbeddingResponse(
            embedding=embed_pb2.Embedding(
                id=found.id,
                video_id=found.video_id,
                media=found.media,
                model=found.model,
                model_revision=found.model_revision,
                provider="local",
                dimensions=found.dimensions,
                clip_seconds=found.clip_seconds,
                state=embed_pb2.EmbeddingState.Value(f"EMBEDDING_STATE_{found.state}"),
                requested_tracks=found.requested_tracks,
                tracks=[_track_message(name, track) for name, track in found.tracks.items()],
                revision=found.revision,
            )
        )

    async def ReadSegments(
        self, request: embed_pb2.ReadSegmentsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[embed_pb2.ReadSegmentsResponse]:
        self.calls["ReadSegments"] += 1
        track = _readable(self._find(request.embedding_id), request.track)
        # As in the contract: a track without segments sends one message with none.
        for first in range(0, max(1, len(track.starts)), self.rows_per_message):
            rows = slice(first, first + self.rows_per_message)
            yield self.tamper(
                embed_pb2.ReadSegmentsResponse(
                    first_index=first,
                    start_seconds=track.starts[rows].tolist(),
                    end_seconds=track.ends[rows].tolist(),
                    dimensions=track.vectors.shape[1],
                    vectors=track.vectors[rows].astype("<f4").tobytes(),
                )
            )

    async def ListModels(
        self, request: embed_pb2.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> embed_pb2.ListModelsResponse:
        self.calls["ListModels"] += 1
        models = [embed_pb2.Model(name=name, tracks=tracks) for name, tracks in MODEL_TRACKS.items()]
        return embed_pb2.ListModelsResponse(models=models)

    def _find(self, embedding_id: str) -> StoredEmbedding:
        if embedding_id not in self.stored:
            raise SageError(Reason.EMBEDDING_NOT_FOUND, embedding_id=embedding_id)
        return self.stored[embedding_id]


def _readable(found: StoredEmbedding, track: str) -> StoredTrack:
    if found.state != "COMPLETED":
        raise SageError(Reason.EMBEDDING_NOT_COMPLETED, embedding_id=found.id, state=found.state)
    if track not in found.tracks:
        raise SageError(Reason.TRACK_MISSING, embedding_id=found.id, track=track, tracks=", ".join(found.tracks))
    return found.tracks[track]


def _track_message(name: str, track: StoredTrack) -> embed_pb2.Track:
    covered = track.covered or TimeRange(0.0, 0.0)
    return embed_pb2.Track(
        name=name,
        segment_count=len(track.starts),
        covered_start_seconds=covered.start,
        covered_end_seconds=covered.end,
    )


def fingerprint_of(shots: list[int], *, shot_frames: int = 48, rate: int = 24, sound: bool = True) -> Fingerprint:
    """Return the fingerprint of a film of shots. Shots of one number are the same wherever they are.

    Each shot drifts, so that every frame of it differs from the others.
    """
    luma, texture, chroma, bands = [], [], [], []
    for shot in shots:
        random = np.random.default_rng(shot)
        coarse = random.uniform(20, 235, (2, ROWS // 3, COLUMNS // 4))
        one, other = (np.kron(cells, np.ones((3, 4))) for cells in coarse)
        share = np.linspace(0, 1, shot_frames)[:, None, None]
        frames = one * (1 - share) + other * share + random.normal(0, 6, (ROWS, COLUMNS))
        luma.append(np.clip(frames, 0, 255))
        texture.append(np.broadcast_to(random.uniform(5, 60, (ROWS, COLUMNS)), frames.shape))
        chroma.append(
            np.broadcast_to(
                random.uniform(90, 160, (2, CHROMA_ROWS, CHROMA_COLUMNS)), (shot_frames, 2, CHROMA_ROWS, CHROMA_COLUMNS)
            )
        )
        bands.append(random.uniform(80, 200, (shot_frames * SOUND_RATE // rate, SOUND_BANDS)))
    count = len(shots) * shot_frames
    return Fingerprint(
        np.concatenate(luma).astype(np.uint8),
        np.concatenate(texture).astype(np.uint8),
        np.concatenate(chroma).astype(np.uint8),
        np.arange(count) / rate,
        count / rate,
        np.concatenate(bands).astype(np.uint8) if sound else None,
    )


@dataclass
class FakeFingerprint:
    """A fingerprint as the embed service would hold it."""

    fingerprint: Fingerprint
    version: int = VERSION
    state: str = "COMPLETED"
    revision: int = 3
    frame_count: int | None = None

    @property
    def frames(self) -> int:
        return len(self.fingerprint) if self.frame_count is None else self.frame_count


class InMemoryFingerprintReader(FingerprintReader):
    """The `FingerprintReader` port over a dictionary by video. While `gate` is closed, reads wait."""

    def __init__(self, **fingerprints: FakeFingerprint) -> None:
        self.stored = dict(fingerprints)
        self.lookups: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def get(self, video_id: str) -> StoredFingerprint:
        self.lookups[video_id] += 1
        if video_id not in self.stored:
            raise SageError(Reason.FINGERPRINT_NOT_FOUND, video_id=video_id)
        found = self.stored[video_id]
        return StoredFingerprint(video_id, found.version, found.state, found.revision, found.frames)

    async def read(self, fingerprint: StoredFingerprint) -> Fingerprint:
        self.reads[fingerprint.video_id] += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.stored[fingerprint.video_id].fingerprint


class FakeFingerprintServicer(fingerprint_pb2_grpc.FingerprintServiceServicer):
    """The RPCs of `FingerprintService` that the compare service calls. `tamper` changes the bytes that are sent."""

    def __init__(self) -> None:
        self.stored: dict[str, FakeFingerprint] = {}
        self.calls: Counter[str] = Counter()
        self.tamper: Callable[[bytes], bytes] = lambda data: data

    def registration(self) -> ServiceRegistration:
        """Return the service for a server to serve."""

        async def check() -> None:
            """Always well."""

        return ServiceRegistration(
            name="sage.embed.v1.FingerprintService",
            add=lambda server: fingerprint_pb2_grpc.add_FingerprintServiceServicer_to_server(self, server),
            check=check,
        )

    async def GetFingerprint(
        self, request: fingerprint_pb2.GetFingerprintRequest, context: grpc.aio.ServicerContext
    ) -> fingerprint_pb2.GetFingerprintResponse:
        self.calls["GetFingerprint"] += 1
        found = self._find(request.video_id)
        return fingerprint_pb2.GetFingerprintResponse(
            fingerprint=fingerprint_pb2.Fingerprint(
                video_id=request.video_id,
                version=found.version,
                state=embed_pb2.EmbeddingState.Value(f"EMBEDDING_STATE_{found.state}"),
                revision=found.revision,
                frame_count=found.frames,
            )
        )

    async def ReadFingerprint(
        self, request: fingerprint_pb2.ReadFingerprintRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[fingerprint_pb2.ReadFingerprintResponse]:
        self.calls["ReadFingerprint"] += 1
        data = self.tamper(b"".join(encode(self._find(request.video_id).fingerprint)))
        for first in range(0, len(data), 100_000):
            yield fingerprint_pb2.ReadFingerprintResponse(data=data[first : first + 100_000])

    def _find(self, video_id: str) -> FakeFingerprint:
        if video_id not in self.stored:
            raise SageError(Reason.FINGERPRINT_NOT_FOUND, video_id=video_id)
        return self.stored[video_id]
