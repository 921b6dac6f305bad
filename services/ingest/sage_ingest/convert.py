"""Between the contract's messages and the model: the only module here that knows protobuf."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from google.protobuf import timestamp_pb2
from sage.ingest.v1 import ingest_pb2
from sage_runtime.errors import check_all, invalid_field
from sage_runtime.fields import check_request_id
from sage_runtime.ids import check_id

from sage_ingest.errors import spec_missing, spec_repeated
from sage_ingest.model import UPLOAD_ID_PREFIX, Audio, Media, Part, PartSpec, Upload, UploadState, Video, VideoSpec
from sage_ingest.spec import check_sha256, check_size, check_spec
from sage_ingest.videos import Page, PlaybackUrl

# Set by the gateway from Content-Length, which does not get through the JSON transcoder.
CONTENT_LENGTH_KEY = "x-upload-content-length"


@dataclass(frozen=True)
class UploadStart:
    """What the first message of an upload says, checked.

    Attributes:
        spec: What the video is.
        request_id: The client's id of the upload, or empty.
        data: The first bytes of the file, perhaps none.
    """

    spec: VideoSpec
    request_id: str
    data: bytes


def to_upload_start(
    message: ingest_pb2.UploadVideoRequest | None, *, metadata: Mapping[str, str | bytes], max_video_bytes: int
) -> UploadStart:
    """Return what the first message says.

    Args:
        message: The first message, or None where the stream had none.
        metadata: The call's, for the size that the gateway took from Content-Length.
        max_video_bytes: The largest size that the server takes.

    Raises:
        SageError: SPEC_MISSING, FIELD_INVALID, CONTENT_TYPE_NOT_VIDEO, VIDEO_TOO_LARGE or VIDEO_UNREADABLE.
    """
    if message is None or not message.HasField("spec"):
        raise spec_missing()
    spec = message.spec
    checked = check_spec(
        filename=spec.filename,
        content_type=spec.content_type or message.content.content_type,
        size_bytes=spec.size_bytes if spec.HasField("size_bytes") else _content_length(metadata, "spec.size_bytes"),
        sha256=spec.sha256,
        max_video_bytes=max_video_bytes,
    )
    return UploadStart(checked, check_request_id(message.request_id), message.content.data)


def to_upload(request: ingest_pb2.CreateUploadRequest, *, max_video_bytes: int) -> tuple[VideoSpec, str]:
    """Return what an upload in parts is said to become, and its request id, perhaps empty.

    Raises:
        SageError: FIELD_INVALID, CONTENT_TYPE_NOT_VIDEO, VIDEO_TOO_LARGE or VIDEO_UNREADABLE.
    """
    checked = check_spec(
        filename=request.spec.filename,
        content_type=request.spec.content_type,
        size_bytes=request.spec.size_bytes if request.spec.HasField("size_bytes") else None,
        sha256=request.spec.sha256,
        max_video_bytes=max_video_bytes,
    )
    return checked, check_request_id(request.request_id)


def to_part_spec(
    message: ingest_pb2.UploadPartRequest | None, *, metadata: Mapping[str, str | bytes]
) -> tuple[PartSpec, bytes]:
    """Return what the first message says of a part, and the bytes that it carries, perhaps none.

    Raises:
        SageError: FIELD_INVALID.
    """
    message = message or ingest_pb2.UploadPartRequest()
    size_bytes = message.size_bytes if message.HasField("size_bytes") else _content_length(metadata, "size_bytes")
    check_all(
        lambda: check_id(message.upload_id, prefix=UPLOAD_ID_PREFIX, field="upload_id"),
        lambda: check_size(size_bytes, field="size_bytes", of_what="part"),
        lambda: check_sha256(message.sha256, field="sha256"),
    )
    spec = PartSpec(message.upload_id, message.part_number, size_bytes or 0, message.sha256.lower())
    return spec, message.content.data


async def to_part_chunks(
    spec: PartSpec, first: bytes, messages: AsyncIterator[ingest_pb2.UploadPartRequest]
) -> AsyncIterator[bytes]:
    """Yield the bytes of a part: those of the first message, then those of the others.

    Raises:
        SageError: FIELD_INVALID where a later message speaks of another part.
    """
    yield first
    async for message in messages:
        if message.upload_id not in ("", spec.upload_id) or message.part_number not in (0, spec.number):
            raise invalid_field("part_number", "must be the same in the whole stream: it carries one part.")
        data = message.content.data
        del message
        yield data


async def to_chunks(first: bytes, messages: AsyncIterator[ingest_pb2.UploadVideoRequest]) -> AsyncIterator[bytes]:
    """Yield the bytes of the file: those of the first message, then those of the others.

    Raises:
        SageError: SPEC_REPEATED.
    """
    yield first
    async for message in messages:
        if message.HasField("spec"):
            raise spec_repeated()
        data = message.content.data
        # While the next message is awaited, this one would else be held too: a megabyte for every upload.
        del message
        yield data


def from_video(video: Video) -> ingest_pb2.Video:
    """Return a video as the contract has it."""
    return ingest_pb2.Video(
        id=video.id,
        filename=video.filename,
        content_type=video.content_type,
        size_bytes=video.size_bytes,
        sha256=video.sha256,
        state=ingest_pb2.VIDEO_STATE_READY,
        media=_from_media(video.media),
        create_time=_timestamp(video.create_time),
    )


def from_page(page: Page) -> ingest_pb2.ListVideosResponse:
    """Return a page as the contract has it."""
    return ingest_pb2.ListVideosResponse(
        videos=[from_video(video) for video in page.videos], next_page_token=page.next_page_token
    )


def from_upload(upload: Upload, parts: Sequence[Part]) -> ingest_pb2.Upload:
    """Return an upload in parts as the contract has it."""
    spec = upload.spec
    return ingest_pb2.Upload(
        id=upload.id,
        spec=ingest_pb2.VideoSpec(
            filename=spec.filename, content_type=spec.content_type, size_bytes=spec.size_bytes, sha256=spec.sha256
        ),
        part_size_bytes=upload.part_bytes,
        part_count=upload.part_count,
        parts=[from_part(part) for part in parts],
        state=ingest_pb2.UploadState.Value(f"UPLOAD_STATE_{upload.state}"),
        video_id=upload.video_id if upload.state is UploadState.COMPLETED else "",
        create_time=_timestamp(upload.create_time),
        expire_time=None if upload.expire_time is None else _timestamp(upload.expire_time),
    )


def from_part(part: Part) -> ingest_pb2.UploadedPart:
    """Return a part that has arrived as the contract has it."""
    return ingest_pb2.UploadedPart(part_number=part.number, size_bytes=part.size_bytes, sha256=part.sha256)


def to_validity_s(request: ingest_pb2.GetPlaybackUrlRequest) -> float | None:
    """Return the validity that was asked for in seconds, or None where it was left to the server."""
    if not request.HasField("validity"):
        return None
    return request.validity.seconds + request.validity.nanos / 1e9


def from_playback_url(playback: PlaybackUrl) -> ingest_pb2.GetPlaybackUrlResponse:
    """Return a playback URL as the contract has it."""
    return ingest_pb2.GetPlaybackUrlResponse(url=playback.url, expire_time=_timestamp(playback.expire_time))


def _content_length(metadata: Mapping[str, str | bytes], field: str) -> int | None:
    value = metadata.get(CONTENT_LENGTH_KEY)
    if value is None:
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid_field(field, "is missing, and the request's Content-Length is no number.")
    return int(text)


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _from_media(media: Media) -> ingest_pb2.Media:
    return ingest_pb2.Media(
        duration_seconds=media.duration_seconds,
        start_offset_seconds=media.start_offset_seconds,
        container=media.container,
        video_codec=media.video_codec,
        width=media.width,
        height=media.height,
        rotation_degrees=media.rotation_degrees,
        frame_rate=ingest_pb2.FrameRate(numerator=media.frame_rate.numerator, denominator=media.frame_rate.denominator),
        frame_count=media.frame_count,
        audio=None if media.audio is None else _from_audio(media.audio),
    )


def _from_audio(audio: Audio) -> ingest_pb2.Audio:
    return ingest_pb2.Audio(codec=audio.codec, channels=audio.channels, sample_rate=audio.sample_rate)
