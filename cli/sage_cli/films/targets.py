"""The target of a command: a file, a video or an embedding."""

import codecs
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from sage_runtime.api import UNSPECIFIC_MEDIA_TYPE, media_type_of

from sage_cli.api.errors import CommandError

_ID = re.compile(r"(video|embed)_[0-9a-f]{32}")
_MEDIA_TYPES_BY_FIRST_BYTES = (
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/x-matroska"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x06\x0e\x2b\x34", "video/mxf"),
    (0, b"nut/multimedia container\0", "video/x-nut"),
    (0, b".RMF", "video/vnd.rn-realvideo"),
    (0, b"YUV4MPEG2 ", "video/x-yuv4mpeg"),
)
# What a file plainly is instead of a film. Anything else is sent, and the server decides.
_OTHERS_BY_FIRST_BYTES = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"8BPS", "a Photoshop image"),
    (8, b"WAVE", "a WAV sound file"),
    (0, b"fLaC", "a FLAC sound file"),
    (0, b"ID3", "an MP3 sound file"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
)
_HEAD_BYTES = 512


@dataclass(frozen=True)
class FileTarget:
    """A readable, non-empty file on this machine.

    Attributes:
        path: Its path.
        size_bytes: Its size.
        video_track: The picture track that is the film; None for the one that the server chooses.
    """

    path: Path
    size_bytes: int
    video_track: int | None = None


@dataclass(frozen=True)
class VideoTarget:
    """A stored video."""

    video_id: str


@dataclass(frozen=True)
class EmbeddingTarget:
    """A stored embedding."""

    embedding_id: str


Target = FileTarget | VideoTarget | EmbeddingTarget


def is_id(text: str) -> bool:
    """Return whether a text is the ID of a video or an embedding."""
    return _ID.fullmatch(text) is not None


def read_target(text: str, *, video_track: int | None = None) -> Target:
    """Return what an argument names. An ID is an ID even if a file has the same name.

    Args:
        text: The argument.
        video_track: The picture track of a file that is the film.

    Raises:
        CommandError: It is neither an ID nor a file that can be uploaded, or a picture track is chosen for an ID.
    """
    match = _ID.fullmatch(text)
    if match is None:
        return read_file_target(text, video_track=video_track)
    if video_track is not None:
        raise CommandError(
            f"{text} is stored already, so its picture track cannot be chosen.",
            next_step="--video-track chooses a track of a file; `sage diff` accepts old:N or new:N for one of two.",
        )
    return VideoTarget(text) if match[1] == "video" else EmbeddingTarget(text)


def read_video_id(text: str) -> str:
    """Return the ID of a video.

    Raises:
        CommandError: It names something else.
    """
    if not text.startswith("video_") or not is_id(text):
        raise CommandError(f"{text} is not the ID of a video.", next_step="`sage videos` lists them.")
    return text


def read_embedding_id(text: str) -> str:
    """Return the ID of an embedding.

    Raises:
        CommandError: It names something else.
    """
    if not text.startswith("embed_") or not is_id(text):
        raise CommandError(f"{text} is not the ID of an embedding.", next_step="`sage embeddings` lists them.")
    return text


def read_file_target(text: str, *, video_track: int | None = None) -> FileTarget:
    """Return a file that can be uploaded.

    Args:
        text: Its path.
        video_track: The picture track that is the film.

    Raises:
        CommandError: It is missing, not a regular file, empty or not readable.
    """
    path = Path(text)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        looks_like_id = text.startswith(("video_", "embed_")) and "." not in text
        raise CommandError(
            f"There is no file {text}.",
            next_step="An ID has 32 hexadecimal digits: `sage videos` and `sage embeddings` list them."
            if looks_like_id
            else "Check the path.",
        ) from error
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise CommandError(f"{text} cannot be read: {words}.", next_step="Check the path.") from error
    except ValueError as error:
        raise CommandError(f"{text!r} is not a path.", next_step="Check the path.") from error
    if stat.S_ISDIR(status.st_mode):
        raise CommandError(f"{text} is a directory.", next_step="Give the path of a video file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise CommandError(
            f"{text} is not a regular file.",
            next_step="The size must be known before the upload begins; write it to a file first.",
        )
    if status.st_size == 0:
        raise CommandError(f"{text} is empty.", next_step="Give the path of a video file.")
    if not os.access(path, os.R_OK):
        raise CommandError(f"{text} cannot be read: permission denied.", next_step="Check its permissions.")
    return FileTarget(path, status.st_size, video_track)


def guess_media_type(path: Path) -> str:
    """Return the media type of a video file, from its name or else from its first bytes.

    It is unspecific if neither tells. The server examines the bytes itself; players get the type stated here.

    Raises:
        CommandError: Its name is not that of a video and its first bytes are plainly something else, or it cannot be
            read.
    """
    if by_name := media_type_of(path.name):
        return by_name
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if media_type := _found(head, _MEDIA_TYPES_BY_FIRST_BYTES):
        return media_type
    if other := _found(head, _OTHERS_BY_FIRST_BYTES) or ("a text file" if _is_text(head) else ""):
        raise CommandError(
            f"{path} is {other}, not a video.", next_step="If it is one, state its type: --content-type video/mp4."
        )
    return UNSPECIFIC_MEDIA_TYPE


def _found(head: bytes, marks: tuple[tuple[int, bytes, str], ...]) -> str:
    return next((found for offset, mark, found in marks if head[offset : offset + len(mark)] == mark), "")


def _is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are text in UTF-8, the last character of which may be cut off."""
    if any(byte < 0x20 and byte not in b"\t\n\r\f" for byte in head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def unreadable(path: Path, error: OSError) -> CommandError:
    """Return the error for a file that cannot be read."""
    words = (error.strerror or str(error)).lower()
    return CommandError(f"{path} cannot be read: {words}.", next_step="Check the file and the disk that it is on.")
