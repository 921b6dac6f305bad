"""Films with the marks of encryption, each made by changing bytes of a film without."""

import re
import uuid
from collections.abc import Callable

from corpus.maker import Track, make_film
from sage_film.programs import _with_checksum

CENC = (
    ("encryption_scheme", "cenc-aes-ctr"),
    ("encryption_key", "0123456789abcdef0123456789abcdef"),
    ("encryption_kid", "00112233445566778899aabbccddeeff"),
)
_PICTURE_PID = 256
_MXF_PICTURE = bytes.fromhex("060e2b34010201010d01030115010500")
_MXF_ENCRYPTED_TRIPLET = bytes.fromhex("060e2b34020401070d010301027e0100")
_MXF_FRAMEWORK = bytes.fromhex("060e2b34025301010d01040102010000")
_MXF_FILL = re.compile(
    re.escape(bytes.fromhex("060e2b34010101")) + rb".\x03\x01\x02\x10\x01\x00\x00\x00\x83", re.DOTALL
)


def _garbled(data: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in data)


def fairplay() -> bytes:
    """Return a film as Apple's store sells them: `drmi` in place of `avc1`, and a box that says how to decrypt it."""
    film = bytearray(make_film("mp4"))

    def box(kind: bytes, content: bytes) -> bytes:
        return (len(content) + 8).to_bytes(4, "big") + kind + content

    sinf = box(b"sinf", box(b"frma", b"avc1") + box(b"schm", bytes(4) + b"itun" + bytes(4)) + box(b"schi", bytes(16)))
    entry = film.index(b"avc1", film.index(b"stsd")) - 4
    end = entry + int.from_bytes(film[entry : entry + 4], "big")
    film[end:end] = sinf
    film[entry + 4 : entry + 8] = b"drmi"
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"drmi"):
        # The samples come first, so that their offsets do not change.
        at = film.index(kind, film.index(b"moov")) - 4
        film[at : at + 4] = (int.from_bytes(film[at : at + 4], "big") + len(sinf)).to_bytes(4, "big")
    return bytes(film)


def matroska() -> bytes:
    """Return a Matroska file whose track has a ContentEncodings element of type encryption."""

    def sized(kind: bytes, content: bytes) -> bytes:
        return kind + (len(content) | 1 << 56).to_bytes(8, "big") + content

    film = make_film("matroska", options=[("live", "1")])
    encryption = sized(b"\x50\x35", sized(b"\x47\xe1", b"\5") + sized(b"\x47\xe2", bytes(16)))
    encoding = sized(b"\x62\x40", b"\x50\x31\x81\0" + b"\x50\x32\x81\1" + b"\x50\x33\x81\1" + encryption)
    encodings = sized(b"\x6d\x80", encoding)
    tracks = film.index(b"\x16\x54\xae\x6b")
    entry = film.index(b"\xae\1\0\0\0\0\0", tracks + 4)

    def content_of(start: int) -> tuple[int, int]:
        length = 9 - film[start].bit_length()
        value = int.from_bytes(film[start : start + length], "big") & ((1 << 7 * length) - 1)
        return start + length, start + length + value

    _, tracks_end = content_of(tracks + 4)
    start, end = content_of(entry + 1)
    changed = sized(b"\x16\x54\xae\x6b", sized(b"\xae", film[start:end] + encodings))
    return film[:tracks] + changed + film[tracks_end:]


def asf(guid: str, *, in_extension: bool = False) -> Callable[[], bytes]:
    """Return what makes a film with an object of the header that says how to decrypt it.

    Args:
        guid: The kind of object.
        in_extension: Whether it belongs into the header's extension.
    """

    def make() -> bytes:
        film = bytearray(make_film("asf", Track("wmv2")))
        extension = film.index(uuid.UUID("5fbf03b5-a92e-11cf-8ee3-00c00c205365").bytes_le)
        length = int.from_bytes(film[extension + 16 : extension + 24], "little")
        # Four empty fields, each with its length.
        added = uuid.UUID(guid).bytes_le + (24 + 16).to_bytes(8, "little") + bytes(16)
        at = extension + length
        film[at:at] = added
        # Sizes of the header and of the file, and the number of the header's objects.
        header_sizes = [16]
        if in_extension:
            header_sizes.append(extension + 16)
            film[extension + 42 : extension + 46] = (length - 46 + len(added)).to_bytes(4, "little")
        else:
            film[24:28] = (int.from_bytes(film[24:28], "little") + 1).to_bytes(4, "little")
        properties = film.index(uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le)
        for size in (*header_sizes, properties + 40):
            film[size : size + 8] = (int.from_bytes(film[size : size + 8], "little") + len(added)).to_bytes(8, "little")
        return bytes(film)

    return make


