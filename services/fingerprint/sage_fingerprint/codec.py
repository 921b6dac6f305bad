"""The byte format of a fingerprint, described in docs/fingerprint.md: blocks of ten seconds, each readable alone.

This module and `sage_fingerprint.model` need numpy and nothing else, so that readers need no FFmpeg.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np

from sage_fingerprint.blocks import (
    BLOCK_NS,
    HEADER_BYTES,
    NANOSECONDS,
    Block,
    DamagedFingerprintError,
    FingerprintFormatError,
    FingerprintTooLargeError,
    Header,
    OtherVersionError,
    Pictures,
    block_count,
    encode_block,
    nanoseconds,
    parse_header,
    sound_steps,
    unpack_block,
)
from sage_fingerprint.model import CHROMA_COLUMNS, CHROMA_ROWS, COLUMNS, ROWS, SOUND_BANDS, Bytes, Fingerprint

__all__ = [
    "DamagedFingerprintError",
    "FingerprintFormatError",
    "FingerprintTooLargeError",
    "OtherVersionError",
    "decode",
    "encode",
    "join",
]

MAX_FRAMES: Final = 4_000_000
# Six hours at 24 frames a second. Longer films are given more room when they need it.
_FIRST_FRAMES: Final = 6 * 3600 * 24


def join(blocks: Sequence[Block], *, duration_ns: int) -> Fingerprint:
    """Return the fingerprint of which these are all blocks, or all but empty ones at the end."""
    starts = np.concatenate([block.starts_ns for block in blocks])
    sounds = [block.sound for block in blocks if block.sound is not None]
    sound = None
    if sounds:
        sound = np.zeros((sound_steps(block_count(duration_ns) - 1, duration_ns).stop, SOUND_BANDS), np.uint8)
        joined = np.concatenate(sounds)[: len(sound)]
        sound[: len(joined)] = joined
    return Fingerprint(
        np.concatenate([block.luma for block in blocks]),
        np.concatenate([block.texture for block in blocks]),
        np.concatenate([block.chroma for block in blocks]),
        starts / NANOSECONDS,
        duration_ns / NANOSECONDS,
        sound,
    )


def encode(fingerprint: Fingerprint) -> Iterator[bytes]:
    """Yield the encoded blocks of a fingerprint."""
    duration_ns = nanoseconds(fingerprint.duration_seconds)
    starts = np.rint(fingerprint.frame_seconds * NANOSECONDS).astype(np.int64)
    for index in range(block_count(duration_ns)):
        first, end = np.searchsorted(starts, (index * BLOCK_NS, (index + 1) * BLOCK_NS))
        steps = sound_steps(index, duration_ns)
        block = Block(
            index,
            starts[first:end],
            fingerprint.luma[first:end],
            fingerprint.texture[first:end],
            fingerprint.chroma[first:end],
            None if fingerprint.sound is None else fingerprint.sound[steps.start : steps.stop],
        )
        yield encode_block(block, duration_ns=duration_ns)


def decode(chunks: Iterable[bytes], *, max_frames: int = MAX_FRAMES, threads: int = 2) -> Fingerprint:
    """Return a fingerprint from its bytes.

    Args:
        chunks: All bytes in order, in chunks of any size.
        max_frames: More are refused.
        threads: Threads that unpack blocks.

    Raises:
        DamagedFingerprintError: The bytes are cut off, were changed, or are something else.
        OtherVersionError: It was made by another version.
        FingerprintTooLargeError: It has more than `max_frames` frames.
    """
    assembly: _Assembly | None = None
    with ThreadPoolExecutor(threads) as pool:
        running = deque[Future[None]]()
        for header, block in _blocks(chunks):
            if assembly is None:
                assembly = _Assembly(header, max_frames=max_frames)
            if not assembly.has_room(header):
                while running:
                    running.popleft().result()
            running.append(pool.submit(unpack_block, header, block, *assembly.add(header)))
            # Bounds what waits in memory.
            if len(running) > 2 * threads:
                running.popleft().result()
        while running:
            running.popleft().result()
    if assembly is None:
        raise DamagedFingerprintError("it is empty")
    return assembly.finish()


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[Header, bytes]]:
    """Yield blocks as they are complete, and their headers."""
    received = bytearray()
    header: Header | None = None
    for chunk in chunks:
        received += chunk
        at = 0
        while True:
            if header is None:
                if len(received) - at < HEADER_BYTES:
                    break
                header = parse_header(received[at : at + HEADER_BYTES])
            if len(received) - at < header.block_bytes:
                break
            block = bytes(received[at : at + header.block_bytes])
            at += header.block_bytes
            yield header, block
            header = None
        del received[:at]
    if received:
        raise DamagedFingerprintError("its last block is cut off")


class _Assembly:
    """The arrays of a fingerprint of which blocks arrive.

    They are allocated for as many frames as there will be if all blocks have as many as the first one. Memory that no
    frame reaches is never touched, so it costs nothing.
    """

    def __init__(self, first: Header, *, max_frames: int) -> None:
        self._first = first
        self._max_frames = max_frames
        self._count = block_count(first.duration_ns)
        self._next = 0
        self._frames = 0
        self._steps = 0
        self._pictures = _allocated(min(max(1, first.frames) * self._count, max_frames, _FIRST_FRAMES))
        total_steps = sound_steps(self._count - 1, first.duration_ns).stop if first.has_sound else 0
        self._sound = np.empty((total_steps, SOUND_BANDS), np.uint8)

    def has_room(self, header: Header) -> bool:
        """Whether a block fits without moving the arrays, which nothing may write to meanwhile."""
        return self._frames + header.frames <= len(self._pictures.seconds)

    def add(self, header: Header) -> tuple[Pictures, Bytes]:
        """Return where the pictures and the sound of the next block are unpacked to."""
        first = self._first
        if (header.duration_ns, header.flags) != (first.duration_ns, first.flags):
            raise DamagedFingerprintError("its blocks are of different films")
        if header.index != self._next:
            raise DamagedFingerprintError(f"block {header.index} is where block {self._next} is expected")
        frames = slice(self._frames, self._frames + header.frames)
        if frames.stop > self._max_frames:
            raise FingerprintTooLargeError(f"it has more than {self._max_frames:,} frames")
        if not self.has_room(header):
            larger = _allocated(min(self._max_frames, max(frames.stop, 3 * len(self._pictures.seconds) // 2)))
            larger.part(slice(self._frames)).fill(self._pictures.part(slice(self._frames)))
            self._pictures = larger
        steps = slice(self._steps, self._steps + header.steps)
        self._next, self._frames, self._steps = self._next + 1, frames.stop, steps.stop
        return self._pictures.part(frames), self._sound[steps]

    def finish(self) -> Fingerprint:
        """Return the fingerprint."""
        if self._next < self._count:
            raise DamagedFingerprintError(f"it ends after {self._next} of {self._count} blocks")
        seconds, luma, texture, chroma = self._pictures.part(slice(self._frames))
        if np.any(seconds[1:] <= seconds[:-1]):
            raise DamagedFingerprintError("its frames are out of order")
        return Fingerprint(
            luma,
            texture,
            chroma,
            seconds,
            self._first.duration_ns / NANOSECONDS,
            self._sound if self._first.has_sound else None,
        )


def _allocated(frames: int) -> Pictures:
    return Pictures(
        np.empty(frames, np.float64),
        np.empty((frames, ROWS, COLUMNS), np.uint8),
        np.empty((frames, ROWS, COLUMNS), np.uint8),
        np.empty((frames, 2, CHROMA_ROWS, CHROMA_COLUMNS), np.uint8),
    )
