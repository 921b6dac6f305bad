"""CompareEmbeddings through a real server, its interceptors and a real channel to embed."""

import asyncio
import math

import grpc
import numpy as np
import pytest
from fakes.compare import StoredEmbedding, segments, stored
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.compare.v1 import compare_pb2
from sage_runtime.ids import new_id

OLD = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)
NEW = OLD.copy()
NEW[3:5] *= -1


async def compare(stack, a: StoredEmbedding, b: StoredEmbedding, **fields: object):
    """Store two embeddings and compare them."""
    stack.embed.put(a, b)
    return await stack.compare.CompareEmbeddings(
        compare_pb2.CompareEmbeddingsRequest(**{"embedding_id_a": a.id, "embedding_id_b": b.id, **fields}), timeout=10
    )


class Refusal:
    """An error as a client sees it: status, reason, facts, fields, and when to try again."""

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
    """Return the error that comparing them ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await compare(stack, a, b, **fields)
    return Refusal(refused.value)


async def health_after_check(stack) -> int:
    """Return the health of the compare service after it looked around."""
    await stack.server.health.check_all()
    request = health_pb2.HealthCheckRequest(service="sage.compare.v1.CompareService")
    return (await health_pb2_grpc.HealthStub(stack.channel).Check(request)).status


async def test_comparison_says_what_was_used_and_what_was_found(stack):
    """The answer has what was used, both sides, the counts, the differences and the whole series."""
    a, b = stored(OLD), stored(NEW).but(duration=23.0)
    answer = await compare(stack, a, b)
    assert (answer.mode, answer.metric) == (compare_pb2.COMPARE_MODE_TIME, compare_pb2.METRIC_COSINE)
    assert (answer.track, answer.model) == ("visual", "local")
    assert 0 < answer.threshold < 2
    assert answer.a == compare_pb2.Side(
        embedding_id=a.id,
        video_id=a.video_id,
        duration_seconds=20,
        covered=compare_pb2.TimeRange(start_seconds=0, end_seconds=20),
    )
    assert (answer.b.embedding_id, answer.b.duration_seconds) == (b.id, 23)
    assert (answer.compared_count, answer.differing_count) == (10, 2)
    assert answer.similarity_percent == pytest.approx(100 * 16 / 23)
    changed, ending = answer.differences
    assert changed == compare_pb2.Difference(
        kind=compare_pb2.DIFFERENCE_KIND_CHANGED,
        a=compare_pb2.TimeRange(start_seconds=6, end_seconds=10),
        b=compare_pb2.TimeRange(start_seconds=6, end_seconds=10),
        max_distance=2,
        mean_distance=2,
    )
    assert ending == compare_pb2.Difference(
        kind=compare_pb2.DIFFERENCE_KIND_ONLY_IN_B, b=compare_pb2.TimeRange(start_seconds=20, end_seconds=23)
    )
    assert list(answer.series.a_start_seconds) == list(answer.series.b_start_seconds) == [2.0 * i for i in range(10)]
    assert list(answer.series.length_seconds) == [2.0] * 10
    assert list(answer.series.distances) == [0, 0, 0, 2, 2, 0, 0, 0, 0, 0]


async def test_euclidean_and_a_threshold_of_ones_own(stack):
    """The metric and the threshold of the request are used and answered."""
    answer = await compare(
        stack, stored(OLD), stored(NEW), metric=compare_pb2.METRIC_EUCLIDEAN, threshold=2.0, track="visual"
    )
    assert (answer.metric, answer.threshold) == (compare_pb2.METRIC_EUCLIDEAN, 2.0)
    assert (answer.differing_count, answer.similarity_percent) == (0, 100)
    assert answer.series.distances[3] == 2.0


async def test_an_embedding_beside_itself_has_no_differences(stack):
    """Comparing an embedding with itself is allowed: nothing differs, even at threshold 0."""
    one = stored(OLD)
    answer = await compare(stack, one, one, threshold=0)
    assert (answer.similarity_percent, len(answer.differences), answer.compared_count) == (100, 0, 10)
    assert stack.embed.calls == {"GetEmbedding": 1, "ReadSegments": 1}


async def test_second_track_is_answered_beside_the_first(stack):
    """The picture is the same and the sound differs: the answer has both, each with its own threshold and coverage."""
    a = stored(OLD).but(tracks={"visual": segments(OLD), "audio": segments(OLD)})
    b = stored(OLD).but(tracks={"visual": segments(OLD), "audio": segments(NEW, end=19.5)})
    answer = await compare(stack, a, b, second_track="audio", second_threshold=0.5)
    assert (answer.track, answer.similarity_percent, answer.differing_count) == ("visual", 100, 0)
    second = answer.second
    assert (second.track, second.threshold, second.compared_count, second.differing_count) == ("audio", 0.5, 10, 2)
    assert second.differences[0].a == compare_pb2.TimeRange(start_seconds=6, end_seconds=10)
    assert second.differences[1].kind == compare_pb2.DIFFERENCE_KIND_NOT_COMPARED
    assert (second.a_covered.end_seconds, second.b_covered.end_seconds) == (20, 19.5)
    assert list(second.series.distances) == [0, 0, 0, 2, 2, 0, 0, 0, 0, 0]
    assert not (await compare(stack, a, b)).HasField("second")


async def test_silent_film_differs_from_one_with_sound(stack):
    """A track that was asked for and does not exist is silence: the other has all of it alone."""
    sounding = stored(OLD).but(tracks={"visual": segments(OLD), "audio": segments(OLD)})
    silent = stored(OLD).but(requested_tracks=("visual", "audio"))
    second = (await compare(stack, sounding, silent, second_track="audio")).second
    (difference,) = second.differences
    assert difference.kind == compare_pb2.DIFFERENCE_KIND_ONLY_IN_A
    assert (difference.a.start_seconds, difference.a.end_seconds) == (0, 20)
    assert (second.HasField("a_covered"), second.HasField("b_covered")) == (True, False)
    both = (await compare(stack, silent, silent.but(), second_track="audio")).second
    assert (both.similarity_percent, len(both.differences)) == (100, 0)


async def test_re_encode_with_a_frame_more_has_no_differences(stack):
    """One frame more at the end, with a clip of its own, does not make two cuts differ."""
    longer = stored(OLD).but(tracks={"visual": segments(np.vstack([OLD, -OLD[:1]]), end=20.04)}, duration=20.04)
    answer = await compare(stack, stored(OLD), longer)
    assert (answer.similarity_percent, len(answer.differences)) == (100, 0)


async def test_warm_cache_reads_no_vectors_but_asks_for_the_embeddings(stack):
    """The second comparison moves no vectors; that the embeddings are still there is asked each time."""
    a, b = stored(OLD), stored(NEW)
    assert await compare(stack, a, b) == await compare(stack, a, b)
    assert stack.embed.calls == {"GetEmbedding": 4, "ReadSegments": 2}


async def test_calls_at_once_read_each_embedding_once(stack):
    """Many comparisons of the same pair at once read each track once."""
    a, b = stored(OLD), stored(NEW)
    answers = await asyncio.gather(*(compare(stack, a, b, threshold=t / 10) for t in range(10)))
    assert len(answers) == 10
    assert stack.embed.calls["ReadSegments"] == 2


@pytest.mark.parametrize("threshold", [math.nan, -0.5, 2.5, math.inf])
async def test_threshold_out_of_bounds_is_invalid(stack, threshold):
    """NaN, negative and above 2: each INVALID_ARGUMENT on the field `threshold` with its rule."""
    refused = await refusal(stack, stored(OLD), stored(NEW), threshold=threshold)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refused.fields == ["threshold"]
    assert "0 to 2" in refused.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"embedding_id_a": "nonsense"}, "embedding_id_a"),
        ({"embedding_id_b": ""}, "embedding_id_b"),
        ({"mode": compare_pb2.COMPARE_MODE_ALIGNED}, "mode"),
        ({"mode": 42}, "mode"),
        ({"metric": 42}, "metric"),
        ({"track": "video"}, "track"),
        ({"second_track": "video"}, "second_track"),
        ({"second_track": "visual"}, "second_track"),
        ({"second_track": "audio", "second_threshold": 3}, "second_threshold"),
    ],
)
async def test_bad_field_is_named(stack, fields, field):
    """Each bad field is INVALID_ARGUMENT and named, and nothing is read for it."""
    refused = await refusal(stack, stored(OLD), stored(NEW), **fields)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refused.fields == [field]
    assert not stack.embed.calls


async def test_unknown_embedding_is_not_found(stack):
    """An id that nothing has is NOT_FOUND and says which."""
    missing = new_id("embed")
    refused = await refusal(stack, stored(OLD), stored(NEW), embedding_id_b=missing)
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "EMBEDDING_NOT_FOUND")
    assert refused.facts["embedding_id"] == missing


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "PROCESSING"}, "EMBEDDING_NOT_COMPLETED"),
        ({"model": "marengo3.0"}, "MODELS_DIFFER"),
        ({"tracks": {"audio": segments(OLD)}}, "TRACK_MISSING"),
    ],
)
async def test_embeddings_that_cannot_be_compared_are_refused(stack, change, reason):
    """Not completed, another model, no such track: each FAILED_PRECONDITION with its own reason."""
    refused = await refusal(stack, stored(OLD), stored(NEW).but(**change))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)


async def test_too_many_segments_are_refused(stack):
    """A track over the limit is RESOURCE_EXHAUSTED and names the limit."""
    refused = await refusal(stack, stored(OLD), stored(np.ones((51, 16))))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert refused.facts["max"] == "50"


async def test_embed_that_is_down_may_be_tried_again(stack):
    """Without the embed service a comparison is UNAVAILABLE and says when to try again, and health turns."""
    a, b = stored(OLD), stored(NEW)
    await compare(stack, a, b)
    await stack.stop_embed()
    refused = await refusal(stack, a, b)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert refused.facts["service"] == "embed"
    assert refused.retry_s > 0
    assert await health_after_check(stack) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_follows_embed(stack):
    """The compare service serves while the embed service does, and not while that one says it is not well."""
    assert await health_after_check(stack) == health_pb2.HealthCheckResponse.SERVING
    stack.embed.well = False
    await stack.embed_server.health.check_all()
    assert await health_after_check(stack) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_vectors_that_lie_are_an_internal_error(stack):
    """Vectors with NaN in them are an error, never a comparison that finds nothing."""
    bad = OLD.copy()
    bad[4, 2] = np.nan
    refused = await refusal(stack, stored(OLD), stored(bad))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "finite" not in refused.text
