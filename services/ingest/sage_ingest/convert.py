"""Converts between the contract's messages and the model."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from google.protobuf import timestamp_pb2
from sage.ingest.v1 import ingest_pb2, media_pb2
from sage_runtime.api import EnumTable
from sage_runtime.errors import check_all, invalid_field

from sage_ingest.errors import spec_missing, spec_repeated
from sage_ingest.uploads.model import Part, PartSpec, Upload, UploadPage, UploadState, check_size, check_video_spec
from sage_ingest.videos.catalog import Page, PlaybackUrl
from sage_ingest.videos.model import (
    AudioTrack,
    Color,
    ColorRange,
    FieldOrder,
    FrameRateMode,
    Media,
    PictureArea,
    Timecode,
    Video,
    VideoSpec,
    VideoTrack,
)

# Set by the gateway from Content-Length, which the JSON transcoder does not pass on.
CONTENT_LENGTH_KEY = "x-upload-content-length"

_UPLOAD_STATES = EnumTable(UploadState, ingest_pb2.UploadState)
_FRAME_RATE_MODES = EnumTable(FrameRateMode, media_pb2.FrameRateMode)
_FIELD_ORDERS = EnumTable(FieldOrder, media_pb2.FieldOrder)
_COLOR_RANGES = EnumTable(ColorRange, media_pb2.ColorRange)


@dataclass(frozen=True)
class UploadStart:
    """The first message of a streamed upload, checked.

    Attributes:
        spec: What the video is.
        request_id: The client's idempotency key, or empty.
        data: The first bytes of the file, possibly none.
    """

    spec: VideoSpec
    request_id: str
    data: bytes


def to_upload_start(
    message: ingest_pb2.UploadVideoRequest | None, *, metadata: Mapping[str, str | bytes], max_video_bytes: int
) -> UploadStart:
    """Return the checked first message.

    Args:
        message: The first message, or `None` if the stream is empty.
        metadata: The call's metadata, for the size that the gateway takes from Content-Length.
        max_video_bytes: Size of the largest video that is accepted.

    Raises:
        SageError: SPEC_MISSING, FIELD_INVALID, CONTENT_TYPE_NOT_VIDEO, VIDEO_TOO_LARGE or VIDEO_UNREADABLE.
    """
    if message is None or not message.HasField("spec"):
        raise spec_missing()
    spec = message.spec
    checked = check_video_spec(
        filename=spec.filename,
        content_type=spec.content_type or message.content.content_type,
        size_bytes=spec.size_bytes if spec.HasField("size_bytes") else _content_length(metadata, "spec.size_bytes"),
        sha256=spec.sha256,
        max_video_bytes=max_video_bytes,
        video_track=spec.video_track if spec.HasField("video_track") else None,
    )
    return UploadStart(checked, message.request_id, message.content.data)


def to_video_spec(request: ingest_pb2.CreateUploadRequest, *, max_video_bytes: int) -> VideoSpec:
    """Return the checked spec of a resumable upload.

    Raises:
        SageError: FIELD_INVALID, CONTENT_TYPE_NOT_VIDEO, VIDEO_TOO_LARGE or VIDEO_UNREADABLE.
    """
    if not request.HasField("spec"):
        raise invalid_field("spec", "is required.")
    return check_video_spec(
        filename=request.spec.filename,
        content_type=request.spec.content_type,
        size_bytes=request.spec.size_bytes if request.spec.HasField("size_bytes") else None,
        sha256=request.spec.sha256,
        max_video_bytes=max_video_bytes,
        video_track=request.spec.video_track if request.spec.HasField("video_track") else None,
    )


def to_part_spec(
    message: ingest_pb2.UploadPartRequest | None, *, metadata: Mapping[str, str | bytes]
) -> tuple[PartSpec, bytes]:
    """Return what the first message declares about a part, and the bytes in it, possibly none.

    Raises:
        SageError: FIELD_INVALID.
    """
    message = message or ingest_pb2.UploadPartRequest()
    size_bytes = message.size_bytes if message.HasField("size_bytes") else _content_length(metadata, "size_bytes")
    check_all(
        lambda: _check_present(message.upload_id, field="upload_id"),
        lambda: check_size(size_bytes, field="size_bytes", of_what="part"),
    )
    spec = PartSpec(message.upload_id, message.part_number, size_bytes or 0, message.sha256.lower())
    return spec, message.content.data


async def to_part_chunks(
    spec: PartSpec, first: bytes, messages: AsyncIterator[ingest_pb2.UploadPartRequest]
) -> AsyncIterator[bytes]:
    """Yield the bytes of a part from the first message and then from the others.

    Raises:
        SageError: FIELD_INVALID if a later message names another part.
    """
    yield first
    async for message in messages:
        if message.upload_id not in ("", spec.upload_id) or message.part_number not in (0, spec.number):
            raise invalid_field("part_number", "must be the same throughout the stream, which carries one part.")
        data = message.content.data
        del message
        yield data


async def to_chunks(first: bytes, messages: AsyncIterator[ingest_pb2.UploadVideoRequest]) -> AsyncIterator[bytes]:
    """Yield the bytes of the file from the first message and then from the others.

    Raises:
        SageError: SPEC_REPEATED.
    """
    yield first
    async for message in messages:
        if message.HasField("spec"):
            raise spec_repeated()
        data = message.content.data
        # Otherwise this message would stay in memory while the next one is awaited: a megabyte for every upload.
        del message
        yield data


def from_video(video: Video) -> ingest_pb2.Video:
    """Return a video as a message."""
    return ingest_pb2.Video(
        id=video.id,
        filename=video.filename,
        content_type=video.content_type,
        size_bytes=video.size_bytes,
        sha256=video.sha256,
        media=_from_media(video.media),
        create_time=_timestamp(video.create_time),
    )


def from_page(page: Page) -> ingest_pb2.ListVideosResponse:
    """Return a page of videos as a message."""
    return ingest_pb2.ListVideosResponse(
        videos=[from_video(video) for video in page.videos], next_page_token=page.next_page_token
    )


def from_upload_page(page: UploadPage, *, expire_s: float) -> ingest_pb2.ListUploadsResponse:
    """Return a page of open uploads as a message."""
    return ingest_pb2.ListUploadsResponse(
        uploads=[
            from_upload(one.upload, (), received_bytes=one.received_bytes, expire_s=expire_s) for one in page.uploads
        ],
        next_page_token=page.next_page_token,
    )


def from_upload(
    upload: Upload, parts: Sequence[Part], *, expire_s: float, received_bytes: int | None = None
) -> ingest_pb2.Upload:
    """Return a resumable upload as a message.

    Args:
        upload: The upload.
        parts: Its parts; empty in a list.
        expire_s: Seconds between its last activity and the time at which it expires.
        received_bytes: Total size of its parts; `None` to add up `parts`.
    """
    spec, active_time = upload.spec, None
    if upload.expire_time is not None:
        active_time = max(upload.create_time, upload.expire_time - timedelta(seconds=expire_s))
    return ingest_pb2.Upload(
        id=upload.id,
        spec=ingest_pb2.VideoSpec(
            filename=spec.filename,
            content_type=spec.content_type,
            size_bytes=spec.size_bytes,
            sha256=spec.sha256,
            video_track=spec.video_track,
        ),
        part_size_bytes=upload.part_bytes,
        part_count=upload.part_count,
        parts=[from_part(part) for part in parts],
        state=_UPLOAD_STATES.to_message(upload.state),
        video_id=upload.video_id if upload.state is UploadState.COMPLETED else "",
        create_time=_timestamp(upload.create_time),
        expire_time=None if upload.expire_time is None else _timestamp(upload.expire_time),
        received_bytes=sum(part.size_bytes for part in parts) if received_bytes is None else received_bytes,
        active_time=None if active_time is None else _timestamp(active_time),
    )


def from_part(part: Part) -> ingest_pb2.UploadedPart:
    """Return a part that has arrived as a message."""
    return ingest_pb2.UploadedPart(part_number=part.number, size_bytes=part.size_bytes, sha256=part.sha256)


def to_validity_s(request: ingest_pb2.GetPlaybackUrlRequest) -> float | None:
    """Return the requested validity in seconds, or `None` for the default."""
    if not request.HasField("validity"):
        return None
    return request.validity.seconds + request.validity.nanos / 1e9


def from_playback_url(playback: PlaybackUrl) -> ingest_pb2.GetPlaybackUrlResponse:
    """Return a playback URL as a message."""
    return ingest_pb2.GetPlaybackUrlResponse(url=playback.url, expire_time=_timestamp(playback.expire_time))


def _check_present(value: str, *, field: str) -> None:
    if not value:
        raise invalid_field(field, "is required in the first message of the stream.")


def _content_length(metadata: Mapping[str, str | bytes], field: str) -> int | None:
    value = metadata.get(CONTENT_LENGTH_KEY)
    if value is None:
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid_field(field, "is missing, and the request's Content-Length is not a number.")
    return int(text)


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _from_media(media: Media) -> media_pb2.Media:
    display_width, display_height = media.display_size
    return media_pb2.Media(
        duration_seconds=media.duration_seconds,
        start_offset_seconds=media.start_offset_seconds,
        container=media.container,
        video_codec=media.video_codec,
        width=media.width,
        height=media.height,
        sample_aspect_ratio=_ratio(media.sample_aspect_ratio),
        display_width=display_width,
        display_height=display_height,
        rotation_degrees=media.rotation_degrees,
        mirrored=media.mirrored,
        frame_rate=media_pb2.FrameRate(numerator=media.frame_rate.numerator, denominator=media.frame_rate.denominator),
        frame_rate_mode=_FRAME_RATE_MODES.to_message(media.frame_rate_mode),
        frame_count=media.frame_count,
        start_timecode=None if media.start_timecode is None else _from_timecode(media.start_timecode),
        field_order=_FIELD_ORDERS.to_message(media.field_order),
        color=None if media.color is None else _from_color(media.color),
        audio_tracks=[_from_audio_track(track) for track in media.audio_tracks],
        video_track=media.video_track,
        video_tracks=[_from_video_track(track) for track in media.video_tracks],
        timestamps_jump=media.timestamps_jump,
        active_picture=None if media.active_picture is None else _from_area(media.active_picture),
    )


def _ratio(ratio: Fraction) -> media_pb2.Ratio:
    return media_pb2.Ratio(numerator=ratio.numerator, denominator=ratio.denominator)


def _from_timecode(timecode: Timecode) -> media_pb2.Timecode:
    return media_pb2.Timecode(
        hours=timecode.hours,
        minutes=timecode.minutes,
        seconds=timecode.seconds,
        frames=timecode.frames,
        drop_frame=timecode.drop_frame,
    )


def _from_area(area: PictureArea) -> media_pb2.PictureArea:
    return media_pb2.PictureArea(left=area.left, top=area.top, width=area.width, height=area.height)


def _from_color(color: Color) -> media_pb2.Color:
    return media_pb2.Color(
        primaries=color.primaries,
        transfer=color.transfer,
        matrix=color.matrix,
        range=_COLOR_RANGES.to_message(color.range),
    )


def _from_video_track(track: VideoTrack) -> media_pb2.VideoTrack:
    return media_pb2.VideoTrack(
        codec=track.codec,
        width=track.width,
        height=track.height,
        is_default=track.is_default,
        is_cover=track.is_cover,
        duration_seconds=track.duration_seconds,
    )


def _from_audio_track(track: AudioTrack) -> media_pb2.AudioTrack:
    return media_pb2.AudioTrack(
        codec=track.codec,
        channels=track.channels,
        layout=track.layout,
        sample_rate=track.sample_rate,
        language=track.language,
    )
