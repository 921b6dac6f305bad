"""The blocks of the byte format, which docs/fingerprint.md describes: ten seconds each, each readable alone.

This module, `codec` and `model` need numpy and nothing else, so that readers need no FFmpeg.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sage_fingerprint.model import (
    CHROMA_COLUMNS,
    CHROMA_ROWS,
    COLUMNS,
    ROWS,
    SOUND_BANDS,
    SOUND_RATE,
    VERSION,
    Bytes,
)

BLOCK_SECONDS: Final = 10
# A thousand frames a second.
MAX_BLOCK_FRAMES: Final = 10_000
_MAX_SECONDS: Final = 7 * 24 * 3600

NANOSECONDS: Final = 1_000_000_000
BLOCK_NS: Final = BLOCK_SECONDS * NANOSECONDS
_BLOCK_STEPS: Final = BLOCK_SECONDS * SOUND_RATE

_MAGIC: Final = b"SGFP"
# Magic, version, flags; index, frames, steps of sound; length of the film in nanoseconds; sizes of the five parts;
# and the checksum of all other bytes of the block.
_HEADER: Final = struct.Struct("<4sHH3IQ5I")
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size
_HAS_SOUND: Final = 1

_LUMA, _CHROMA = ROWS * COLUMNS, 2 * CHROMA_ROWS * CHROMA_COLUMNS
# Small tables, which adapt to each cut, and runs only of one byte: smaller than deflate's default on these differences,
# and five times as fast. Grain has no runs.
_MEMORY_LEVEL: Final = 6
_STRATEGIES: Final = (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY)


class FingerprintFormatError(Exception):
    """The bytes are no fingerprint that can be read. The message is a clause for people."""


class DamagedFingerprintError(FingerprintFormatError):
    """The bytes are cut off, were changed, or are something else."""


class OtherVersionError(FingerprintFormatError):
    """The fingerprint was made by another version and must be made again.

    Attributes:
        version: The version that made it.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"it is of version {version}, not {VERSION}")
        self.version = version


class FingerprintTooLargeError(FingerprintFormatError):
    """The film is too long, or has more frames than are accepted."""


@dataclass(frozen=True)
class Block:
    """The part of a fingerprint that describes the frames that start in `BLOCK_SECONDS` of the timeline.

    Attributes:
        index: Its number, from 0.
        starts_ns: When each frame starts.
        luma: As in `Fingerprint`.
        texture: As in `Fingerprint`.
        chroma: As in `Fingerprint`.
        sound: As in `Fingerprint`: the steps that start in these seconds of the film.
    """

    index: int
    starts_ns: NDArray[np.int64]
    luma: Bytes
    texture: Bytes
    chroma: Bytes
    sound: Bytes | None


class Pictures(NamedTuple):
    """What is known of frames: when they are shown, and what they look like."""

    seconds: NDArray[np.float64]
    luma: Bytes
    texture: Bytes
    chroma: Bytes

    def part(self, frames: slice) -> "Pictures":
        """Return views of some frames."""
        return Pictures(self.seconds[frames], self.luma[frames], self.texture[frames], self.chroma[frames])

    def fill(self, other: "Pictures") -> None:
        """Copy from as many other frames."""
        self.seconds[:], self.luma[:], self.texture[:], self.chroma[:] = other


@dataclass(frozen=True)
class Header:
    """What precedes the parts of a block.

    Attributes:
        magic: Always the same.
        version: As in `sage_fingerprint.model`.
        flags: 1: the film has sound.
        index: Number of the block, from 0.
        frames: Number of frames.
        steps: Steps of sound.
        duration_ns: Length of the film.
        sizes: Of the packed parts: times, luma, texture, chroma, sound.
    """

    magic: bytes
    version: int
    flags: int
    index: int
    frames: int
    steps: int
    duration_ns: int
    sizes: tuple[int, ...]

    @property
    def has_sound(self) -> bool:
        """Whether the film has sound."""
        return self.flags & _HAS_SOUND != 0

    @property
    def block_bytes(self) -> int:
        """Size of the block."""
        return HEADER_BYTES + sum(self.sizes)

    @property
    def raw_sizes(self) -> tuple[int, ...]:
        """Sizes of the parts when unpacked."""
        return (
            8 * self.frames,
            _LUMA * self.frames,
            _LUMA * self.frames,
            _CHROMA * self.frames,
            SOUND_BANDS * self.steps,
        )


def nanoseconds(seconds: float) -> int:
    """Return a time as the format has it."""
    return round(seconds * NANOSECONDS)


