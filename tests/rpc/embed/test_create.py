"""CreateEmbedding over the wire."""

import asyncio
import math
from dataclasses import replace

import grpc
import pytest
from sage.embed.v1 import embed_pb2
from sage_embed.errors import model_unavailable
from sage_runtime.channel import to_sage_error
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id


async def refused(call) -> tuple[Reason, str]:
    """Return the reason and the message that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return to_sage_error(caught.value, service="embed").reason, caught.value.details()


async def test_the_defaults_are_written_out(create):
    """Left open, the model is the best usable one, clips have 2 s, the track is visual."""
    embedding = await create()
    assert embedding.state == embed_pb2.EMBEDDING_STATE_PENDING
    assert (embedding.model, embedding.model_revision, embedding.provider) == ("scripted", "1", "tests")
    assert (embedding.clip_seconds, embedding.dimensions, embedding.video_duration_seconds) == (2.0, 8, 9.5)
    assert [track.name for track in embedding.tracks] == ["visual"]
    assert embedding.HasField("create_time")
    assert not embedding.HasField("start_time")
    assert not embedding.HasField("finish_time")
    assert not embedding.HasField("failure")


async def test_the_same_request_id_answers_the_same_embedding(create, ingest, video):
    """It does so with defaults written out too, at once, and when the video has gone."""
    first = await create(request_id="r-1")
    made = await asyncio.gather(*(create(request_id="r-1") for _ in range(5)))
    assert {embedding.id for embedding in made} == {first.id}
    assert (await create(request_id="r-1", clip_seconds=2, tracks=["visual"])).id == first.id
    del ingest.videos[video]
    assert (await create(request_id="r-1")).id == first.id


async def test_a_request_id_for_something_else_is_refused(create):
    """A request id stands for one request."""
    await create(request_id="r-1")
    reason, message = await refused(create(request_id="r-1", clip_seconds=3))
    assert reason is Reason.REQUEST_ID_REUSED
    assert "'r-1'" in message


@pytest.mark.parametrize(
    ("fields", "field", "hint"),
    [
        ({"video_id": ""}, "video_id", "required"),
        ({"video_id": "../etc/passwd"}, "video_id", "32 hexadecimal"),
        ({"clip_seconds": math.nan}, "clip_seconds", "positive"),
        ({"clip_seconds": math.inf}, "clip_seconds", "positive"),
        ({"clip_seconds": -1}, "clip_seconds", "positive"),
        ({"clip_seconds": 0.1}, "clip_seconds", "0.5 to 10"),
        ({"clip_seconds": 11}, "clip_seconds", "0.5 to 10"),
        ({"tracks": ["visual", "smell"]}, "tracks", "visual, audio"),
        ({"tracks": [""]}, "tracks", "visual, audio"),
        ({"tracks": ["visual", "visual"]}, "tracks", "once"),
        ({"request_id": "x" * 129}, "request_id", "128"),
        ({"request_id": "a\0b"}, "request_id", "printable"),
    ],
)
async def test_bad_input_names_the_field_and_the_rule(create, embed, fields, field, hint):
    """What breaks a rule is refused with the field and the rule, and records nothing."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(**fields)
    error = to_sage_error(caught.value, service="embed")
    assert error.reason is Reason.FIELD_INVALID
    assert [violation.field for violation in error.violations] == [field]
    assert hint in error.violations[0].rule
    assert not (await embed.ListEmbeddings(embed_pb2.ListEmbeddingsRequest())).embeddings


async def test_a_video_that_cannot_be_embedded_is_refused(create, ingest):
    """Unknown, not ready, and too long for the model are three different answers."""
    assert (await refused(create(video_id=new_id("video"))))[0] is Reason.VIDEO_NOT_FOUND
    unready = ingest.add(new_id("video"), duration_seconds=0, ready=False)
    assert (await refused(create(video_id=unready)))[0] is Reason.VIDEO_NOT_READY
    long = ingest.add(new_id("video"), duration_seconds=3601)
    reason, message = await refused(create(video_id=long))
    assert reason is Reason.PROVIDER_REJECTED_VIDEO
    assert "it is 3601 s long; model scripted takes at most 3600 s" in message


