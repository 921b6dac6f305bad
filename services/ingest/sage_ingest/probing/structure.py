"""The outer structure of files: boxes of MP4 and MOV, elements of Matroska."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

ReadAt = Callable[[int, int], bytes]
"""Returns the bytes at an offset, up to a length; fewer at the end."""

# A fragmented file may have thousands of boxes far apart, each of which costs a read.
MAX_BOXES = 64
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"pnot", b"styp"}
EBML_MAGIC = b"\x1a\x45\xdf\xa3"
SEGMENT_ID = b"\x18\x53\x80\x67"
CLUSTER_ID = b"\x1f\x43\xb6\x75"
# The longest size of an element that says "unknown", as in live streams.
_MAX_ELEMENTS = 64


@dataclass(frozen=True)
class Box:
    """A box of ISO base media, or an element of Matroska.

    Attributes:
        kind: Its four letters, or its ID.
        start: Offset of its first byte.
        content: Offset of its content.
        end: Offset behind it as it states, which may be beyond the end of the file; `None` if it does not say.
    """

    kind: bytes
    start: int
    content: int
    end: int | None


def has_boxes(head: bytes) -> bool:
    """Whether a file begins like MP4 or MOV; `head` is at least 8 bytes."""
    return head[4:8] in _FIRST_BOXES


def boxes(read_at: ReadAt, start: int, end: int, *, limit: int = MAX_BOXES) -> Iterator[Box]:
    """Yield consecutive boxes. Source: ISO/IEC 14496-12, section 4.2."""
    for _ in range(limit):
        header = read_at(start, 16) if start + 8 <= end else b""
        if len(header) < 8:
            return
        size, content = int.from_bytes(header[:4], "big"), start + 8
        if size == 1:
            size, content = int.from_bytes(header[8:16], "big"), start + 16
        if size < content - start:
            # 0 means "to the end of the file"; other small sizes mean nothing.
            yield Box(header[4:8], start, content, None)
            return
        yield Box(header[4:8], start, content, start + size)
        start += size


def find_box(read_at: ReadAt, parent: Box, *path: bytes) -> Box | None:
    """Return the first box at a path below another one."""
    for kind in path:
        inside = boxes(read_at, parent.content, parent.end or 0, limit=10 * MAX_BOXES)
        found = next((box for box in inside if box.kind == kind), None)
        if found is None:
            return None
        parent = found
    return parent


def element(read_at: ReadAt, start: int) -> Box | None:
    """Return the Matroska element at an offset. Source: RFC 8794, sections 5 and 6."""
    header = read_at(start, 12)
    id_bytes = _width(header[:1])
    size_bytes = _width(header[id_bytes : id_bytes + 1]) if id_bytes else 0
    content = id_bytes + size_bytes
    if not size_bytes or id_bytes > 4 or len(header) < content:
        return None
    value = int.from_bytes(header[id_bytes:content], "big") & ((1 << 7 * size_bytes) - 1)
    unknown = value == (1 << 7 * size_bytes) - 1
    return Box(header[:id_bytes], start, start + content, None if unknown else start + content + value)


def segment(read_at: ReadAt) -> Box | None:
    """Return the segment of a Matroska file, which holds everything but a header."""
    header = element(read_at, 0)
    body = element(read_at, header.end) if header is not None and header.end is not None else None
    return body if body is not None and body.kind == SEGMENT_ID else None


def first_cluster(read_at: ReadAt, body: Box) -> int | None:
    """Return the offset of the first cluster of a segment, which holds the first frames."""
    start = body.content
    for _ in range(_MAX_ELEMENTS):
        found = element(read_at, start)
        if found is None:
            return None
        if found.kind == CLUSTER_ID:
            return start
        if found.end is None:
            return None
        start = found.end
    return None


def _width(first: bytes) -> int:
    """Return the length of an ID or size from its first byte: the number of leading zero bits and one; 0 if none."""
    return 9 - first[0].bit_length() if first and first[0] else 0
