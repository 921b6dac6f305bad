"""Callers without a token that send what no client would, and what others notice of it."""

import asyncio
import contextlib
import itertools
import resource

import aiohttp
import grpc
import pytest
from fakes.contract import METHODS, call
from google.api import httpbody_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_runtime.process.settings import ServerSettings
from support.raw_http2 import RawConnection, grpc_headers

UPLOAD = "/sage.ingest.v1.IngestService/UploadVideo"
LIST_VIDEOS = "/sage.ingest.v1.IngestService/ListVideos"
CHECK = "/grpc.health.v1.Health/Check"
BAD_HEADERS = [
    *(("grpc-timeout", value) for value in ("1X", "", "-1", "S", "123456789S", "1S,1S")),
    ("grpc-encoding", "nope"),
    ("grpc-previous-rpc-attempts", "x"),
    ("grpc-retry-pushback-ms", "x"),
    ("grpc-internal-encoding-request", "x"),
    ("grpc-status", "x"),
    ("grpc-trace-bin", "!"),
    ("grpc-status-details-bin", "!!!"),
    ("anything-bin", "!!!"),
]


def info_of(error):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@contextlib.asynccontextmanager
async def connection(fronted, **options):
    one = await RawConnection.connect(fronted.address, **options)
    try:
        yield one
    finally:
        await one.close()


async def statistics(fronted):
    async with aiohttp.ClientSession() as session, session.get(f"http://{fronted.probe}/stats/prometheus") as page:
        return await page.text()


@pytest.mark.parametrize("where", ["headers", "trailers"])
async def test_a_header_that_grpc_cannot_read_fails_no_call_of_others(fronted, where, capfd):
    spec = ingest_pb2.VideoSpec(filename="film.mp4", content_type="video/mp4")
    async with grpc.aio.insecure_channel(fronted.address) as channel, connection(fronted) as attacker:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        uploads = [stub.UploadVideo(timeout=60) for _ in range(20)]
        for upload in uploads:
            await upload.write(ingest_pb2.UploadVideoRequest(spec=spec))
        for number, bad in enumerate(BAD_HEADERS * 3, start=1):
            if where == "headers":
                attacker.send(grpc_headers(LIST_VIDEOS, bad))
            else:
                attacker.send(grpc_headers(LIST_VIDEOS), trailers=[("a", "b"), bad])
            await attacker.until_ended(number)
            metadata = [("x-one", str(number)), ("x-two", "2")]
            await stub.ListVideos(ingest_pb2.ListVideosRequest(), timeout=10, metadata=metadata)
        for upload in uploads:
            await upload.write(ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=b"a")))
            await upload.done_writing()
            await upload
    # Written by gRPC's core.
    assert "Error parsing" not in capfd.readouterr().err


async def test_an_invalid_header_of_the_protocol_is_an_error_of_the_caller(fronted):
    async with aiohttp.ClientSession() as session:
        for name, value in [("grpc-timeout", "1X"), ("grpc-timeout", ""), ("grpc-encoding", "nope")]:
            headers = {"content-type": "application/grpc-web+proto", name: value}
            call = session.post(f"http://{fronted.address}{LIST_VIDEOS}", headers=headers, data=b"\0" * 5)
            async with call as response:
                assert response.headers["grpc-status"] == "3"
            async with session.get(f"http://{fronted.address}/v1/videos", headers={name: value}) as response:
                assert (response.status, (await response.json())["code"]) == (400, 3)


async def test_valid_headers_of_the_protocol_are_passed_on(fronted):
    metadata = [("anything-bin", b"\0\xff"), ("grpc-trace-bin", b"trace"), ("x-mine", "1")]
    async with grpc.aio.insecure_channel(fronted.address) as channel:
        for timeout in (0.9, 5, 3600, 1e7):
            await ingest_pb2_grpc.IngestServiceStub(channel).ListVideos(
                ingest_pb2.ListVideosRequest(), timeout=timeout, metadata=metadata, compression=grpc.Compression.Gzip
            )


async def test_every_method_passes_the_gateway(fronted):
    async with grpc.aio.insecure_channel(fronted.address) as channel:
        for method in METHODS:
            await call(channel, method, timeout=20)


