"""Detects truncated files by the length that their outermost structure states.

A player plays half a file without complaint, so a truncated upload would go unnoticed. Three families of containers
state their length up front: ISO base media (MP4, MOV), Matroska (MKV, WebM) and RIFF (AVI).
"""

from collections.abc import Callable

# A fragmented file may have thousands of boxes far apart, each of which costs a read. If there are more, the last
# packets of the file decide instead.
_MAX_BOXES = 64
# Boxes that a film needs. Anything else at the end may be padding that players ignore.
_ESSENTIAL_BOXES = {b"moov", b"moof", b"mdat"}
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"

ReadAt = Callable[[int, int], bytes]


def missing_bytes(read_at: ReadAt, *, size_bytes: int) -> int:
    """Return how many bytes a file lacks according to its own headers; 0 if it is complete or does not say.

    Args:
        read_at: Returns the bytes at an offset, up to a length; fewer at the end.
        size_bytes: The size of the file.

    Sources: ISO/IEC 14496-12, section 4.2 (boxes); RFC 8794, section 6 (EBML element data size); Microsoft,
    "AVI RIFF File Reference".
    """
    head = read_at(0, 12)
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"pnot", b"styp"}:
        return _missing_boxes(read_at, size_bytes=size_bytes)
    if head.startswith(_EBML_MAGIC):
        return _missing_segment(read_at, size_bytes=size_bytes)
    if head.startswith(b"RIFF"):
        return max(0, 8 + int.from_bytes(head[4:8], "little") - size_bytes)
    return 0


def _missing_boxes(read_at: ReadAt, *, size_bytes: int) -> int:
    offset = 0
    for _ in range(_MAX_BOXES):
        header = read_at(offset, 16)
        if len(header) < 8:
            return 0
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            # 0 means "to the end of the file"; 2 to 7 mean nothing.
            return 0
        offset += size
        if offset > size_bytes:
            return offset - size_bytes if kind in _ESSENTIAL_BOXES else 0
    return 0


def _missing_segment(read_at: ReadAt, *, size_bytes: int) -> int:
    header = read_at(0, 16)
    _, data_offset, size = _element(header)
    offset = data_offset + (size or 0)
    segment = read_at(offset, 16)
    if not segment.startswith(_SEGMENT_ID):
        return 0
    _, data_offset, size = _element(segment)
    return 0 if size is None else max(0, offset + data_offset + size - size_bytes)


def _element(header: bytes) -> tuple[bytes, int, int | None]:
    """Return an EBML element's ID, the offset of its data, and their size (`None`: unknown, as in live streams)."""
    # Both IDs that matter here have four bytes and are followed by a size, whose first byte states its length.
    first = header[4] if len(header) > 4 else 0
    length = 9 - first.bit_length()
    if not first or len(header) < 4 + length:
        return header[:4], len(header), None
    value = int.from_bytes(header[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
    return header[:4], 4 + length, None if value == (1 << 7 * length) - 1 else value
