"""An embedding from creation to its vectors, and its early ends."""

import grpc
import numpy as np
import pytest
from fakes.embed import vector
from sage.embed.v1 import embed_pb2
from sage_runtime.api import new_id
from sage_runtime.client import to_sage_error
from sage_runtime.errors import Reason

PENDING = embed_pb2.EMBEDDING_STATE_PENDING
PROCESSING = embed_pb2.EMBEDDING_STATE_PROCESSING
COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED


async def reason_of(call) -> Reason:
    """Return the reason with which a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return to_sage_error(caught.value, service="embed").reason


async def read(embed, **fields) -> list[embed_pb2.ReadSegmentsResponse]:
    """Return every message of a read."""
    return [message async for message in embed.ReadSegments(embed_pb2.ReadSegmentsRequest(**fields))]


async def test_an_embedding_runs_from_creation_to_its_vectors(embed, worker, create, watch, until, jobs_left):
    embedding = await create(tracks=["visual", "audio"])
    messages = await watch(embedding.id)
    assert [message.last for message in messages] == [False] * (len(messages) - 1) + [True]
    states = [message.embedding for message in messages]
    assert states[0].state in (PENDING, PROCESSING)
    fractions = [state.progress.fraction for state in states]
    assert fractions == sorted(fractions)
    revisions = [state.revision for state in states]
    assert revisions == sorted(set(revisions))
    done = states[-1]
    assert (done.state, done.progress.fraction) == (COMPLETED, 1.0)
    assert done.create_time.ToDatetime() <= done.start_time.ToDatetime() <= done.finish_time.ToDatetime()
    assert [(track.name, track.segment_count) for track in done.tracks] == [("audio", 5), ("visual", 5)]
    assert (done.tracks[0].covered_start_seconds, done.tracks[0].covered_end_seconds) == (0.0, 9.5)
    for track in ("", "visual", "audio"):
        (message,) = await read(embed, embedding_id=embedding.id, track=track)
        assert list(message.start_seconds) == [0, 2, 4, 6, 8]
        assert list(message.end_seconds) == [2, 4, 6, 8, 9.5]
        rows = np.frombuffer(message.vectors, "<f4").reshape(-1, message.dimensions)
        np.testing.assert_array_equal(rows, [vector(index) for index in range(5)])
    await until(lambda: jobs_left() == 0)


async def test_an_interrupted_read_resumes_at_any_index(embed, worker, create, finish):
    embedding_id = (await create()).id
    await finish(embedding_id)
    (message,) = await read(embed, embedding_id=embedding_id, first_index=3)
    assert (message.first_index, list(message.start_seconds)) == (3, [6, 8])
    np.testing.assert_array_equal(np.frombuffer(message.vectors, "<f4"), np.concatenate([vector(3), vector(4)]))
    (message,) = await read(embed, embedding_id=embedding_id, first_index=5)
    assert (message.first_index, list(message.start_seconds), message.dimensions) == (5, [], 8)
    for index in (-1, 6):
        assert await reason_of(read(embed, embedding_id=embedding_id, first_index=index)) is Reason.FIELD_INVALID


async def test_messages_of_vectors_stay_under_a_mebibyte(embed, worker, create, finish, ingest, engine):
    engine.model = type(engine.model)(**{**vars(engine.model), "dimensions": 8192})
    video_id = ingest.add(new_id("video"), duration_seconds=100)
    embedding_id = (await create(video_id=video_id)).id
    await finish(embedding_id)
    messages = await read(embed, embedding_id=embedding_id)
    assert len(messages) > 1
    assert max(message.ByteSize() for message in messages) < 1024 * 1024
    starts = [start for message in messages for start in message.start_seconds]
    assert starts == [2.0 * index for index in range(50)]


async def test_an_unfinished_or_unknown_embedding_cannot_be_read(embed, create):
    embedding_id = (await create()).id
    assert await reason_of(read(embed, embedding_id=embedding_id)) is Reason.EMBEDDING_NOT_COMPLETED
    assert await reason_of(read(embed, embedding_id=new_id("embed"))) is Reason.EMBEDDING_NOT_FOUND
    assert await reason_of(read(embed, embedding_id="x")) is Reason.FIELD_INVALID


async def test_reading_a_track_that_was_not_made_is_track_missing(embed, worker, create, finish):
    embedding_id = (await create()).id
    await finish(embedding_id)
    assert await reason_of(read(embed, embedding_id=embedding_id, track="audio")) is Reason.TRACK_MISSING


async def test_cancel_takes_effect_at_once_and_stops_the_worker(
    embed, worker, create, script, engine, until, jobs_left
):
    script.allow(2)
    embedding_id = (await create()).id
    await until(lambda: "visual 1" in script.computed())
    request = embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id)
    cancelled = (await embed.CancelEmbedding(request)).embedding
    assert cancelled.state == CANCELLED
    assert [track.segment_count for track in cancelled.tracks] == [0]
    # At once, or within a second if the worker does not listen yet. The engine itself would wait forever.
    await until(lambda: engine.closed == 1, timeout_s=5)
    script.allow(5)
    again = (await embed.CancelEmbedding(request)).embedding
    assert again == cancelled
    assert script.computed() == ["visual 0", "visual 1"]
    await until(lambda: jobs_left() == 0)


async def test_a_cancelled_waiting_embedding_is_never_started(embed, create, start_worker, script, finish):
    cancelled_id = (await create()).id
    await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=cancelled_id))
    next_id = (await create()).id
    async with start_worker():
        assert (await finish(next_id)).state == COMPLETED
    assert (await finish(cancelled_id)).state == CANCELLED
    assert len(script.computed()) == 5


async def test_a_completed_embedding_cannot_be_cancelled(embed, worker, create, finish):
    embedding_id = (await create()).id
    await finish(embedding_id)
    for requested, reason in (
        (embedding_id, Reason.EMBEDDING_FINISHED),
        (new_id("embed"), Reason.EMBEDDING_NOT_FOUND),
        ("", Reason.FIELD_INVALID),
    ):
        request = embed_pb2.CancelEmbeddingRequest(embedding_id=requested)
        assert await reason_of(embed.CancelEmbedding(request)) is reason


async def test_delete_stops_the_work_and_leaves_nothing(embed, worker, create, script, engine, until):
    script.allow(2)
    embedding_id = (await create()).id
    await until(lambda: "visual 1" in script.computed())
    await embed.DeleteEmbedding(embed_pb2.DeleteEmbeddingRequest(embedding_id=embedding_id))
    # At once, or within a second if the worker does not listen yet. The engine itself would wait forever.
    await until(lambda: engine.closed == 1, timeout_s=5)
    get = embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id)
    assert await reason_of(embed.GetEmbedding(get)) is Reason.EMBEDDING_NOT_FOUND
    delete = embed_pb2.DeleteEmbeddingRequest(embedding_id=embedding_id)
    assert await reason_of(embed.DeleteEmbedding(delete)) is Reason.EMBEDDING_NOT_FOUND
    assert await reason_of(read(embed, embedding_id=embedding_id)) is Reason.EMBEDDING_NOT_FOUND


async def test_lists_are_paged_and_filtered(embed, create, ingest):
    other = ingest.add(new_id("video"), duration_seconds=4)
    ids = [(await create()).id for _ in range(3)] + [(await create(video_id=other)).id]
    await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=ids[0]))

    async def page(**fields: object) -> tuple[list[str], str]:
        response = await embed.ListEmbeddings(embed_pb2.ListEmbeddingsRequest(**fields))
        return [embedding.id for embedding in response.embeddings], response.next_page_token

    assert await page() == (ids[::-1], "")
    first, token = await page(page_size=3)
    assert first == ids[:0:-1]
    assert await page(page_size=3, page_token=token) == (ids[:1], "")
    assert await page(video_id=other) == (ids[3:], "")
    assert await page(state=CANCELLED) == (ids[:1], "")
    assert await page(model="another") == ([], "")
    assert await reason_of(page(page_token=token, video_id=other)) is Reason.PAGE_TOKEN_INVALID
    assert await page(page_size=201) == (ids[::-1], "")
    for fields in ({"page_size": -1}, {"state": 9}, {"video_id": "x"}, {"model": "m" * 65}, {"model": "a\0b"}):
        assert await reason_of(page(**fields)) is Reason.FIELD_INVALID


async def test_a_worker_runs_as_many_jobs_as_its_concurrency(embed, create, start_worker, script, finish, until):
    script.allow(1)
    ids = [(await create()).id for _ in range(2)]
    async with start_worker(remote_concurrency=2):
        await until(lambda: script.computed() == ["visual 0", "visual 0"])
        script.allow(5)
        for embedding_id in ids:
            assert (await finish(embedding_id)).state == COMPLETED