async def test_names_that_do_not_exist_are_no_metrics(fronted):
    async with connection(fronted) as attacker:
        for number in range(1, 1001):
            service = "sage.embed.v1.EmbedService" if number % 2 else f"sage.embed.v1.Made{number}"
            attacker.send(grpc_headers(f"/{service}/Made{number}"))
            if number % 100 == 0:
                await attacker.until_ended(number)
    async with grpc.aio.insecure_channel(fronted.address) as channel:
        await embed_pb2_grpc.EmbedServiceStub(channel).ListModels(embed_pb2.ListModelsRequest(), timeout=10)
    page = await statistics(fronted)
    assert "Made" not in page
    assert "ListModels" in page


async def test_an_odd_path_is_unimplemented(fronted):
    async with grpc.aio.insecure_channel(fronted.address) as channel:
        for path in ("/", "/a", "/a/b/c", "/sage.embed.v1.EmbedService", "/sage.embed.v1./", "/grpc.a"):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary(path)(b"", timeout=10)
            assert (error.value.code(), info_of(error.value).reason) == (
                grpc.StatusCode.UNIMPLEMENTED,
                "UNIMPLEMENTED",
            )


async def test_the_log_has_only_the_start_of_a_path(fronted):
    url = f"http://{fronted.address}/{'x' * 20_000}"
    headers = {"x-request-id": "y" * 5_000}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert len(await response.read()) < 2000
    async with asyncio.timeout(10):
        while "xxx" not in (text := fronted.log.read_text()):  # noqa: ASYNC110 - written once a second
            await asyncio.sleep(0.1)
    assert max(map(len, text.splitlines())) < 2000


async def test_health_through_the_gateway_holds_nothing_open(fronted):
    async with grpc.aio.insecure_channel(fronted.address) as channel, connection(fronted) as attacker:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Watch(health_pb2.HealthCheckRequest(), timeout=10).read()
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        for _ in range(120):
            attacker.send(grpc_headers(CHECK), message=None)
        for _ in range(120):  # more than the health calls that a service accepts from one connection
            assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)).status


@pytest.mark.serial
async def test_thousands_of_calls_without_their_message_keep_no_one_out(start):
    settings = ServerSettings(listen="127.0.0.1:0", grace_s=0, health_interval_s=1, max_concurrent_calls=20)
    async with start(settings=settings) as fronted, contextlib.AsyncExitStack() as connections:
        for _ in range(20):
            attacker = await connections.enter_async_context(connection(fronted))
            for path in itertools.islice(itertools.cycle((LIST_VIDEOS, UPLOAD, CHECK)), 120):
                attacker.send(grpc_headers(path), message=None)
        async with grpc.aio.insecure_channel(fronted.address) as channel:
            for _ in range(20):
                await ingest_pb2_grpc.IngestServiceStub(channel).ListVideos(
                    ingest_pb2.ListVideosRequest(), timeout=20, wait_for_ready=True
                )
        async with aiohttp.ClientSession() as session, session.get(f"http://{fronted.address}/v1/health") as health:
            assert health.status == 200


@pytest.mark.serial
async def test_thousands_of_silent_connections_of_one_address_leave_room_for_others(fronted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_000)), hard))
    host, _, port = fronted.address.rpartition(":")
    held = []
    try:
        for _ in range(6000):
            with contextlib.suppress(OSError):
                held.append(await asyncio.open_connection(host, int(port)))
        served = 0
        for other in range(2, 12):
            source = aiohttp.TCPConnector(local_addr=(f"127.0.0.{other}", 0))
            with contextlib.suppress(aiohttp.ClientError):
                async with (
                    aiohttp.ClientSession(connector=source) as session,
                    session.get(f"http://{fronted.address}/v1/videos") as response,
                ):
                    served += response.status == 200
        # Addresses are limited in 16 groups, and some of these ten may be in the attacker's.
        assert served >= 7
    finally:
        for _, writer in held:
            writer.transport.abort()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_requests_that_do_not_arrive_are_cut_off(start):
    async def cut_off(address: str, start_of_request: bytes) -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(start_of_request)
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 1)
                if start_of_request.endswith(b"x-slow: "):  # one byte at a time keeps no connection open
                    writer.write(b"a")
        writer.transport.abort()

    starts = [
        b"",
        b"GET /v1/vid",
        b"GET /v1/videos HTTP/1.1\r\n",
        b"GET /v1/videos HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"POST /v1/comparisons HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
    ]
    async with start(SAGE_GATEWAY_IDLE_SECONDS="5") as fronted, asyncio.timeout(60):
        await asyncio.gather(*(cut_off(fronted.address, one) for one in starts))
