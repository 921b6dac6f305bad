"""What ingest knows: videos, what a container holds, and what a client says of a file before its bytes.

Plain values. Times on a film's timeline are seconds.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

VIDEO_ID_PREFIX = "video"
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
