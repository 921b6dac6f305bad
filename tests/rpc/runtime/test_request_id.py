"""Request ids and deadlines travel with a call, through every service that it reaches."""

# gRPC rounds timeouts up when it sends them, so bounds have some room.

import grpc
import pytest
from fakes.echo import SHAPES, responses, start
from sage_runtime.client import open_channel
from sage_runtime.context import working_on
from structlog.testing import capture_logs


def _id(metadata):
    return dict(metadata).get("x-request-id")


@pytest.mark.parametrize("shape", SHAPES)
async def test_request_id_is_sent_back(echo, shape):
    call = start(echo.channel, shape, "hello", metadata=[("x-request-id", "nightly-42")])
    await responses(call)
    assert _id(await call.initial_metadata()) == _id(await call.trailing_metadata()) == "nightly-42"


@pytest.mark.parametrize("shape", SHAPES)
async def test_request_id_is_sent_back_with_an_error(echo, shape):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await responses(start(echo.channel, shape, "missing", metadata=[("x-request-id", "nightly-42")]))
    assert _id(error.value.trailing_metadata()) == "nightly-42"


@pytest.mark.parametrize("metadata", [[], [("x-request-id", "two words")], [("x-request-id", "a" * 500)]])
async def test_request_id_is_generated_if_there_is_no_valid_one(echo, metadata):
    call = start(echo.channel, "unary_unary", "request id", metadata=metadata)
    (seen,) = await responses(call)
    assert seen == _id(await call.trailing_metadata())
    assert len(seen) == 32


async def test_request_id_reaches_the_sibling(caller):
    with capture_logs() as logs:
        call = start(caller.channel, "unary_unary", "ask request id", metadata=[("x-request-id", "nightly-42")])
        assert await responses(call) == ["nightly-42"]
    assert [line["request_id"] for line in logs] == ["nightly-42", "nightly-42"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_request_id_of_a_job_reaches_the_sibling(echo, shape):
    async with open_channel(echo.server.address) as channel:
        with working_on("job-7"):
            assert (await responses(start(channel, shape, "request id")))[-1] == "job-7"


async def test_sibling_gets_the_time_that_the_caller_still_waits(caller):
    (left,) = await responses(start(caller.channel, "unary_unary", "ask time left", timeout=2.5))
    assert 0 < float(left) < 2.6


async def test_call_with_a_single_response_always_has_a_deadline(caller):
    (left,) = await responses(start(caller.channel, "unary_unary", "ask time left"))
    assert 0 < float(left) < 3.1


async def test_stream_has_only_the_callers_deadline(echo):
    async with open_channel(echo.server.address) as channel:
        assert (await responses(start(channel, "unary_stream", "time left")))[-1] == "none"
        with working_on(timeout_s=5):
            assert float((await responses(start(channel, "unary_stream", "time left")))[-1]) < 5.1


async def test_explicit_timeout_never_outlasts_the_caller(echo):
    async with open_channel(echo.server.address) as channel:
        with working_on(timeout_s=30):
            (cut,) = await responses(start(channel, "unary_unary", "time left", timeout=60))
            (kept,) = await responses(start(channel, "unary_unary", "time left", timeout=5))
    # More than the channel's own ten seconds: those hold only if a call has no timeout.
    assert 10 < float(cut) < 30.2
    assert float(kept) < 5.1
