"""GetVideo, ListVideos, DeleteVideo and GetPlaybackUrl."""

import datetime
import time

import grpc
import pytest
from fakes.ingest import unavailable
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.ingest.v1 import ingest_pb2
from sage_runtime.ids import new_id
from support.waiting import until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
BY_ID = {
    "GetVideo": ingest_pb2.GetVideoRequest,
    "DeleteVideo": ingest_pb2.DeleteVideoRequest,
    "GetPlaybackUrl": ingest_pb2.GetPlaybackUrlRequest,
}


async def test_a_video_is_answered_as_it_was_uploaded(ingest) -> None:
    """GetVideo answers what the upload answered."""
    video = await ingest.upload_film()
    assert (await ingest.stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=video.id))).video == video


@pytest.mark.parametrize("method", BY_ID)
async def test_an_unknown_video_is_not_found(ingest, refusal, method: str) -> None:
    """An id that no video has is NOT_FOUND and is named."""
    video_id = new_id("video")
    error = await refusal(getattr(ingest.stub, method)(BY_ID[method](video_id=video_id)))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VIDEO_NOT_FOUND")
    assert video_id in error.text


@pytest.mark.parametrize("method", BY_ID)
@pytest.mark.parametrize("video_id", ["", "42", "embed_" + "0" * 32, "video_" + "G" * 32, "video_' OR 1=1"])
async def test_a_malformed_id_is_refused(ingest, refusal, method: str, video_id: str) -> None:
    """What is no video's id is INVALID_ARGUMENT and names the field."""
    error = await refusal(getattr(ingest.stub, method)(BY_ID[method](video_id=video_id)))
    assert (error.code, error.reason, error.fields) == (INVALID, "FIELD_INVALID", ["video_id"])


async def test_nothing_is_an_empty_list(ingest) -> None:
    """Without videos the list is empty and the last page."""
    assert await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest()) == ingest_pb2.ListVideosResponse()


async def test_pages_are_newest_first_and_complete(ingest) -> None:
    """Following the tokens gives every video once, the newest first."""
    videos = [await ingest.upload_film(f"{number}.mp4") for number in range(5)]
    seen, token = [], ""
    for size in (2, 2, 1):
        page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=2, page_token=token))
        assert len(page.videos) == size
        seen += page.videos
        token = page.next_page_token
    assert token == ""
    assert seen == videos[::-1]


async def test_a_video_uploaded_between_pages_moves_none(ingest) -> None:
    """What comes while somebody reads on is neither skipped over nor shown twice."""
    videos = [await ingest.upload_film(f"{number}.mp4") for number in range(3)]
    page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=2))
    await ingest.upload_film("new.mp4")
    rest = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=2, page_token=page.next_page_token))
    assert [*page.videos, *rest.videos] == videos[::-1]


async def test_lists_can_be_filtered(ingest) -> None:
    """Only labels that contain the text are listed; a percent sign is a percent sign."""
    await ingest.upload_film("a.mp4")
    video = await ingest.upload_film("100%.MP4")
    answer = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(filename_contains="%.mp"))
    assert list(answer.videos) == [video]


@pytest.mark.parametrize("token", ["nonsense", "AAAA", "🎬", "x" * 5000])
async def test_a_page_token_that_was_not_ours_is_refused(ingest, refusal, token: str) -> None:
    """Anything that this list did not give is refused."""
    error = await refusal(ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_token=token)))
    assert (error.code, error.reason) == (INVALID, "PAGE_TOKEN_INVALID")


async def test_a_page_token_holds_for_its_filter(ingest, refusal) -> None:
    """A token is refused with another filter than the one it was given with."""
    for _ in range(2):
        await ingest.upload_film()
    page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=1))
    call = ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_token=page.next_page_token, filename_contains="b"))
    assert (await refusal(call)).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ingest_pb2.ListVideosRequest(page_size=201), "page_size"),
        (ingest_pb2.ListVideosRequest(page_size=-1), "page_size"),
        (ingest_pb2.ListVideosRequest(filename_contains="a\0"), "filename_contains"),
        (ingest_pb2.ListVideosRequest(filename_contains="a" * 256), "filename_contains"),
    ],
)
async def test_a_bad_list_is_refused(ingest, refusal, request_, field: str) -> None:
    """Page sizes out of bounds and filters that no label can contain are refused."""
    error = await refusal(ingest.stub.ListVideos(request_))
    assert (error.code, error.reason, error.fields) == (INVALID, "FIELD_INVALID", [field])


