"""Which kind of video a file is, by its name, then by its first bytes.

The server reads the bytes itself and trusts neither. What is said here is what a player is told later.
"""

from pathlib import Path

from sage_runtime.media_types import media_type_of

from sage_cli.errors import Trouble

_BY_FIRST_BYTES = (
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/x-matroska"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x06\x0e\x2b\x34", "video/mxf"),
)


def guess_media_type(path: Path) -> str:
    """Return the media type of a video file.

    Raises:
        Trouble: Neither its name nor its first bytes are those of a video.
    """
    by_name = media_type_of(path.name)
    if by_name.startswith("video/"):
        return by_name
    with path.open("rb") as file:
        head = file.read(16)
    for offset, mark, media_type in _BY_FIRST_BYTES:
        if head[offset : offset + len(mark)] == mark:
            return media_type
    looks_like = f"looks like {by_name}, not like a video" if by_name else "does not look like a video"
    raise Trouble(
        f"{path} {looks_like}.", next_step="If it is one, say which kind: --content-type video/mp4, for example."
    )
