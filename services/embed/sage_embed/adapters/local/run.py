"""One run of the local engine: a thread that decodes, and clips computed from its frames as they are asked for."""

import threading
from dataclasses import dataclass
from time import monotonic

import numpy as np

from sage_embed.adapters.local.clips import MIN_CLIP_SECONDS, ClipGrid
from sage_embed.adapters.local.frames import End, FrameReader, Sample
from sage_embed.adapters.local.handover import Handover
from sage_embed.adapters.local.http_source import HttpSource
from sage_embed.adapters.local.network import Frames, Network
from sage_embed.adapters.local.pictures import Pictures
from sage_embed.engine import Segments, Vectors

TRACK = "visual"
THREAD_NAME = "sage-local-decode"
# Frames between the threads: enough to keep both busy, few enough that an 8K film does not fill the memory.
_WAITING_FRAMES = 6
# What is handed over together: about this much time's work, so that a worker that dies loses no more.
_CHUNK_SECONDS = 0.5
_CHUNK_CLIPS = 64


@dataclass(frozen=True)
class _Clip:
    index: int
    pictures: list[Frames]


class LocalRun:
    """Computes the clips of one video from one on.

    Args:
        source: The video. Closed with the run.
        reader: Decodes it.
        grid: Its clips.
        network: The model.
        first_clip: Index of the first clip to compute.
    """

    def __init__(
        self, source: HttpSource, reader: FrameReader, *, grid: ClipGrid, network: Network, first_clip: int
    ) -> None:
        self._source = source
        self._reader = reader
        self._grid = grid
        self._network = network
        self._first_clip = first_clip
        self._samples: Handover[Sample | End] = Handover(_WAITING_FRAMES)
        self._pictures = Pictures()
        self._clip = _Clip(first_clip, [])
        self._computing = threading.Lock()
        self._thread = threading.Thread(target=self._decode, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Begin to decode."""
        self._thread.start()

    def next_segments(self) -> Segments | None:
        """Return the next segments, or None where there are no more or the run was stopped. Blocks.

        Raises:
            SageError: PROVIDER_FAILED, STORE_UNAVAILABLE.
        """
        with self._computing:
            return self._compute()

    def stop(self) -> None:
        """Make `next_segments` and the thread return soon. Does not block; any thread may call it."""
        self._samples.close()
        self._source.abort()

    def join(self) -> None:
        """Wait, after `stop`, until nothing of the run goes on in any thread. Blocks."""
        self._thread.join()
        with self._computing:
            pass

    def _compute(self) -> Segments | None:
        first = self._clip.index
        ends: list[float] = []
        vectors: list[Vectors] = []
        begun_at = monotonic()
        while not ends or (len(ends) < _CHUNK_CLIPS and monotonic() - begun_at < _CHUNK_SECONDS):
            sample = self._samples.get()
            if sample is None:
                break
            # A clip is complete when a sample of another one follows, or nothing.
            complete = self._clip
            end = self._grid.end(complete.index)
            if isinstance(sample, Sample):
                picture = self._pictures.convert(sample.frame)
                if sample.clip == complete.index:
                    complete.pictures.append(picture)
                    continue
                self._clip = _Clip(sample.clip, [picture])
            else:
                end = min(end, sample.at_seconds)
                too_short = complete.index and end - self._grid.start(complete.index) < MIN_CLIP_SECONDS
                if too_short or not complete.pictures:
                    break
            # The frames of one clip are one batch, always: what else is in a batch can change a result's last bits.
            vectors.append(self._network.vectors(np.stack(complete.pictures)).mean(axis=0))
            ends.append(end)
        if not ends:
            return None
        return Segments(
            track=TRACK,
            first_index=first,
            start_seconds=[self._grid.start(index) for index in range(first, first + len(ends))],
            end_seconds=ends,
            vectors=_unit_length(np.stack(vectors)),
        )

    def _decode(self) -> None:
        error: Exception | None = None
        try:
            samples = self._reader.samples(self._grid, first_clip=self._first_clip)
            for sample in samples:
                if not self._samples.put(sample):
                    break
            samples.close()
        except Exception as caught:
            # It is raised where the samples are read.
            error = caught
        finally:
            self._source.close()
            self._samples.finish(error)


def _unit_length(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
