"""The rules for what a client says of a video before its bytes."""

import re

from sage_runtime.errors import check_all, invalid_field
from sage_runtime.fields import check_label

from sage_ingest.errors import content_type_not_video, video_too_large, video_unreadable
from sage_ingest.model import VideoSpec

MAX_FILENAME_LENGTH = 255
# type "/" subtype of RFC 6838, section 4.2, with `video` for the type.
_VIDEO_TYPE = re.compile(r"video/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


def check_spec(
    *, filename: str, content_type: str, size_bytes: int | None, sha256: str, max_video_bytes: int
) -> VideoSpec:
    """Return what the client said, in normal form: media type without parameters, checksum in lower case.

    Args:
        filename: The label.
        content_type: The media type, perhaps with parameters such as `; codecs=avc1`.
        size_bytes: The declared size; None where neither the spec nor the gateway said one.
        sha256: The declared checksum, or empty.
        max_video_bytes: The largest size that the server takes.

    Raises:
        SageError: FIELD_INVALID, CONTENT_TYPE_NOT_VIDEO, VIDEO_TOO_LARGE or, for an empty file, VIDEO_UNREADABLE.
    """
    check_all(
        lambda: check_label(filename, field="spec.filename", max_length=MAX_FILENAME_LENGTH),
        lambda: _check_size(size_bytes),
        lambda: _check_sha256(sha256),
    )
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if not _VIDEO_TYPE.fullmatch(media_type):
        raise content_type_not_video(content_type)
    size_bytes = size_bytes or 0
    if size_bytes > max_video_bytes:
        raise video_too_large(size_bytes, max_bytes=max_video_bytes)
    if size_bytes == 0:
        raise video_unreadable(filename, why="it has no bytes")
    return VideoSpec(filename=filename, content_type=media_type, size_bytes=size_bytes, sha256=sha256.lower())


def _check_size(size_bytes: int | None) -> None:
    if size_bytes is None:
        raise invalid_field("spec.size_bytes", "is required: the size of the whole file in bytes.")
    if size_bytes < 0:
        raise invalid_field("spec.size_bytes", "must not be negative: it is the size of the whole file in bytes.")


def _check_sha256(sha256: str) -> None:
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise invalid_field("spec.sha256", "must be 64 hexadecimal digits, or empty.")
