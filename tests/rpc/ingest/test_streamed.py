"""UploadVideo: what it accepts and refuses, and that refused uploads leave nothing behind."""

import asyncio
import hashlib
from fractions import Fraction

import grpc
import pytest
from corpus.maker import Track, make_film
from google.api import httpbody_pb2
from sage.ingest.v1 import ingest_pb2, media_pb2
from sage_ingest.videos.model import object_key
from support.small_films import png, small_film, sound_with_cover
from support.waiting import until

FILM = small_film()
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_a_film_becomes_a_video(ingest) -> None:
    film = small_film(audio_codec="aac")
    video = (await ingest.upload(film, sha256=hashlib.sha256(film).hexdigest().upper(), chunk_bytes=1000)).video
    assert (video.filename, video.content_type, video.size_bytes) == ("a.mp4", "video/mp4", len(film))
    assert video.sha256 == hashlib.sha256(film).hexdigest()
    media = video.media
    assert (media.duration_seconds, media.width, media.height, media.frame_count) == (2.0, 64, 48, 48)
    assert (media.frame_rate.numerator, media.frame_rate.denominator) == (24, 1)
    assert media.video_codec == "h264"
    assert (media.display_width, media.display_height) == (64, 48)
    assert (media.sample_aspect_ratio.numerator, media.sample_aspect_ratio.denominator) == (1, 1)
    assert media.frame_rate_mode == media_pb2.FRAME_RATE_MODE_CONSTANT
    assert media.field_order == media_pb2.FIELD_ORDER_PROGRESSIVE
    assert list(media.audio_tracks) == [
        media_pb2.AudioTrack(codec="aac", channels=2, layout="stereo", sample_rate=48_000)
    ]
    assert video.HasField("create_time")
    assert ingest.objects.objects == {object_key(video.id): film}
    assert not ingest.videos.pending


async def test_facts_that_the_file_does_not_state_are_unset(ingest) -> None:
    video = await ingest.upload_film(data=small_film("matroska"))
    assert not video.media.audio_tracks
    for field in ("start_timecode", "color"):
        assert not video.media.HasField(field)


async def test_the_area_inside_black_bars_is_returned(ingest) -> None:
    media = (await ingest.upload_film(data=make_film("mp4", Track(bar=16, frames=100)))).media
    assert media.active_picture == media_pb2.PictureArea(top=16, width=96, height=32)


async def test_what_the_file_says_about_its_picture_is_returned(ingest) -> None:
    film = small_film(
        "mov",
        rate=Fraction(30000, 1001),
        matrix=(0, -1, -1, 0),
        pixel_aspect=Fraction(4, 3),
        color=(9, 16, 9, 1),
        timecode="01:02:03;04",
    )
    media = (await ingest.upload_film(data=film)).media
    assert (media.mirrored, media.rotation_degrees, media.display_width, media.display_height) == (True, 90, 48, 85)
    assert media.start_timecode == media_pb2.Timecode(hours=1, minutes=2, seconds=3, frames=4, drop_frame=True)
    assert media.color == media_pb2.Color(
        primaries="bt2020", transfer="smpte2084", matrix="bt2020nc", range=media_pb2.COLOR_RANGE_LIMITED
    )


async def test_the_picture_track_of_the_spec_is_the_film_and_makes_another_video(ingest) -> None:
    film = make_film("matroska", Track(), Track(frames=25, size=(64, 48)))
    default, second = [(await ingest.upload(film, video_track=track)).video for track in (None, 1)]
    assert [one.media.video_track for one in (default, second)] == [0, 1]
    assert [one.media.frame_count for one in (default, second)] == [50, 25]
    assert [track.width for track in second.media.video_tracks] == [96, 64]
    assert default.id != second.id
    assert (await ingest.stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=second.id))).video == second


async def test_a_request_id_belongs_to_one_picture_track(ingest, refusal) -> None:
    film = make_film("matroska", Track(), Track(frames=25))
    first, again = [(await ingest.upload(film, request_id="r", video_track=1)).video for _ in range(2)]
    assert again == first
    error = await refusal(ingest.upload(film, request_id="r", video_track=0))
    assert error.reason == "REQUEST_ID_REUSED"


async def test_the_first_message_may_carry_data(ingest) -> None:
    message = ingest_pb2.UploadVideoRequest(
        spec=ingest_pb2.VideoSpec(filename="a.mp4", content_type="video/mp4", size_bytes=len(FILM)),
        content=httpbody_pb2.HttpBody(data=FILM),
    )
    assert (await ingest.stub.UploadVideo(iter([message]))).video.size_bytes == len(FILM)


