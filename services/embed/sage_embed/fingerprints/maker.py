"""Makes fingerprints in a separate, confined process (`sage_embed.fingerprints.maker_process`)."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import closing, suppress
from typing import BinaryIO

from sage_embed.config import LocalSettings
from sage_embed.engines.local.block_messages import BLOCK
from sage_embed.engines.local.film_process import BlockReceiver, FilmProcess, MisbehavedError, Source
from sage_embed.engines.local.http_source import HttpSource
from sage_embed.fingerprints.maker_process import END, MeasureRequest
from sage_embed.fingerprints.model import Block
from sage_embed.fingerprints.ports import FingerprintMaker, MakeRequest

_URL_TIMEOUT_S = 30.0
# More threads each hold another frame, and hardly decode any faster.
_MAX_DECODING_THREADS = 16


class BlockProcess(FilmProcess[Block | None]):
    """Measures the blocks of one film; `None` is the end.

    Args:
        source: The film. Closed at the end.
        request: What to measure; the size is that of the source.
        timeout_s: How long the process may send nothing, and receive nothing that is sent to it.
    """

    module = "sage_embed.fingerprints.maker_process"

    def __init__(self, source: Source, request: MeasureRequest, *, timeout_s: float) -> None:
        super().__init__(source, request, timeout_s=timeout_s)
        self._blocks = BlockReceiver(request.first_block, request.duration_seconds)

    def _receive(self, kind: bytes, messages: BinaryIO) -> Block | None:
        if kind == END:
            return None
        if kind != BLOCK:
            raise MisbehavedError(f"it sent {kind!r}")
        return self._blocks.receive(messages)

    def _is_last(self, item: Block | None) -> bool:
        return item is None


class ProcessFingerprintMaker(FingerprintMaker):
    """Measures each film in its own process. A thread waits for it; the event loop only waits for the thread.

    Args:
        settings: Threads, and what a film may cost.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings

    async def make(self, request: MakeRequest) -> AsyncGenerator[Block, None]:
        loop = asyncio.get_running_loop()

        async def fresh_url() -> str:
            return await request.video_url()

        def url() -> str:
            return asyncio.run_coroutine_threadsafe(fresh_url(), loop).result(_URL_TIMEOUT_S)

        process = BlockProcess(
            HttpSource(url), self._measure_request(request), timeout_s=self._settings.decoder_timeout_s
        )
        with closing(process.items()) as items:
            reading: asyncio.Future[Block | None] | None = None
            try:
                while True:
                    reading = asyncio.ensure_future(asyncio.to_thread(next, items, None))
                    # The thread must have ended before the generator can be closed, so it is not cancelled.
                    block = await asyncio.shield(reading)
                    if block is None:
                        return
                    yield block
            finally:
                process.stop()
                await _ended(reading)

    def _measure_request(self, request: MakeRequest) -> MeasureRequest:
        settings, video = self._settings, request.video
        return MeasureRequest(
            size_bytes=0,
            start_offset_seconds=video.start_offset_seconds,
            duration_seconds=video.duration_seconds,
            first_block=request.first_block,
            end_block=request.end_block,
            video_track=video.picture.track,
            timestamps_jump=video.picture.timestamps_jump,
            threads=min(settings.threads or os.cpu_count() or 1, _MAX_DECODING_THREADS),
            memory_bytes=settings.decoder_memory_bytes,
            cpu_s=settings.decoder_cpu_s,
            cpu_s_per_second=settings.decoder_cpu_s_per_second,
            max_pixels=settings.decoder_max_pixels,
        )


async def _ended(reading: "asyncio.Future[Block | None] | None") -> None:
    """Wait until a thread has ended, however often the task is cancelled. Its error is that of a stopped process."""
    while reading is not None and not reading.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([reading])
    if reading is not None and not reading.cancelled():
        # Retrieved, because asyncio logs an error that no code has seen.
        reading.exception()
