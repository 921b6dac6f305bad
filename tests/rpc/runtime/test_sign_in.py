"""Sign-in: who gets in, with what, how far, and what is said and logged about it."""

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import grpc
import pytest
from fakes.contract import METHODS, READ_METHODS, call, path_of, registrations
from fakes.echo import SERVICE, SHAPES, Echo, responses, start
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sage_runtime.auth.sign_in import ReadMethods
from sage_runtime.auth.tokens import Scope, new_token
from sage_runtime.client import open_channel
from sage_runtime.context import working_on
from sage_runtime.process import telemetry
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import ListenError, ServiceRegistration, StartError, running_server
from structlog.testing import capture_logs

_SCOPES = {"writer": Scope.WRITE, "reader": Scope.READ, "gateway": Scope.GATEWAY, "old": Scope.WRITE}


@dataclass(frozen=True)
class Tokens:
    """A file with a token of each kind.

    Attributes:
        file: The file.
        secrets: The tokens by name; `old` has expired.
    """

    file: Path
    secrets: dict[str, str]

    def bearer(self, name: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.secrets[name]}")]

    def user(self, name: str, scope: str, *, vouched_by: str = "gateway") -> list[tuple[str, str]]:
        return [
            ("x-sage-user", name),
            ("x-sage-scope", scope),
            ("x-sage-gateway-token", self.secrets[vouched_by]),
        ]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> Tokens:
    """A file of tokens that no test changes."""
    made = {
        name: new_token(name, scope, expires=date(2020, 1, 31) if name == "old" else None)
        for name, scope in _SCOPES.items()
    }
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("\n".join(token.line() for _, token in made.values()))
    return Tokens(file, {name: secret for name, (secret, _) in made.items()})


@pytest.fixture
def guarded(settings, tokens):
    """Settings of a server whose callers sign in."""
    return settings.model_copy(update={"tokens_file": str(tokens.file), "tokens_reload_s": 0.02})


