"""Whether the picture of a file is encrypted.

Decoding encrypted pictures sometimes yields noise instead of errors, so the containers' own marks decide.
"""

import re
import uuid
from collections.abc import Sequence

from av.container import InputContainer
from av.video.stream import VideoStream
from sage_film.programs import find_packets, packet_payload

from sage_ingest.probing.structure import CLUSTER_ID, EBML_MAGIC, ReadAt, boxes, find_box, has_boxes

# Sample entries of protected pictures: Common Encryption, and FairPlay.
_PROTECTED_ENTRIES = {b"encv", b"drmi"}
_HEAD_BYTES = 256 * 1024
_SAMPLE_BYTES = 256 * 1024
# The stream type of H.264 that HTTP Live Streaming has encrypted ("SAMPLE-AES").
SAMPLE_AES = 0xDB
_PADDING_PID = 0x1FFF
# ContentEncodingType (0x5033), one byte long, 1: encryption.
_MATROSKA_ENCRYPTION = bytes.fromhex("50338101")
_PROGRAM_STREAM = b"\0\0\1\xba"
_PES_OF_PICTURE = re.compile(rb"\x00\x00\x01[\xe0-\xef]")
_ASF = uuid.UUID("75b22630-668e-11cf-a6d9-00aa0062ce6c").bytes_le
_MXF = bytes.fromhex("060e2b34")
# The Content Encryption Objects: the first, the extended one, and the advanced one, which has a PlayReady header.
_ASF_ENCRYPTION = [
    uuid.UUID("2211b3fb-bd23-11d2-b4b7-00a0c955fc6e").bytes_le,
    uuid.UUID("298ae614-2622-4c17-b935-dae07ee9289c").bytes_le,
    uuid.UUID("43058533-6981-49e6-9b74-ad12cb86d58c").bytes_le,
]
# SMPTE ST 429-6: the keys of an encrypted triplet and of a cryptographic framework, without the registry's version.
_MXF_ENCRYPTION = [bytes.fromhex("0d010301027e0100"), bytes.fromhex("0d01040102010000")]
_FLV_VIDEO = 9
# The bit of a tag's type that says that its content must be decrypted.
_FLV_FILTER = 0x20


def is_track_encrypted(container: InputContainer, stream: VideoStream, read_at: ReadAt, *, size_bytes: int) -> bool:
    """Return whether a container marks its picture track as encrypted.

    Sources: ISO/IEC 14496-12, section 8.12, and ISO/IEC 23001-7 (MP4); ISO/IEC 13818-1, tables 2-2 and 2-21 (transport
    and program streams).
    """
    name = container.format.name
    if name.startswith("mov"):
        return _in_mp4(read_at, track_id=stream.id, size_bytes=size_bytes)
    if name == "mpegts":
        return is_pid_encrypted(read_at, pid=stream.id, size_bytes=size_bytes)
    return is_file_encrypted(read_at, size_bytes=size_bytes)


def is_pid_encrypted(read_at: ReadAt, *, pid: int, size_bytes: int) -> bool:
    """Return whether most packets of a track of a transport stream are scrambled, at one of a few places."""
    return any(_is_mostly(_scrambling_in_ts(sample, pid=pid)) for sample in _samples(read_at, size_bytes))


def is_file_encrypted(read_at: ReadAt, *, size_bytes: int) -> bool:
    """Return whether a file is marked as encrypted. FFmpeg may find no picture in it.

    Sources: as above, and RFC 9559, section 5.1.4.1.31 (Matroska); Microsoft, "Advanced Systems Format Specification",
    sections 3.14, 3.15 and 4.12; SMPTE ST 429-6 (MXF); Adobe, "Video File Format Specification", annex F (FLV).
    """
    head = read_at(0, _HEAD_BYTES)
    if has_boxes(head):
        return _in_mp4(read_at, size_bytes=size_bytes)
    if head.startswith(EBML_MAGIC):
        return _MATROSKA_ENCRYPTION in head.partition(CLUSTER_ID)[0]
    if head.startswith(_ASF):
        return any(mark in head for mark in _ASF_ENCRYPTION)
    if head.startswith(_MXF):
        return any(mark in head for mark in _MXF_ENCRYPTION)
    if head.startswith(b"FLV"):
        return _is_mostly(_filters_in_flv(head))
    samples = _samples(read_at, size_bytes)
    if head.startswith(_PROGRAM_STREAM):
        return any(_is_mostly(_scrambling_in_ps(sample)) for sample in samples)
    return any(_is_mostly(_scrambling_in_ts(sample)) for sample in samples)


def _samples(read_at: ReadAt, size_bytes: int) -> list[bytes]:
    # A recording may begin in the clear.
    return [read_at(offset, _SAMPLE_BYTES) for offset in sorted({0, size_bytes // 2})]


def _in_mp4(read_at: ReadAt, *, track_id: int | None = None, size_bytes: int) -> bool:
    moov = next((box for box in boxes(read_at, 0, size_bytes) if box.kind == b"moov"), None)
    if moov is None:
        return False
    for trak in boxes(read_at, moov.content, moov.end or size_bytes):
        header = find_box(read_at, trak, b"tkhd") if trak.kind == b"trak" else None
        if header is None:
            continue
        # Version 1 has times of 8 bytes.
        version = read_at(header.content, 1)
        at = header.content + (20 if version == b"\1" else 12)
        descriptions = find_box(read_at, trak, b"mdia", b"minf", b"stbl", b"stsd")
        if track_id not in (None, int.from_bytes(read_at(at, 4), "big")) or descriptions is None:
            continue
        entries = boxes(read_at, descriptions.content + 8, descriptions.end or size_bytes)
        if any(entry.kind in _PROTECTED_ENTRIES for entry in entries):
            return True
    return False


def _scrambling_in_ts(sample: bytes, *, pid: int | None = None) -> Sequence[bool]:
    size, start = find_packets(sample) or (1, len(sample))
    marks, are_pictures_scrambled = list[bool](), dict[int, bool]()
    for at in range(start, len(sample) - size + 1, size):
        packet = sample[at : at + size]
        its_pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[0] != 0x47 or its_pid == _PADDING_PID or pid not in (None, its_pid):
            continue
        # Either packets are marked, or the pictures that begin in some of them.
        begins = packet_payload(packet) if packet[1] & 0x40 else b""
        if _PES_OF_PICTURE.match(begins) and len(begins) > 6:
            are_pictures_scrambled[its_pid] = begins[6] & 0xC0 == 0x80 and begins[6] & 0x30 != 0
        marks.append(packet[3] & 0xC0 != 0 or are_pictures_scrambled.get(its_pid, False))
    return marks


def _scrambling_in_ps(sample: bytes) -> Sequence[bool]:
    flags = [sample[found.end() + 2] for found in _PES_OF_PICTURE.finditer(sample) if found.end() + 2 < len(sample)]
    return [bool(flag & 0x30) for flag in flags if flag & 0xC0 == 0x80]


def _filters_in_flv(head: bytes) -> Sequence[bool]:
    marks, at = list[bool](), int.from_bytes(head[5:9], "big") + 4
    while at + 4 <= len(head):
        if head[at] & 0x1F == _FLV_VIDEO:
            marks.append(bool(head[at] & _FLV_FILTER))
        at += 11 + int.from_bytes(head[at + 1 : at + 4], "big") + 4
    return marks


def _is_mostly(marks: Sequence[bool]) -> bool:
    return sum(marks) * 2 > len(marks)
