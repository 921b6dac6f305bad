"""Small files that cost a decoder much."""

import io
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame


def vast_film(*, width: int, height: int) -> bytes:
    """Return one black frame of this size, in QuickTime RLE: a hundredth of what it takes decoded."""
    return _film(width, height, times=(0,))


def slow_film(*, frames: int) -> bytes:
    """Return a second of this many equal frames of 4 megapixels."""
    return _film(2048, 2048, times=tuple(range(frames)), rate=frames)


def standing_film(*, seconds: int) -> bytes:
    """Return two frames that are this far apart."""
    return _film(64, 64, times=(0, seconds))


def _film(width: int, height: int, *, times: tuple[int, ...], rate: int = 1) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as out:
        stream = out.add_stream("qtrle", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.codec_context.time_base = stream.time_base = Fraction(1, rate)
        black = VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
        black.pts, black.time_base = 0, Fraction(1, rate)
        encoded = b"".join(bytes(packet) for packet in [*stream.encode(black), *stream.encode(None)])
        for time in times:
            packet = av.Packet(encoded)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, rate), True
            packet.pts = packet.dts = time
            out.mux(packet)
    return file.getvalue()
