"""Metrics and traces: there when they are on, not even imported when they are off."""

import asyncio
import subprocess
import sys
import urllib.request

import grpc
import pytest
from fakes.echo import SERVICE, Echo, responses, start
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sage_local.ports import free_port
from sage_runtime.client import open_channel
from sage_runtime.process import telemetry
from sage_runtime.server import running_server


async def _scrape(address):
    def read():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as response:
            return response.read().decode()

    return await asyncio.to_thread(read)


def _value(page, series):
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(series))


async def test_metrics_count_calls_by_method_and_status(settings):
    address = f"127.0.0.1:{free_port()}"
    labels = f'{{grpc_code="%s",grpc_method="unary_unary",grpc_service="{SERVICE}",grpc_type="unary"}}'
    async with (
        running_server(
            settings=settings.model_copy(update={"metrics_listen": address}), services=[Echo().registration]
        ) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        before = await _scrape(address)
        await responses(start(channel, "unary_unary", "hello"))
        with pytest.raises(grpc.aio.AioRpcError):
            await responses(start(channel, "unary_unary", "missing"))
        after = await _scrape(address)
    for series, growth in {
        "grpc_server_handled_total" + labels % "OK": 1,
        "grpc_server_handled_total" + labels % "NOT_FOUND": 1,
        f'grpc_server_started_total{{grpc_method="unary_unary",grpc_service="{SERVICE}"': 2,
        f'grpc_server_handling_seconds_count{{grpc_method="unary_unary",grpc_service="{SERVICE}"': 2,
    }.items():
        assert _value(after, series) - _value(before, series) == growth, series


async def test_metrics_port_is_free_again_afterwards(settings):
    settings = settings.model_copy(update={"metrics_listen": f"127.0.0.1:{free_port()}"})
    for _ in range(2):
        async with running_server(settings=settings, services=[]):
            pass


@pytest.fixture
def spans(monkeypatch):
    """Return the spans that end while tracing is on."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_active", telemetry.make_tracing(provider))
    yield exporter
    provider.shutdown()


@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_one_trace_covers_caller_and_server(spans, settings, shape):
    async with (
        running_server(settings=settings, services=[Echo().registration]) as server,
        open_channel(server.address) as channel,
    ):
        assert (await responses(start(channel, shape, "hello")))[-1] == "hello"
    found = {span.kind.name: span for span in spans.get_finished_spans()}
    assert set(found) == {"CLIENT", "SERVER"}
    assert found["SERVER"].parent.span_id == found["CLIENT"].context.span_id
    assert found["SERVER"].name == f"/{SERVICE}/{shape}"


async def test_errors_are_translated_with_tracing_on(spans, settings):
    async with (
        running_server(settings=settings, services=[Echo().registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await responses(start(channel, "unary_unary", "missing"))
    assert error.value.details() == "There is no video video_7. ListVideos shows the videos that exist."
    (span,) = spans.get_finished_spans()
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]


async def test_unreachable_collector_delays_no_call(settings):
    with telemetry.tracing("echo", f"http://127.0.0.1:{free_port()}"):
        async with (
            running_server(settings=settings, services=[Echo().registration]) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            assert await responses(start(channel, "unary_unary", "hello")) == ["hello"]


def test_unused_telemetry_is_not_imported():
    """Neither are the packages for PostgreSQL."""
    code = (
        "import sys, sage_runtime.server, sage_runtime.client; "
        "print([name for name in ('prometheus_client', 'opentelemetry', 'psycopg') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "[]"
