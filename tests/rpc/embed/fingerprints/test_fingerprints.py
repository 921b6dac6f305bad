"""FingerprintService over gRPC, with real workers, PostgreSQL and S3."""

import asyncio
import signal

import grpc
import psycopg
import pytest
from fakes.fingerprints import FRAMES_PER_BLOCK, block_bytes
from sage.embed.v1 import embed_pb2, fingerprint_pb2, fingerprint_pb2_grpc
from sage.errors.v1 import error_reason_pb2
from sage_embed.config import SCHEMA
from sage_runtime.api import new_id
from sage_runtime.client import to_sage_error
from sage_runtime.errors import Reason, SageError

PENDING = embed_pb2.EMBEDDING_STATE_PENDING
PROCESSING = embed_pb2.EMBEDDING_STATE_PROCESSING
COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
FAILED = embed_pb2.EMBEDDING_STATE_FAILED
CANCELLED = embed_pb2.EMBEDDING_STATE_CANCELLED


async def reason_of(call) -> Reason:
    """Return the reason why a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await (call.read() if isinstance(call, grpc.aio.UnaryStreamCall) else call)
    return to_sage_error(failed.value, service="embed").reason


async def test_a_fingerprint_runs_from_creation_to_its_bytes(
    worker, request_one, watch_one, read, get, expected, keys, until, jobs_left
):
    created = await request_one()
    assert (created.state, created.version) == (PENDING, 1)
    messages = await watch_one()
    done = messages[-1].fingerprint
    assert messages[-1].last
    assert done.state == COMPLETED
    assert (done.frame_count, done.size_bytes) == (10 * FRAMES_PER_BLOCK, len(expected))
    assert done.progress.fraction == 1
    assert done.progress.message == "Fingerprinted 10 s."
    assert done.finish_time.ToDatetime() >= done.start_time.ToDatetime() >= done.create_time.ToDatetime()
    assert await read() == expected
    assert len(keys()) == 5
    assert (await request_one()).create_time == created.create_time
    assert await get() == done
    await until(lambda: jobs_left() == 0)


async def test_progress_says_how_much_is_done(worker, request_one, script, fingerprints, video, until):
    script.allow(4)
    await request_one()
    call = fingerprints.WatchFingerprint(fingerprint_pb2.WatchFingerprintRequest(video_id=video), timeout=60)
    async for message in call:
        if message.fingerprint.progress.message == "Fingerprinted 4 of 10 s.":
            break
    assert message.fingerprint.state == PROCESSING
    # Nothing is said of the result before it is complete.
    assert (message.fingerprint.frame_count, message.fingerprint.size_bytes) == (0, 0)
    assert message.fingerprint.progress.fraction == pytest.approx(4 / 9.5)
    call.cancel()


async def test_what_does_not_exist_is_not_found(fingerprints, video):
    for call in (
        fingerprints.GetFingerprint(fingerprint_pb2.GetFingerprintRequest(video_id=video)),
        fingerprints.WatchFingerprint(fingerprint_pb2.WatchFingerprintRequest(video_id=video)),
        fingerprints.CancelFingerprint(fingerprint_pb2.CancelFingerprintRequest(video_id=video)),
        fingerprints.DeleteFingerprint(fingerprint_pb2.DeleteFingerprintRequest(video_id=video)),
        fingerprints.ReadFingerprint(fingerprint_pb2.ReadFingerprintRequest(video_id=video)),
    ):
        assert await reason_of(call) is Reason.FINGERPRINT_NOT_FOUND
    request = fingerprint_pb2.CreateFingerprintRequest(video_id=new_id("video"))
    assert await reason_of(fingerprints.CreateFingerprint(request)) is Reason.VIDEO_NOT_FOUND


async def test_an_unfinished_one_cannot_be_read_and_a_completed_one_not_cancelled(
    start_worker, request_one, fingerprints, video, watch_one
):
    await request_one()
    read = fingerprint_pb2.ReadFingerprintRequest(video_id=video)
    assert await reason_of(fingerprints.ReadFingerprint(read)) is Reason.FINGERPRINT_NOT_COMPLETED
    async with start_worker():
        await watch_one()
    cancel = fingerprint_pb2.CancelFingerprintRequest(video_id=video)
    assert await reason_of(fingerprints.CancelFingerprint(cancel)) is Reason.FINGERPRINT_FINISHED
    withdraw = fingerprint_pb2.CancelFingerprintRequest(video_id=video, request_id="mine")
    assert (await fingerprints.CancelFingerprint(withdraw)).fingerprint.state == COMPLETED


async def test_too_much_unfinished_work_is_refused(start_replica, ingest, video):
    async with start_replica(max_unfinished=1) as address, grpc.aio.insecure_channel(address) as channel:
        stub = fingerprint_pb2_grpc.FingerprintServiceStub(channel)
        await stub.CreateFingerprint(fingerprint_pb2.CreateFingerprintRequest(video_id=video))
        other = ingest.add(new_id("video"), duration_seconds=3)
        call = stub.CreateFingerprint(fingerprint_pb2.CreateFingerprintRequest(video_id=other))
        assert await reason_of(call) is Reason.LIMIT_EXCEEDED


async def test_cancelling_stops_the_work(worker, request_one, script, fingerprints, video, maker, until, get):
    script.allow(3)
    await request_one()
    await until(lambda: script.computed() == ["block 0", "block 1", "block 2"])
    cancel = fingerprint_pb2.CancelFingerprintRequest(video_id=video)
    assert (await fingerprints.CancelFingerprint(cancel)).fingerprint.state == CANCELLED
    await until(lambda: maker.closed == 1)
    assert (await get()).progress.message == "Cancelled."
    # Made again on request.
    script.allow(10)
    assert (await request_one()).state == PENDING


async def test_a_killed_worker_is_replaced_and_the_bytes_are_the_same(
    spawn_worker, request_one, script, read, watch_one, expected, until
):
    script.allow(5)
    first = spawn_worker()
    await request_one()
    await until(lambda: len(script.computed()) == 5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    script.allow(10)
    spawn_worker()
    done = (await watch_one())[-1].fingerprint
    assert done.state == COMPLETED
    assert await read() == expected
    assert done.frame_count == 10 * FRAMES_PER_BLOCK
    # Two objects of two blocks were stored: only the block after them is made twice.
    assert script.computed() == [f"block {n}" for n in [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]]


async def test_retries_continue_and_are_bounded(start_worker, request_one, maker, watch_one, script):
    unavailable = SageError(Reason.STORE_UNAVAILABLE, store="video store")
    maker.failures = {3: [unavailable], 5: [unavailable] * 9}
    await request_one()
    async with start_worker(max_attempts=3):
        failed = (await watch_one())[-1].fingerprint
    assert failed.state == FAILED
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE
    assert script.computed().count("block 0") == 1


async def test_a_deleted_video_fails_its_fingerprint(start_worker, request_one, watch_one, ingest, video):
    await request_one()
    del ingest.videos[video]
    async with start_worker():
        failed = (await watch_one())[-1].fingerprint
    assert failed.state == FAILED
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_VIDEO_NOT_FOUND
    assert video in failed.failure.message


async def test_an_embedding_creates_the_fingerprint_of_its_video(
    embed, worker, video, until, fingerprints, read, expected
):
    await embed.CreateEmbedding(embed_pb2.CreateEmbeddingRequest(video_id=video))

    async def completed() -> bool:
        request = fingerprint_pb2.GetFingerprintRequest(video_id=video)
        return (await fingerprints.GetFingerprint(request)).fingerprint.state == COMPLETED

    await until(completed)
    assert await read() == expected


async def test_what_is_left_of_a_deleted_one_is_swept(
    start_worker, request_one, watch_one, fingerprints, video, keys, until, database_url
):
    await request_one()
    async with start_worker(fingerprint_sweep_s=0.1):
        await watch_one()
        assert len(keys()) == 5
        await fingerprints.DeleteFingerprint(fingerprint_pb2.DeleteFingerprintRequest(video_id=video))
        with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
            connection.execute("UPDATE fingerprint_objects SET remove_time = now()")
        await until(lambda: not keys())


async def test_the_fingerprint_of_a_deleted_video_is_swept(
    start_worker, request_one, watch_one, fingerprints, video, ingest, until
):
    await request_one()
    async with start_worker(fingerprint_sweep_s=0.1, fingerprint_check_s=0.1):
        await watch_one()
        await asyncio.sleep(0.3)
        request = fingerprint_pb2.GetFingerprintRequest(video_id=video)
        assert (await fingerprints.GetFingerprint(request)).fingerprint.state == COMPLETED
        del ingest.videos[video]

        async def gone() -> bool:
            try:
                await fingerprints.GetFingerprint(request)
            except grpc.aio.AioRpcError:
                return True
            return False

        await until(gone)


async def test_long_ones_are_sent_in_messages_under_a_mebibyte_and_can_be_abandoned(
    start_worker, request_one, watch_one, fingerprints, video, maker
):
    maker.block_size = 900_000
    await request_one()
    async with start_worker(fingerprint_object_bytes=4_000_000):
        await watch_one()
    request = fingerprint_pb2.ReadFingerprintRequest(video_id=video)
    messages = [message async for message in fingerprints.ReadFingerprint(request)]
    assert max(message.ByteSize() for message in messages) < 1024 * 1024
    assert b"".join(message.data for message in messages) == b"".join(block_bytes(video, n, 900_000) for n in range(10))
    abandoned = fingerprints.ReadFingerprint(request)
    assert (await abandoned.read()).data == messages[0].data
    abandoned.cancel()
    assert [message async for message in fingerprints.ReadFingerprint(request)] == messages


async def test_a_store_that_is_away_fails_reads_and_not_the_server(
    start_worker, start_replica, request_one, watch_one, video, serving
):
    await request_one()
    async with start_worker():
        await watch_one()
    async with (
        start_replica(S3_ENDPOINT_URL="http://127.0.0.1:9") as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await serving(channel)
        stub = fingerprint_pb2_grpc.FingerprintServiceStub(channel)
        call = stub.ReadFingerprint(fingerprint_pb2.ReadFingerprintRequest(video_id=video))
        assert await reason_of(call) is Reason.STORE_UNAVAILABLE
