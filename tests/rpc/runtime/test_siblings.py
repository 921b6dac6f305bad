"""Errors of sibling services, as a service passes them on."""

import asyncio
import socket

import grpc
import pytest
from fakes.echo import Echo, responses, start
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from sage_runtime.client import open_channel, to_sage_error
from sage_runtime.errors import Reason
from sage_runtime.server import running_server


async def _error(channel, text, **options):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await responses(start(channel, "unary_unary", text, **options))
    return to_sage_error(error.value, service="echo")


async def test_reason_and_facts_are_passed_on(echo):
    error = await _error(echo.channel, "missing")
    assert (error.reason, error.facts) == (Reason.VIDEO_NOT_FOUND, {"video_id": "video_7"})


async def test_bad_field_is_passed_on(echo):
    error = await _error(echo.channel, "invalid")
    assert error.reason is Reason.FIELD_INVALID
    assert [(one.field, one.rule) for one in error.violations] == [("threshold", "must be 0 to 2.")]
    assert error.facts["rules"] == "threshold: must be 0 to 2."


async def test_caller_of_two_services_sees_the_original_error(caller):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await responses(start(caller.channel, "unary_unary", "ask missing"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert error.value.details() == "There is no video video_7. ListVideos shows the videos that exist."


async def test_internal_error_of_a_sibling_keeps_its_request_id(caller):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await responses(start(caller.channel, "unary_unary", "ask broken", metadata=[("x-request-id", "nightly-42")]))
    info = error_details_pb2.ErrorInfo()
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
    status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("INTERNAL", {"request_id": "nightly-42"})


async def test_unreachable_sibling_is_service_unavailable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        async with open_channel(f"127.0.0.1:{taken.getsockname()[1]}", timeout_s=5) as channel:
            error = await _error(channel, "hello")
    assert (error.reason, error.facts) == (Reason.SERVICE_UNAVAILABLE, {"service": "echo"})


async def test_sibling_that_is_too_slow_is_service_unavailable(echo):
    async with open_channel(echo.server.address, timeout_s=0.1) as channel:
        assert (await _error(channel, "wait")).reason is Reason.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("details", [b"", b"\xff\xff", status_pb2.Status(code=3).SerializeToString()])
def test_status_without_a_reason_is_internal(details):
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", details))
    error = grpc.aio.AioRpcError(grpc.StatusCode.INVALID_ARGUMENT, grpc.aio.Metadata(), metadata, details="no")
    assert to_sage_error(error, service="echo").reason is Reason.INTERNAL


class _Stopping(Echo):
    async def _respond(self, text, context):
        return StringValue(value="stopping")


async def test_sibling_that_stops_gets_no_more_calls(settings, echo):
    async with (
        running_server(settings=settings, services=[_Stopping().registration]) as stopping,
        open_channel(f"ipv4:{echo.server.address},{stopping.address}") as channel,
    ):

        async def answered() -> set[str]:
            calls = [start(channel, "unary_unary", "other", wait_for_ready=True) for _ in range(8)]
            return {text for call in calls for text in await responses(call)}

        async with asyncio.timeout(10):
            while len(await answered()) < 2:
                """Until the channel has reached both."""
            await stopping.health.drain()
            while len(await answered()) > 1:
                """Until the channel has noticed."""
        assert await answered() == {"other"}
