"""Views of a file that leave parts of it out, so that a large file is measured without reading all of it."""

import io

from sage_film.container import SeekableFile

from sage_ingest.probing.structure import (
    CLUSTER_ID,
    EBML_MAGIC,
    ReadAt,
    boxes,
    element,
    first_cluster,
    has_boxes,
    segment,
)

# How far from the end the last fragment or cluster is searched for.
_TAIL_BYTES = 32 * 1024 * 1024


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
    is_indexed = {b"moov", b"mdat"} <= found and b"moof" not in found and at > size_bytes - _TAIL_BYTES
    return ranges if is_indexed else None


def hide_middle(file: PartialFile, *, size_bytes: int) -> bool:
    """Leave out what is between the first fragment of an MP4 or cluster of a Matroska file and the last one.

    Players skip what is put there instead: a `free` box, or a `Void` element. Return whether that was possible. For
    fragments it is only if they state their time on the film's timeline.
    """
    head = file.read_at(0, 16)
    tail_at = max(0, size_bytes - _TAIL_BYTES)
    if has_boxes(head):
        first = next((box.start for box in boxes(file.read_at, 0, size_bytes) if box.kind == b"moof"), None)
        last = None if first is None else _last_fragment(file.read_at(tail_at, _TAIL_BYTES))
        if first is None or last is None or tail_at + last < first + 16:
            return False
        file.patch(first, b"\0\0\0\1free" + (tail_at + last - first).to_bytes(8, "big"))
        return True
    body = segment(file.read_at) if head.startswith(EBML_MAGIC) else None
    first = first_cluster(file.read_at, body) if body is not None else None
    last = None if first is None else _last_cluster(file.read_at(tail_at, _TAIL_BYTES))
    if first is None or last is None or tail_at + last < first + 9:
        return False
    file.patch(first, b"\xec" + (tail_at + last - first - 9 | 1 << 56).to_bytes(8, "big"))
    return True


def _last_fragment(tail: bytes) -> int | None:
    """Return the offset of the last `moof` box from which boxes follow up to the end, and which states its time."""

    def read_at(offset: int, length: int) -> bytes:
        return tail[offset : offset + length]

    at = len(tail)
    while (at := tail.rfind(b"moof", 0, at)) >= 4:
        chain = list(boxes(read_at, at - 4, len(tail)))
        if chain and chain[-1].end in (None, len(tail)) and b"tfdt" in tail[at : chain[0].end]:
            return at - 4
    return None


def _last_cluster(tail: bytes) -> int | None:
    """Return the offset of the last cluster that begins with its timestamp (0xe7) or another element of a cluster."""

    def read_at(offset: int, length: int) -> bytes:
        return tail[offset : offset + length]

    at = len(tail)
    while (at := tail.rfind(CLUSTER_ID, 0, at)) >= 0:
        cluster = element(read_at, at)
        if cluster is not None and tail[cluster.content : cluster.content + 1] in (b"\xe7", b"\xbf", b"\xec"):
            return at
    return None
