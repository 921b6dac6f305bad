"""Media types of video files, by their names."""

import mimetypes
from pathlib import PurePosixPath

# Python asks the system's tables, which differ from machine to machine and call some films something else: `.ts` is a
# translation for Qt, `.mxf` an application.
_BY_SUFFIX = {
    ".3gp": "video/3gpp",
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".m2ts": "video/mp2t",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".mts": "video/mp2t",
    ".mxf": "video/mxf",
    ".ogv": "video/ogg",
    ".ts": "video/mp2t",
    ".webm": "video/webm",
    ".wmv": "video/x-ms-wmv",
    ".y4m": "video/x-yuv4mpeg",
}


def media_type_of(filename: str) -> str:
    """Return the media type that a file's name speaks of, such as `video/mp4`; empty where it speaks of none."""
    suffix = PurePosixPath(filename).suffix.lower()
    return _BY_SUFFIX.get(suffix) or mimetypes.guess_type(f"film{suffix}")[0] or ""
