"""Measures films: block by block, or whole."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from sage_film.container import SeekableFile
from sage_film.frames import FrameDecoder, ShownFrame

from sage_fingerprint.blocks import (
    BLOCK_SECONDS,
    MAX_BLOCK_FRAMES,
    Block,
    FingerprintTooLargeError,
    block_count,
    block_of,
    encode_block,
    nanoseconds,
    sound_steps,
)
from sage_fingerprint.codec import join
from sage_fingerprint.model import Fingerprint
from sage_fingerprint.picture import PictureMeter
from sage_fingerprint.sound import SoundMeter


@dataclass(frozen=True)
class FilmSource:
    """A film, and what ingest knows of it.

    Attributes:
        file: The film.
        start_offset_seconds: The timestamp that is 0 on the timeline.
        duration_seconds: Length of the timeline; `None`: to the end of the last frame.
        video_track: The picture track that is the film; `None`: chosen as ingest does.
        timestamps_jump: Whether the timestamps jump.
        max_pixels: Pixels of a frame; `None`: any number.
    """

    file: SeekableFile
    start_offset_seconds: float
    duration_seconds: float | None = None
    video_track: int | None = None
    timestamps_jump: bool = False
    max_pixels: int | None = None


@dataclass(frozen=True)
class EncodedBlock:
    """A part of a fingerprint.

    Attributes:
        index: Its number, from 0.
        data: Its bytes. Those of all blocks in order are the fingerprint.
        frames: Number of frames.
        done_seconds: Where it ends on the timeline.
    """

    index: int
    data: bytes
    frames: int
    done_seconds: float


def read_blocks(
    source: FilmSource,
    *,
    threads: int,
    first_block: int = 0,
    end_block: int | None = None,
) -> Iterator[EncodedBlock]:
    """Yield blocks of a film's fingerprint, as `read_film` does."""
    for item in read_film(source, threads=threads, first_block=first_block, end_block=end_block):
        if isinstance(item, EncodedBlock):
            yield item


def read_film(
    source: FilmSource,
    *,
    threads: int,
    first_block: int = 0,
    end_block: int | None = None,
) -> Iterator[ShownFrame | EncodedBlock]:
    """Yield blocks of a film's fingerprint, and before each block the frames that it describes.

    So one pass of decoding serves everything that needs frames: a fingerprint, the pictures of a model, stills. The
    frames are those that `FrameDecoder.frames` yields from the start of the first block: maybe also earlier ones. A
    block does not depend on which others are read. It may follow frames of the next blocks, because sound comes late.

    Args:
        source: The film. Its length must be known.
        threads: Threads that decode.
        first_block: The block to start with.
        end_block: The block to stop before; `None`: all are read.

    Raises:
        UndecodableError: The picture cannot be decoded.
        FingerprintTooLargeError: It has too many frames a second.
        ValueError: The length is unknown.
    """
    if source.duration_seconds is None:
        raise ValueError("blocks state the length of the film")
    duration_ns = nanoseconds(source.duration_seconds)
    end = block_count(duration_ns) if end_block is None else min(end_block, block_count(duration_ns))
    reader = _BlockReader(source, first_block, threads=threads)
    for block in reader.read(end):
        if isinstance(block, ShownFrame):
            yield block
            continue
        steps = sound_steps(block.index, duration_ns)
        block = replace(block, sound=None if block.sound is None else block.sound[: len(steps)])
        done = min((block.index + 1) * BLOCK_SECONDS, source.duration_seconds)
        yield EncodedBlock(block.index, encode_block(block, duration_ns=duration_ns), len(block.starts_ns), done)


def fingerprint_file(path: str | Path, *, threads: int = 2) -> Fingerprint:
    """Return the fingerprint of a film.

    Args:
        path: The file.
        threads: Threads that decode.

    Raises:
        UndecodableError: The picture cannot be decoded.
        FFmpegError: It is no film.
    """
    with Path(path).open("rb") as file:
        first = next(FrameDecoder(file, start_offset_seconds=0.0, threads=1).frames())
        reader = _BlockReader(FilmSource(file, first.start), 0, threads=threads)
        blocks = [item for item in reader.read(None) if isinstance(item, Block)]
    return join(blocks, duration_ns=nanoseconds(reader.end_seconds))


class _BlockReader:
    """Measures a film's blocks in order."""

    def __init__(self, source: FilmSource, first_block: int, *, threads: int) -> None:
        self._first = first_block
        self._sound = SoundMeter(start_offset_seconds=source.start_offset_seconds, first_block=first_block)
        self._decoder = FrameDecoder(
            source.file,
            start_offset_seconds=source.start_offset_seconds,
            threads=threads,
            video_track=source.video_track,
            timestamps_jump=source.timestamps_jump,
            max_pixels=source.max_pixels,
            sound=self._sound,
        )
        self._duration = float("inf") if source.duration_seconds is None else source.duration_seconds
        self._pictures = PictureMeter()
        self._starts = list[int]()
        # Blocks whose pictures are measured, and whose sound may follow in the file.
        self._waiting = deque[Block]()
        self.end_seconds = 0.0

    def read(self, end: int | None) -> Iterator[ShownFrame | Block]:
        """Yield the frames and the blocks up to one, or to that of the last frame."""
        current = self._first
        for shown in self._decoder.frames(first_seconds=current * BLOCK_SECONDS, end_seconds=self._duration):
            start_ns = nanoseconds(shown.start)
            index = block_of(start_ns)
            self.end_seconds = shown.start + shown.length
            if end is None or index < end:
                yield shown
            if start_ns < 0 or index < self._first:
                continue
            while current < index and (end is None or current < end):
                self._close(current)
                current += 1
            yield from self._complete(index)
            if end is not None and index >= end:
                if not self._waiting:
                    return
                continue
            self._measure(start_ns, shown.frame)
        if end is None:
            end = current + bool(self._starts)
        while current < end:
            self._close(current)
            current += 1
        yield from self._complete(None)

    def _measure(self, start_ns: int, frame: VideoFrame) -> None:
        if len(self._starts) == MAX_BLOCK_FRAMES:
            raise FingerprintTooLargeError(f"{BLOCK_SECONDS} s of it have more than {MAX_BLOCK_FRAMES:,} frames")
        self._starts.append(start_ns)
        self._pictures.add(frame)

    def _close(self, index: int) -> None:
        starts, self._starts = np.array(self._starts, np.int64), []
        self._waiting.append(Block(index, starts, *self._pictures.take(), None))

    def _complete(self, at: int | None) -> Iterator[Block]:
        """Yield waiting blocks of which all sound has been read, or should have been when the picture is at a block."""
        while self._waiting:
            index = self._waiting[0].index
            if at is not None and at < index + 2 and not self._sound.is_complete(index):
                return
            yield replace(self._waiting.popleft(), sound=self._sound.measure(index))
