"""ApiKeyService over gRPC, with PostgreSQL and a server in place of TwelveLabs."""

import base64
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import psycopg
import pytest
from fakes.api_keys import WITNESS
from fakes.key_provider import KeyProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sage.embed.v1 import api_key_pb2, api_key_pb2_grpc, embed_pb2, embed_pb2_grpc
from sage_embed.app import api_services
from sage_embed.config import SCHEMA, ApiSettings
from sage_embed.engines.twelvelabs.requests import TwelveLabsKeyChecker
from sage_embed.keys.api_keys import CurrentKey
from sage_embed.keys.postgres import PostgresApiKeyRepository
from sage_runtime.client import to_sage_error
from sage_runtime.errors import Reason
from sage_runtime.process import telemetry
from sage_runtime.server import running_server
from structlog.testing import capture_logs
from support.leaks import everything_in, leaks

VALID = api_key_pb2.API_KEY_STATUS_VALID
INVALID = api_key_pb2.API_KEY_STATUS_INVALID
UNKNOWN = api_key_pb2.API_KEY_STATUS_UNKNOWN
STORED = api_key_pb2.API_KEY_SOURCE_STORED
ENVIRONMENT = api_key_pb2.API_KEY_SOURCE_ENVIRONMENT
UNSET = api_key_pb2.API_KEY_SOURCE_UNSPECIFIED


@dataclass
class Replica:
    """A running service.

    Attributes:
        stub: To call it.
        keys: The keys that its engines get.
        channel: The connection to it.
    """

    stub: api_key_pb2_grpc.ApiKeyServiceStub
    keys: CurrentKey
    channel: grpc.aio.Channel

    async def set(self, key: str = "", *, validate_only: bool = False) -> api_key_pb2.ApiKey:
        request = api_key_pb2.SetApiKeyRequest(key=key, validate_only=validate_only)
        return (await self.stub.SetApiKey(request)).api_key

    async def get(self) -> api_key_pb2.ApiKey:
        return (await self.stub.GetApiKey(api_key_pb2.GetApiKeyRequest())).api_key

    async def in_use(self) -> str | None:
        key = await self.keys.current()
        return None if key is None else key.secret


@pytest.fixture
async def provider(monkeypatch) -> AsyncIterator[KeyProvider]:
    """A server in place of TwelveLabs that accepts every key."""
    async with KeyProvider().running() as provider:
        monkeypatch.setenv("TWELVELABS_BASE_URL", provider.base_url)
        yield provider


@pytest.fixture
def dsn(database_url) -> str:
    """A database with no key in it."""
    with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute("TRUNCATE api_keys")
    return database_url


@pytest.fixture
def settings(dsn, ingest) -> dict:
    """Settings of a service that can encrypt and has no key in its environment."""
    return {
        "listen": "127.0.0.1:0",
        "database_url": dsn,
        "ingest_address": ingest.address,
        "s3_bucket": "none",
        "grace_s": 0,
        "database_connections": 2,
        "key_encryption_keys": f"main:{base64.b64encode(os.urandom(32)).decode()}",
    }


