"""What ingest knows: videos, what a container holds, and what a client says of a file before its bytes.

Plain values. Times on a film's timeline are seconds.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction

from sage_runtime.errors import SageError

VIDEO_ID_PREFIX = "video"
UPLOAD_ID_PREFIX = "upload"
_KEY_PREFIX = "videos/"


@dataclass(frozen=True)
class VideoSpec:
    """What the client said of a video, after every rule was checked (`spec.check_spec`).

    Attributes:
        filename: A label for people. Never a path, never part of an object key.
        content_type: The media type without parameters, lower-case, such as `video/mp4`.
        size_bytes: The size of the whole file, at least 1.
        sha256: 64 lower-case hexadecimal digits; empty where the client gave none.
    """

    filename: str
    content_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Audio:
    """A sound track.

    Attributes:
        codec: Such as `aac`.
        channels: How many.
        sample_rate: Samples per second.
    """

    codec: str
    channels: int
    sample_rate: int


@dataclass(frozen=True)
class Media:
    """What a container holds, measured from its bytes.

    Attributes:
        duration_seconds: From the first frame to the end of the last.
        start_offset_seconds: Timestamp of the first frame, as the container has it.
        container: The container format, such as `mov,mp4,m4a,3gp,3g2,mj2`.
        video_codec: Such as `h264`.
        width: Of the coded picture in pixels, before rotation.
        height: Of the coded picture in pixels, before rotation.
        rotation_degrees: Clockwise, for display: 0, 90, 180 or 270.
        frame_rate: Frames per second, exact; the average where it varies.
        frame_count: None where the container does not say.
        audio: The first sound track; None where there is no sound.
    """

    duration_seconds: float
    start_offset_seconds: float
    container: str
    video_codec: str
    width: int
    height: int
    rotation_degrees: int
    frame_rate: Fraction
    frame_count: int | None
    audio: Audio | None


@dataclass(frozen=True)
class Video:
    """A video that is stored, verified and understood.

    Attributes:
        id: `video_` and 32 hexadecimal digits; sorts by the time the upload began.
        filename: The label it was uploaded under.
        content_type: The media type it was uploaded as.
        size_bytes: The size of the file.
        sha256: Of the file, 64 lower-case hexadecimal digits.
        media: What the container holds.
        create_time: When the upload began, with its time zone.
        request_id: The client's id of the upload; empty where it gave none.
    """

    id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    media: Media
    create_time: datetime
    request_id: str = ""


def object_key(video_id: str) -> str:
    """Return the key of a video's object: made from the id alone, so that nothing a client sends reaches it."""
    return f"{_KEY_PREFIX}{video_id}"


def was_uploaded_as(video: Video, spec: VideoSpec) -> bool:
    """Whether a video can be the answer to an upload with this spec, for uploads that repeat a request id."""
    return (
        (video.filename, video.content_type, video.size_bytes) == (spec.filename, spec.content_type, spec.size_bytes)
    ) and spec.sha256 in ("", video.sha256)


class UploadState(StrEnum):
    """Where an upload in parts stands: it takes parts, has become a video, or was aborted or swept."""

    OPEN = "OPEN"
    COMPLETED = "COMPLETED"
    ABORTED = "ABORTED"


@dataclass(frozen=True)
class PartSpec:
    """What a client says of a part before its bytes.

    Attributes:
        upload_id: The upload.
        number: From 1.
        size_bytes: Its size.
        sha256: 64 lower-case hexadecimal digits; empty where the client gave none.
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
        size_bytes: Its size.
        sha256: Of its bytes, 64 lower-case hexadecimal digits.
        tag: What the object store calls these very bytes.
    """

    number: int
    size_bytes: int
    sha256: str
    tag: str


@dataclass(frozen=True)
class Upload:
    """An upload in parts.

    Attributes:
        id: `upload_` and 32 hexadecimal digits; sorts by the time it began.
        video_id: What its video will be called, or is.
        spec: What the client said of the file.
        part_bytes: The size of every part but the last.
        multipart_id: What the object store calls it.
        request_id: The client's id of it; empty where it gave none.
        create_time: When it began, with its time zone.
        state: Where it stands.
        completing: Whether somebody is joining its parts right now; it takes none meanwhile.
        expire_time: When it is swept unless parts arrive before; None once it is not OPEN.
        failure: Why it was aborted where its bytes were at fault.
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
        """How many parts the whole file has."""
        return -(-self.spec.size_bytes // self.part_bytes)

    def size_of_part(self, number: int) -> int:
        """Return how many bytes a part must have; `number` is from 1 to `part_count`."""
        return min(self.part_bytes, self.spec.size_bytes - (number - 1) * self.part_bytes)
