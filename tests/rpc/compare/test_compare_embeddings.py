"""CompareEmbeddings through a real server, its interceptors and a real channel to embed."""

import asyncio
import math
from fractions import Fraction

import grpc
import numpy as np
import pytest
from fakes.compare import StoredEmbedding, stored, stored_track
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2
from sage_runtime.api import new_id

OLD = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)
NEW = OLD.copy()
NEW[3:5] *= -1

VISUAL = compare_pb2.TrackSpec(name="visual")
AUDIO = compare_pb2.TrackSpec(name="audio")


async def compare(stack, a: StoredEmbedding, b: StoredEmbedding, **fields: object):
    """Store two embeddings and compare them in mode TIME."""
    stack.embed.put(a, b)
    plain = {"embedding_id_a": a.id, "embedding_id_b": b.id, "mode": compare_pb2.COMPARE_MODE_TIME}
    return await stack.compare.CompareEmbeddings(
        compare_pb2.CompareEmbeddingsRequest(**{**plain, **fields}), timeout=10
    )


async def compare_visual(stack, a: StoredEmbedding, b: StoredEmbedding, *, threshold: float | None = None):
    """Compare the picture alone and return the comparison of that track."""
    spec = compare_pb2.TrackSpec(name="visual", threshold=threshold)
    (track,) = (await compare(stack, a, b, tracks=[spec])).tracks
    return track


class Refusal:
    """An error as a client sees it: status, reason, metadata, fields, and when to try again."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details()
        raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        for detail in status_pb2.Status.FromString(raw).details:
            for kind in (info, bad, retry):
                detail.Unpack(kind)
        self.reason, self.facts = info.reason, dict(info.metadata)
        self.fields = [violation.field for violation in bad.field_violations]
        self.retry_s = retry.retry_delay.ToMilliseconds() / 1000


async def refusal(stack, a: StoredEmbedding, b: StoredEmbedding, **fields: object) -> Refusal:
    """Return the error that comparing them raises."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await compare(stack, a, b, **fields)
    return Refusal(refused.value)


async def health_after_check(stack) -> int:
    """Return the health of the compare service after it has checked its dependencies."""
    await stack.server.health.check_all()
    request = health_pb2.HealthCheckRequest(service="sage.compare.v1.CompareService")
    return (await health_pb2_grpc.HealthStub(stack.channel).Check(request)).status


def frames(first: int, end: int, *, rate: Fraction = Fraction(24)) -> compare_pb2.FrameRange:
    """Return a range that begins and ends where a frame does."""
    return compare_pb2.FrameRange(first_frame=first, end_frame=end, start_seconds=first / rate, end_seconds=end / rate)


async def test_response_states_what_was_used_and_what_was_found(stack):
    a, b = stored(OLD), stored(NEW).but(duration=23.0)
    response = await compare(stack, a, b)
    assert (response.mode, response.metric) == (compare_pb2.COMPARE_MODE_TIME, compare_pb2.METRIC_COSINE)
    assert response.model == "local"
    assert response.a == compare_pb2.Side(embedding_id=a.id, video_id=a.video_id, media=a.media)
    assert response.b == compare_pb2.Side(embedding_id=b.id, video_id=b.video_id, media=b.media)
    (track,) = response.tracks
    assert (track.name, track.WhichOneof("result")) == ("visual", "time")
    assert (track.a_covered, track.b_covered) == (frames(0, 480), frames(0, 480))
    assert track.similarity_percent == pytest.approx(100 * 16 / 23)
    assert 0 < track.time.threshold < 2
    assert (track.time.compared_count, track.time.differing_count) == (10, 2)
    changed, ending = track.time.differences
    assert changed == compare_pb2.Difference(
        kind=compare_pb2.DIFFERENCE_KIND_CHANGED,
        a=frames(144, 240),
        b=frames(144, 240),
        max_distance=2,
        mean_distance=2,
    )
    assert ending == compare_pb2.Difference(kind=compare_pb2.DIFFERENCE_KIND_ONLY_IN_B, b=frames(480, 552))
    series = track.time.series
    assert list(series.a_start_seconds) == list(series.b_start_seconds) == [2.0 * i for i in range(10)]
    assert list(series.length_seconds) == [2.0] * 10
    assert list(series.distances) == [0, 0, 0, 2, 2, 0, 0, 0, 0, 0]


async def test_each_side_counts_frames_at_its_own_rate(stack):
    a, b = stored(OLD, frame_rate=Fraction(25)), stored(NEW, frame_rate=Fraction(30000, 1001))
    (track,) = (await compare(stack, a, b)).tracks
    (changed,) = track.time.differences
    assert (changed.a.first_frame, changed.a.end_frame) == (150, 250)
    assert (changed.b.first_frame, changed.b.end_frame) == (179, 299)
    assert (track.b_covered.first_frame, track.b_covered.end_frame) == (0, 599)