def mxf() -> bytes:
    """Return a film of a digital cinema: each picture in an encrypted triplet."""
    film, at = bytearray(make_film("mxf", Track("mpeg2video", size=(720, 576), frames=12))), 0
    while (at := film.find(_MXF_PICTURE, at)) >= 0:
        film[at : at + 16] = _MXF_ENCRYPTED_TRIPLET
        size = int.from_bytes(film[at + 17 : at + 20], "big")
        start = at + 20
        # The context, where the encrypted part begins, what it was, and how long; each with its length.
        fields = [bytes(16), bytes(8), _MXF_PICTURE, size.to_bytes(8, "big")]
        head = b"".join(b"\x83" + len(field).to_bytes(3, "big") + field for field in fields)
        film[start : start + size] = (head + _garbled(film[start : start + size]))[:size]
        at = start + size
    return bytes(film)


def mxf_framework() -> bytes:
    """Return an MXF whose metadata has a cryptographic framework, in the place of what fills a block."""
    film = bytearray(make_film("mxf", Track("mpeg2video", size=(720, 576), frames=12)))
    fill = _MXF_FILL.search(film)
    assert fill is not None
    film[fill.start() : fill.start() + 16] = _MXF_FRAMEWORK
    return bytes(film)


def transport(film: bytes = b"", *, in_packets: bool, pid: int = _PICTURE_PID) -> bytes:
    """Return a transport stream whose picture is scrambled.

    Args:
        film: The stream; empty: a new one.
        in_packets: Whether packets are marked; otherwise pictures are.
        pid: Of its picture.
    """
    changed = bytearray(film or make_film("mpegts"))
    for at in range(0, len(changed), 188):
        if int.from_bytes(changed[at + 1 : at + 3], "big") & 0x1FFF != pid:
            continue
        start = at + 4 + (1 + changed[at + 4] if changed[at + 3] & 0x20 else 0)
        if in_packets:
            changed[at + 3] |= 0x80
        elif changed[at + 1] & 0x40:
            changed[start + 6] |= 0x20
            start += 9 + changed[start + 8]
        changed[start : at + 188] = _garbled(changed[start : at + 188])
    return bytes(changed)


def transport_map(change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """Return what makes a transport stream in whose map a track's entry (type, PID, descriptors) is another one."""

    def make() -> bytes:
        film = bytearray(make_film("mpegts"))
        for at in range(0, len(film), 188):
            if int.from_bytes(film[at + 1 : at + 3], "big") == 0x5000:
                section = bytes(film[at + 5 : at + 5 + 3 + (film[at + 7])])
                start = 12 + section[11]
                shown = _with_checksum(section[:start] + change(section[start:-4]))
                film[at + 5 : at + 188] = shown.ljust(183, b"\xff")
        return bytes(film)

    return make


def with_access_descriptor(entry: bytes) -> bytes:
    """Return a track's entry with a descriptor that names a system of conditional access."""
    descriptor = b"\x09\x04\x0b\x00\xe1\x23"
    return entry[:4] + bytes([entry[4] + len(descriptor)]) + entry[5:] + descriptor


def as_sample_aes(entry: bytes) -> bytes:
    """Return a track's entry with the type of H.264 that HTTP Live Streaming has encrypted."""
    return b"\xdb" + entry[1:]


def program() -> bytes:
    """Return a program stream whose pictures are scrambled."""
    film, at = bytearray(make_film("vob", Track("mpeg2video"))), 0
    while (at := film.find(b"\0\0\1\xe0", at)) >= 0:
        film[at + 6] |= 0x30
        at += 4
    return bytes(film)


def flv() -> bytes:
    """Return a film whose tags are marked as encrypted, as Adobe's servers did."""
    film = bytearray(make_film("flv"))
    at = int.from_bytes(film[5:9], "big") + 4
    while at < len(film):
        size = int.from_bytes(film[at + 1 : at + 4], "big")
        if film[at] == 9:
            film[at] |= 0x20
        at += 11 + size + 4
    return bytes(film)
