"""Opening a film with FFmpeg through PyAV."""

from typing import Protocol

import av
from av.container import InputContainer

from sage_film.programs import one_program

# FFmpeg tries no other format. Apart from images and text, this excludes playlists (HLS, DASH, concat), which make it
# open addresses and files of the uploader's choice.
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,dv,nut,rm,ivf,yuv4mpegpipe"
# Coded pictures without a container, and so without the times at which they are shown.
RAW_FORMATS = "h264,hevc,vvc,mpegvideo,m4v,h263,h261,obu,vc1,dirac,mjpeg,cavsvideo"
_BUFFER_BYTES = 32 * 1024


class SeekableFile(Protocol):
    """The part of a binary file that FFmpeg needs."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end of the file."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset, and return it."""
        ...

    def tell(self) -> int:
        """Return the offset."""
        ...


def open_film(
    file: SeekableFile,
    *,
    formats: str = FORMATS,
    max_pixels: int | None = None,
    buffer_bytes: int = _BUFFER_BYTES,
    finds_fragments: bool = True,
) -> InputContainer:
    """Open a film from its first byte. FFmpeg decides by content what it is.

    Args:
        file: The film.
        formats: FFmpeg's names of the formats to try.
        max_pixels: FFmpeg decodes no picture with more pixels, also while it looks for the film's properties.
        buffer_bytes: How much is read at once.
        finds_fragments: Whether the headers of all fragments of an MP4 are read at once, so that it can be sought in.

    Raises:
        FFmpegError: It is in none of the formats.
        ValueError: It is in none of the formats.
    """
    file = one_program(file)
    file.seek(0)
    options = {"format_whitelist": formats}
    if max_pixels is not None:
        options["max_pixels"] = str(max_pixels)
    if not finds_fragments:
        options["fflags"] = "+ignidx"
    return av.open(file, mode="r", options=options, metadata_errors="ignore", buffer_size=buffer_bytes)