async def test_content_type_and_length_of_the_body_replace_those_of_the_spec(ingest) -> None:
    first = ingest_pb2.UploadVideoRequest(
        spec=ingest_pb2.VideoSpec(filename="a.mp4"),
        content=httpbody_pb2.HttpBody(content_type="video/webm", data=FILM),
    )
    call = ingest.stub.UploadVideo(iter([first]), metadata=[("x-upload-content-length", str(len(FILM)))])
    video = (await call).video
    assert (video.content_type, video.size_bytes) == ("video/webm", len(FILM))


@pytest.mark.parametrize("said", ["", "application/octet-stream", "application/x-www-form-urlencoded"])
async def test_the_extension_replaces_an_unspecific_content_type(ingest, said: str) -> None:
    first = ingest_pb2.UploadVideoRequest(
        spec=ingest_pb2.VideoSpec(filename="A.MOV", size_bytes=len(FILM)),
        content=httpbody_pb2.HttpBody(content_type=said, data=FILM),
    )
    assert (await ingest.stub.UploadVideo(iter([first]))).video.content_type == "video/quicktime"


async def test_the_content_decides_if_neither_type_nor_name_says_anything(ingest) -> None:
    video = (await ingest.upload(content_type=None, filename="film.final")).video
    assert (video.content_type, video.media.video_codec) == ("application/octet-stream", "h264")


async def test_the_size_in_the_spec_takes_precedence_over_content_length(ingest, refusal) -> None:
    call = ingest.upload(size_bytes=1, metadata=[("x-upload-content-length", str(len(FILM)))])
    assert (await refusal(call)).reason == "SIZE_MISMATCH"


@pytest.mark.parametrize("filename", ["../../etc/passwd", "C:\\a.mp4", "🎬🍿 фильм.mp4", "a" * 255])
async def test_unusual_file_names_are_kept_and_never_used_as_keys(ingest, filename: str) -> None:
    video = await ingest.upload_film(filename)
    assert video.filename == filename
    assert list(ingest.objects.objects) == [f"videos/{video.id}"]


