"""The local engine: vectors from a small network on this machine, without an account or an internet connection."""

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

import numpy as np

from sage_embed.config import LocalSettings
from sage_embed.embeddings.model import LOCAL_PROVIDER, Progress
from sage_embed.engines.engine import (
    BlockMade,
    Engine,
    EngineEvent,
    EngineRequest,
    FingerprintMade,
    ModelInfo,
    Progressed,
    Segments,
    SegmentsProduced,
    Vectors,
)
from sage_embed.engines.local.decoder import Decoder, Picture
from sage_embed.engines.local.decoder_process import DecodeRequest
from sage_embed.engines.local.frames import MIN_CLIP_SECONDS, ClipGrid, End
from sage_embed.engines.local.http_source import HttpSource
from sage_embed.engines.local.network import DIMENSIONS, Network
from sage_embed.engines.local.pictures import Pictures
from sage_embed.fingerprints.model import Block

# The first digits of the weights' SHA-256, and the version of the preprocessing.
REVISION = "efficientnet-lite0-112-75dba1d5/2"
TRACK = "visual"
THREAD_NAME = "sage-local-decode"
_URL_TIMEOUT_S = 30.0
# Pictures between decoding and computing, 150 KB each: enough to keep both busy.
_WAITING_PICTURES = 24
# More threads each hold another frame, and hardly decode any faster.
_MAX_DECODING_THREADS = 16
# Segments are returned after about this much work, the most that a worker that dies loses.
_CHUNK_SECONDS = 0.5
_CHUNK_CLIPS = 64

_Item = TypeVar("_Item")


class LocalEngine(Engine):
    """Embeds with EfficientNet-Lite0 on the CPU.

    A clip's vector is the mean of the network's features over its sampled frames, averaged over the picture and scaled
    to length 1. A confined process decodes, and threads compute; the event loop only waits for them.

    Args:
        settings: Threads, and what a film may cost.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._threads = settings.threads or os.cpu_count() or 1
        self._network = Network(threads=self._threads)

    async def models(self) -> Sequence[ModelInfo]:
        """Return the one model."""
        return (
            ModelInfo(
                name="local",
                revision=REVISION,
                provider=LOCAL_PROVIDER,
                dimensions=DIMENSIONS,
                tracks=(TRACK,),
                min_clip_seconds=1.0,
                max_clip_seconds=10.0,
                max_video_seconds=self._settings.max_video_s,
            ),
        )

    async def embed(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Embed a video. Closing the generator ends the process and the threads, and waits for them.

        Raises:
            SageError: PROVIDER_FAILED if the video cannot be decoded, STORE_UNAVAILABLE if it cannot be read.
        """
        loop = asyncio.get_running_loop()

        def url() -> str:
            return asyncio.run_coroutine_threadsafe(_awaited(request), loop).result(_URL_TIMEOUT_S)

        grid = ClipGrid(request.duration_seconds, request.clip_seconds)
        first_clip = request.resume.segment_counts.get(TRACK, 0)
        progress = _progress(grid, covered=min(grid.start(first_clip), grid.duration_seconds))
        yield Progressed(progress.fraction, progress.message)
        decode = self.decode_request(
            start_offset_seconds=request.start_offset_seconds,
            duration_seconds=request.duration_seconds,
            clip_seconds=request.clip_seconds,
            first_clip=first_clip,
            video_track=request.picture.track,
            timestamps_jump=request.picture.timestamps_jump,
            first_block=request.first_block,
        )
        decoder = Decoder(HttpSource(url), decode, timeout_s=self._settings.decoder_timeout_s)
        run = LocalRun(decoder, grid=grid, network=self._network, first_clip=first_clip)
        run.start()
        try:
            while (results := await asyncio.to_thread(run.next_results)) is not None:
                for block in results.blocks:
                    yield BlockMade(block)
                if (segments := results.segments) is not None:
                    yield SegmentsProduced(segments, _progress(grid, covered=segments.end_seconds[-1]))
            if request.first_block is not None:
                yield FingerprintMade()
        finally:
            run.stop()
            # A second cancellation must not leave the threads running.
            await asyncio.shield(asyncio.to_thread(run.join))

    def decode_request(
        self,
        *,
        start_offset_seconds: float,
        duration_seconds: float,
        clip_seconds: float,
        first_clip: int,
        video_track: int | None = None,
        timestamps_jump: bool = False,
        first_block: int | None = None,
    ) -> DecodeRequest:
        """Return what a decoder is asked for, within the limits of the settings."""
        settings = self._settings
        return DecodeRequest(
            size_bytes=0,
            start_offset_seconds=start_offset_seconds,
            duration_seconds=duration_seconds,
            clip_seconds=clip_seconds,
            first_clip=first_clip,
            video_track=video_track,
            timestamps_jump=timestamps_jump,
            threads=min(self._threads, _MAX_DECODING_THREADS),
            memory_bytes=settings.decoder_memory_bytes,
            cpu_s=settings.decoder_cpu_s,
            cpu_s_per_second=settings.decoder_cpu_s_per_second,
            max_pixels=settings.decoder_max_pixels,
            max_still_seconds=settings.decoder_max_still_s,
            first_block=first_block,
        )

    async def aclose(self) -> None:
        """Do nothing: only memory is kept between embeddings."""


