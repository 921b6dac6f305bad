"""Health says what is true, and reflection what there is."""

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from fakes.echo import SERVICE
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from sage_runtime.server import ServiceRegistration, running_server
from structlog.testing import capture_logs

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _check(channel, name):
    response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
    return response.status


async def _becomes(channel, name, status):
    async with asyncio.timeout(10):
        async for change in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name)):
            if change.status == status:
                return


async def test_server_whose_checks_pass_serves(echo):
    """From the moment that the server runs, the service, the whole and liveness are SERVING."""
    assert [await _check(echo.channel, name) for name in (SERVICE, "", "liveness")] == [_SERVING] * 3


async def test_unknown_service_is_not_found(echo):
    """A name that is not served is NOT_FOUND."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await _check(echo.channel, "sage.nothing")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_lost_store_turns_the_service_not_serving_and_back(echo):
    """When the check fails the service and the whole are NOT_SERVING, until it passes again. Liveness stays."""
    with capture_logs() as logs:
        echo.echo.healthy = False
        await _becomes(echo.channel, SERVICE, _NOT_SERVING)
        await _becomes(echo.channel, "", _NOT_SERVING)
        assert await _check(echo.channel, "liveness") == _SERVING
        echo.echo.healthy = True
        await _becomes(echo.channel, SERVICE, _SERVING)
        await _becomes(echo.channel, "", _SERVING)
    # Once for the loss and once for the return, however many rounds there were.
    assert [line["event"] for line in logs if "health" in line["event"]] == ["not healthy", "healthy again"]


async def test_list_has_every_name(echo):
    """List answers for all names at once."""
    response = await health_pb2_grpc.HealthStub(echo.channel).List(health_pb2.HealthListRequest())
    assert {name: one.status for name, one in response.statuses.items()} == {
        SERVICE: _SERVING,
        "": _SERVING,
        "liveness": _SERVING,
    }


async def test_watch_of_an_unknown_service_says_so(echo):
    """Watching a name that is not served yields SERVICE_UNKNOWN and goes on."""
    await _becomes(echo.channel, "sage.nothing", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


async def test_draining_server_does_not_come_back(echo):
    """Once draining, a check that passes does not turn health SERVING again. Liveness stays."""
    await echo.server.health.drain()
    await echo.server.health.check_all()
    assert [await _check(echo.channel, name) for name in (SERVICE, "", "liveness")] == [
        _NOT_SERVING,
        _NOT_SERVING,
        _SERVING,
    ]


async def test_check_that_hangs_counts_as_failed(settings):
    """A check without an end is cut off, and fails."""

    async def hang():
        await asyncio.Event().wait()

    registration = ServiceRegistration(SERVICE, lambda server: None, hang)
    async with (
        running_server(settings=settings, services=[registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert await _check(channel, SERVICE) == _NOT_SERVING


async def test_one_lost_service_does_not_take_the_others_along(settings, echo):
    """Each service has its own health; the whole is only well when all are."""

    async def passes():
        pass

    async def fails():
        raise ConnectionError("gone")

    registrations = [
        ServiceRegistration(name, lambda server: None, check) for name, check in {"a": passes, "b": fails}.items()
    ]
    async with (
        running_server(settings=settings, services=registrations) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert [await _check(channel, name) for name in ("a", "b", "")] == [_SERVING, _NOT_SERVING, _NOT_SERVING]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes(echo, version):
    """Both versions of reflection list the services and know their descriptors."""
    call = echo.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
            for name in ("grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection")
        ),
    ]
    listed, *described = [response async for response in call(iter(requests))]
    assert [service.name for service in listed.list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]
    assert all(one.file_descriptor_response.file_descriptor_proto for one in described)


async def test_grpcurl_lists_the_services(settings):
    """A real grpcurl shows what there is, and what the server describes for others behind a gateway."""
    grpcurl = Path(sys.executable).parent / "grpcurl"
    settings = settings.model_copy(update={"reflect_also": "sage.embed.v1.EmbedService, sage.ingest.v1.IngestService"})
    async with running_server(settings=settings, services=[]) as server:
        run = await asyncio.to_thread(
            subprocess.run,
            [grpcurl, "-plaintext", server.address, "describe", "sage.ingest.v1.IngestService.GetVideo"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert "rpc GetVideo ( .sage.ingest.v1.GetVideoRequest )" in run.stdout, run.stderr


async def test_service_that_does_not_exist_cannot_be_described(settings):
    """A name without generated code is an error at start."""
    settings = settings.model_copy(update={"reflect_also": "sage.nothing.v1.Service"})
    with pytest.raises(LookupError, match=r"sage\.nothing\.v1\.Service"):
        async with running_server(settings=settings, services=[]):
            pass
