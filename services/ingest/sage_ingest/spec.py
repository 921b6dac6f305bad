"""The rules for what a client says of a video, or of a part of one, before its bytes."""

import re

from sage_runtime.errors import check_all, invalid_field
from sage_runtime.fields import check_label
from sage_runtime.media_types import media_type_of

from sage_ingest.errors import content_type_not_video, part_invalid, video_too_large, video_unreadable
from sage_ingest.model import PartSpec, Upload, VideoSpec

MAX_FILENAME_LENGTH = 255
# type "/" subtype of RFC 6838, section 4.2, with `video` for the type.
_VIDEO_TYPE = re.compile(r"video/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")

# What clients say who do not know what they send: `curl -T` nothing, `curl --data-binary` a form.
_TYPES_OF_ANYTHING = {"", "application/octet-stream", "application/x-www-form-urlencoded"}


def check_spec(
    *, filename: str, content_type: str, size_bytes: int | None, sha256: str, max_video_bytes: int
) -> VideoSpec:
    """Return what the client said, in normal form: media type without parameters, checksum in lower case.

    Args:
        filename: The label.
        content_type: The media type, perhaps with parameters such as `; codecs=avc1`. Where it says nothing, the label
            does.
        size_bytes: The declared size; None where neither the spec nor the gateway said one.
        sha256: The declared checksum, or empty.
        max_video_bytes: The largest size that the server takes.

    Raises:
        SageError: FIELD_INVALID, CONTENT_TYPE_NOT_VIDEO, VIDEO_TOO_LARGE or, for an empty file, VIDEO_UNREADABLE.
    """
    check_all(
        lambda: check_label(filename, field="spec.filename", max_length=MAX_FILENAME_LENGTH),
        lambda: check_size(size_bytes, field="spec.size_bytes", of_what="whole file"),
        lambda: check_sha256(sha256, field="spec.sha256"),
    )
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if media_type in _TYPES_OF_ANYTHING:
        media_type = media_type_of(filename)
    if not _VIDEO_TYPE.fullmatch(media_type):
        raise content_type_not_video(content_type or media_type)
    size_bytes = size_bytes or 0
    if size_bytes > max_video_bytes:
        raise video_too_large(size_bytes, max_bytes=max_video_bytes)
    if size_bytes == 0:
        raise video_unreadable(filename, why="it has no bytes")
    return VideoSpec(filename=filename, content_type=media_type, size_bytes=size_bytes, sha256=sha256.lower())


def check_size(size_bytes: int | None, *, field: str, of_what: str) -> int:
    """Return a declared size of what people call `of_what`.

    Raises:
        SageError: FIELD_INVALID.
    """
    if size_bytes is None:
        raise invalid_field(
            field,
            f"is required: the size of the {of_what} in bytes. Over HTTP the Content-Length header says it; a body in "
            "chunks has none.",
        )
    if size_bytes < 0:
        raise invalid_field(field, f"must not be negative: it is the size of the {of_what} in bytes.")
    return size_bytes


def check_sha256(sha256: str, *, field: str) -> str:
    """Return a declared checksum in lower case.

    Raises:
        SageError: FIELD_INVALID.
    """
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise invalid_field(field, "must be 64 hexadecimal digits, or empty.")
    return sha256.lower()


def check_part(upload: Upload, spec: PartSpec) -> None:
    """Check that an upload has a part like this.

    Raises:
        SageError: PART_INVALID.
    """
    count = upload.part_count
    if not 1 <= spec.number <= count:
        raise part_invalid(
            spec.number,
            field="part_number",
            rule=f"must be 1 to {count}.",
            why=f"the upload has parts 1 to {count}",
        )
    size_bytes = upload.size_of_part(spec.number)
    if spec.size_bytes != size_bytes:
        raise part_invalid(
            spec.number,
            field="size_bytes",
            rule=f"must be {size_bytes}.",
            why=f"it has {spec.size_bytes} bytes and must have {size_bytes}",
        )
