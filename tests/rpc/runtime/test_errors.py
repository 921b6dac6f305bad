"""What callers see of errors, in all four call shapes."""

import asyncio
import contextlib
import re

import grpc
import pytest
from fakes.echo import SERVICE, SHAPES, answers, start
from google.rpc import error_details_pb2, status_pb2
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage_runtime import interceptor
from sage_runtime.server import ServiceRegistration, running_server
from structlog.testing import capture_logs


async def _error(call):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answers(call)
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
async def test_expected_error_is_told_in_full(echo, shape):
    """A SageError arrives with its status, its text and its reason, and without its inner detail."""
    error = await _error(start(echo.channel, shape, "missing"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "There is no video video_7. ListVideos shows what there is."
    info = _info(error)
    assert (info.reason, info.domain, dict(info.metadata)) == ("VIDEO_NOT_FOUND", "sage", {"video_id": "video_7"})
    assert b"row is gone" not in _status(error).SerializeToString()


async def test_bad_field_is_named(echo):
    """Bad input arrives as BadRequest with the field and its rule."""
    bad = error_details_pb2.BadRequest()
    assert _status(await _error(start(echo.channel, "unary_unary", "invalid"))).details[1].Unpack(bad)
    assert (bad.field_violations[0].field, bad.field_violations[0].description) == ("threshold", "must be 0 to 2.")


@pytest.mark.parametrize("text", ["broken", "mixed group"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_unexpected_exception_leaks_nothing(echo, shape, text):
    """Any other exception is INTERNAL with the request id; its text goes to the log alone, with a traceback."""
    with capture_logs() as logs:
        error = await _error(start(echo.channel, shape, text, metadata=[("x-request-id", "nightly-42")]))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "Internal error. The log has the details under request id nightly-42."
    assert (_info(error).reason, dict(_info(error).metadata)) == ("INTERNAL", {"request_id": "nightly-42"})
    assert not re.search("hunter2|RuntimeError|Exception", str(error) + str(error.trailing_metadata()))
    (line,) = [line for line in logs if line["event"] == "call"]
    assert line["log_level"] == "error"
    assert "hunter2" in repr(line["exc_info"]) + repr(getattr(line["exc_info"], "exceptions", ()))


async def test_error_out_of_a_task_group_is_the_same_error(echo):
    """What a use case raises in a task group is told as if it had raised it itself."""
    assert _info(await _error(start(echo.channel, "unary_unary", "group"))).reason == "VIDEO_NOT_FOUND"


async def test_servicers_own_abort_passes(echo):
    """A status that the servicer aborts with reaches the caller as it is."""
    error = await _error(start(echo.channel, "unary_unary", "abort"))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "own words")


async def test_error_after_answers_comes_after_them(echo):
    """On a stream the answers before the error arrive first."""
    call = start(echo.channel, "unary_stream", "missing")
    assert (await call.read()).value == "first"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("shape", SHAPES)
async def test_garbage_is_bad_input(echo, shape):
    """Bytes that are no message are INVALID_ARGUMENT, not a defect of the server."""
    call = getattr(echo.channel, shape)(f"/{SERVICE}/{shape}")
    request = b"\xff\xff\xff"
    error = await _error(call(iter([request]) if shape.startswith("stream") else request))
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "Error parsing" not in error.details()


async def test_method_of_the_contract_that_is_not_written_yet_is_unimplemented(settings):
    """What the generated base class answers is UNIMPLEMENTED, and no defect in the log."""

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
            error = await _error(stub.CompareEmbeddings(compare_pb2.CompareEmbeddingsRequest()))
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert [line["log_level"] for line in logs if line["event"] == "call"] == ["info"]


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_method_that_nobody_serves_is_unimplemented(echo, shape):
    """A method or a service that is not there is UNIMPLEMENTED with its name, whatever the shape of the call."""
    call = getattr(echo.channel, shape)("/sage.nobody.v1.NoService/Nothing")
    error = await _error(call(iter([b""]) if shape.startswith("stream") else b""))
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert "NoService/Nothing" in error.details()


async def test_cancelled_call_is_cancelled_and_no_defect(echo):
    """A caller that goes away cancels the handler, and the log says CANCELLED at info."""
    with capture_logs() as logs:
        call = start(echo.channel, "unary_unary", "wait")
        await echo.echo.entered.wait()
        call.cancel()
        await echo.echo.cancelled.wait()
        await _first(logs)
    assert (logs[0]["status"], logs[0]["log_level"]) == ("CANCELLED", "info")


async def test_stream_ends_with_its_call(echo):
    """A caller that goes away in the middle of a stream ends the generator at once, in its own task."""
    with capture_logs() as logs:
        call = start(echo.channel, "unary_stream", "endless")
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await echo.echo.cancelled.wait()
            await _first(logs)
    assert logs[0]["status"] == "CANCELLED"
    assert echo.echo.cleaned_up_in_place


async def test_handler_that_fails_as_it_is_cancelled_does_no_harm(echo):
    """An error in the cleanup of a cancelled call is logged as a defect, and the server serves on."""
    with capture_logs() as logs:
        call = start(echo.channel, "unary_unary", "wait badly")
        await echo.echo.entered.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await echo.echo.cancelled.wait()
            await _first(logs)
    assert logs[0]["status"] == "INTERNAL"
    assert await answers(start(echo.channel, "unary_unary", "hello")) == ["hello"]


async def test_call_past_its_deadline_is_logged_as_such(echo, monkeypatch):
    """A caller whose time is up sees DEADLINE_EXCEEDED, and so does the log."""
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
def test_end_of_a_callers_time_is_told_from_a_change_of_mind(duration_s, timeout_s, status):
    """A timeout arrives rounded up, so that its end comes before what the server takes for it."""
    assert interceptor._cancelled(duration_s, timeout_s).status is status


async def test_error_is_logged_before_it_is_sent(echo, monkeypatch):
    """Whoever has heard of an error finds its line in the log."""
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
async def test_each_call_is_one_line_without_its_contents(echo, text, level, status, reason):
    """The log has method, status, reason, duration, request id and peer; nothing that the call carried."""
    with capture_logs() as logs, contextlib.suppress(grpc.aio.AioRpcError):
        await answers(start(echo.channel, "unary_unary", text, metadata=[("x-request-id", "nightly-42")]))
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