async def test_facts_of_the_video_reach_the_limits(create, engine):
    """Size and resolution are ingest's, and a limit that they break is named before any work is queued."""
    engine.model = replace(engine.model, max_video_bytes=999_999)
    reason, message = await refused(create())
    assert reason is Reason.PROVIDER_REJECTED_VIDEO
    assert "it has 1000000 bytes" in message
    engine.model = replace(engine.model, max_video_bytes=None, min_resolution=(1920, 1080))
    reason, message = await refused(create())
    assert reason is Reason.PROVIDER_REJECTED_VIDEO
    assert "1280x720" in message


async def test_clips_of_whole_seconds_only(create, engine):
    """A model that takes whole seconds refuses others, and takes those."""
    engine.model = replace(engine.model, whole_clip_seconds=True)
    reason, message = await refused(create(clip_seconds=2.5))
    assert reason is Reason.FIELD_INVALID
    assert message == "clip_seconds: is 2.5; model scripted takes whole seconds."
    assert (await create(clip_seconds=3)).clip_seconds == 3


async def test_sound_alone_of_a_silent_video_is_refused(create, ingest):
    """There is nothing to make; beside the picture, or where there is sound, it may be asked for."""
    loud = ingest.add(new_id("video"), duration_seconds=9.5, sound=True)
    reason, message = await refused(create(tracks=["audio"]))
    assert reason is Reason.FIELD_INVALID
    assert message == "tracks: asks for audio alone, and the video has no sound. Ask for visual too."
    assert (await create(tracks=["audio", "visual"])).requested_tracks == ["audio", "visual"]
    assert (await create(video_id=loud, tracks=["audio"])).requested_tracks == ["audio"]


async def test_a_model_that_is_not_there_is_refused(create, engine):
    """An unknown model names those that there are; one that cannot be used says why."""
    reason, message = await refused(create(model="marengo"))
    assert reason is Reason.MODEL_UNKNOWN
    assert "scripted" in message
    engine.model = replace(engine.model, unusable=model_unavailable("scripted", "the weights are missing"))
    for model in ("", "scripted"):
        reason, message = await refused(create(model=model))
        assert reason is Reason.MODEL_UNAVAILABLE
        assert message == "Model scripted cannot be used here: the weights are missing."


async def test_a_full_queue_takes_no_more(start_api, video):
    """At the limit the answer is LIMIT_EXCEEDED, and what is known already is still answered."""
    async with start_api(max_unfinished=1) as embed:
        request = embed_pb2.CreateEmbeddingRequest(video_id=video, request_id="first")
        await embed.CreateEmbedding(request)
        await embed.CreateEmbedding(request)
        reason, _ = await refused(embed.CreateEmbedding(embed_pb2.CreateEmbeddingRequest(video_id=video)))
        assert reason is Reason.LIMIT_EXCEEDED


async def test_without_ingest_the_call_may_be_tried_again(start_api, video):
    """Ingest that cannot be reached is SERVICE_UNAVAILABLE, and nothing is recorded."""
    async with start_api(ingest_address="127.0.0.1:1") as embed:
        call = embed.CreateEmbedding(embed_pb2.CreateEmbeddingRequest(video_id=video), timeout=10)
        assert (await refused(call))[0] is Reason.SERVICE_UNAVAILABLE
        assert not (await embed.ListEmbeddings(embed_pb2.ListEmbeddingsRequest())).embeddings


async def test_models_are_listed_with_what_they_can(embed, engine):
    """ListModels says what can be asked for, and why a model cannot be used."""
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
    assert model.unusable_reason == "Scripted wants an API key and none is set. Set one with SetApiKey."
    assert (model.min_video_seconds, model.max_video_bytes) == (4, 4_000_000_000)
    assert model.min_resolution == embed_pb2.Resolution(width=360, height=360)
    assert model.max_resolution == embed_pb2.Resolution(width=5184, height=2160)
