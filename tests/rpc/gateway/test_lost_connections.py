"""What callers notice when the connection between the gateway and a service ends during their calls."""

import asyncio
import contextlib

import grpc
import pytest
from fakes.contract import registrations
from google.rpc import error_details_pb2, status_pb2
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import ServiceRegistration, running_server
from support.cuttable_proxy import CuttableProxy
from support.gateway_in_front import gateway_to

EMBED = "sage.embed.v1.EmbedService"


class _Embed(embed_pb2_grpc.EmbedServiceServicer):
    """Keeps the first calls waiting."""

    def __init__(self) -> None:
        self.calls = 0
        self.entered = asyncio.Event()
        self.keep_waiting = True

    async def _respond(self, response):
        self.calls += 1
        self.entered.set()
        if self.keep_waiting:
            await asyncio.Event().wait()
        return response

    async def ListModels(self, request, context):
        return await self._respond(embed_pb2.ListModelsResponse())

    async def CancelEmbedding(self, request, context):
        return await self._respond(embed_pb2.CancelEmbeddingResponse())


@pytest.fixture
async def cut(tmp_path):
    """The servicer, a channel to it through the gateway, and a function that ends the gateway's connection."""
    embed = _Embed()

    async def check():
        pass

    def add(server):
        embed_pb2_grpc.add_EmbedServiceServicer_to_server(embed, server)

    others = [one for one in registrations() if one.name != EMBED]
    async with contextlib.AsyncExitStack() as stack:
        settings = ServerSettings(listen="127.0.0.1:0", grace_s=0)
        services = [ServiceRegistration(EMBED, add, check), *others]
        server = await stack.enter_async_context(running_server(settings=settings, services=services))
        proxy = await stack.enter_async_context(CuttableProxy(server.address).running())
        addresses = {"ingest": server.address, "embed": f"127.0.0.1:{proxy.port}", "compare": server.address}
        fronted = await stack.enter_async_context(gateway_to(addresses, tmp_path))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(fronted.address))

        async def end_connection():
            await embed.entered.wait()
            embed.keep_waiting = False
            proxy.go_away()
            proxy.come_back()

        yield embed, embed_pb2_grpc.EmbedServiceStub(channel), end_connection


async def test_a_call_without_side_effects_is_made_again(cut):
    embed, stub, end_connection = cut
    call = stub.ListModels(embed_pb2.ListModelsRequest(), timeout=30)
    await end_connection()
    assert await call == embed_pb2.ListModelsResponse()
    assert embed.calls == 2


async def test_any_other_call_is_made_once_and_is_unavailable(cut):
    embed, stub, end_connection = cut
    call = stub.CancelEmbedding(embed_pb2.CancelEmbeddingRequest(embedding_id=f"embed_{0:032}"), timeout=30)
    await end_connection()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    status = status_pb2.Status.FromString(dict(error.value.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (error.value.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert embed.calls == 1