async def test_frames_are_0_if_the_frame_rate_is_unknown(stack):
    (track,) = (await compare(stack, stored(OLD, frame_rate=None), stored(NEW))).tracks
    (changed,) = track.time.differences
    assert changed.a == compare_pb2.FrameRange(start_seconds=6, end_seconds=10)
    assert changed.b == frames(144, 240)


async def test_metric_and_threshold_of_the_request_are_used_and_reported(stack):
    spec = compare_pb2.TrackSpec(name="visual", threshold=2.0)
    response = await compare(stack, stored(OLD), stored(NEW), metric=compare_pb2.METRIC_EUCLIDEAN, tracks=[spec])
    (track,) = response.tracks
    assert (response.metric, track.time.threshold) == (compare_pb2.METRIC_EUCLIDEAN, 2.0)
    assert (track.time.differing_count, track.similarity_percent) == (0, 100)
    assert track.time.series.distances[3] == 2.0


async def test_embedding_compared_with_itself_has_no_differences(stack):
    one = stored(OLD)
    track = await compare_visual(stack, one, one, threshold=0)
    assert (track.similarity_percent, len(track.time.differences), track.time.compared_count) == (100, 0, 10)
    assert stack.embed.calls == {"GetEmbedding": 1, "ReadSegments": 1}


async def test_tracks_are_compared_side_by_side_in_the_order_of_the_request(stack):
    a = stored(OLD).but(tracks={"visual": stored_track(OLD), "audio": stored_track(OLD)})
    b = stored(OLD).but(tracks={"visual": stored_track(OLD), "audio": stored_track(NEW, end=19.5)})
    audio_spec = compare_pb2.TrackSpec(name="audio", threshold=0.5)
    response = await compare(stack, a, b, tracks=[audio_spec, VISUAL])
    audio, visual = response.tracks
    assert (visual.name, visual.similarity_percent, visual.time.differing_count) == ("visual", 100, 0)
    assert (audio.name, audio.time.threshold) == ("audio", 0.5)
    assert (audio.time.compared_count, audio.time.differing_count) == (10, 2)
    changed, tail = audio.time.differences
    assert changed.a == frames(144, 240)
    assert tail.kind == compare_pb2.DIFFERENCE_KIND_NOT_COMPARED
    assert (audio.a_covered.end_seconds, audio.b_covered.end_seconds) == (20, 19.5)
    assert list(audio.time.series.distances) == [0, 0, 0, 2, 2, 0, 0, 0, 0, 0]
    assert list((await compare(stack, a, b, tracks=[VISUAL, audio_spec])).tracks) == [visual, audio]
    assert [track.name for track in (await compare(stack, a, b)).tracks] == ["visual"]


async def test_silent_video_lacks_everything_that_the_other_has(stack):
    with_sound = stored(OLD).but(tracks={"visual": stored_track(OLD), "audio": stored_track(OLD)})
    silent = stored(OLD).but(requested_tracks=("visual", "audio"))
    (audio,) = (await compare(stack, with_sound, silent, tracks=[AUDIO])).tracks
    (difference,) = audio.time.differences
    assert difference == compare_pb2.Difference(kind=compare_pb2.DIFFERENCE_KIND_ONLY_IN_A, a=frames(0, 480))
    assert (audio.HasField("a_covered"), audio.HasField("b_covered")) == (True, False)
    (audio,) = (await compare(stack, silent, silent.but(), tracks=[AUDIO])).tracks
    assert (audio.similarity_percent, len(audio.time.differences)) == (100, 0)


async def test_re_encode_with_one_frame_more_has_no_differences(stack):
    longer = stored(OLD).but(tracks={"visual": stored_track(np.vstack([OLD, -OLD[:1]]), end=20.04)}, duration=20.04)
    track = await compare_visual(stack, stored(OLD), longer)
    assert (track.similarity_percent, len(track.time.differences)) == (100, 0)


async def test_answer_says_what_differs_beyond_the_tracks_and_what_was_not_compared(stack):
    """Also if no interval differs: the sound may be another one."""
    surround = (media_pb2.AudioTrack(codec="ac3", channels=6, layout="5.1(side)", language="eng"),)
    found = await compare(stack, stored(OLD), stored(OLD, audio=surround))
    assert found.tracks[0].similarity_percent == 100
    (difference,) = found.media_differences
    assert (difference.kind, difference.audio_track) == (compare_pb2.MEDIA_DIFFERENCE_KIND_AUDIO_LAYOUT, 0)
    assert (difference.a, difference.b, difference.counts_as_difference) == ("2 channels", "5.1(side)", True)
    (part,) = found.not_compared
    assert (part.track, part.reason) == ("audio", compare_pb2.NOT_COMPARED_REASON_MODEL_LACKS_TRACK)


