"""States, chunks of segments, messages, the choice of a model, settings."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pydantic
import pytest
from fakes.embed import DIMENSIONS, MODEL, Script, ScriptedEngine
from hypothesis import given
from hypothesis import strategies as st
from sage.embed.v1 import embed_pb2
from sage.errors.v1 import error_reason_pb2
from sage.ingest.v1 import media_pb2
from sage_embed import convert
from sage_embed.config import ApiSettings
from sage_embed.embeddings.lifecycle import CreateRequest, to_stored
from sage_embed.embeddings.model import (
    UNFINISHED,
    Embedding,
    Failure,
    Plan,
    Progress,
    State,
    Track,
    Video,
    max_segments,
    states_before,
)
from sage_embed.embeddings.rows import from_segments, join_segments
from sage_embed.engines.engine import Engines, Segments
from sage_embed.errors import RETRYABLE, encryption_key_missing
from sage_runtime.api import new_id
from sage_runtime.errors import STORE_REASONS, Reason, SageError
from sage_runtime.errors.catalogue import CATALOGUE

MEDIA = media_pb2.Media(duration_seconds=9.5, width=1920, height=1080)
VIDEO = Video(new_id("video"), 9.5, 0.0, media=MEDIA.SerializeToString())


def make_embedding(**changes: object) -> Embedding:
    """Return a completed embedding."""
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    embedding = Embedding(
        id=new_id("embed"),
        plan=Plan(VIDEO, "scripted", "1", "tests", DIMENSIONS, 2.0, ("visual",)),
        state=State.COMPLETED,
        progress=Progress(1.0, "Done."),
        tracks=(Track("visual", 5, 0.0, 9.5),),
        provider_task_id="task",
        failure=None,
        create_time=now,
        start_time=now,
        finish_time=now,
        revision=7,
    )
    return replace(embedding, **changes)


def test_final_states_have_no_successor():
    assert {State.PENDING, State.PROCESSING} == UNFINISHED
    for state in State:
        assert set(states_before(state)) <= UNFINISHED
    assert states_before(State.PENDING) == []
    assert states_before(State.COMPLETED) == ["PROCESSING"]


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), data=st.data())
def test_any_range_of_stored_chunks_is_returned_exactly(sizes, data):
    count = sum(sizes)
    vectors = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    starts, ends = np.arange(count) * 2.0, np.arange(count) * 2.0 + 2
    rows, begin = [], 0
    for size in sizes:
        part = slice(begin, begin + size)
        (stored,) = to_stored(Segments("visual", begin, starts[part], ends[part], vectors[part]))
        rows.append(from_segments(stored))
        begin += size
    first_index = data.draw(st.integers(0, count - 1))
    size = data.draw(st.integers(1, count + 3))
    part = join_segments(rows, first_index=first_index, max_segments=size)
    end = min(count, first_index + size)
    np.testing.assert_array_equal(np.frombuffer(part.vectors, "<f4").reshape(-1, 3), vectors[first_index:end])
    np.testing.assert_array_equal(part.start_seconds, starts[first_index:end])
    np.testing.assert_array_equal(part.end_seconds, ends[first_index:end])


@given(dimensions=st.integers(1, 100_000))
def test_a_full_chunk_fits_into_a_message_under_a_mebibyte(dimensions):
    count = max_segments(dimensions)
    assert count * (4 * dimensions + 16) + 64 < 1024 * 1024


def test_many_segments_are_stored_in_chunks():
    vectors = np.ones((500, 1024), np.float64)
    chunks = to_stored(Segments("visual", 10, np.arange(500.0), np.arange(500.0) + 1, vectors))
    assert [chunk.first_index for chunk in chunks][:2] == [10, 10 + max_segments(1024)]
    assert sum(len(chunk) for chunk in chunks) == 500
    assert len(chunks[0].vectors) == len(chunks[0]) * 1024 * 4


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_can_be_a_failure(reason):
    failed = make_embedding(state=State.FAILED, failure=Failure(reason, "Why."))
    message = convert.from_embedding(failed)
    assert error_reason_pb2.ErrorReason.Name(message.failure.reason) == f"ERROR_REASON_{reason}"
    assert message.failure.message == "Why."


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_value_in_the_contract(state):
    message = convert.from_embedding(make_embedding(state=state))
    assert embed_pb2.EmbeddingState.Name(message.state) == f"EMBEDDING_STATE_{state}"
    assert convert.to_filter(embed_pb2.ListEmbeddingsRequest(state=message.state)).state is state


def test_the_message_of_an_embedding_has_every_field():
    message = convert.from_embedding(make_embedding())
    missing = {field.name for field in message.DESCRIPTOR.fields} - {field.name for field, _ in message.ListFields()}
    assert missing == {"failure"}
    assert message.media == MEDIA
    assert message.create_time.ToDatetime(UTC) == make_embedding().create_time


def test_only_the_last_message_of_a_watch_has_last_set():
    assert convert.to_watch_response(make_embedding()).last
    assert not convert.to_watch_response(make_embedding(state=State.PROCESSING)).last
    assert convert.to_watch_response(None) == embed_pb2.WatchEmbeddingResponse(heartbeat=embed_pb2.Heartbeat())


async def test_the_first_usable_model_is_chosen(tmp_path):
    marengo = replace(MODEL, name="marengo", unusable=SageError(Reason.API_KEY_MISSING, provider="Marengo"))
    engines = Engines([ScriptedEngine(Script(tmp_path), model=model) for model in (marengo, MODEL)])
    assert await engines.choose("") == MODEL
    assert [model.name for model in await engines.models()] == ["scripted", "marengo"]
    with pytest.raises(SageError) as caught:
        await engines.choose("marengo")
    assert caught.value.reason is Reason.API_KEY_MISSING
    unreadable = replace(marengo, unusable=encryption_key_missing("it was not started with one"))
    with pytest.raises(SageError) as caught:
        await Engines([ScriptedEngine(Script(tmp_path), model=model) for model in (unreadable, MODEL)]).choose("")
    assert caught.value.reason is Reason.ENCRYPTION_KEY_MISSING
    with pytest.raises(SageError) as caught:
        await Engines([]).choose("")
    assert caught.value.reason is Reason.MODEL_UNKNOWN


def test_defaults_and_the_order_of_tracks_do_not_change_the_fingerprint():
    request = CreateRequest(video_id="v")
    assert request.fingerprint() == CreateRequest("v", "", 2.0, ("visual",), "r").fingerprint()
    tracks = CreateRequest("v", tracks=("visual", "audio"))
    assert tracks.fingerprint() == CreateRequest("v", tracks=("audio", "visual")).fingerprint()
    for other in (CreateRequest("w"), CreateRequest("v", "m"), CreateRequest("v", clip_seconds=3), tracks):
        assert other.fingerprint() != request.fingerprint()
    for other in (CreateRequest("v", force=True), CreateRequest("v", tracks=("audio",))):
        assert other.fingerprint() != request.fingerprint()


def test_work_is_retried_for_what_clients_retry_and_for_every_trouble_of_a_store():
    assert {reason for reason in RETRYABLE if not CATALOGUE[reason].retry_after_s} == STORE_REASONS - {
        Reason.STORE_UNAVAILABLE
    }


def test_heartbeats_rarer_than_the_contract_promises_are_refused():
    with pytest.raises(pydantic.ValidationError):
        ApiSettings(database_url="postgresql://", s3_bucket="none", heartbeat_s=16)