@pytest.mark.parametrize(
    ("data", "spec", "reason", "field"),
    [
        pytest.param(png(), {}, "VIDEO_UNREADABLE", "content", id="a picture"),
        pytest.param(b"text\n" * 999, {}, "VIDEO_UNREADABLE", "content", id="text"),
        pytest.param(b"", {}, "VIDEO_UNREADABLE", "content", id="zero bytes"),
        pytest.param(sound_with_cover(), {}, "VIDEO_UNREADABLE", "content", id="sound with a cover"),
        pytest.param(FILM[:-100], {}, "VIDEO_UNREADABLE", "content", id="a truncated file"),
        pytest.param(
            small_film(options=(("movflags", "faststart"),))[:-300], {}, "VIDEO_UNREADABLE", "content",
            id="a truncated file whose index is first",
        ),
        pytest.param(FILM, {"content_type": "image/png"}, "CONTENT_TYPE_NOT_VIDEO", "spec.content_type", id="type"),
        pytest.param(
            png(), {"content_type": None, "filename": "film"}, "VIDEO_UNREADABLE", "content",
            id="a picture without a type, and with a name that says nothing",
        ),
        pytest.param(FILM, {"size_bytes": len(FILM) + 1}, "SIZE_MISMATCH", "spec.size_bytes", id="too few bytes"),
        pytest.param(FILM, {"size_bytes": len(FILM) - 1}, "SIZE_MISMATCH", "spec.size_bytes", id="too many bytes"),
        pytest.param(FILM, {"sha256": "0" * 64}, "CHECKSUM_MISMATCH", "spec.sha256", id="other bytes"),
        pytest.param(FILM, {"sha256": "abc"}, "FIELD_INVALID", "spec.sha256", id="no checksum"),
        pytest.param(FILM, {"size_bytes": None}, "FIELD_INVALID", "spec.size_bytes", id="no size"),
        pytest.param(FILM, {"size_bytes": -1}, "FIELD_INVALID", "spec.size_bytes", id="negative size"),
        pytest.param(FILM, {"size_bytes": 2**40}, "VIDEO_TOO_LARGE", "spec.size_bytes", id="too large"),
        pytest.param(FILM, {"filename": None}, "FIELD_INVALID", "spec.filename", id="no name"),
        pytest.param(FILM, {"filename": "a\x07.mp4"}, "FIELD_INVALID", "spec.filename", id="control character"),
        pytest.param(FILM, {"filename": "a" * 300}, "FIELD_INVALID", "spec.filename", id="300 characters"),
        pytest.param(FILM, {"request_id": "r" * 129}, "FIELD_INVALID", "request_id", id="long request id"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_and_leaves_nothing(ingest, refusal, data, spec, reason, field) -> None:
    error = await refusal(ingest.upload(data, **spec))
    assert (error.code, error.reason, error.fields) == (INVALID, reason, [field])
    assert "?" not in error.text
    assert ingest.nothing_is_left


async def test_an_invalid_content_length_is_refused(ingest, refusal) -> None:
    error = await refusal(ingest.upload(size_bytes=None, metadata=[("x-upload-content-length", "many")]))
    assert (error.reason, error.fields) == ("FIELD_INVALID", ["spec.size_bytes"])
    assert ingest.nothing_is_left


@pytest.mark.parametrize("with_data", [True, False])
async def test_a_first_message_without_a_spec_is_refused(ingest, refusal, data_messages, with_data) -> None:
    error = await refusal(ingest.stub.UploadVideo(iter(data_messages(FILM if with_data else b""))))
    assert (error.code, error.reason, error.fields) == (INVALID, "SPEC_MISSING", ["spec"])
    assert ingest.nothing_is_left


async def test_a_second_spec_is_refused(ingest, refusal, messages) -> None:
    error = await refusal(ingest.stub.UploadVideo(iter([*messages(size_bytes=10 * len(FILM)), *messages()])))
    assert (error.code, error.reason, error.fields) == (INVALID, "SPEC_REPEATED", ["spec"])
    assert ingest.nothing_is_left


async def test_excess_bytes_are_refused_before_the_stream_ends(ingest, refusal, messages) -> None:

    async def without_end():
        # No message follows the one in excess: see `messages`.
        for message in messages(FILM[:200], size_bytes=150, chunk_bytes=100):
            yield message
        await asyncio.Event().wait()

    assert (await refusal(ingest.stub.UploadVideo(without_end()))).reason == "SIZE_MISMATCH"
    assert ingest.nothing_is_left


@pytest.mark.parametrize("how", ["cancel", "channel", "deadline"])
async def test_a_client_that_disappears_leaves_nothing(ingest, messages, how: str) -> None:

    async def stalling():
        for message in messages(FILM, size_bytes=10 * len(FILM), chunk_bytes=1000):
            yield message
        await asyncio.Event().wait()

    channel = grpc.aio.insecure_channel(ingest.server.address)
    await channel.channel_ready()
    stub = type(ingest.stub)(channel)
    call = stub.UploadVideo(stalling(), timeout=1 if how == "deadline" else None)
    # Checks whether it has started, not whether something exists: that may be gone again by the deadline.
    await until(lambda: ingest.objects.failures.calls["begin"] == 1, timeout_s=10)
    if how == "cancel":
        call.cancel()
    await channel.close(grace=5 if how == "deadline" else None)
    await until(lambda: ingest.nothing_is_left, timeout_s=10)


async def test_a_client_that_stops_sending_is_refused(make_ingest, refusal, messages) -> None:
    ingest = await make_ingest(upload_idle_s=0.2)

    async def stalling():
        for message in messages(FILM, size_bytes=10 * len(FILM), chunk_bytes=1000):
            yield message
        await asyncio.Event().wait()

    error = await refusal(ingest.stub.UploadVideo(stalling()))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert error.facts["max"] == "0.2"
    assert ingest.nothing_is_left


@pytest.mark.parametrize("method", ["UploadVideo", "UploadPart"])
async def test_a_client_that_never_sends_is_refused(make_ingest, refusal, method) -> None:
    ingest = await make_ingest(first_message_s=0.2)

    async def silent():
        await asyncio.Event().wait()
        yield

    error = await refusal(getattr(ingest.stub, method)(silent()))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")


async def test_one_concurrent_upload_too_many_is_refused(make_ingest, refusal, messages) -> None:
    ingest = await make_ingest(max_concurrent_uploads=1)
    go_on = asyncio.Event()

    async def slow():
        for number, message in enumerate(messages(FILM, chunk_bytes=1000)):
            if number == 2:
                await go_on.wait()
            yield message

    first = ingest.stub.UploadVideo(slow())
    await until(lambda: bool(ingest.objects.multiparts), timeout_s=10)
    error = await refusal(ingest.upload())
    assert (error.code, error.reason, error.facts["max"]) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
        "1",
    )
    go_on.set()
    assert (await first).video.size_bytes == len(FILM)


async def test_a_repeated_request_id_returns_the_same_video(ingest) -> None:
    first = (await ingest.upload(request_id="r1")).video
    again = (await ingest.upload(request_id="r1")).video
    assert first == again
    assert len(ingest.objects.objects) == 1


async def test_a_request_id_of_another_file_is_refused(ingest, refusal) -> None:
    await ingest.upload(request_id="r1")
    error = await refusal(ingest.upload(filename="b.mp4", request_id="r1"))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert len(ingest.objects.objects) == 1


async def test_a_server_that_stops_leaves_nothing(ingest, messages) -> None:

    async def stalling():
        for message in messages(FILM, size_bytes=10 * len(FILM), chunk_bytes=1000):
            yield message
        await asyncio.Event().wait()

    call = ingest.stub.UploadVideo(stalling())
    await until(lambda: bool(ingest.objects.multiparts), timeout_s=10)
    await ingest.stop()
    assert ingest.nothing_is_left
    call.cancel()
