"""A server that is told to stop: it reports that, finishes its calls, and exits."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from pathlib import Path

import grpc
import pytest
from fakes.echo import Echo, responses, start
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage_runtime.server import ListenError, running_server

_FOLDER = Path(__file__).parent


@contextlib.asynccontextmanager
async def _process(**environment):
    """Run the echo service in a separate process. Yields the process and its port."""
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
async def test_stop_signal_drains_and_exits_with_code_0(number):
    async with (
        asyncio.timeout(30),
        _process(SAGE_DRAIN_WAIT_SECONDS="3") as (process, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        await _health_turns(channel, health_pb2.HealthCheckResponse.SERVING)
        process.send_signal(number)
        await _health_turns(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await responses(start(channel, "unary_unary", "late")) == ["late"]
        assert await process.wait() == 0
        # gRPC's own output is not a log line of ours.
        lines = [json.loads(line) for line in (await process.stderr.read()).splitlines() if line.startswith(b"{")]
    assert [line["event"] for line in lines] == ["server_started", "drain_started", "call_finished", "server_stopped"]


async def test_second_signal_exits_at_once():
    """Pressing Ctrl-C again does not wait for calls in progress."""
    async with (
        asyncio.timeout(30),
        _process(SAGE_DRAIN_WAIT_SECONDS="60") as (process, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        process.send_signal(signal.SIGINT)
        await _health_turns(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == -signal.SIGINT


async def test_port_in_use_is_reported_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with asyncio.timeout(30), _process(SAGE_LISTEN=address) as (process, _):
            assert await process.wait() == 2
            errors = (await process.stderr.read()).decode()
    assert f"cannot listen on {address}" in errors
    assert "SAGE_LISTEN" in errors
    assert "Traceback" not in errors


async def test_two_servers_cannot_share_a_port(settings):
    async with running_server(settings=settings, services=[]) as server:
        with pytest.raises(ListenError, match=server.address):
            async with running_server(settings=settings.model_copy(update={"listen": server.address}), services=[]):
                pass


async def test_metrics_port_in_use_is_named(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match="SAGE_METRICS_LISTEN"):
            async with running_server(settings=settings.model_copy(update={"metrics_listen": address}), services=[]):
                pass


async def test_metrics_are_open_to_other_machines_only_if_a_setting_says_so(settings):
    settings = settings.model_copy(update={"metrics_listen": "0.0.0.0:0"})
    with pytest.raises(ListenError, match="SAGE_METRICS_PUBLIC"):
        async with running_server(settings=settings, services=[]):
            pass
    async with running_server(settings=settings.model_copy(update={"metrics_public": True}), services=[]):
        pass


async def test_call_in_progress_finishes_before_the_server_stops(settings):
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
                await responses(start(channel, "unary_unary", "late", timeout=1))
            except grpc.aio.AioRpcError as error:
                refused = error.code()
        # A call that arrives exactly during the stop is cancelled instead, or held until the server has ended.
        assert refused in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        assert not stopping.done()
        echo.release.set()
        assert await responses(call) == ["wait"]
        await stopping


async def test_call_that_outlasts_the_grace_period_is_cancelled(settings):
    echo = Echo()
    settings = settings.model_copy(update={"grace_s": 0.1})
    async with contextlib.AsyncExitStack() as stack:
        async with running_server(settings=settings, services=[echo.registration]) as server:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            call = start(channel, "unary_unary", "wait")
            await echo.entered.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await responses(call)
        async with asyncio.timeout(5):
            await echo.cancelled.wait()


async def test_health_watch_does_not_delay_the_stop(settings):
    settings = settings.model_copy(update={"grace_s": 60})
    async with asyncio.timeout(10), contextlib.AsyncExitStack() as stack:
        async with running_server(settings=settings, services=[]) as server:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF


async def test_error_of_the_block_is_not_wrapped(settings):
    with pytest.raises(ZeroDivisionError):
        async with running_server(settings=settings, services=[]):
            raise ZeroDivisionError
