"""What callers see of errors, in all four call shapes."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import grpc
import pytest
from fakes.echo import SERVICE, SHAPES, responses, start
from google.rpc import error_details_pb2, status_pb2
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage_runtime.server import ServiceRegistration, interceptor, running_server
from structlog.testing import capture_logs


async def _error(call):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await responses(call)
    return error.value


def _status(error):
    return status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])


def _info(error):
    info = error_details_pb2.ErrorInfo()
    assert _status(error).details[0].Unpack(info)
    return info


async def _first(logs):
    while not logs:  # noqa: ASYNC110 - a captured log has nothing to wait for
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("shape", SHAPES)
async def test_expected_error_reaches_the_caller_without_its_detail(echo, shape):
    error = await _error(start(echo.channel, shape, "missing"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "There is no video video_7. ListVideos shows the videos that exist."
    info = _info(error)
    assert (info.reason, info.domain, dict(info.metadata)) == ("VIDEO_NOT_FOUND", "sage", {"video_id": "video_7"})
    assert b"row is gone" not in _status(error).SerializeToString()


async def test_bad_field_is_named(echo):
    bad = error_details_pb2.BadRequest()
    assert _status(await _error(start(echo.channel, "unary_unary", "invalid"))).details[1].Unpack(bad)
    assert (bad.field_violations[0].field, bad.field_violations[0].description) == ("threshold", "must be 0 to 2.")


@pytest.mark.parametrize("text", ["broken", "mixed group"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_unexpected_exception_is_internal_and_leaks_no_details(echo, shape, text):
    with capture_logs() as logs:
        error = await _error(start(echo.channel, shape, text, metadata=[("x-request-id", "nightly-42")]))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "Internal error. The server's log has the details under request ID nightly-42."
    assert (_info(error).reason, dict(_info(error).metadata)) == ("INTERNAL", {"request_id": "nightly-42"})
    assert not re.search("hunter2|RuntimeError|Exception", str(error) + str(error.trailing_metadata()))
    (line,) = [line for line in logs if line["event"] == "call_finished"]
    assert line["log_level"] == "error"
    assert "hunter2" in repr(line["exc_info"]) + repr(getattr(line["exc_info"], "exceptions", ()))


async def test_error_from_a_task_group_is_unwrapped(echo):
    assert _info(await _error(start(echo.channel, "unary_unary", "group"))).reason == "VIDEO_NOT_FOUND"


async def test_status_set_by_a_servicer_passes_unchanged(echo):
    error = await _error(start(echo.channel, "unary_unary", "abort"))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "own words")


async def test_responses_before_an_error_arrive_first(echo):
    call = start(echo.channel, "unary_stream", "missing")
    assert (await call.read()).value == "first"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("shape", SHAPES)
async def test_undecodable_request_is_invalid_argument(echo, shape):
    call = getattr(echo.channel, shape)(f"/{SERVICE}/{shape}")
    request = b"\xff\xff\xff"
    error = await _error(call(iter([request]) if shape.startswith("stream") else request))
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "Error parsing" not in error.details()


async def test_method_of_the_generated_base_class_is_unimplemented(settings):
    async def check():
        pass

    def add(server):
        compare_pb2_grpc.add_CompareServiceServicer_to_server(compare_pb2_grpc.CompareServiceServicer(), server)

    with capture_logs() as logs:
        async with (
            running_server(
                settings=settings, services=[ServiceRegistration("sage.compare.v1.CompareService", add, check)]
            ) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            stub = compare_pb2_grpc.CompareServiceStub(channel)
            request = compare_pb2.CompareEmbeddingsRequest(
                embedding_id_a=f"embed_{0:032}", embedding_id_b=f"embed_{0:032}"
            )
            error = await _error(stub.CompareEmbeddings(request))
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert [line["log_level"] for line in logs if line["event"] == "call_finished"] == ["info"]


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_unknown_method_is_unimplemented(echo, shape):
    async def silence() -> AsyncIterator[bytes]:
        # If grpc.aio sends a message after the server has ended the call, it reports INTERNAL, not the server's status.
        await asyncio.Event().wait()
        yield b""

    call = getattr(echo.channel, shape)("/sage.unknown.v1.UnknownService/Nothing")
    error = await _error(call(silence() if shape.startswith("stream") else b""))
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert "UnknownService/Nothing" in error.details()


async def test_cancelled_call_cancels_the_handler_and_is_no_bug(echo):
    with capture_logs() as logs:
        call = start(echo.channel, "unary_unary", "wait")
        await echo.echo.entered.wait()
        call.cancel()
        await echo.echo.cancelled.wait()
        await _first(logs)
    assert (logs[0]["status"], logs[0]["log_level"]) == ("CANCELLED", "info")


async def test_cancelled_stream_closes_its_generator_at_once(echo):
    with capture_logs() as logs:
        call = start(echo.channel, "unary_stream", "endless")
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await echo.echo.cancelled.wait()
            await _first(logs)
    assert logs[0]["status"] == "CANCELLED"
    assert echo.echo.cleaned_up_in_place


async def test_error_during_cancellation_is_logged_and_the_server_continues(echo):
    with capture_logs() as logs:
        call = start(echo.channel, "unary_unary", "wait badly")
        await echo.echo.entered.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await echo.echo.cancelled.wait()
            await _first(logs)
    assert logs[0]["status"] == "INTERNAL"
    assert await responses(start(echo.channel, "unary_unary", "hello")) == ["hello"]


async def test_call_past_its_deadline_is_logged_as_deadline_exceeded(echo, monkeypatch):
    # A busy machine is late to take the call, and by so much too early is it cancelled.
    monkeypatch.setattr(interceptor, "_CLOCK_TOLERANCE_S", 0.5)
    await echo.channel.channel_ready()
    with capture_logs() as logs:
        error = await _error(start(echo.channel, "unary_unary", "wait", timeout=1))
        await echo.echo.cancelled.wait()
        await _first(logs)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert logs[0]["status"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("duration_s", "timeout_s", "status"),
    [
        (0.06, 0.1, grpc.StatusCode.DEADLINE_EXCEEDED),
        (15.01, 15.1, grpc.StatusCode.DEADLINE_EXCEEDED),
        (150.5, 151.0, grpc.StatusCode.DEADLINE_EXCEEDED),
        (14.8, 15.1, grpc.StatusCode.CANCELLED),
        (3600.0, None, grpc.StatusCode.CANCELLED),
    ],
)
def test_expired_deadline_is_distinguished_from_cancellation(duration_s, timeout_s, status):
    """A timeout arrives rounded up, so it ends slightly before the server's clock reaches it."""
    assert interceptor._cancelled(duration_s, timeout_s).status is status