def block_count(duration_ns: int) -> int:
    """Return the number of blocks of a film, at least one."""
    return max(1, -(-duration_ns // BLOCK_NS))


def block_of(start_ns: int) -> int:
    """Return the index of the block of a frame."""
    return start_ns // BLOCK_NS


def sound_steps(index: int, duration_ns: int) -> range:
    """Return the steps of sound that a block has."""
    total = -(-duration_ns * SOUND_RATE // NANOSECONDS)
    return range(index * _BLOCK_STEPS, max(index * _BLOCK_STEPS, min((index + 1) * _BLOCK_STEPS, total)))


def encode_block(block: Block, *, duration_ns: int) -> bytes:
    """Return the bytes of a block of a film of a length.

    Raises:
        FingerprintTooLargeError: It has more than `MAX_BLOCK_FRAMES` frames.
    """
    frames = len(block.starts_ns)
    if frames > MAX_BLOCK_FRAMES:
        raise FingerprintTooLargeError(f"{BLOCK_SECONDS} s of it have {frames:,} frames")
    times = np.diff(block.starts_ns, prepend=block.index * BLOCK_NS).astype("<u8")
    # All first bytes, then all second ones: most are the same.
    parts = [times.view(np.uint8).reshape(frames, 8).T.tobytes()]
    parts += [_changes(one).tobytes() for one in (block.luma, block.texture, block.chroma)]
    parts += [b"" if block.sound is None else _changes(block.sound).tobytes()]
    packed = [_packed(part) for part in parts]
    flags = 0 if block.sound is None else _HAS_SOUND
    steps = 0 if block.sound is None else len(block.sound)
    header = _HEADER.pack(
        _MAGIC, VERSION, flags, block.index, frames, steps, duration_ns, *(len(part) for part in packed)
    )
    checksum = zlib.crc32(header)
    for part in packed:
        checksum = zlib.crc32(part, checksum)
    return b"".join((header, _CHECKSUM.pack(checksum), *packed))


def _changes(values: Bytes) -> Bytes:
    """Return the change of each value from one row to the next, modulo 256."""
    changes = values.copy()
    changes[1:] -= values[:-1]
    return changes


def _packed(part: bytes) -> bytes:
    found = []
    for strategy in _STRATEGIES:
        packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY_LEVEL, strategy)
        found.append(packer.compress(part) + packer.flush())
    return min(found, key=len)


def parse_header(data: bytes | bytearray) -> Header:
    """Return the header from the first `HEADER_BYTES` of a block.

    Raises:
        FingerprintFormatError: It is none, or one of another version, or states sizes that cannot be.
    """
    magic, version, flags, index, frames, steps, duration_ns, *sizes = _HEADER.unpack_from(data)
    header = Header(magic, version, flags, index, frames, steps, duration_ns, tuple(sizes))
    if header.magic != _MAGIC:
        raise DamagedFingerprintError("it is no fingerprint")
    if header.version != VERSION:
        raise OtherVersionError(header.version)
    if header.duration_ns > _MAX_SECONDS * NANOSECONDS:
        raise FingerprintTooLargeError(f"the film is longer than {_MAX_SECONDS:,} s")
    if header.frames > MAX_BLOCK_FRAMES:
        raise FingerprintTooLargeError(f"{BLOCK_SECONDS} s of it have {header.frames:,} frames")
    expected = len(sound_steps(header.index, header.duration_ns)) if header.flags & _HAS_SOUND else 0
    if header.index >= block_count(header.duration_ns) or header.steps != expected:
        raise DamagedFingerprintError("the header of a block contradicts itself")
    if any(packed > _most_packed(raw) for packed, raw in zip(header.sizes, header.raw_sizes, strict=True)):
        raise DamagedFingerprintError("a part of a block is larger than it can be")
    return header


def _most_packed(size: int) -> int:
    """Return how long a part may be when it is packed: deflate never adds more."""
    return size + size // 512 + 64


def unpack_block(header: Header, block: bytes, pictures: Pictures, sound: Bytes) -> None:
    """Unpack a block into views of the arrays of a fingerprint, of the sizes that the header states.

    Raises:
        DamagedFingerprintError: It was changed.
    """
    (checksum,) = _CHECKSUM.unpack_from(block, _HEADER.size)
    if zlib.crc32(memoryview(block)[HEADER_BYTES:], zlib.crc32(block[: _HEADER.size])) != checksum:
        raise DamagedFingerprintError(f"block {header.index} is damaged")
    at, parts = HEADER_BYTES, list[Bytes]()
    for packed, raw in zip(header.sizes, header.raw_sizes, strict=True):
        parts.append(_unpacked(memoryview(block)[at : at + packed], raw))
        at += packed
    times, *changes = parts
    gaps = np.ascontiguousarray(times.reshape(8, header.frames).T).view("<u8").ravel()
    starts = np.add.accumulate(gaps, dtype=np.uint64)
    if header.frames and (gaps.max() >= BLOCK_NS or starts[-1] >= BLOCK_NS):
        raise DamagedFingerprintError(f"block {header.index} has frames of others")
    pictures.seconds[:] = (starts + np.uint64(header.index * BLOCK_NS)) / NANOSECONDS
    for one, values in zip(changes, (pictures.luma, pictures.texture, pictures.chroma, sound), strict=True):
        if values.size:
            rows = values.reshape(len(values), -1)
            np.add.accumulate(one.reshape(rows.shape), axis=0, dtype=np.uint8, out=rows)


def _unpacked(packed: memoryview, size: int) -> Bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise DamagedFingerprintError("a part of a block cannot be unpacked") from error
    if len(data) != size or not unpacker.eof:
        raise DamagedFingerprintError("a part of a block has another size than stated")
    return np.frombuffer(data, np.uint8)
