"""Whether a file is as long as its own headers say.

A player plays half a file without complaint, so a truncated one would go unnoticed.
"""

import struct
import uuid

from sage_ingest.probing.structure import EBML_MAGIC, ReadAt, boxes, has_boxes, segment

# Boxes that a film needs. Anything else at the end may be padding that players ignore.
_ESSENTIAL_BOXES = {b"moov", b"moof", b"mdat"}
_HEAD_BYTES = 64 * 1024
# The most that an Ogg page may have, and room for what a disk recorder pads.
_TAIL_BYTES = 128 * 1024
# SMPTE ST 377-1, section 7: partition packs differ in the kind (2 header, 4 footer) and the status that follow.
_MXF_PARTITION = bytes.fromhex("060e2b34020501010d01020101")
_MXF_FOOTER = 0x04
# SMPTE ST 360: a packet of kind 0xfb ends the stream.
_GXF_END = bytes.fromhex("0000000001fb00000010")
_GXF_MAP = bytes.fromhex("0000000001bc")
# Chunks of RealMedia before its packets.
_MAX_CHUNKS = 64
_REAL_MEDIA_SLACK = 32
_ASF_PROPERTIES = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le


def missing_bytes(read_at: ReadAt, *, size_bytes: int) -> int:
    """Return how many bytes a file lacks at least according to its own headers; 0 if it is complete or does not say.

    Args:
        read_at: Returns the bytes at an offset.
        size_bytes: The size of the file.

    Sources: ISO/IEC 14496-12, section 4.2 (boxes); RFC 8794, section 6 (EBML element data size); Microsoft, "AVI RIFF
    File Reference"; SMPTE ST 377-1, section 7.1 (MXF partition packs); SMPTE ST 360 (GXF); RFC 3533, section 6 (Ogg
    pages); Adobe, "Video File Format Specification", annex E (FLV); Microsoft, "Advanced Systems Format
    Specification", section 3.2.
    """
    head = read_at(0, 16)
    if has_boxes(head):
        missing = _of_boxes(read_at, size_bytes)
    elif head.startswith(EBML_MAGIC):
        missing = _of_segment(read_at, size_bytes)
    elif head.startswith(b"RIFF"):
        missing = 8 + int.from_bytes(head[4:8], "little") - size_bytes
    elif head.startswith(_GXF_MAP):
        missing = _of_gxf(read_at, size_bytes)
    elif head.startswith(b"OggS"):
        missing = _of_ogg(read_at, size_bytes)
    elif head.startswith(b"FLV"):
        missing = _of_flv(read_at, size_bytes)
    elif head.startswith(bytes.fromhex("3026b2758e66cf11")):
        missing = _of_asf(read_at, size_bytes)
    elif head.startswith(b".RMF"):
        missing = _of_real_media(read_at, size_bytes)
    else:
        missing = _of_mxf(read_at, size_bytes)
    return max(0, missing)


def _of_boxes(read_at: ReadAt, size_bytes: int) -> int:
    for box in boxes(read_at, 0, size_bytes):
        if box.end is not None and box.end > size_bytes:
            return box.end - size_bytes if box.kind in _ESSENTIAL_BOXES else 0
    return 0


def _of_segment(read_at: ReadAt, size_bytes: int) -> int:
    body = segment(read_at)
    return body.end - size_bytes if body is not None and body.end is not None else 0


def _of_mxf(read_at: ReadAt, size_bytes: int) -> int:
    head = read_at(0, _HEAD_BYTES)
    start = head.find(_MXF_PARTITION)
    if start < 0 or len(head) < start + 64:
        return 0
    # 16 bytes of key and a length of 4, 8 or 9 come first. Offsets count from the header partition.
    length = head[start + 16]
    fields = start + 17 + (length & 0x7F if length & 0x80 else 0)
    footer = int.from_bytes(head[fields + 24 : fields + 32], "big")
    if not footer:
        # A recorder that cannot go back leaves it empty.
        return 0
    pack = read_at(start + footer, 16)
    if pack.startswith(_MXF_PARTITION) and pack[13:14] == bytes([_MXF_FOOTER]):
        return 0
    return max(1, start + footer + len(_MXF_PARTITION) - size_bytes)


def _of_gxf(read_at: ReadAt, size_bytes: int) -> int:
    tail = read_at(max(0, size_bytes - _TAIL_BYTES), _TAIL_BYTES)
    return 0 if _GXF_END in tail else 16


def _of_ogg(read_at: ReadAt, size_bytes: int) -> int:
    start = max(0, size_bytes - _TAIL_BYTES)
    tail = read_at(start, _TAIL_BYTES)
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return 1
    table = tail[page + 27 : page + 27 + tail[page + 26]]
    return start + page + 27 + tail[page + 26] + sum(table) - size_bytes


def _of_flv(read_at: ReadAt, size_bytes: int) -> int:
    head = read_at(0, _HEAD_BYTES)
    # An AMF number: a zero, then a double.
    at = head.find(b"\0\x08filesize\0")
    if at < 0 or len(head) < at + 19:
        return 0
    (stated,) = struct.unpack(">d", head[at + 11 : at + 19])
    if not size_bytes < stated < 2**53:
        return 0
    # Editors may leave the size of another version. If the last tag is whole, so is the film.
    last = int.from_bytes(read_at(size_bytes - 4, 4), "big")
    tag = read_at(size_bytes - 4 - last, 4) if 11 <= last <= size_bytes - 4 else b""
    whole = len(tag) == 4 and tag[0] in (8, 9, 18) and int.from_bytes(tag[1:], "big") + 11 == last
    return 0 if whole else int(stated) - size_bytes


def _of_asf(read_at: ReadAt, size_bytes: int) -> int:
    head = read_at(0, _HEAD_BYTES)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return 0
    stated, flags = int.from_bytes(head[at + 40 : at + 48], "little"), head[at + 88]
    is_broadcast = flags & 1
    return 0 if is_broadcast else stated - size_bytes


def _of_real_media(read_at: ReadAt, size_bytes: int) -> int:
    start = 0
    for _ in range(_MAX_CHUNKS):
        header = read_at(start, 8)
        size = int.from_bytes(header[4:8], "big")
        if len(header) < 8 or size < 8:
            break
        start += size
        if header[:4] == b"DATA":
            # FFmpeg writes a size that is some bytes too large.
            return start - size_bytes if start - size_bytes > _REAL_MEDIA_SLACK else 0
    return 0