async def test_a_deleted_video_is_gone(ingest, refusal) -> None:
    """Neither the video nor its bytes are there, and deleting it again says so."""
    request = ingest_pb2.DeleteVideoRequest(video_id=(await ingest.upload_film()).id)
    await ingest.stub.DeleteVideo(request)
    assert ingest.nothing_is_left
    assert (await refusal(ingest.stub.DeleteVideo(request))).reason == "VIDEO_NOT_FOUND"


async def test_a_deletion_that_s3_fails_is_finished_by_the_sweep(make_ingest, refusal) -> None:
    """With S3 away a video is gone at once all the same, and its bytes follow when S3 is back."""
    ingest = await make_ingest(upload_lease_s=60, sweep_interval_s=0.05)
    video = await ingest.upload_film()
    ingest.objects.failures.errors["discard"] = unavailable()
    await ingest.stub.DeleteVideo(ingest_pb2.DeleteVideoRequest(video_id=video.id))
    error = await refusal(ingest.stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=video.id)))
    assert error.reason == "VIDEO_NOT_FOUND"
    # The lease of the deletion runs out, and a sweep fails like it.
    ingest.records.clock = lambda: time.monotonic() + 61
    await until(lambda: ingest.objects.failures.calls["discard"] > 1, timeout_s=10)
    assert ingest.objects.objects
    ingest.objects.failures.errors.clear()
    ingest.records.clock = lambda: time.monotonic() + 122
    await until(lambda: ingest.nothing_is_left, timeout_s=10)


async def test_a_playback_url_has_its_expiry(ingest) -> None:
    """The URL is for the video, an hour long unless asked for otherwise, and says when it ends."""
    video = await ingest.upload_film()
    for validity, seconds in ((None, 3600), (duration_pb2.Duration(seconds=60), 60)):
        request = ingest_pb2.GetPlaybackUrlRequest(video_id=video.id, validity=validity)
        before = datetime.datetime.now(datetime.UTC)
        answer = await ingest.stub.GetPlaybackUrl(request)
        assert answer.url == f"memory://videos/{video.id}?validity_s={seconds}"
        left = answer.expire_time.ToDatetime(datetime.UTC) - before
        assert seconds <= left.total_seconds() < seconds + 30


@pytest.mark.parametrize("seconds", [-1, 0, 59, 7 * 24 * 3600 + 1])
async def test_a_validity_out_of_bounds_is_refused(ingest, refusal, seconds: int) -> None:
    """Validities are from a minute to seven days."""
    request = ingest_pb2.GetPlaybackUrlRequest(
        video_id=new_id("video"), validity=duration_pb2.Duration(seconds=seconds)
    )
    error = await refusal(ingest.stub.GetPlaybackUrl(request))
    assert (error.code, error.reason, error.fields) == (INVALID, "FIELD_INVALID", ["validity"])


@pytest.mark.parametrize("part", ["records", "objects"])
async def test_trouble_with_a_store_can_be_tried_again(ingest, refusal, part: str) -> None:
    """With a store away an upload is UNAVAILABLE, and works once it is back."""
    failures = getattr(ingest, part).failures
    failures.errors["add_pending" if part == "records" else "begin"] = unavailable()
    error = await refusal(ingest.upload())
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert ingest.objects.is_empty
    failures.errors.clear()
    await ingest.upload_film()


@pytest.mark.parametrize("part", ["records", "objects"])
async def test_health_is_honest(ingest, part: str) -> None:
    """Health says NOT_SERVING while either store is away."""
    async with grpc.aio.insecure_channel(ingest.server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="sage.ingest.v1.IngestService")
        await ingest.server.health.check_all()
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        getattr(ingest, part).failures.errors["check"] = unavailable()
        await ingest.server.health.check_all()
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
