"""What a command was asked to work on: a file, a video or an embedding."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from sage_cli.errors import Trouble

_ID = re.compile(r"(video|embed)_[0-9a-f]{32}")


@dataclass(frozen=True)
class FileTarget:
    """A file on this machine that can be read and is not empty."""

    path: Path
    size_bytes: int


@dataclass(frozen=True)
class VideoTarget:
    """A video that SAGE has."""

    video_id: str


@dataclass(frozen=True)
class EmbeddingTarget:
    """An embedding that SAGE has."""

    embedding_id: str


Target = FileTarget | VideoTarget | EmbeddingTarget


def read_target(text: str) -> Target:
    """Return what an argument names. An id is an id even where a file has the same name.

    Raises:
        Trouble: It is no id, and no file that can be uploaded.
    """
    match = _ID.fullmatch(text)
    if match is None:
        return read_file_target(text)
    return VideoTarget(text) if match[1] == "video" else EmbeddingTarget(text)


def read_file_target(text: str) -> FileTarget:
    """Return a file that can be uploaded.

    Raises:
        Trouble: It is missing, not a file, empty or not readable.
    """
    path = Path(text)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        looks_like_id = text.startswith(("video_", "embed_")) and "." not in text
        raise Trouble(
            f"There is no file {text}.",
            next_step="An id has 32 hexadecimal digits: `sage videos` and `sage embeddings` list them."
            if looks_like_id
            else "Check the path.",
        ) from error
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise Trouble(f"{text} cannot be read: {words}.", next_step="Check the path.") from error
    except ValueError as error:
        raise Trouble(f"{text!r} is not a path.", next_step="Check the path.") from error
    if stat.S_ISDIR(status.st_mode):
        raise Trouble(f"{text} is a directory.", next_step="Name a video file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise Trouble(
            f"{text} is not a regular file.",
            next_step="Its size must be known before it is sent; write it to a file first.",
        )
    if status.st_size == 0:
        raise Trouble(f"{text} is empty.", next_step="Name a video file.")
    if not os.access(path, os.R_OK):
        raise Trouble(f"{text} cannot be read: permission denied.", next_step="Check its permissions.")
    return FileTarget(path, status.st_size)
