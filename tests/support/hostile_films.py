"""Small files that cost a decoder much."""

import io
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame


def vast_film(*, width: int, height: int) -> bytes:
    """Return one black frame of this size, in QuickTime RLE: a hundredth of what it takes decoded."""
    return _film(width, height, times=(0,))


def claiming_film(*, width: int, height: int) -> bytes:
    """Return a kilobyte that claims a picture of this size."""
    film = bytearray(vast_film(width=64, height=64))
    # Behind the sample entry's type: 6 + 2 bytes of every entry, and 16 of no interest.
    at = film.index(b"rle ", film.index(b"stsd")) + 4 + 24
    struct.pack_into(">HH", film, at, width, height)
    return bytes(film)


def png_film(*, width: int, height: int) -> bytes:
    """Return one black frame of this size as PNG in QuickTime: a thousandth of what it takes decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    deflated = zlib.compressobj()
    rows = [deflated.compress(bytes(1 + 3 * width)) for _ in range(height)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    picture = header + chunk(b"IDAT", b"".join([*rows, deflated.flush()])) + chunk(b"IEND", b"")
    return _film(width, height, codec="png", encoded=b"\x89PNG\r\n\x1a\n" + picture)


def slow_film(*, frames: int) -> bytes:
    """Return a second of this many equal frames of 4 megapixels."""
    return _film(2048, 2048, times=tuple(range(frames)), rate=frames)


def standing_film(*, seconds: int) -> bytes:
    """Return two frames that are this far apart."""
    return _film(64, 64, times=(0, seconds))


def _film(
    width: int,
    height: int,
    *,
    times: tuple[int, ...] = (0,),
    rate: int = 1,
    codec: str = "qtrle",
    encoded: bytes = b"",
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.codec_context.time_base = stream.time_base = Fraction(1, rate)
        if not encoded:
            black = VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
            black.pts, black.time_base = 0, Fraction(1, rate)
            encoded = b"".join(bytes(packet) for packet in [*stream.encode(black), *stream.encode(None)])
        for time in times:
            packet = av.Packet(encoded)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, rate), True
            packet.pts = packet.dts = time
            out.mux(packet)
    return file.getvalue()