async def test_warm_cache_reads_no_vectors_but_still_looks_the_embeddings_up(stack):
    a, b = stored(OLD), stored(NEW)
    cold, warm = await compare(stack, a, b), await compare(stack, a, b)
    assert cold.SerializeToString() == warm.SerializeToString()
    assert stack.embed.calls == {"GetEmbedding": 4, "ReadSegments": 2, "ListModels": 2}


async def test_concurrent_calls_read_each_track_once(stack):
    a, b = stored(OLD), stored(NEW)
    found = await asyncio.gather(*(compare_visual(stack, a, b, threshold=t / 10) for t in range(10)))
    assert len(found) == 10
    assert stack.embed.calls["ReadSegments"] == 2


@pytest.mark.parametrize("threshold", [math.nan, -0.5, 2.5, math.inf])
async def test_threshold_outside_0_to_2_is_invalid(stack, threshold):
    spec = compare_pb2.TrackSpec(name="audio", threshold=threshold)
    refused = await refusal(stack, stored(OLD), stored(NEW), tracks=[VISUAL, spec])
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refused.fields == ["tracks[1].threshold"]
    assert refused.text.startswith("tracks[1].threshold: ")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"embedding_id_a": "nonsense"}, "embedding_id_a"),
        ({"embedding_id_b": ""}, "embedding_id_b"),
        ({"mode": 42}, "mode"),
        ({"metric": 42}, "metric"),
        ({"tracks": [compare_pb2.TrackSpec(name="video")]}, "tracks[0].name"),
        ({"tracks": [VISUAL, compare_pb2.TrackSpec()]}, "tracks[1].name"),
        ({"tracks": [compare_pb2.TrackSpec(name="x" * 65)]}, "tracks[0].name"),
        ({"tracks": [AUDIO, VISUAL, AUDIO]}, "tracks"),
        ({"tracks": [compare_pb2.TrackSpec(name=f"track {i}") for i in range(9)]}, "tracks"),
    ],
)
async def test_invalid_field_is_named_and_nothing_is_read(stack, fields, field):
    refused = await refusal(stack, stored(OLD), stored(NEW), **fields)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refused.fields == [field]
    assert not stack.embed.calls


async def test_all_invalid_fields_are_named_at_once(stack):
    spec = compare_pb2.TrackSpec(name="video", threshold=3)
    refused = await refusal(stack, stored(OLD), stored(NEW), embedding_id_a="", mode=99, metric=99, tracks=[spec])
    assert sorted(refused.fields) == ["embedding_id_a", "metric", "mode", "tracks[0].name", "tracks[0].threshold"]


async def test_unknown_embedding_is_not_found(stack):
    missing = new_id("embed")
    refused = await refusal(stack, stored(OLD), stored(NEW), embedding_id_b=missing)
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "EMBEDDING_NOT_FOUND")
    assert refused.facts["embedding_id"] == missing


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "PROCESSING"}, "EMBEDDING_NOT_COMPLETED"),
        ({"model": "marengo3.0"}, "MODELS_DIFFER"),
        ({"tracks": {"audio": stored_track(OLD)}}, "TRACK_MISSING"),
    ],
)
async def test_embeddings_that_do_not_match_are_refused(stack, change, reason):
    refused = await refusal(stack, stored(OLD), stored(NEW).but(**change))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)


async def test_too_many_segments_are_refused(stack):
    refused = await refusal(stack, stored(OLD), stored(np.ones((51, 16))))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert refused.facts["max"] == "50"


async def test_call_is_unavailable_with_a_retry_delay_while_embed_is_down(stack):
    a, b = stored(OLD), stored(NEW)
    await compare(stack, a, b)
    await stack.stop_embed()
    refused = await refusal(stack, a, b)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert refused.facts["service"] == "embed"
    assert refused.retry_s > 0
    assert await health_after_check(stack) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_follows_embed(stack):
    assert await health_after_check(stack) == health_pb2.HealthCheckResponse.SERVING
    stack.embed.well = False
    await stack.embed_server.health.check_all()
    assert await health_after_check(stack) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_vectors_with_nan_are_an_internal_error(stack):
    bad = OLD.copy()
    bad[4, 2] = np.nan
    refused = await refusal(stack, stored(OLD), stored(bad))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "finite" not in refused.text