async def _awaited(request: EngineRequest) -> str:
    return await request.video_url()


def _progress(grid: ClipGrid, *, covered: float) -> Progress:
    return Progress(covered / grid.duration_seconds, f"Embedded {covered:.0f} of {grid.duration_seconds:.0f} s.")


@dataclass(frozen=True)
class _Clip:
    index: int
    pictures: list[Pictures]


@dataclass(frozen=True)
class Results:
    """What a run has made since its previous results.

    Attributes:
        segments: Segments; `None` if there are only blocks.
        blocks: Blocks of the fingerprint.
    """

    segments: Segments | None
    blocks: Sequence[Block]


class LocalRun:
    """Computes the clips of one video, starting with any of them.

    Args:
        decoder: Decodes the video.
        grid: Its clips.
        network: The model.
        first_clip: Index of the first clip to compute.
    """

    def __init__(self, decoder: Decoder, *, grid: ClipGrid, network: Network, first_clip: int) -> None:
        self._decoder = decoder
        self._grid = grid
        self._network = network
        self._pictures: Handover[Picture | Block | End] = Handover(_WAITING_PICTURES)
        self._clip = _Clip(first_clip, [])
        self._computing = threading.Lock()
        self._thread = threading.Thread(target=self._decode, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Start decoding."""
        self._thread.start()

    def next_results(self) -> Results | None:
        """Return the next results, or None at the end or after `stop`. Blocks.

        Raises:
            SageError: PROVIDER_FAILED, STORE_UNAVAILABLE.
        """
        with self._computing:
            return self._compute()

    def stop(self) -> None:
        """Make `next_results` and the thread return soon. Does not block; may be called from any thread."""
        self._pictures.close()
        self._decoder.stop()

    def join(self) -> None:
        """Wait until all threads of this run have finished. Blocks. Call `stop` first."""
        self._thread.join()
        with self._computing:
            pass

    def _compute(self) -> Results | None:
        first = self._clip.index
        ends: list[float] = []
        vectors: list[Vectors] = []
        blocks: list[Block] = []
        begun_at = monotonic()
        while not (ends or blocks) or (len(ends) < _CHUNK_CLIPS and monotonic() - begun_at < _CHUNK_SECONDS):
            picture = self._pictures.get()
            if picture is None:
                break
            if isinstance(picture, Block):
                blocks.append(picture)
                continue
            # A clip is complete once a picture of another clip, or the end, follows.
            complete = self._clip
            end = self._grid.end(complete.index)
            if isinstance(picture, Picture):
                if picture.clip == complete.index:
                    complete.pictures.append(picture.pixels)
                    continue
                self._clip = _Clip(picture.clip, [picture.pixels])
            else:
                end = min(end, picture.at_seconds)
                too_short = complete.index and end - self._grid.start(complete.index) < MIN_CLIP_SECONDS
                if too_short or not complete.pictures:
                    break
            # The pictures of one clip always form one batch: the rest of a batch can change the last bits of a result.
            vectors.append(self._network.vectors(np.stack(complete.pictures)).mean(axis=0))
            ends.append(end)
        if not ends:
            return Results(None, blocks) if blocks else None
        segments = Segments(
            track=TRACK,
            first_index=first,
            start_seconds=[self._grid.start(index) for index in range(first, first + len(ends))],
            end_seconds=ends,
            vectors=_unit_length(np.stack(vectors)),
        )
        return Results(segments, blocks)

    def _decode(self) -> None:
        error: Exception | None = None
        try:
            with contextlib.closing(self._decoder.pictures()) as pictures:
                for picture in pictures:
                    if not self._pictures.put(picture):
                        break
        except Exception as caught:
            # Raised in the thread that consumes the pictures.
            error = caught
        finally:
            self._pictures.finish(error)


class Handover(Generic[_Item]):
    """A bounded queue between two threads that either side can close at once.

    It blocks its writer when full and its reader when empty.

    Args:
        size: How many items may wait.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._finished = False
        self._error: Exception | None = None

    def put(self, item: _Item) -> bool:
        """Add an item once there is room. Return False if the reader has closed the queue."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def finish(self, error: Exception | None = None) -> None:
        """Close the queue from the writer's side, normally or with an error."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def get(self) -> _Item | None:
        """Return the next item once there is one, or None at the end or after `close`.

        Raises:
            Exception: The writer's error, after all items that came before it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items)
            if self._closed:
                return None
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Close the queue from the reader's side: drop all items, and wake both sides."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


def _unit_length(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
