"""Resumable uploads, their parts, and rules for what a client declares that the contract's annotations do not state."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sage_runtime.api import UNSPECIFIC_MEDIA_TYPE, is_film_type, media_type_of
from sage_runtime.errors import SageError, invalid_field

from sage_ingest.errors import content_type_not_video, part_invalid, video_too_large, video_unreadable
from sage_ingest.videos.model import VideoSpec

UPLOAD_ID_PREFIX = "upload"
# What clients send if they do not know the type: `curl -T` sends none, `curl --data-binary` a form's.
_UNSPECIFIC_TYPES = {"", UNSPECIFIC_MEDIA_TYPE, "application/x-www-form-urlencoded"}


class UploadState(StrEnum):
    """State of a resumable upload: it accepts parts, has become a video, or was aborted or swept."""

    OPEN = "OPEN"
    COMPLETED = "COMPLETED"
    ABORTED = "ABORTED"


@dataclass(frozen=True)
class PartSpec:
    """What a client declared about a part before its bytes.

    Attributes:
        upload_id: The upload.
        number: From 1.
        size_bytes: Size of the part.
        sha256: 64 lower-case hexadecimal digits; empty if the client declared none.
    """

    upload_id: str
    number: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """A part that has arrived.

    Attributes:
        number: From 1.
        size_bytes: Size of the part.
        sha256: Of its bytes, 64 lower-case hexadecimal digits.
        tag: The object store's name for exactly these bytes.
    """

    number: int
    size_bytes: int
    sha256: str
    tag: str


@dataclass(frozen=True)
class Upload:
    """A resumable upload.

    Attributes:
        id: `upload_` and 32 hexadecimal digits; sorts by the time at which it began.
        video_id: ID that its video has or will have.
        spec: What the client declared about the file.
        part_bytes: Size of every part but the last.
        multipart_id: The object store's name for it.
        request_id: The client's idempotency key; empty if it sent none.
        create_time: When it began, with time zone.
        state: Its state.
        completing: Whether a call is joining its parts; it accepts no parts meanwhile.
        expire_time: When it is swept unless parts arrive first; `None` once it is not OPEN.
        failure: Why it was aborted, if its bytes were wrong.
    """

    id: str
    video_id: str
    spec: VideoSpec
    part_bytes: int
    multipart_id: str
    request_id: str
    create_time: datetime
    state: UploadState = UploadState.OPEN
    completing: bool = False
    expire_time: datetime | None = None
    failure: SageError | None = None

    @property
    def part_count(self) -> int:
        """Number of parts in the file."""
        return -(-self.spec.size_bytes // self.part_bytes)

    def size_of_part(self, number: int) -> int:
        """Return the number of bytes that a part must have; `number` is 1 to `part_count`."""
        return min(self.part_bytes, self.spec.size_bytes - (number - 1) * self.part_bytes)


@dataclass(frozen=True)
class OpenUpload:
    """An open resumable upload in a list.

    Attributes:
        upload: The upload.
        received_bytes: Total size of the parts that have arrived.
    """

    upload: Upload
    received_bytes: int


@dataclass(frozen=True)
class UploadPage:
    """A page of open uploads.

    Attributes:
        uploads: Newest first.
        next_page_token: Requests the page after this one; empty on the last page.
    """

    uploads: Sequence[OpenUpload]
    next_page_token: str


def check_video_spec(
    *,
    filename: str,
    content_type: str,
    size_bytes: int | None,
    sha256: str,
    max_video_bytes: int,
    video_track: int | None = None,
) -> VideoSpec:
    """Return what a client declared in normal form: media type without parameters, checksum in lower case.

    Args:
        filename: The label.
        content_type: Media type, possibly with parameters such as `; codecs=avc1`. If it is unspecific, the label's
            extension replaces it, if that is known. The bytes decide whether the file is a video.
        size_bytes: Declared size; `None` if neither the spec nor the gateway stated one.
        sha256: Declared checksum, or empty.
        max_video_bytes: Largest size that the server accepts.
        video_track: The picture track that is the film; `None`: the file decides.

    Raises:
        SageError: FIELD_INVALID, CONTENT_TYPE_NOT_VIDEO, VIDEO_TOO_LARGE or, for an empty file, VIDEO_UNREADABLE.
    """
    size_bytes = check_size(size_bytes, field="spec.size_bytes", of_what="whole file")
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if media_type in _UNSPECIFIC_TYPES:
        media_type = media_type_of(filename) or UNSPECIFIC_MEDIA_TYPE
    elif not is_film_type(media_type):
        raise content_type_not_video(content_type)
    if size_bytes > max_video_bytes:
        raise video_too_large(size_bytes, max_bytes=max_video_bytes)
    if size_bytes == 0:
        raise video_unreadable(filename, why="it has no bytes")
    return VideoSpec(
        filename=filename,
        content_type=media_type,
        size_bytes=size_bytes,
        sha256=sha256.lower(),
        video_track=video_track,
    )


def check_size(size_bytes: int | None, *, field: str, of_what: str) -> int:
    """Return a declared size, which may also come from the gateway and is therefore not required by the contract.

    Raises:
        SageError: FIELD_INVALID.
    """
    if size_bytes is None:
        raise invalid_field(
            field,
            f"is required: the size of the {of_what} in bytes. Over HTTP, send a Content-Length header, not a chunked "
            "body.",
        )
    return size_bytes


def check_part(upload: Upload, spec: PartSpec) -> None:
    """Check that an upload has a part with this number and size.

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
            why=f"it is {spec.size_bytes} bytes long and must be {size_bytes}",
        )
