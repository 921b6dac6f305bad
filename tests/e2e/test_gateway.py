"""The gateway in front of a full stack: a script of real calls, shutdown, TLS and traces."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.api import httpbody_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_local.gateway import EnvoyAdmin, Gateway, gateway_settings
from sage_local.ports import choose_ports
from sage_local.stack import RunningStack
from support.films import SAMPLES
from support.sage_command import Sage
from support.waiting import until

ROOT = Path(__file__).parents[2]
FILM = SAMPLES / "old.mp4"
# Some of these measure time.
pytestmark = pytest.mark.serial


@pytest.mark.timeout(300)
async def test_the_verification_script_passes(stack: RunningStack) -> None:
    script = await asyncio.create_subprocess_exec(
        ROOT / "gateway" / "verify.sh", stack.address,
        env={
            **os.environ, **stack.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SAGE_VERIFY_MEGABYTES": "60",
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await script.communicate()
    assert script.returncode == 0, out.decode()
    assert "All checks passed." in out.decode()


@contextlib.asynccontextmanager
async def gateway(stack: RunningStack, folder: Path, **environment: str) -> AsyncIterator[tuple[Gateway, str]]:
    """Run another gateway in front of a stack's services; yield it with its address."""
    ports = choose_ports(["gateway", "gateway-probe"], wanted={}, last={})
    addresses = {name: stack.addresses[name] for name in ("ingest", "embed", "compare")}
    admin = {"SAGE_GATEWAY_ADMIN_SOCKET": str(folder / "admin.sock")}
    settings = gateway_settings(ports, addresses, environment | admin)
    one = Gateway(folder / "gateway.yaml", settings=settings, log=folder / "gateway.log")
    try:
        await one.start()
        yield one, f"127.0.0.1:{ports['gateway']}"
    finally:
        one.process.kill()
        await one.process.wait(timeout_s=10)
        await one.process.stop()  # which removes its socket


async def test_a_gateway_that_stops_finishes_calls_under_way(stack: RunningStack, tmp_path: Path) -> None:
    async with gateway(stack, tmp_path) as (one, address), grpc.aio.insecure_channel(address) as channel:
        data = FILM.read_bytes()
        upload = ingest_pb2_grpc.IngestServiceStub(channel).UploadVideo(timeout=60)
        spec = ingest_pb2.VideoSpec(filename="slow.mp4", content_type="video/mp4", size_bytes=len(data))
        half = len(data) // 2
        await upload.write(ingest_pb2.UploadVideoRequest(spec=spec))
        await upload.write(ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=data[:half])))
        # A call that the gateway has not received yet is not in progress when it is told to stop.
        async with asyncio.timeout(10):
            while not await EnvoyAdmin(one.admin_socket).active_calls():  # noqa: ASYNC110 - no event signals it
                await asyncio.sleep(0.01)
        stopping = asyncio.create_task(one.process.stop())
        await asyncio.sleep(1)
        assert one.process.running
        await upload.write(ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=data[half:])))
        await upload.done_writing()
        assert (await upload).video.size_bytes == len(data)
        await stopping
        assert one.process.exit_code == 0


async def test_a_gateway_without_calls_stops_at_once(stack: RunningStack, tmp_path: Path) -> None:
    async with gateway(stack, tmp_path) as (one, _), asyncio.timeout(3):
        await one.process.stop()


async def test_no_watch_is_refused_by_a_gateway_that_has_no_connection_to_the_service_yet(
    stack: RunningStack, tmp_path: Path
) -> None:
    missing = embed_pb2.WatchEmbeddingRequest(embedding_id="embed_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d")

    async def watch(channel: grpc.aio.Channel) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in embed_pb2_grpc.EmbedServiceStub(channel).WatchEmbedding(missing, timeout=30):
                pass
        return refused.value.code()

    async with gateway(stack, tmp_path) as (one, address), contextlib.AsyncExitStack() as channels:
        # The gateway accepts 128 calls per connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        opened = [
            await channels.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in range(8)
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in opened))
        os.kill(one.process.pid, signal.SIGSTOP)
        watches = asyncio.gather(*(watch(channel) for channel in opened for _ in range(100)))
        # Time to send them: the gateway should receive all of them before it can connect.
        await asyncio.sleep(1)
        os.kill(one.process.pid, signal.SIGCONT)
        codes = await watches
    assert set(codes) == {grpc.StatusCode.NOT_FOUND}


async def test_sage_connects_over_tls_only_with_a_trusted_certificate(
    stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ROOT / "gateway" / "verify" / "credentials.py"
    made = await asyncio.create_subprocess_exec(sys.executable, script, "certificate", tmp_path)
    assert await made.wait() == 0
    certificate, key = str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")
    async with gateway(stack, tmp_path, SAGE_GATEWAY_TLS_CERT=certificate, SAGE_GATEWAY_TLS_KEY=key) as (one, address):
        assert one.address == f"https://localhost:{address.rpartition(':')[2]}"
        monkeypatch.setenv("SAGE_CA_FILE", certificate)
        known = await Sage(one.address)("upload", str(FILM))
        plain = await Sage(address)("videos")
        monkeypatch.delenv("SAGE_CA_FILE")
        unknown = await Sage(one.address)("videos")
    assert known.code == 0, known.err
    assert (plain.code, unknown.code) == (2, 2)
    assert "https://" in plain.err


class _Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Records the spans that it receives, with the name of the service that sent them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span.trace_id.hex()) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_the_gateways_span_is_part_of_the_callers_trace(stack: RunningStack, tmp_path: Path) -> None:
    collector = _Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with (
        gateway(stack, tmp_path, SAGE_OTLP_ENDPOINT=f"http://127.0.0.1:{port}") as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        await ingest_pb2_grpc.IngestServiceStub(channel).ListVideos(
            ingest_pb2.ListVideosRequest(),
            metadata=[("traceparent", f"00-{trace}-b7ad6b7169203331-01")],
            wait_for_ready=True,
            timeout=10,
        )
        await until(lambda: ("gateway", trace) in collector.spans, timeout_s=15)
    await server.stop(None)
