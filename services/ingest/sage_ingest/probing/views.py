"""Views of a file that leave parts of it out, so that a large file is measured without reading all of it."""

import io

from sage_film.container import SeekableFile
from sage_film.timeline import MAX_REORDERED

from sage_ingest.probing.structure import (
    CLUSTER_ID,
    ReadAt,
    boxes,
    element,
    first_cluster,
    has_boxes,
    segment,
)

# How far from the end a fragment or cluster is searched for: near first, so that little is read.
_TAIL_BYTES = (256 * 1024, 1024 * 1024, 4 * 1024 * 1024, 16 * 1024 * 1024)
# The most that may follow the boxes of a file.
_MAX_JUNK_BYTES = 1024 * 1024
# The size of what is put in place of the middle.
_PATCH_BYTES = 16


class PartialFile:
    """A file of which parts read as other bytes, or as zeros without being read.

    Args:
        file: The file.
        size_bytes: Its size.
    """

    def __init__(self, file: SeekableFile, *, size_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._position = 0
        self._zeros: list[tuple[int, int]] = []
        self._patch_at, self._patch = 0, b""

    def blank(self, ranges: list[tuple[int, int]]) -> None:
        """Let ranges, each from an offset up to another, read as zeros."""
        self._zeros = ranges

    def patch(self, offset: int, data: bytes) -> None:
        """Let other bytes be read at an offset."""
        self._patch_at, self._patch = offset, data

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, none at the end of the file."""
        at, left = self._position, self._size_bytes - self._position
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        data = self._blank_at(at, size)
        if data is None:
            self._file.seek(at)
            data = self._file.read(size)
        self._position += len(data)
        return self._patched(at, data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset, up to a length; fewer at the end. FFmpeg continues to read where it was."""
        position, self._position = self._position, offset
        data = b""
        while len(data) < length and (more := self.read(length - len(data))):
            data += more
        self._position = position
        return data

    def _blank_at(self, at: int, size: int) -> bytes | None:
        for start, end in self._zeros:
            if start <= at < end:
                return bytes(min(size, end - at))
        return None

    def _patched(self, at: int, data: bytes) -> bytes:
        start = max(at, self._patch_at)
        end = min(at + len(data), self._patch_at + len(self._patch))
        if start >= end:
            return data
        return data[: start - at] + self._patch[start - self._patch_at : end - self._patch_at] + data[end - at :]


def sample_ranges(read_at: ReadAt, *, size_bytes: int) -> list[tuple[int, int]] | None:
    """Return where an MP4 or MOV keeps nothing but samples; `None` if it is fragmented, or not of that kind.

    An index outside these ranges describes every frame, so that the samples need not be read.
    """
    if not has_boxes(read_at(0, 16)):
        return None
    found, ranges, at = set[bytes](), list[tuple[int, int]](), 0
    for box in boxes(read_at, 0, size_bytes):
        found.add(box.kind)
        at = box.end or size_bytes
        if box.kind == b"mdat":
            ranges.append((box.content, min(at, size_bytes)))
    # Bytes that are no boxes may follow, but not so many that they may be fragments.
    is_indexed = {b"moov", b"mdat"} <= found and b"moof" not in found and at > size_bytes - _MAX_JUNK_BYTES
    return ranges if is_indexed else None


def hide_middle(file: PartialFile, *, size_bytes: int) -> bool:
    """Leave out what is between the first fragment of an MP4 or cluster of a Matroska file and one near the end.

    FFmpeg skips what is put there instead: a `free` box, or a `Void` element. Return whether that was possible. For
    fragments it is only if they state their time on the film's timeline.
    """
    is_mp4 = has_boxes(file.read_at(0, 16))
    first = _first_fragment(file, size_bytes) if is_mp4 else _first_cluster(file)
    last = None if first is None else _near_end(file, first, size_bytes=size_bytes, is_mp4=is_mp4)
    if first is None or last is None or last < first + _PATCH_BYTES:
        return False
    if is_mp4:
        file.patch(first, b"\0\0\0\1free" + (last - first).to_bytes(8, "big"))
        ending = boxes(file.read_at, last, size_bytes)
        file.blank([(box.content, box.end or size_bytes) for box in ending if box.kind == b"mdat"])
    else:
        file.patch(first, b"\xec" + (last - first - 9 | 1 << 56).to_bytes(8, "big"))
    return True


def _near_end(file: PartialFile, first: int, *, size_bytes: int, is_mp4: bool) -> int | None:
    """Return the offset of a fragment or cluster near the end."""
    indexed = _last_indexed_fragment(file, size_bytes) if is_mp4 else None
    if indexed is not None:
        return indexed
    for tail_bytes in _TAIL_BYTES:
        start = max(first, size_bytes - tail_bytes)
        tail = file.read_at(start, size_bytes - start)
        found = _fragment_in(tail) if is_mp4 else _cluster_in(tail)
        if found is not None:
            return start + found
    return None


def _last_indexed_fragment(file: PartialFile, size_bytes: int) -> int | None:
    """Return the offset of one of the last fragments of an index at the end of the file, if there is one.

    Not of the very last: a fragment may be a single frame, which others are shown after.

    Source: ISO/IEC 14496-12, sections 8.8.9 to 8.8.11 (`mfra`, `tfra`, `mfro`).
    """
    tail = file.read_at(max(0, size_bytes - 16), 16)
    start = size_bytes - int.from_bytes(tail[12:], "big")
    mfra = next(boxes(file.read_at, start, size_bytes), None) if tail[4:8] == b"mfro" and start > 0 else None
    if mfra is None or mfra.kind != b"mfra":
        return None
    offsets = set[int]()
    for tfra in boxes(file.read_at, mfra.content, size_bytes):
        if tfra.kind != b"tfra" or tfra.end is None:
            continue
        header = file.read_at(tfra.content, 16)
        width = 8 if header[0] else 4
        numbers = sum(((header[11] >> shift) & 3) + 1 for shift in (4, 2, 0))
        size = 2 * width + numbers
        first = max(tfra.content + 16, tfra.end - (MAX_REORDERED + 1) * size)
        for at in range(first, tfra.end - size + 1, size):
            offsets.add(int.from_bytes(file.read_at(at + width, width), "big"))
    last = min(sorted(offsets)[-MAX_REORDERED - 1 :], default=0)
    moof = next(boxes(file.read_at, last, size_bytes), None)
    states_time = moof is not None and b"tfdt" in file.read_at(last, (moof.end or last) - last)
    return last if moof is not None and moof.kind == b"moof" and states_time else None


def _first_fragment(file: PartialFile, size_bytes: int) -> int | None:
    return next((box.start for box in boxes(file.read_at, 0, size_bytes) if box.kind == b"moof"), None)


def _first_cluster(file: PartialFile) -> int | None:
    body = segment(file.read_at)
    return first_cluster(file.read_at, body) if body is not None else None


def _fragment_in(tail: bytes) -> int | None:
    """Return the offset of the first `moof` box from which boxes follow up to the end, and which states its time."""

    def read_at(offset: int, length: int) -> bytes:
        return tail[offset : offset + length]

    at = 3
    while (at := tail.find(b"moof", at + 1)) >= 0:
        chain = list(boxes(read_at, at - 4, len(tail), limit=len(tail) // 8))
        if chain and chain[-1].end in (None, len(tail)) and b"tfdt" in tail[at : chain[0].end]:
            return at - 4
    return None


def _cluster_in(tail: bytes) -> int | None:
    """Return the offset of the first cluster that begins with its timestamp, a checksum or padding."""

    def read_at(offset: int, length: int) -> bytes:
        return tail[offset : offset + length]

    at = -1
    while (at := tail.find(CLUSTER_ID, at + 1)) >= 0:
        cluster = element(read_at, at)
        if cluster is not None and tail[cluster.content : cluster.content + 1] in (b"\xe7", b"\xbf", b"\xec"):
            return at
    return None