async def test_error_is_logged_before_it_is_sent(echo, monkeypatch):
    """A caller that has received the error finds it in the log."""
    abort, logged = interceptor._abort, []

    async def note_and_abort(*arguments):
        logged.extend(line["status"] for line in logs)
        await abort(*arguments)

    monkeypatch.setattr(interceptor, "_abort", note_and_abort)
    with capture_logs() as logs:
        await _error(start(echo.channel, "unary_unary", "missing"))
    assert logged == ["NOT_FOUND"]


@pytest.mark.parametrize(
    ("text", "level", "status", "reason"),
    [("hello", "info", "OK", ""), ("missing", "info", "NOT_FOUND", "VIDEO_NOT_FOUND")],
)
async def test_each_call_is_one_log_line_without_its_contents(echo, text, level, status, reason):
    with capture_logs() as logs, contextlib.suppress(grpc.aio.AioRpcError):
        await responses(start(echo.channel, "unary_unary", text, metadata=[("x-request-id", "nightly-42")]))
    (line,) = logs
    assert line["duration_ms"] >= 0
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert (line["method"], line["log_level"], line["status"], line["reason"], line["request_id"]) == (
        f"/{SERVICE}/unary_unary",
        level,
        status,
        reason,
        "nightly-42",
    )
    assert "hello" not in repr(logs)
