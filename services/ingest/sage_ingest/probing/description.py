"""What a file states about itself: geometry, colour, fields, timecode, audio tracks, and how long it should be."""

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import cast

from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sage_ingest.videos.model import AudioTrack, Color, ColorRange, FieldOrder, Timecode

# FFmpeg's names (`av_color_primaries_name` and so on) of the code points of ITU-T H.273, tables 2 to 4. 2 is unknown.
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
_TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
_MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
# AVColorRange: MPEG and JPEG.
_RANGES = {1: ColorRange.LIMITED, 2: ColorRange.FULL}
# AVFieldOrder. Of TB and BT the first letter is the field that is coded first, the second the one displayed first.
_FIELD_ORDERS = {
    1: FieldOrder.PROGRESSIVE,
    2: FieldOrder.TOP_FIRST,
    3: FieldOrder.BOTTOM_FIRST,
    4: FieldOrder.BOTTOM_FIRST,
    5: FieldOrder.TOP_FIRST,
}
# Far beyond every real picture. A file may state up to 2**31, with which the displayed width fits in no 32 bits.
_MAX_PIXEL_ASPECT = Fraction(100)
# No language tag needs more (RFC 5646, section 4.4.1). Matroska has room for megabytes, which no result may have.
_MAX_LANGUAGE_CHARS = 35
# SMPTE 12M: a semicolon, or in some files a dot, before the frames means drop-frame.
_TIMECODE = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")
_MATRIX = struct.Struct("<9i")

# A fragmented file may have thousands of boxes far apart, each of which costs a read. If there are more, the last
# packets of the file decide instead.
_MAX_BOXES = 64
# Boxes that a film needs. Anything else at the end may be padding that players ignore.
_ESSENTIAL_BOXES = {b"moov", b"moof", b"mdat"}
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"

ReadAt = Callable[[int, int], bytes]


def sample_aspect_ratio(stream: VideoStream) -> Fraction:
    """Return the width of a pixel divided by its height; 1 if the file states none, or one that cannot be meant."""
    ratio = stream.sample_aspect_ratio
    return ratio if ratio is not None and 1 / _MAX_PIXEL_ASPECT <= ratio <= _MAX_PIXEL_ASPECT else Fraction(1)


def orientation(frame: VideoFrame) -> tuple[bool, int]:
    """Return whether a player mirrors the picture left to right, and the degrees by which it then turns it clockwise.

    The display matrix is nine numbers `a b u c d v x y w`, of which `a` to `d` are 16.16 fixed point: a point (p, q) of
    the picture is displayed at (ap + cq, bp + dq), with q downwards. Its determinant is negative if it mirrors.
    Source: ISO/IEC 14496-12, section 6.2.2; `libavutil/display.h`.
    """
    raw = _display_matrix(frame)
    if len(raw) < _MATRIX.size:
        return False, 0
    a, b, _, c, d, *_ = _MATRIX.unpack_from(raw)
    mirrored = a * d - b * c < 0
    if mirrored:
        # Mirroring comes first, so it negates the image of p.
        a, b = -a, -b
    return mirrored, round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360


def _display_matrix(frame: VideoFrame) -> bytes:
    # PyAV's type hints list only some keys.
    side_data = cast("SideDataContainer", frame.side_data)
    return next((bytes(one) for one in side_data if one.type is Type.DISPLAYMATRIX), b"")


def field_order(context: VideoCodecContext) -> FieldOrder:
    """Return how the picture's fields are displayed."""
    return _FIELD_ORDERS.get(int(context.field_order), FieldOrder.UNSPECIFIED)


def color(frame: VideoFrame) -> Color | None:
    """Return how the picture's values map to colors, or `None` if the file does not say."""
    described = Color(
        primaries=_PRIMARIES.get(int(frame.color_primaries), ""),
        transfer=_TRANSFERS.get(int(frame.color_trc), ""),
        matrix=_MATRICES.get(int(frame.colorspace), ""),
        range=_RANGES.get(int(frame.color_range), ColorRange.UNSPECIFIED),
    )
    return None if described == Color() else described


def start_timecode(container: InputContainer, stream: VideoStream) -> Timecode | None:
    """Return the timecode of the first frame, which FFmpeg reads from the container, the picture or a `tmcd` track.

    Timecodes inside the coded picture are not read: MPEG-2 streams have one in each group of pictures, usually
    00:00:00:00 because the encoder had no timecode to write.
    """
    for metadata in _metadata(container, stream):
        match = _TIMECODE.fullmatch(_tag(metadata, "timecode"))
        if match is not None:
            hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
            if hours < 24 and minutes < 60 and seconds < 60:
                return Timecode(hours, minutes, seconds, frames, drop_frame=match[4] != ":")
    return None


def _tag(metadata: Mapping[str, str], name: str) -> str:
    # Matroska writes tag names in capitals.
    return next((value.strip() for key, value in metadata.items() if key.lower() == name), "")


def _metadata(container: InputContainer, stream: VideoStream) -> Iterator[Mapping[str, str]]:
    yield stream.metadata
    yield from (other.metadata for other in container.streams.data)
    yield container.metadata


def audio_tracks(container: InputContainer) -> tuple[AudioTrack, ...]:
    """Return the audio tracks in the order of the file."""
    tracks = []
    for stream in container.streams.audio:
        language = _tag(stream.metadata, "language")
        # ISO 639-2 has `und` for "undetermined".
        language = "" if language == "und" or len(language) > _MAX_LANGUAGE_CHARS else language
        # Typed as always present; it is absent if FFmpeg has no decoder.
        context = getattr(stream, "codec_context", None)
        if context is None:
            tracks.append(AudioTrack(codec="unknown", channels=0, sample_rate=0, language=language))
            continue
        layout = context.layout
        # FFmpeg describes channels in an unknown order as `3 channels`.
        name = "" if layout.name.endswith("channels") else layout.name
        tracks.append(AudioTrack(context.name, layout.nb_channels, context.sample_rate, name, language))
    return tuple(tracks)


def missing_bytes(read_at: ReadAt, *, size_bytes: int) -> int:
    """Return how many bytes a file lacks according to its own headers; 0 if it is complete or does not say.

    A player plays half a file without complaint, so a truncated upload would go unnoticed. Three families of containers
    state their length up front: ISO base media (MP4, MOV), Matroska (MKV, WebM) and RIFF (AVI).

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
