"""GetVideo, ListVideos, DeleteVideo and GetPlaybackUrl."""

import datetime
import time

import grpc
import pytest
from fakes.ingest import unavailable
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.ingest.v1 import ingest_pb2
from sage_runtime.api import new_id
from sage_runtime.auth.tokens import Scope, new_token
from support.small_films import small_film
from support.waiting import until

FILM, OTHER = small_film(), small_film(frames=12)
INVALID = grpc.StatusCode.INVALID_ARGUMENT
BY_ID = {
    "GetVideo": ingest_pb2.GetVideoRequest,
    "DeleteVideo": ingest_pb2.DeleteVideoRequest,
    "GetPlaybackUrl": ingest_pb2.GetPlaybackUrlRequest,
}


async def test_get_video_returns_what_the_upload_returned(ingest) -> None:
    video = await ingest.upload_film()
    assert (await ingest.stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=video.id))).video == video


@pytest.mark.parametrize("method", BY_ID)
async def test_an_unknown_video_is_not_found(ingest, refusal, method: str) -> None:
    video_id = new_id("video")
    error = await refusal(getattr(ingest.stub, method)(BY_ID[method](video_id=video_id)))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VIDEO_NOT_FOUND")
    assert video_id in error.text


@pytest.mark.parametrize("method", BY_ID)
@pytest.mark.parametrize("video_id", ["", "42", "embed_" + "0" * 32, "video_" + "G" * 32, "video_' OR 1=1"])
async def test_a_malformed_id_is_refused(ingest, refusal, method: str, video_id: str) -> None:
    error = await refusal(getattr(ingest.stub, method)(BY_ID[method](video_id=video_id)))
    assert (error.code, error.reason, error.fields) == (INVALID, "FIELD_INVALID", ["video_id"])


async def test_a_list_without_videos_is_empty(ingest) -> None:
    assert await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest()) == ingest_pb2.ListVideosResponse()


async def test_pages_are_newest_first_and_complete(ingest) -> None:
    videos = [await ingest.upload_film(f"{number}.mp4") for number in range(5)]
    seen, token = [], ""
    for size in (2, 2, 1):
        page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=2, page_token=token))
        assert len(page.videos) == size
        seen += page.videos
        token = page.next_page_token
    assert token == ""
    assert seen == videos[::-1]


async def test_a_video_uploaded_between_pages_neither_hides_nor_repeats_others(ingest) -> None:
    videos = [await ingest.upload_film(f"{number}.mp4") for number in range(3)]
    page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=2))
    await ingest.upload_film("new.mp4")
    rest = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=2, page_token=page.next_page_token))
    assert [*page.videos, *rest.videos] == videos[::-1]


async def test_lists_can_be_filtered(ingest) -> None:
    await ingest.upload_film("a.mp4")
    video = await ingest.upload_film("100%.MP4")
    response = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(filename_contains="%.mp"))
    assert list(response.videos) == [video]


async def test_a_page_size_above_the_maximum_is_accepted(ingest) -> None:
    for _ in range(3):
        await ingest.upload_film()
    assert len((await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=100_000))).videos) == 3


async def test_videos_are_found_by_checksum_in_either_case(ingest) -> None:
    videos = [await ingest.upload_film(data=data) for data in (FILM, OTHER, FILM)]
    for sha256 in (videos[0].sha256, videos[0].sha256.upper()):
        page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(sha256=sha256))
        assert list(page.videos) == [videos[2], videos[0]]
    assert not (await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(sha256="0" * 64))).videos


async def test_a_page_token_is_valid_for_its_checksum_in_either_case(ingest, refusal) -> None:
    videos = [await ingest.upload_film() for _ in range(2)]
    sha256 = videos[0].sha256
    page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=1, sha256=sha256))
    token = page.next_page_token
    rest = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_token=token, sha256=sha256.upper()))
    assert list(rest.videos) == [videos[0]]
    error = await refusal(ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_token=token)))
    assert error.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("token", ["nonsense", "AAAA", "🎬", "x" * 1000])
async def test_an_invented_page_token_is_refused(ingest, refusal, token: str) -> None:
    error = await refusal(ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_token=token)))
    assert (error.code, error.reason) == (INVALID, "PAGE_TOKEN_INVALID")


async def test_a_page_token_is_valid_for_its_filter_only(ingest, refusal) -> None:
    for _ in range(2):
        await ingest.upload_film()
    page = await ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_size=1))
    call = ingest.stub.ListVideos(ingest_pb2.ListVideosRequest(page_token=page.next_page_token, filename_contains="b"))
    assert (await refusal(call)).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ingest_pb2.ListVideosRequest(page_size=-1), "page_size"),
        (ingest_pb2.ListVideosRequest(filename_contains="a\0"), "filename_contains"),
        (ingest_pb2.ListVideosRequest(filename_contains="a" * 256), "filename_contains"),
        (ingest_pb2.ListVideosRequest(page_token="x" * 1025), "page_token"),
        (ingest_pb2.ListVideosRequest(sha256="ab"), "sha256"),
    ],
)
async def test_a_bad_list_is_refused(ingest, refusal, request_, field: str) -> None:
    error = await refusal(ingest.stub.ListVideos(request_))
    assert (error.code, error.reason, error.fields) == (INVALID, "FIELD_INVALID", [field])