@pytest.fixture
async def echo(guarded) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the echo service, behind sign-in."""
    async with (
        running_server(settings=guarded, services=[Echo().registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel


@pytest.fixture(scope="module")
async def contract(tokens) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to every service of the contracts, behind sign-in."""
    settings = ServerSettings(listen="127.0.0.1:0", tokens_file=str(tokens.file))
    async with (
        running_server(settings=settings, services=registrations()) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel


def _replace(file: Path, content: str) -> None:
    # As Kubernetes swaps a Secret: a server that looks right now must not find half of it.
    file.with_name("new").write_text(content)
    file.with_name("new").replace(file)


def _info(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason, dict(info.metadata)


async def _refusal(channel, metadata, *, shape="unary_unary", text="hello") -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await responses(start(channel, shape, text, metadata=metadata))
    return error.value


@pytest.mark.parametrize("shape", SHAPES)
async def test_valid_token_is_accepted_in_every_call_shape(echo, tokens, shape):
    assert (await responses(start(echo, shape, "hello", metadata=tokens.bearer("writer"))))[-1] == "hello"


@pytest.mark.parametrize("shape", SHAPES)
async def test_call_without_a_token_is_unauthenticated_and_says_what_to_send(echo, shape):
    error = await _refusal(echo, [], shape=shape)
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "authorization: Bearer" in error.details()
    assert _info(error) == ("UNAUTHENTICATED", {"why": "The call has no token."})


@pytest.mark.parametrize(
    ("authorization", "why"),
    [
        ("Bearer sage_wrong", "not known"),
        ("Bearer", "the form"),
        ("Bearer ", "the form"),
        ("Basic {writer}", "the form"),
        ("{writer}", "the form"),
        ("Bearer {writer}x", "not known"),
        ("Bearer {old}", "expired"),
        ("Bearer {gateway}", "gateway's own"),
    ],
)
async def test_invalid_token_is_refused_with_the_cause(echo, tokens, authorization, why):
    error = await _refusal(echo, [("authorization", authorization.format(**tokens.secrets))])
    reason, facts = _info(error)
    assert reason == "UNAUTHENTICATED"
    assert why in facts["why"]


async def test_two_tokens_are_refused(echo, tokens):
    """A proxy and a server might disagree which of the two counts."""
    error = await _refusal(echo, tokens.bearer("reader") + tokens.bearer("writer"))
    assert "more than one" in error.details()


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_scheme_is_case_insensitive(echo, tokens, scheme):
    """RFC 9110, section 11.1."""
    metadata = [("authorization", f"{scheme} {tokens.secrets['writer']}")]
    assert await responses(start(echo, "unary_unary", "hello", metadata=metadata)) == ["hello"]


@pytest.mark.parametrize("method", METHODS, ids=path_of)
async def test_every_method_requires_a_token_of_its_scope(contract, tokens, method):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(contract, method)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await call(contract, method, metadata=tokens.bearer("writer"))
    service = method.containing_service.full_name
    if path_of(method) in ReadMethods({service: READ_METHODS.get(service, ())}):
        await call(contract, method, metadata=tokens.bearer("reader"))
        return
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(contract, method, metadata=tokens.bearer("reader"))
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert _info(error.value) == ("FORBIDDEN", {"needs": "write", "has": "read"})


async def test_unknown_method_is_unauthenticated_without_a_token(echo, tokens):
    """Two different errors would reveal which methods exist."""
    unknown = echo.unary_unary("/test.v1.EchoService/Unknown")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await unknown(b"")
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await unknown(b"", metadata=tokens.bearer("writer"))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_handler_of_a_refused_call_never_runs(guarded, tokens):
    servicer = Echo()
    async with (
        running_server(settings=guarded, services=[servicer.registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for shape in SHAPES:
            await _refusal(channel, tokens.bearer("old"), shape=shape, text="wait")
    assert not servicer.entered.is_set()


async def test_health_needs_no_token(echo):
    stub = health_pb2_grpc.HealthStub(echo)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_reflection_requires_a_token(guarded, tokens):
    async with running_server(settings=guarded, services=registrations()) as server:

        async def list_services(*options):
            process = await asyncio.create_subprocess_exec(
                *(str(Path(sys.executable).with_name("grpcurl")), "-plaintext", *options, server.address, "list"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            out, err = await process.communicate()
            return out.decode(), err.decode()

        assert "authorization: Bearer" in (await list_services())[1]
        assert (
            "sage.ingest.v1.IngestService"
            in (await list_services("-H", f"authorization: Bearer {tokens.secrets['reader']}"))[0]
        )


async def test_token_is_rotated_without_a_restart(guarded, tmp_path):
    old, old_token = new_token("ci", Scope.WRITE)
    new, new_one = new_token("ci", Scope.WRITE)
    file = tmp_path / "tokens"
    file.write_text(old_token.line())

    async def gets_in(secret):
        call = start(channel, "unary_unary", "hello", metadata=[("authorization", f"Bearer {secret}")])
        code = await call.code()
        assert code in {grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED}
        return code is grpc.StatusCode.OK

    settings = guarded.model_copy(update={"tokens_file": str(file)})
    async with (
        running_server(settings=settings, services=[Echo().registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert (await gets_in(old), await gets_in(new)) == (True, False)
        _replace(file, f"{old_token.line()}\n{new_one.line()}\n")
        async with asyncio.timeout(10):
            while not await gets_in(new):
                assert await gets_in(old)
        _replace(file, new_one.line())
        async with asyncio.timeout(10):
            while await gets_in(old):
                assert await gets_in(new)
        assert await gets_in(new)


@pytest.mark.parametrize("break_file", [lambda file: file.unlink(), lambda file: file.write_text("ci:write:oops")])
async def test_tokens_are_refused_if_their_file_cannot_be_read_for_too_long(guarded, tmp_path, break_file):
    """A token may have been revoked in the change that cannot be read."""
    secret, token = new_token("ci", Scope.WRITE)
    file = tmp_path / "tokens"
    file.write_text(token.line())
    settings = guarded.model_copy(update={"tokens_file": str(file), "tokens_max_stale_s": 3.0})

    async def code():
        metadata = [("authorization", f"Bearer {secret}")]
        return await start(channel, "unary_unary", "hello", metadata=metadata).code()

    async def healthy(name):
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
        return health.status == health_pb2.HealthCheckResponse.SERVING

    async def until(condition):
        async with asyncio.timeout(20):
            while not await condition():  # noqa: ASYNC110 - no event signals it
                await asyncio.sleep(0.01)

    with capture_logs() as logs:
        async with (
            running_server(settings=settings, services=[Echo().registration]) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            assert await healthy("tokens")
            break_file(file)

            async def noticed():
                return not await healthy("tokens")

            async def refused():
                return await code() is grpc.StatusCode.UNAUTHENTICATED

            async def not_serving():
                return not (await healthy("") or await healthy(SERVICE))

            async def logged():
                return any("every call that needs a token is refused" in line.get("effect", "") for line in logs)

            async def accepted():
                return await code() is grpc.StatusCode.OK and await healthy("") and await healthy("tokens")

            await until(noticed)
            assert await healthy("")
            await until(refused)
            await until(not_serving)
            await until(logged)
            _replace(file, token.line())
            await until(accepted)
    failed = [line for line in logs if line["event"] == "tokens_reload_failed"]
    assert failed[0]["log_level"] == "error"
    assert "even if they were revoked" in failed[0]["effect"]


@contextlib.asynccontextmanager
async def _pair(settings, *, token=""):
    """Yield channels to a service that calls a sibling, and to that sibling; both ask for sign-in."""
    async with contextlib.AsyncExitStack() as stack:
        sibling = await stack.enter_async_context(running_server(settings=settings, services=[Echo().registration]))
        to_sibling = await stack.enter_async_context(open_channel(sibling.address, token=token))
        servicer = Echo(sibling=to_sibling)
        server = await stack.enter_async_context(running_server(settings=settings, services=[servicer.registration]))
        yield await stack.enter_async_context(grpc.aio.insecure_channel(server.address)), to_sibling


def _callers(logs):
    return [line.get("caller") for line in logs if line["event"] == "call_finished"]


async def test_sibling_is_called_with_the_callers_token(guarded, tokens):
    async with _pair(guarded, token=tokens.secrets["reader"]) as (channel, _):
        with capture_logs() as logs:
            metadata = tokens.bearer("writer")
            assert await responses(start(channel, "unary_unary", "ask hello", metadata=metadata)) == ["hello"]
    assert _callers(logs) == ["writer", "writer"]


async def test_sibling_is_called_with_the_gateways_user(guarded, tokens):
    async with _pair(guarded) as (channel, _):
        with capture_logs() as logs:
            metadata = tokens.user("ada@example.com", "openid sage:write")
            assert await responses(start(channel, "unary_unary", "ask hello", metadata=metadata)) == ["hello"]
    assert _callers(logs) == ["user:ada@example.com"] * 2


async def test_work_without_a_caller_uses_the_processs_token(guarded, tokens):
    async with _pair(guarded, token=tokens.secrets["writer"]) as (_, to_sibling):
        with capture_logs() as logs, working_on("job-7"):
            assert await responses(start(to_sibling, "unary_unary", "hello")) == ["hello"]
        assert _callers(logs) == ["writer"]
    async with _pair(guarded) as (_, to_sibling):
        assert (await _refusal(to_sibling, [])).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_unidentified_caller_does_not_act_with_the_services_token(settings, guarded, tokens):
    """A service without sign-in does not lend its own token to its callers."""
    async with contextlib.AsyncExitStack() as stack:
        sibling = await stack.enter_async_context(running_server(settings=guarded, services=[Echo().registration]))
        to_sibling = await stack.enter_async_context(open_channel(sibling.address, token=tokens.secrets["writer"]))
        open_to_all = Echo(sibling=to_sibling).registration
        server = await stack.enter_async_context(running_server(settings=settings, services=[open_to_all]))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
        error = await _refusal(channel, [], text="ask hello")
    assert _info(error)[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize("scope", ["sage:write", "openid sage:read sage:write", "sage:write sage:read"])
async def test_user_with_the_scope_is_accepted(echo, tokens, scope):
    metadata = tokens.user("ada", scope)
    assert await responses(start(echo, "unary_unary", "hello", metadata=metadata)) == ["hello"]


@pytest.mark.parametrize(("scope", "has"), [("sage:read", "read"), ("", "nothing"), ("write sage:writer", "nothing")])
async def test_user_without_the_scope_is_forbidden(echo, tokens, scope, has):
    error = await _refusal(echo, tokens.user("ada", scope))
    assert _info(error) == ("FORBIDDEN", {"needs": "write", "has": has})


@pytest.mark.parametrize("vouched_by", ["writer", "reader", "old"])
async def test_only_the_gateway_vouches_for_users(echo, tokens, vouched_by):
    error = await _refusal(echo, tokens.user("ada", "sage:write", vouched_by=vouched_by))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_users_name_without_the_gateways_token_is_refused(echo, tokens):
    """Anyone can send these headers, and the gateway's token alone does not name a user."""
    headers = tokens.user("ada", "sage:write")
    assert _info(await _refusal(echo, headers[:2]))[0] == "UNAUTHENTICATED"
    assert _info(await _refusal(echo, headers[2:]))[0] == "UNAUTHENTICATED"
    assert _info(await _refusal(echo, [("x-sage-user", ""), *headers[1:]]))[0] == "UNAUTHENTICATED"


async def test_token_takes_precedence_over_a_users_name(echo, tokens):
    """A reader does not become a writer by adding a user's headers."""
    metadata = tokens.bearer("reader") + tokens.user("ada", "sage:write")
    assert _info(await _refusal(echo, metadata)) == ("FORBIDDEN", {"needs": "write", "has": "read"})


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.7:0", "example.com:0"])
async def test_exposed_server_refuses_to_start_without_sign_in(settings, listen):
    settings = settings.model_copy(update={"listen": listen})
    with pytest.raises(ListenError) as error:
        async with running_server(settings=settings, services=[Echo().registration]):
            pass
    assert "\n" not in str(error.value)
    for word in (listen, "SAGE_LISTEN", "SAGE_TOKENS_FILE", "SAGE_SIGN_IN=off"):
        assert word in str(error.value)


async def test_exposed_server_starts_with_sign_in_or_if_it_is_off(settings, tokens):
    for update in ({"tokens_file": str(tokens.file)}, {"sign_in": "off"}):
        wide = settings.model_copy(update={"listen": "0.0.0.0:0", **update})
        async with (
            running_server(settings=wide, services=[Echo().registration]) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            metadata = tokens.bearer("writer") if "tokens_file" in update else []
            assert await responses(start(channel, "unary_unary", "hello", metadata=metadata)) == ["hello"]


async def test_health_only_server_listens_anywhere_and_has_no_reflection(settings):
    async def check():
        pass

    wide = settings.model_copy(update={"listen": "0.0.0.0:0"})
    registration = ServiceRegistration("sage.embed.worker", None, check)
    async with (
        running_server(settings=wide, services=[registration]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="sage.embed.worker"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await reflection(iter([b""])).read()
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ({"sign_in": "on"}, "SAGE_TOKENS_FILE is not set"),
        ({"sign_in": "off", "tokens_file": "tokens"}, "unset one"),
        ({"tokens_file": "/nowhere/tokens"}, "/nowhere/tokens: cannot be read"),
    ],
)
async def test_contradictory_settings_are_refused(settings, update, named):
    with pytest.raises(StartError, match=named):
        async with running_server(settings=settings.model_copy(update=update), services=[]):
            pass


async def test_log_has_the_callers_name_and_never_the_token(guarded, tokens, monkeypatch, caplog):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_active", telemetry.make_tracing(provider))
    caplog.set_level(logging.DEBUG)
    said = []
    with capture_logs() as logs:
        async with _pair(guarded, token=tokens.secrets["reader"]) as (channel, _):
            for name in ("writer", "reader", "old", "gateway"):
                for text in ("ask hello", "broken", "ask broken"):
                    call = start(channel, "unary_unary", text, metadata=tokens.bearer(name))
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await responses(call)
                    said += [await call.code(), await call.details(), *(await call.trailing_metadata())]
            await _refusal(channel, tokens.user("ada", "sage:read"))
    provider.shutdown()
    spans = [span.to_json() for span in exporter.get_finished_spans()]
    everything = json.dumps([repr(logs), repr(said), spans, caplog.text])
    assert {"writer", "reader", "user:ada"} <= set(_callers(logs))
    for secret in tokens.secrets.values():
        assert secret[5:] not in everything


async def test_refused_calls_are_logged_as_warnings(echo, tokens):
    with capture_logs() as logs:
        await _refusal(echo, [("authorization", "Bearer sage_guess")])
        await _refusal(echo, tokens.bearer("reader"))
    assert [(line["log_level"], line["reason"], line.get("caller")) for line in logs] == [
        ("warning", "UNAUTHENTICATED", None),
        ("warning", "FORBIDDEN", "reader"),
    ]
    assert all(line["peer"] for line in logs)


def test_process_reports_in_one_line_why_it_does_not_start():
    serve = Path(__file__).with_name("serve_echo.py")
    environment = {"SAGE_LISTEN": "0.0.0.0:0", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, serve], env=environment, capture_output=True, text=True, check=False)
    (line,) = run.stderr.splitlines()
    assert (run.returncode, run.stdout) == (2, "")
    assert line.startswith("error: SAGE_LISTEN is 0.0.0.0:0")
