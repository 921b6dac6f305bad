"""The local engine: vectors from a small network on this machine, without an account and without a network."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence

from sage_embed.adapters.local.clips import ClipGrid
from sage_embed.adapters.local.frames import FrameReader
from sage_embed.adapters.local.http_source import HttpSource
from sage_embed.adapters.local.network import DIMENSIONS, Network
from sage_embed.adapters.local.run import TRACK, LocalRun
from sage_embed.engine import EngineEvent, EngineRequest, ModelInfo, Progressed, SegmentsProduced
from sage_embed.model import LOCAL_PROVIDER

# The weights, by the first digits of their SHA-256, and the recipe. Vectors of two revisions cannot be compared.
REVISION = "efficientnet-lite0-112-75dba1d5/1"
_URL_TIMEOUT_S = 30.0


class LocalEngine:
    """Embeds with EfficientNet-Lite0 on the processor.

    A clip's vector is the mean over its sampled frames of the network's features, averaged over the picture and scaled
    to length 1. Work runs in threads; the event loop only waits for it.

    Args:
        threads: Threads that decode, and threads that compute; 0 for one per processor.
    """

    def __init__(self, *, threads: int = 0) -> None:
        self._threads = threads or os.cpu_count() or 1
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
            ),
        )

    async def embed(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Return progress and segments as they come. Closing the generator stops the threads and waits for them.

        Raises:
            SageError: PROVIDER_FAILED where the video cannot be decoded, STORE_UNAVAILABLE where it cannot be read.
        """
        loop = asyncio.get_running_loop()

        def url() -> str:
            return asyncio.run_coroutine_threadsafe(_awaited(request), loop).result(_URL_TIMEOUT_S)

        grid = ClipGrid(request.duration_seconds, request.clip_seconds)
        first_clip = request.resume.segment_counts.get(TRACK, 0)
        yield _progress(grid, covered=min(grid.start(first_clip), grid.duration_seconds))
        source = HttpSource(url)
        reader = FrameReader(source, start_offset_seconds=request.start_offset_seconds, threads=self._threads)
        run = LocalRun(source, reader, grid=grid, network=self._network, first_clip=first_clip)
        run.start()
        try:
            while (segments := await asyncio.to_thread(run.next_segments)) is not None:
                yield _progress(grid, covered=segments.end_seconds[-1])
                yield SegmentsProduced(segments)
        finally:
            run.stop()
            # A second cancellation must not leave the thread behind.
            await asyncio.shield(asyncio.to_thread(run.join))

    async def aclose(self) -> None:
        """Do nothing: between embeddings it holds nothing but memory."""


async def _awaited(request: EngineRequest) -> str:
    return await request.video_url()


def _progress(grid: ClipGrid, *, covered: float) -> Progressed:
    return Progressed(
        fraction=covered / grid.duration_seconds, message=f"Embedded {covered:.0f} of {grid.duration_seconds:.0f} s."
    )
