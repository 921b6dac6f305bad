"""Health reports the actual state, and reflection the actual services."""

import asyncio
import contextlib
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


async def test_server_whose_checks_pass_is_serving(echo):
    assert [await _check(echo.channel, name) for name in (SERVICE, "", "liveness")] == [_SERVING] * 3


async def test_unknown_service_is_not_found(echo):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await _check(echo.channel, "sage.nothing")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_failed_check_turns_the_service_not_serving_until_it_passes(echo):
    with capture_logs() as logs:
        echo.echo.healthy = False
        await _becomes(echo.channel, SERVICE, _NOT_SERVING)
        await _becomes(echo.channel, "", _NOT_SERVING)
        assert await _check(echo.channel, "liveness") == _SERVING
        echo.echo.healthy = True
        await _becomes(echo.channel, SERVICE, _SERVING)
        await _becomes(echo.channel, "", _SERVING)
    # Once for the loss and once for the return, however many rounds there were.
    assert [line["event"] for line in logs if "health" in line["event"]] == ["health_check_failed", "health_recovered"]


async def test_list_returns_every_name(echo):
    response = await health_pb2_grpc.HealthStub(echo.channel).List(health_pb2.HealthListRequest())
    assert {name: one.status for name, one in response.statuses.items()} == {
        SERVICE: _SERVING,
        "": _SERVING,
        "liveness": _SERVING,
    }


async def test_watch_of_an_unknown_service_reports_service_unknown(echo):
    await _becomes(echo.channel, "sage.nothing", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


async def test_draining_server_stays_not_serving(echo):
    await echo.server.health.drain()
    await echo.server.health.check_all()
    assert [await _check(echo.channel, name) for name in (SERVICE, "", "liveness")] == [
        _NOT_SERVING,
        _NOT_SERVING,
        _SERVING,
    ]


async def test_check_that_hangs_counts_as_failed(settings):
    async def hang():
        await asyncio.Event().wait()

    registration = ServiceRegistration(SERVICE, lambda server: None, hang)
    async with (
        running_server(settings=settings, services=[registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert await _check(channel, SERVICE) == _NOT_SERVING


async def test_check_that_cannot_be_interrupted_counts_as_failed_and_is_not_repeated(settings):
    """As a request in a thread to a frozen store, which ends after minutes."""
    begun, thawed = [], asyncio.Event()

    async def freeze():
        begun.append(True)
        while not thawed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await thawed.wait()

    registration = ServiceRegistration(SERVICE, lambda server: None, freeze)
    async with (
        asyncio.timeout(20),
        running_server(settings=settings, services=[registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert await _check(channel, SERVICE) == _NOT_SERVING
        await server.health.check_all()
        assert len(begun) == 1
        thawed.set()
        await _becomes(channel, SERVICE, _SERVING)


async def test_failed_function_has_its_own_name_and_the_service_stays_serving(settings):
    failing = [OSError("the disk is full")]

    async def passes():
        pass

    async def fails():
        for error in failing:
            raise error

    part = f"{SERVICE}/uploads"
    registration = ServiceRegistration(SERVICE, lambda server: None, passes, partial_checks={part: fails})
    with capture_logs() as logs:
        async with (
            running_server(settings=settings, services=[registration]) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            assert [await _check(channel, name) for name in (part, SERVICE, "")] == [_NOT_SERVING, _SERVING, _SERVING]
            failing.clear()
            await _becomes(channel, part, _SERVING)
    (failed,) = [line for line in logs if line["event"] == "health_check_failed"]
    assert (failed["health_service"], failed["problem"]) == (part, "the disk is full")


async def test_each_service_has_its_own_health(settings, echo):
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


async def test_reflection_of_an_unknown_service_is_an_error_at_start_up(settings):
    settings = settings.model_copy(update={"reflect_also": "sage.nothing.v1.Service"})
    with pytest.raises(LookupError, match=r"sage\.nothing\.v1\.Service"):
        async with running_server(settings=settings, services=[]):
            pass
