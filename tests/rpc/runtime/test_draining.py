"""A server that is told to stop: it says so, ends what it began, and ends."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from pathlib import Path

import grpc
import pytest
from fakes.echo import Echo, answers, start
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage_runtime.server import ListenError, running_server

_FOLDER = Path(__file__).parent


@contextlib.asynccontextmanager
async def _process(**environment):
    """Run the tiny service in a process of its own; yields it and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        _FOLDER / "serve_echo.py",
        env={"PYTHONPATH": str(_FOLDER.parent.parent), "SAGE_LISTEN": "127.0.0.1:0", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process, int(await process.stdout.readline() or 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _health_turns(channel, status):
    stub = health_pb2_grpc.HealthStub(channel)
    async for change in stub.Watch(health_pb2.HealthCheckRequest(service="")):
        if change.status == status:
            return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stop_signal_drains_and_ends_with_code_0(number):
    """Health turns NOT_SERVING first while calls are still taken, then the process ends with code 0."""
    async with (
        asyncio.timeout(30),
        _process(SAGE_DRAIN_WAIT_SECONDS="3") as (process, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        await _health_turns(channel, health_pb2.HealthCheckResponse.SERVING)
        process.send_signal(number)
        await _health_turns(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await answers(start(channel, "unary_unary", "late")) == ["late"]
        assert await process.wait() == 0
        # What gRPC says of itself is no line of ours.
        lines = [json.loads(line) for line in (await process.stderr.read()).splitlines() if line.startswith(b"{")]
    assert [line["event"] for line in lines] == ["serving", "draining", "call", "ended"]


async def test_second_signal_ends_at_once():
    """Someone who presses Ctrl-C again does not wait for calls in flight."""
    async with (
        asyncio.timeout(30),
        _process(SAGE_DRAIN_WAIT_SECONDS="60") as (process, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        process.send_signal(signal.SIGINT)
        await _health_turns(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == -signal.SIGINT


async def test_taken_port_is_one_clear_line():
    """A port that is taken ends the start with code 2 and names the address and the variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with asyncio.timeout(30), _process(SAGE_LISTEN=address) as (process, _):
            assert await process.wait() == 2
            errors = (await process.stderr.read()).decode()
    assert f"cannot listen on {address}" in errors
    assert "SAGE_LISTEN" in errors
    assert "Traceback" not in errors


async def test_port_of_another_server_is_taken(settings):
    """Two servers never share a port: the second does not start."""
    async with running_server(settings=settings, services=[]) as server:
        with pytest.raises(ListenError, match=server.address):
            async with running_server(settings=settings.model_copy(update={"listen": server.address}), services=[]):
                pass


async def test_metrics_port_that_is_taken_is_named(settings):
    """The same holds for the metrics' port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match="SAGE_METRICS_LISTEN"):
            async with running_server(settings=settings.model_copy(update={"metrics_listen": address}), services=[]):
                pass


async def test_call_in_flight_ends_before_the_server(settings):
    """A call that began before the stop gets its answer, one that comes after is refused."""
    echo = Echo()
    settings = settings.model_copy(update={"grace_s": 60})
    async with contextlib.AsyncExitStack() as stack:
        running = contextlib.AsyncExitStack()
        server = await running.enter_async_context(running_server(settings=settings, services=[echo.registration]))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
        call = start(channel, "unary_unary", "wait")
        await echo.entered.wait()
        stopping = asyncio.create_task(running.aclose())
        refused = None
        while refused is None:
            try:
                await answers(start(channel, "unary_unary", "late", timeout=1))
            except grpc.aio.AioRpcError as error:
                refused = error.code()
        # A call that arrives in the very moment of the stop is cancelled instead, or held until the server has ended.
        assert refused in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        assert not stopping.done()
        echo.release.set()
        assert await answers(call) == ["wait"]
        await stopping


async def test_call_that_outlasts_the_grace_is_cancelled(settings):
    """After the grace a call is cancelled, so that its handler can clean up."""
    echo = Echo()
    settings = settings.model_copy(update={"grace_s": 0.1})
    async with contextlib.AsyncExitStack() as stack:
        async with running_server(settings=settings, services=[echo.registration]) as server:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            call = start(channel, "unary_unary", "wait")
            await echo.entered.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await answers(call)
        async with asyncio.timeout(5):
            await echo.cancelled.wait()


async def test_health_watch_does_not_hold_up_the_end(settings):
    """Watchers of health see NOT_SERVING and the end of their stream; the server does not wait out its grace."""
    settings = settings.model_copy(update={"grace_s": 60})
    async with asyncio.timeout(10), contextlib.AsyncExitStack() as stack:
        async with running_server(settings=settings, services=[]) as server:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF


async def test_error_of_the_block_passes_as_it_is(settings):
    """What the caller's own code raises is not wrapped."""
    with pytest.raises(ZeroDivisionError):
        async with running_server(settings=settings, services=[]):
            raise ZeroDivisionError
