"""CreateEmbedding over the wire."""

import asyncio
import math
from dataclasses import replace

import grpc
import pytest
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import media_pb2
from sage_embed.errors import model_unavailable
from sage_runtime.api import new_id
from sage_runtime.client import to_sage_error
from sage_runtime.errors import Reason, SageError


async def refused(call) -> tuple[Reason, str]:
    """Return the reason and the message with which a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return to_sage_error(caught.value, service="embed").reason, caught.value.details()


async def test_defaults_are_resolved_in_the_response(create):
    embedding = await create()
    assert embedding.state == embed_pb2.EMBEDDING_STATE_PENDING
    assert (embedding.model, embedding.model_revision, embedding.provider) == ("scripted", "1", "tests")
    assert (embedding.clip_seconds, embedding.dimensions, list(embedding.requested_tracks)) == (2.0, 8, ["visual"])
    assert [track.name for track in embedding.tracks] == ["visual"]
    assert embedding.HasField("create_time")
    assert not embedding.HasField("start_time")
    assert not embedding.HasField("finish_time")
    assert not embedding.HasField("failure")


async def test_a_repeated_request_id_returns_the_same_embedding(create, ingest, video):
    first = await create(request_id="r-1")
    made = await asyncio.gather(*(create(request_id="r-1") for _ in range(5)))
    assert {embedding.id for embedding in made} == {first.id}
    assert (await create(request_id="r-1", clip_seconds=2, tracks=["visual"])).id == first.id
    del ingest.videos[video]
    assert (await create(request_id="r-1")).id == first.id


async def test_media_is_what_ingest_returned(create, ingest, video):
    media = ingest.videos[video].media
    media.sample_aspect_ratio.CopyFrom(media_pb2.Ratio(numerator=4, denominator=3))
    media.start_timecode.CopyFrom(media_pb2.Timecode(hours=10, drop_frame=True))
    assert (await create()).media == media


async def test_identical_requests_through_two_replicas_make_one_embedding_and_one_task(
    start_api, start_worker, video, engine, script, finish
):
    engine.task_id = "task-1"
    request = embed_pb2.CreateEmbeddingRequest(video_id=video)
    async with start_api() as one, start_api() as other:
        responses = await asyncio.gather(*(stub.CreateEmbedding(request) for stub in (one, other) for _ in range(20)))
        (embedding_id,) = {response.embedding.id for response in responses}
        assert sorted(response.reused for response in responses) == [False] + [True] * 39
        async with start_worker():
            assert (await finish(embedding_id)).state == embed_pb2.EMBEDDING_STATE_COMPLETED
        completed = await other.CreateEmbedding(request)
    assert completed.reused
    assert completed.embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED
    assert script.computed().count("task task-1") == 1


async def test_reuse_does_not_call_ingest(create, ingest, video):
    first = await create(force=False)
    del ingest.videos[video]
    assert (await create(force=False)).id == first.id


async def test_a_request_id_of_a_different_request_is_refused(create):
    await create(request_id="r-1")
    reason, message = await refused(create(request_id="r-1", clip_seconds=3))
    assert reason is Reason.REQUEST_ID_REUSED
    assert "'r-1'" in message


VIDEO_ID_RULE = "must be a video's ID: `video_` and 32 hexadecimal digits."
REQUEST_ID_RULE = "must be at most 128 printable ASCII characters."


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"video_id": ""}, "video_id", VIDEO_ID_RULE),
        ({"video_id": "../etc/passwd"}, "video_id", VIDEO_ID_RULE),
        ({"clip_seconds": math.nan}, "clip_seconds", "must be greater than or equal to 0."),
        ({"clip_seconds": math.inf}, "clip_seconds", "finite"),
        ({"clip_seconds": -1}, "clip_seconds", "must be greater than or equal to 0."),
        ({"clip_seconds": 0.1}, "clip_seconds", "is 0.1; model scripted accepts 0.5 to 10."),
        ({"clip_seconds": 11}, "clip_seconds", "is 11; model scripted accepts 0.5 to 10."),
        ({"tracks": ["visual", "smell"]}, "tracks", "has 'smell'; model scripted makes visual, audio."),
        ({"tracks": [""]}, "tracks[0]", "1 character"),
        ({"tracks": ["visual", "visual"]}, "tracks", "unique"),
        ({"request_id": "x" * 129}, "request_id", REQUEST_ID_RULE),
        ({"request_id": "a\0b"}, "request_id", REQUEST_ID_RULE),
    ],
)
async def test_bad_input_names_the_field_and_the_rule(create, embed, fields, field, rule):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(**fields)
    error = to_sage_error(caught.value, service="embed")
    assert error.reason is Reason.FIELD_INVALID
    assert [violation.field for violation in error.violations] == [field]
    assert rule in error.violations[0].rule
    assert not (await embed.ListEmbeddings(embed_pb2.ListEmbeddingsRequest())).embeddings


async def test_a_video_that_cannot_be_embedded_is_refused(create, ingest):
    assert (await refused(create(video_id=new_id("video"))))[0] is Reason.VIDEO_NOT_FOUND
    long = ingest.add(new_id("video"), duration_seconds=3601)
    reason, message = await refused(create(video_id=long))
    assert reason is Reason.PROVIDER_REJECTED_VIDEO
    assert "it is 3601 s long; model scripted accepts at most 3600 s" in message


async def test_size_and_resolution_are_checked_against_the_models_limits(create, engine):
    engine.model = replace(engine.model, max_video_bytes=999_999)
    reason, message = await refused(create())
    assert reason is Reason.PROVIDER_REJECTED_VIDEO
    assert "it has 1000000 bytes" in message
    engine.model = replace(engine.model, max_video_bytes=None, min_resolution=(1920, 1080))
    reason, message = await refused(create())
    assert reason is Reason.PROVIDER_REJECTED_VIDEO
    assert "1280x720" in message


async def test_a_model_may_accept_whole_seconds_only(create, engine):
    engine.model = replace(engine.model, whole_clip_seconds=True)
    reason, message = await refused(create(clip_seconds=2.5))
    assert reason is Reason.FIELD_INVALID
    assert message == "clip_seconds: is 2.5; model scripted accepts whole seconds only."
    assert (await create(clip_seconds=3)).clip_seconds == 3


async def test_only_sound_of_a_silent_video_is_refused(create, ingest):
    loud = ingest.add(new_id("video"), duration_seconds=9.5, sound=True)
    reason, message = await refused(create(tracks=["audio"]))
    assert reason is Reason.FIELD_INVALID
    assert message == "tracks: has only audio, but the video has no sound. Request visual as well."
    assert (await create(tracks=["visual", "audio"])).requested_tracks == ["audio", "visual"]
    assert (await create(video_id=loud, tracks=["audio"])).requested_tracks == ["audio"]


async def test_an_unknown_or_unusable_model_is_refused(create, engine):
    reason, message = await refused(create(model="marengo"))
    assert reason is Reason.MODEL_UNKNOWN
    assert "scripted" in message
    engine.model = replace(engine.model, unusable=model_unavailable("scripted", "the weights are missing"))
    for model in ("", "scripted"):
        reason, message = await refused(create(model=model))
        assert reason is Reason.MODEL_UNAVAILABLE
        assert message == "Model scripted cannot be used here: the weights are missing."


async def test_the_limit_of_unfinished_embeddings_applies_to_new_ones_only(start_api, video):
    async with start_api(max_unfinished=1) as embed:
        request = embed_pb2.CreateEmbeddingRequest(video_id=video, request_id="first")
        await embed.CreateEmbedding(request)
        assert (await embed.CreateEmbedding(request)).reused
        assert (await embed.CreateEmbedding(embed_pb2.CreateEmbeddingRequest(video_id=video))).reused
        forced = embed_pb2.CreateEmbeddingRequest(video_id=video, force=True)
        assert (await refused(embed.CreateEmbedding(forced)))[0] is Reason.LIMIT_EXCEEDED


async def test_without_ingest_the_call_is_service_unavailable(start_api, video):
    async with start_api(ingest_address="127.0.0.1:1") as embed:
        call = embed.CreateEmbedding(embed_pb2.CreateEmbeddingRequest(video_id=video), timeout=10)
        assert (await refused(call))[0] is Reason.SERVICE_UNAVAILABLE
        assert not (await embed.ListEmbeddings(embed_pb2.ListEmbeddingsRequest())).embeddings


async def test_models_are_listed_with_their_limits(embed, engine):
    (model,) = (await embed.ListModels(embed_pb2.ListModelsRequest())).models
    assert (model.name, model.revision, model.provider, model.dimensions) == ("scripted", "1", "tests", 8)
    assert (list(model.tracks), model.min_clip_seconds, model.max_clip_seconds) == (["visual", "audio"], 0.5, 10)
    assert (model.max_video_seconds, model.usable, model.unusable_reason) == (3600, True, "")
    assert (model.min_video_seconds, model.max_video_bytes) == (0, 0)
    assert not model.HasField("min_resolution")
    assert not model.HasField("max_resolution")
    engine.model = replace(
        engine.model,
        unusable=SageError(Reason.API_KEY_MISSING, provider="Scripted"),
        min_video_seconds=4.0,
        max_video_bytes=4_000_000_000,
        min_resolution=(360, 360),
        max_resolution=(5184, 2160),
    )
    (model,) = (await embed.ListModels(embed_pb2.ListModelsRequest())).models
    assert not model.usable
    assert model.unusable_reason == "Scripted requires an API key, and none is set. Set one with SetApiKey."
    assert (model.min_video_seconds, model.max_video_bytes) == (4, 4_000_000_000)
    assert model.min_resolution == embed_pb2.Resolution(width=360, height=360)
    assert model.max_resolution == embed_pb2.Resolution(width=5184, height=2160)
