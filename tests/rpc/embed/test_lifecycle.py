"""An embedding from its creation to its vectors, and how it ends early."""

import grpc
import numpy as np
import pytest
from fakes.embed import vector
from sage.embed.v1 import embed_pb2
from sage_runtime.channel import to_sage_error
from sage_runtime.errors import Reason
from sage_runtime.ids import new_id

PENDING = embed_pb2.EMBEDDING_STATE_PENDING
PROCESSING = embed_pb2.EMBEDDING_STATE_PROCESSING
COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED


async def reason_of(call) -> Reason:
    """Return the reason that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return to_sage_error(caught.value, service="embed").reason


async def read(embed, **fields) -> list[embed_pb2.ReadSegmentsResponse]:
    """Return every message of a read."""
    return [message async for message in embed.ReadSegments(embed_pb2.ReadSegmentsRequest(**fields))]


async def test_an_embedding_runs_from_creation_to_its_vectors(embed, worker, create, watch, until, jobs_left):
    """It is watched to COMPLETED, with progress that never goes back, and its vectors are those of the engine."""
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
    assert [(track.name, track.segment_count) for track in done.tracks] == [("visual", 5), ("audio", 5)]
    assert (done.tracks[0].covered_start_seconds, done.tracks[0].covered_end_seconds) == (0.0, 9.5)
    for track in ("", "visual", "audio"):
        (message,) = await read(embed, embedding_id=embedding.id, track=track)
        assert list(message.start_seconds) == [0, 2, 4, 6, 8]
        assert list(message.end_seconds) == [2, 4, 6, 8, 9.5]
        rows = np.frombuffer(message.vectors, "<f4").reshape(-1, message.dimensions)
        np.testing.assert_array_equal(rows, [vector(index) for index in range(5)])
    await until(lambda: jobs_left() == 0)


async def test_a_read_goes_on_where_it_broke_off(embed, worker, create, finish):
    """From any index on the rest is sent; from the end one message with none; beyond it the index is refused."""
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
    """However many vectors there are, no message passes 1 MiB, and together they hold each once."""
    engine.model = type(engine.model)(**{**vars(engine.model), "dimensions": 8192})
    video_id = ingest.add(new_id("video"), duration_seconds=100)
    embedding_id = (await create(video_id=video_id)).id
    await finish(embedding_id)
    messages = await read(embed, embedding_id=embedding_id)
    assert len(messages) > 1
    assert max(message.ByteSize() for message in messages) < 1024 * 1024
    starts = [start for message in messages for start in message.start_seconds]
    assert starts == [2.0 * index for index in range(50)]


async def test_what_is_not_complete_cannot_be_read(embed, create):
    """Vectors of an embedding that waits are EMBEDDING_NOT_COMPLETED; an unknown one is not found."""
    embedding_id = (await create()).id
    assert await reason_of(read(embed, embedding_id=embedding_id)) is Reason.EMBEDDING_NOT_COMPLETED
    assert await reason_of(read(embed, embedding_id=new_id("embed"))) is Reason.EMBEDDING_NOT_FOUND
    assert await reason_of(read(embed, embedding_id="x")) is Reason.FIELD_INVALID


async def test_a_track_that_was_not_made_is_missing(embed, worker, create, finish):
    """The error names the tracks that there are."""
    embedding_id = (await create()).id
    await finish(embedding_id)
    assert await reason_of(read(embed, embedding_id=embedding_id, track="audio")) is Reason.TRACK_MISSING


async def test_cancel_takes_effect_at_once_and_the_worker_stops(
    embed, worker, create, script, engine, until, jobs_left
):
    """The answer says CANCELLED, the engine is closed soon, and it stays CANCELLED."""
    script.allow(2)
    embedding_id = (await create()).id
    await until(lambda: "visual 1" in script.computed())
    request = embed_pb2.CancelEmbeddingRequest(embedding_id=embedding_id)
    cancelled = (await embed.CancelEmbedding(request)).embedding
    assert cancelled.state == CANCELLED
    assert [track.segment_count for track in cancelled.tracks] == [0]
    # At once, or within a second where the worker does not listen yet; the engine itself would wait for ever.
    await until(lambda: engine.closed == 1, timeout_s=5)
    script.allow(5)
    again = (await embed.CancelEmbedding(request)).embedding
    assert again == cancelled
    assert script.computed() == ["visual 0", "visual 1"]
    await until(lambda: jobs_left() == 0)


async def test_what_waits_is_cancelled_and_never_begun(embed, create, start_worker, script, finish):
    """A worker that comes later does the next one and not the cancelled one."""
    cancelled_id = (await create()).id
    await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=cancelled_id))
    next_id = (await create()).id
    async with start_worker():
        assert (await finish(next_id)).state == COMPLETED
    assert (await finish(cancelled_id)).state == CANCELLED
    assert len(script.computed()) == 5


async def test_what_has_completed_cannot_be_cancelled(embed, worker, create, finish):
    """Cancelling a completed embedding is EMBEDDING_FINISHED; an unknown one is not found."""
    embedding_id = (await create()).id
    await finish(embedding_id)
    for wanted, reason in (
        (embedding_id, Reason.EMBEDDING_FINISHED),
        (new_id("embed"), Reason.EMBEDDING_NOT_FOUND),
        ("", Reason.FIELD_INVALID),
    ):
        request = embed_pb2.CancelEmbeddingRequest(embedding_id=wanted)
        assert await reason_of(embed.CancelEmbedding(request)) is reason


async def test_delete_stops_the_work_and_leaves_nothing(embed, worker, create, script, engine, until):
    """Deleting what is worked on stops the worker; afterwards it is not found, and neither are its vectors."""
    script.allow(2)
    embedding_id = (await create()).id
    await until(lambda: "visual 1" in script.computed())
    await embed.DeleteEmbedding(embed_pb2.DeleteEmbeddingRequest(embedding_id=embedding_id))
    # At once, or within a second where the worker does not listen yet; the engine itself would wait for ever.
    await until(lambda: engine.closed == 1, timeout_s=5)
    get = embed_pb2.GetEmbeddingRequest(embedding_id=embedding_id)
    assert await reason_of(embed.GetEmbedding(get)) is Reason.EMBEDDING_NOT_FOUND
    delete = embed_pb2.DeleteEmbeddingRequest(embedding_id=embedding_id)
    assert await reason_of(embed.DeleteEmbedding(delete)) is Reason.EMBEDDING_NOT_FOUND
    assert await reason_of(read(embed, embedding_id=embedding_id)) is Reason.EMBEDDING_NOT_FOUND


async def test_lists_are_paged_and_filtered(embed, create, ingest):
    """Pages follow each other, newest first, without a gap; filters and a token for others are checked."""
    other = ingest.add(new_id("video"), duration_seconds=4)
    ids = [(await create()).id for _ in range(3)] + [(await create(video_id=other)).id]
    await embed.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=ids[0]))

    async def page(**fields: object) -> tuple[list[str], str]:
        answer = await embed.ListEmbeddings(embed_pb2.ListEmbeddingsRequest(**fields))
        return [embedding.id for embedding in answer.embeddings], answer.next_page_token

    assert await page() == (ids[::-1], "")
    first, token = await page(page_size=3)
    assert first == ids[:0:-1]
    assert await page(page_size=3, page_token=token) == (ids[:1], "")
    assert await page(video_id=other) == (ids[3:], "")
    assert await page(state=CANCELLED) == (ids[:1], "")
    assert await page(model="another") == ([], "")
    assert await reason_of(page(page_token=token, video_id=other)) is Reason.PAGE_TOKEN_INVALID
    for fields in ({"page_size": 201}, {"page_size": -1}, {"state": 9}, {"video_id": "x"}, {"model": "a\0b"}):
        assert await reason_of(page(**fields)) is Reason.FIELD_INVALID


async def test_several_are_worked_on_at_once_as_far_as_the_worker_may(
    embed, create, start_worker, script, finish, until
):
    """With a concurrency of two, two embeddings get on side by side."""
    script.allow(1)
    ids = [(await create()).id for _ in range(2)]
    async with start_worker(remote_concurrency=2):
        await until(lambda: script.computed() == ["visual 0", "visual 0"])
        script.allow(5)
        for embedding_id in ids:
            assert (await finish(embedding_id)).state == COMPLETED