@pytest.fixture
def replica(settings, engine, provider):
    """Start a service with these changes of its settings."""

    @asynccontextmanager
    async def start(**changes: object) -> AsyncIterator[Replica]:
        chosen = ApiSettings(**settings | changes)
        given: list[CurrentKey] = []

        def make_engines(pool, settings, keys):
            given.append(keys)
            return [engine]

        async with (
            api_services(chosen, make_engines, TwelveLabsKeyChecker()) as services,
            running_server(settings=chosen, services=services) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            yield Replica(api_key_pb2_grpc.ApiKeyServiceStub(channel), given[0], channel)

    return start


async def refused(call) -> grpc.aio.AioRpcError:
    """Return the error of a call, which must not contain the key."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    everything = repr(
        (error.details(), error.debug_error_string(), error.trailing_metadata(), error.initial_metadata())
    )
    assert leaks(WITNESS, everything.encode()) == []
    return error


def reason(error: grpc.aio.AioRpcError) -> Reason:
    """Return the reason of an error."""
    return to_sage_error(error, service="embed").reason


async def test_a_key_is_checked_stored_described_used_and_deleted(replica, provider, dsn):
    async with replica() as service:
        assert await service.get() == api_key_pb2.ApiKey(provider="twelvelabs")
        assert await service.in_use() is None
        found = await service.set(f"{WITNESS}\n")
        assert (found.provider, found.present, found.last_four) == ("twelvelabs", True, "LAST")
        assert (found.status, found.source, found.HasField("check_time")) == (VALID, STORED, True)
        assert [key for _, _, key in provider.requests] == [WITNESS]
        assert await service.get() == found
        # At once, although other processes may cache for a second that there was no key.
        assert await service.in_use() == WITNESS
        assert leaks(WITNESS, everything_in(dsn)) == []
        for _ in range(2):
            await service.stub.DeleteApiKey(api_key_pb2.DeleteApiKeyRequest())
            assert not (await service.get()).present
            assert await service.in_use() is None


async def test_a_refused_key_is_not_stored(replica, provider):
    provider.say(401, json={"code": "api_key_invalid", "message": f"{WITNESS} is not valid."})
    async with replica() as service:
        error = await refused(service.set(WITNESS))
        assert (error.code(), reason(error)) == (grpc.StatusCode.FAILED_PRECONDITION, Reason.API_KEY_INVALID)
        assert error.details() == "TwelveLabs rejected the API key. Set a valid one with SetApiKey."
        assert not (await service.get()).present


async def test_a_key_that_cannot_be_checked_is_stored(replica, provider):
    provider.say(429, text="slow down")
    async with replica() as service:
        assert (await service.set(WITNESS)).status == UNKNOWN
        assert (await service.get()).status == UNKNOWN
        assert await service.in_use() == WITNESS


async def test_without_encryption_the_key_is_neither_sent_nor_stored(replica, provider):
    async with replica(key_encryption_keys=None) as service:
        error = await refused(service.set(WITNESS))
        assert reason(error) is Reason.ENCRYPTION_KEY_MISSING
        assert "SAGE_KEY_ENCRYPTION_KEYS" in error.details()
        assert provider.requests == []


@pytest.mark.parametrize("text", ["", "short", f"{WITNESS} {WITNESS}", "x" * 513])
async def test_a_malformed_key_is_field_invalid(replica, provider, text):
    async with replica() as service:
        error = await refused(service.set(text))
        assert (error.code(), reason(error)) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.FIELD_INVALID)
        assert error.details().startswith("key: ")
        assert provider.requests == []


async def test_a_check_stores_nothing(replica, provider):
    """A check works without encryption too, and a refusal is a result."""
    async with replica(key_encryption_keys=None) as service:
        provider.say(401, text="")
        found = await service.set(WITNESS, validate_only=True)
        assert (found.status, found.last_four, found.present, found.source) == (INVALID, "LAST", False, UNSET)
        assert await service.set(validate_only=True) == api_key_pb2.ApiKey(provider="twelvelabs")
        assert not (await service.get()).present


async def test_the_key_of_the_environment_is_used_until_one_is_set(replica, provider):
    async with replica(twelvelabs_api_key="tlk_environment_ENVI\n") as service:
        found = await service.get()
        assert (found.present, found.last_four, found.source) == (True, "ENVI", ENVIRONMENT)
        assert (found.status, found.HasField("check_time")) == (api_key_pb2.API_KEY_STATUS_UNSPECIFIED, False)
        found = await service.set(validate_only=True)
        assert (found.status, found.source, found.present) == (VALID, ENVIRONMENT, True)
        await service.set(WITNESS)
        assert (await service.get()).source == STORED
        assert await service.in_use() == WITNESS
        await service.stub.DeleteApiKey(api_key_pb2.DeleteApiKeyRequest())
        assert (await service.get()).source == ENVIRONMENT
        assert await service.in_use() == "tlk_environment_ENVI"


async def test_another_replica_uses_a_new_key_within_seconds(replica, until):
    async with replica() as first, replica() as second:
        assert await second.in_use() is None
        await first.set(WITNESS)

        async def seen() -> bool:
            return await second.in_use() == WITNESS

        await until(seen, timeout_s=3)


async def test_an_undecryptable_key_is_described_and_can_be_replaced(replica):
    async with replica() as service:
        await service.set(WITNESS)
    other = f"main:{base64.b64encode(os.urandom(32)).decode()}"
    async with replica(key_encryption_keys=other) as service:
        assert (await service.get()).last_four == "LAST"
        assert reason(await refused(service.set(validate_only=True))) is Reason.ENCRYPTION_KEY_MISSING
        await service.set(WITNESS)
        assert await service.in_use() == WITNESS


async def test_logs_and_spans_do_not_contain_the_key(replica, provider, monkeypatch, caplog):
    exporter = InMemorySpanExporter()
    traces = TracerProvider(shutdown_on_exit=False)
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_active", telemetry.make_tracing(traces))
    with caplog.at_level(logging.DEBUG), capture_logs() as events:
        async with replica() as service:
            await service.set(WITNESS)
            await service.set(WITNESS, validate_only=True)
            provider.say(401, json={"message": WITNESS})
            await refused(service.set(WITNESS))
            await refused(service.set(f"{WITNESS} {WITNESS}"))
            call = service.channel.unary_unary(f"/{api_key_pb2.DESCRIPTOR.package}.ApiKeyService/SetApiKey")
            await refused(call(b"\xff\xff" + WITNESS.encode()))
            provider.say(500, text=WITNESS)

            async def crash(repository, provider, secret, facts) -> None:
                raise RuntimeError("the repository broke")

            monkeypatch.setattr(PostgresApiKeyRepository, "put", crash)
            assert reason(await refused(service.set(WITNESS))) is Reason.INTERNAL
    traces.shutdown()
    spans = exporter.get_finished_spans()
    assert len(spans) >= 6
    assert leaks(WITNESS, "".join(span.to_json() for span in spans).encode()) == []
    assert {event["event"] for event in events} >= {"call_finished", "api_key_set", "api_key_not_checked"}
    assert leaks(WITNESS, repr(events).encode()) == []
    assert leaks(WITNESS, caplog.text.encode()) == []


async def test_one_server_serves_both_services(replica):
    async with replica() as service:
        stub = embed_pb2_grpc.EmbedServiceStub(service.channel)
        assert (await stub.ListModels(embed_pb2.ListModelsRequest())).models
        assert not (await service.get()).present
