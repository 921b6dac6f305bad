"""Request ids and deadlines travel with a call, through every service that it reaches."""

# gRPC rounds timeouts up when it sends them, so bounds have some room.

import grpc
import pytest
from fakes.echo import SHAPES, answers, start
from sage_runtime.channel import open_channel
from sage_runtime.context import working_on
from structlog.testing import capture_logs


def _id(metadata):
    return dict(metadata).get("x-request-id")


@pytest.mark.parametrize("shape", SHAPES)
async def test_request_id_is_sent_back(echo, shape):
    """The caller's id is in the headers and in the trailers of the answer."""
    call = start(echo.channel, shape, "hello", metadata=[("x-request-id", "nightly-42")])
    await answers(call)
    assert _id(await call.initial_metadata()) == _id(await call.trailing_metadata()) == "nightly-42"


@pytest.mark.parametrize("shape", SHAPES)
async def test_request_id_is_sent_back_with_an_error(echo, shape):
    """An error carries the id too, so that a person can quote it."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answers(start(echo.channel, shape, "missing", metadata=[("x-request-id", "nightly-42")]))
    assert _id(error.value.trailing_metadata()) == "nightly-42"


@pytest.mark.parametrize("metadata", [[], [("x-request-id", "two words")], [("x-request-id", "a" * 500)]])
async def test_request_id_is_made_where_there_is_no_valid_one(echo, metadata):
    """Without a valid id the server makes one, and the handler sees the same."""
    call = start(echo.channel, "unary_unary", "request id", metadata=metadata)
    (seen,) = await answers(call)
    assert seen == _id(await call.trailing_metadata())
    assert len(seen) == 32


async def test_request_id_reaches_the_sibling(caller):
    """A call that a service makes while it serves one carries the same id, and both log it."""
    with capture_logs() as logs:
        call = start(caller.channel, "unary_unary", "ask request id", metadata=[("x-request-id", "nightly-42")])
        assert await answers(call) == ["nightly-42"]
    assert [line["request_id"] for line in logs] == ["nightly-42", "nightly-42"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_request_id_of_a_job_reaches_the_sibling(echo, shape):
    """Work outside of a call passes its id on as well, in every call shape."""
    async with open_channel(echo.server.address) as channel:
        with working_on("job-7"):
            assert (await answers(start(channel, shape, "request id")))[-1] == "job-7"


async def test_sibling_gets_the_time_that_the_caller_has_left(caller):
    """A call that a service makes ends with the one it serves."""
    (left,) = await answers(start(caller.channel, "unary_unary", "ask time left", timeout=2.5))
    assert 0 < float(left) < 2.6


async def test_call_with_one_answer_has_a_deadline_always(caller):
    """Without a caller's deadline the channel's own holds."""
    (left,) = await answers(start(caller.channel, "unary_unary", "ask time left"))
    assert 0 < float(left) < 3.1


async def test_stream_is_bounded_by_the_caller_alone(echo):
    """A stream of answers has no deadline of the channel's; a caller's holds."""
    async with open_channel(echo.server.address) as channel:
        assert (await answers(start(channel, "unary_stream", "time left")))[-1] == "none"
        with working_on(timeout_s=5):
            assert float((await answers(start(channel, "unary_stream", "time left")))[-1]) < 5.1


async def test_own_timeout_never_outlasts_the_caller(echo):
    """A longer timeout is cut to the time left, a shorter one stays."""
    async with open_channel(echo.server.address) as channel:
        with working_on(timeout_s=30):
            (cut,) = await answers(start(channel, "unary_unary", "time left", timeout=60))
            (kept,) = await answers(start(channel, "unary_unary", "time left", timeout=5))
    # More than the channel's own ten seconds: that holds only where a call has no timeout.
    assert 10 < float(cut) < 30.2
    assert float(kept) < 5.1