async def test_a_deleted_video_is_gone(ingest, refusal) -> None:
    request = ingest_pb2.DeleteVideoRequest(video_id=(await ingest.upload_film()).id)
    await ingest.stub.DeleteVideo(request)
    assert ingest.nothing_is_left
    assert (await refusal(ingest.stub.DeleteVideo(request))).reason == "VIDEO_NOT_FOUND"


async def test_a_deletion_during_an_outage_of_s3_is_finished_by_the_sweep(make_ingest, refusal) -> None:
    ingest = await make_ingest(upload_lease_s=60, sweep_interval_s=0.05)
    video = await ingest.upload_film()
    ingest.objects.failures.errors["discard"] = unavailable()
    await ingest.stub.DeleteVideo(ingest_pb2.DeleteVideoRequest(video_id=video.id))
    error = await refusal(ingest.stub.GetVideo(ingest_pb2.GetVideoRequest(video_id=video.id)))
    assert error.reason == "VIDEO_NOT_FOUND"
    # The lease of the deletion runs out, and a sweep fails like it.
    ingest.videos.clock = lambda: time.monotonic() + 61
    await until(lambda: ingest.objects.failures.calls["discard"] > 1, timeout_s=10)
    assert ingest.objects.objects
    ingest.objects.failures.errors.clear()
    ingest.videos.clock = lambda: time.monotonic() + 122
    await until(lambda: ingest.nothing_is_left, timeout_s=10)


async def test_a_playback_url_has_its_expiry(ingest) -> None:
    video = await ingest.upload_film()
    for validity, seconds in ((None, 3600), (duration_pb2.Duration(seconds=60), 60)):
        request = ingest_pb2.GetPlaybackUrlRequest(video_id=video.id, validity=validity)
        before = datetime.datetime.now(datetime.UTC)
        response = await ingest.stub.GetPlaybackUrl(request)
        assert response.url == f"memory://videos/{video.id}?validity_s={seconds}"
        left = response.expire_time.ToDatetime(datetime.UTC) - before
        assert seconds <= left.total_seconds() < seconds + 30


@pytest.mark.parametrize("seconds", [-1, 0, 59, 7 * 24 * 3600 + 1])
async def test_a_validity_out_of_bounds_is_refused(ingest, refusal, seconds: int) -> None:
    request = ingest_pb2.GetPlaybackUrlRequest(
        video_id=new_id("video"), validity=duration_pb2.Duration(seconds=seconds)
    )
    error = await refusal(ingest.stub.GetPlaybackUrl(request))
    assert (error.code, error.reason, error.fields) == (INVALID, "FIELD_INVALID", ["validity"])


@pytest.mark.parametrize("part", ["videos", "objects"])
async def test_an_upload_succeeds_once_an_unavailable_store_is_back(ingest, refusal, part: str) -> None:
    failures = getattr(ingest, part).failures
    failures.errors["add_pending" if part == "videos" else "begin"] = unavailable()
    error = await refusal(ingest.upload())
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert ingest.objects.is_empty
    failures.errors.clear()
    await ingest.upload_film()


@pytest.mark.parametrize("part", ["videos", "objects"])
async def test_health_is_not_serving_while_a_store_is_down(ingest, part: str) -> None:
    async with grpc.aio.insecure_channel(ingest.server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="sage.ingest.v1.IngestService")
        await ingest.server.health.check_all()
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        getattr(ingest, part).failures.errors["check"] = unavailable()
        await ingest.server.health.check_all()
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_playback_url_needs_only_the_scope_read(make_ingest, refusal, tmp_path) -> None:
    secret, token = new_token("reader", Scope.READ)
    (tmp_path / "tokens").write_text(token.line())
    ingest = await make_ingest(tokens_file=str(tmp_path / "tokens"))
    metadata = [("authorization", f"Bearer {secret}")]
    video_id = new_id("video")
    request = ingest_pb2.GetPlaybackUrlRequest(video_id=video_id)
    assert (await refusal(ingest.stub.GetPlaybackUrl(request, metadata=metadata))).reason == "VIDEO_NOT_FOUND"
    delete = ingest_pb2.DeleteVideoRequest(video_id=video_id)
    assert (await refusal(ingest.stub.DeleteVideo(delete, metadata=metadata))).reason == "FORBIDDEN"
