"""Calls that hold a server's resources without a token, or without their message, do not keep others out."""

import asyncio
import contextlib
import time

import grpc
import pytest
from fakes.echo import SERVICE, SHAPES, Echo, responses, start
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage_runtime.auth.tokens import Scope, new_token
from sage_runtime.server import running_server
from structlog.testing import capture_logs

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


def info_of(error):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def error_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await responses(call)
    return error.value


def silent(channel, path, **options):
    """Start a call that sends its headers but no message, whatever its shape."""
    return channel.stream_stream(path, request_serializer=StringValue.SerializeToString)(**options)


@contextlib.asynccontextmanager
async def served(settings, **changes):
    """Run the echo service with other settings; yield a function that opens another connection to it."""
    async with (
        running_server(settings=settings.model_copy(update=changes), services=[Echo().registration]) as server,
        contextlib.AsyncExitStack() as channels,
    ):

        async def connect():
            options = [("grpc.use_local_subchannel_pool", 1)]
            return await channels.enter_async_context(grpc.aio.insecure_channel(server.address, options=options))

        yield connect


@pytest.fixture
def tokens(tmp_path):
    secret, token = new_token("ann", Scope.WRITE)
    (tmp_path / "tokens").write_text(token.line())
    return {"tokens_file": str(tmp_path / "tokens"), "sign_in": "on"}, [("authorization", f"Bearer {secret}")]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_never_sends_its_message_is_refused_after_the_limit(settings, shape):
    async with served(settings, first_message_s=0.2) as connect:
        error = await error_of(silent(await connect(), f"/{SERVICE}/{shape}", timeout=10))
    assert (error.code(), info_of(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "did not arrive within 0.2 s" in error.details()


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream"])
async def test_a_call_that_ends_without_its_message_is_refused(settings, shape):
    async with served(settings) as connect:
        call = (await connect()).stream_stream(f"/{SERVICE}/{shape}")(iter([]), timeout=10)
        error = await error_of(call)
    assert (error.code(), info_of(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")


async def test_a_stream_of_no_messages_reaches_the_servicer(settings):
    async with served(settings) as connect:
        call = (await connect()).stream_stream(f"/{SERVICE}/stream_stream")(iter([]), timeout=10)
        assert [response async for response in call] == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_without_a_token_is_refused_before_its_message(settings, tokens, shape):
    async with served(settings, **tokens[0], grace_s=5) as connect:
        began = time.monotonic()
        error = await error_of(silent(await connect(), f"/{SERVICE}/{shape}", timeout=10))
    assert (error.code(), info_of(error).reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert time.monotonic() - began < 5


async def test_silent_calls_do_not_count_as_served(settings):
    async with served(settings, max_concurrent_calls=2, first_message_s=30) as connect:
        channel = await connect()
        calls = [silent(channel, f"/{SERVICE}/unary_unary") for _ in range(50)]
        await asyncio.sleep(0.3)
        assert await responses(start(channel, "unary_unary", "hello", timeout=10)) == ["hello"]
        for call in calls:
            call.cancel()


async def test_more_calls_than_the_limit_are_refused_until_one_ends(settings):
    async with served(settings, max_concurrent_calls=2) as connect:
        channel = await connect()
        waiting = [start(channel, "unary_stream", "wait", timeout=20) for _ in range(2)]
        for call in waiting:
            assert (await call.read()).value == "first"
        error = await error_of(start(channel, "unary_unary", "hello", timeout=10))
        assert (error.code(), info_of(error).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        waiting[0].cancel()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    assert await responses(start(channel, "unary_unary", "hello", timeout=10)) == ["hello"]
                    break
        waiting[1].cancel()


@pytest.mark.parametrize("path", [CHECK, WATCH])
async def test_health_calls_of_one_connection_are_limited_and_leave_room_for_calls(settings, tokens, path):
    async with served(settings, **tokens[0], max_concurrent_calls=1, max_health_calls=3, first_message_s=60) as connect:
        channel, other = await connect(), await connect()
        held = [silent(channel, path) for _ in range(20)]
        ends = [asyncio.create_task(error_of(call)) for call in held]
        async with asyncio.timeout(10):
            while sum(end.done() for end in ends) < 17:  # noqa: ASYNC110 - no event signals it
                await asyncio.sleep(0.01)
        errors = [end.result() for end in ends if end.done()]
        assert {(error.code(), info_of(error).reason) for error in errors} == {
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        }
        assert await responses(start(channel, "unary_unary", "hello", metadata=tokens[1], timeout=10)) == ["hello"]
        health = await health_pb2_grpc.HealthStub(other).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        for call in held:
            call.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


@pytest.mark.serial
async def test_thousands_of_silent_calls_and_watches_without_a_token_do_not_keep_others_out(settings, tokens):
    async with served(settings, **tokens[0], max_concurrent_calls=10) as connect:
        held = []
        for _ in range(10):
            channel = await connect()
            held += [silent(channel, path) for path in (CHECK, WATCH, f"/{SERVICE}/unary_unary") for _ in range(100)]
            stub = health_pb2_grpc.HealthStub(channel)
            held += [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(100)]
        mine = await connect()
        took = []
        for number in range(50):
            began = time.monotonic()
            call = start(mine, "unary_unary", str(number), metadata=tokens[1], timeout=20)
            assert await responses(call) == [str(number)]
            took.append(time.monotonic() - began)
        assert sorted(took)[len(took) // 2] < 1
        for call in held:
            call.cancel()


@pytest.mark.parametrize("path", ["/", "//", "/a", "a", "/a/b/c", "/a//b", "/" + "x" * 3000, "/a/\\x1b[31m%00"])
async def test_an_odd_path_is_unimplemented(settings, path):
    async with served(settings, metrics_listen="127.0.0.1:0") as connect:
        with capture_logs() as logs:
            error = await error_of((await connect()).unary_unary(path)(b"", timeout=10))
    assert (error.code(), info_of(error).reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert all(len(line["method"]) <= 120 for line in logs if line["event"] == "call_finished")
    assert len(error.details()) < 300


async def test_methods_that_do_not_exist_are_one_method_in_the_metrics(settings):
    import prometheus_client

    async with served(settings, metrics_listen="127.0.0.1:0") as connect:
        channel = await connect()
        for number in range(100):
            await error_of(channel.unary_unary(f"/made.up{number}.Service/Method{number}")(b"", timeout=10))
    page = prometheus_client.generate_latest().decode()
    assert "made.up" not in page
    assert 'grpc_service="unknown"' in page
