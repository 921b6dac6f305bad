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
from fakes.contract import METHODS, call, path_of, registrations
from fakes.echo import SHAPES, Echo, answers, start
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sage_runtime import tracing
from sage_runtime.access import ReadMethods
from sage_runtime.channel import open_channel
from sage_runtime.context import working_on
from sage_runtime.server import ListenError, ServiceRegistration, StartError, running_server
from sage_runtime.settings import ServerSettings
from sage_runtime.tokens.model import Scope, new_token
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
    """A channel to the tiny service, behind sign-in."""
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
        await answers(start(channel, shape, text, metadata=metadata))
    return error.value


@pytest.mark.parametrize("shape", SHAPES)
async def test_right_token_gets_in(echo, tokens, shape):
    """With a valid token a call of every shape is served."""
    assert (await answers(start(echo, shape, "hello", metadata=tokens.bearer("writer"))))[-1] == "hello"


@pytest.mark.parametrize("shape", SHAPES)
async def test_call_without_a_token_is_told_what_to_do(echo, shape):
    """Without a token a call of every shape is UNAUTHENTICATED, and the message says what to send."""
    error = await _refusal(echo, [], shape=shape)
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "authorization: Bearer" in error.details()
    assert _info(error) == ("UNAUTHENTICATED", {"why": "The call has no token."})


@pytest.mark.parametrize(
    ("authorization", "why"),
    [
        ("Bearer sage_wrong", "not known"),
        ("Bearer", "of the form"),
        ("Bearer ", "of the form"),
        ("Basic {writer}", "of the form"),
        ("{writer}", "of the form"),
        ("Bearer {writer}x", "not known"),
        ("Bearer {old}", "expired"),
        ("Bearer {gateway}", "gateway's own"),
    ],
)
async def test_wrong_token_is_refused(echo, tokens, authorization, why):
    """A token that is unknown, expired, for something else, or not sent as one is UNAUTHENTICATED and says why."""
    error = await _refusal(echo, [("authorization", authorization.format(**tokens.secrets))])
    reason, facts = _info(error)
    assert reason == "UNAUTHENTICATED"
    assert why in facts["why"]


async def test_two_tokens_are_refused(echo, tokens):
    """A proxy and a server might count a different one of two."""
    error = await _refusal(echo, tokens.bearer("reader") + tokens.bearer("writer"))
    assert "more than one" in error.details()


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_scheme_may_be_written_in_any_case(echo, tokens, scheme):
    """RFC 9110 has schemes without regard to case."""
    metadata = [("authorization", f"{scheme} {tokens.secrets['writer']}")]
    assert await answers(start(echo, "unary_unary", "hello", metadata=metadata)) == ["hello"]


@pytest.mark.parametrize("method", METHODS, ids=path_of)
async def test_every_method_of_the_contracts_wants_a_token_of_its_scope(contract, tokens, method):
    """No method is open; a writer reaches each; a reader those that read, and is told what the others need."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(contract, method)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await call(contract, method, metadata=tokens.bearer("writer"))
    if path_of(method) in ReadMethods([method.containing_service.full_name]):
        await call(contract, method, metadata=tokens.bearer("reader"))
        return
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(contract, method, metadata=tokens.bearer("reader"))
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert _info(error.value) == ("FORBIDDEN", {"needs": "write", "has": "read"})


async def test_method_that_nobody_serves_is_not_told_to_strangers(echo, tokens):
    """What there is, strangers do not learn from the difference of two errors."""
    unknown = echo.unary_unary("/test.v1.EchoService/Unknown")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await unknown(b"")
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await unknown(b"", metadata=tokens.bearer("writer"))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_handler_of_a_refused_call_never_runs(guarded, tokens):
    """A refused call reaches no servicer: neither its code nor the decoding of its request."""
    servicer = Echo()
    async with (
        running_server(settings=guarded, services=[servicer.registration]) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for shape in SHAPES:
            await _refusal(channel, tokens.bearer("old"), shape=shape, text="wait")
    assert not servicer.entered.is_set()


async def test_health_needs_no_token(echo):
    """Probes, and Envoy, ask without one."""
    stub = health_pb2_grpc.HealthStub(echo)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_reflection_wants_a_token(guarded, tokens):
    """The contracts are described to those who may read."""
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
    """A token that is added gets in; one that is removed does not; all on one channel of one server."""
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
    return [line.get("caller") for line in logs if line["event"] == "call"]


async def test_sibling_is_called_as_the_caller(guarded, tokens):
    """The caller's token goes along, so its scope holds in every service; the service's own does not replace it."""
    async with _pair(guarded, token=tokens.secrets["reader"]) as (channel, _):
        with capture_logs() as logs:
            metadata = tokens.bearer("writer")
            assert await answers(start(channel, "unary_unary", "ask hello", metadata=metadata)) == ["hello"]
    assert _callers(logs) == ["writer", "writer"]


async def test_sibling_is_called_as_the_gateways_user(guarded, tokens):
    """What the gateway said of a user goes along as it was said."""
    async with _pair(guarded) as (channel, _):
        with capture_logs() as logs:
            metadata = tokens.user("ada@example.com", "openid sage:write")
            assert await answers(start(channel, "unary_unary", "ask hello", metadata=metadata)) == ["hello"]
    assert _callers(logs) == ["user:ada@example.com"] * 2


async def test_work_without_a_caller_has_a_token_of_its_own(guarded, tokens):
    """A job's calls carry the process' own token."""
    async with _pair(guarded, token=tokens.secrets["writer"]) as (_, to_sibling):
        with capture_logs() as logs, working_on("job-7"):
            assert await answers(start(to_sibling, "unary_unary", "hello")) == ["hello"]
        assert _callers(logs) == ["writer"]
    async with _pair(guarded) as (_, to_sibling):
        assert (await _refusal(to_sibling, [])).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_stranger_does_not_become_the_service(settings, guarded, tokens):
    """A service that asks nobody does not lend its own token to those who call it."""
    async with contextlib.AsyncExitStack() as stack:
        sibling = await stack.enter_async_context(running_server(settings=guarded, services=[Echo().registration]))
        to_sibling = await stack.enter_async_context(open_channel(sibling.address, token=tokens.secrets["writer"]))
        open_to_all = Echo(sibling=to_sibling).registration
        server = await stack.enter_async_context(running_server(settings=settings, services=[open_to_all]))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
        error = await _refusal(channel, [], text="ask hello")
    assert _info(error)[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize("scope", ["sage:write", "openid sage:read sage:write", "sage:write sage:read"])
async def test_user_with_the_scope_gets_in(echo, tokens, scope):
    """The gateway's word for a user counts, the better of two scopes."""
    metadata = tokens.user("ada", scope)
    assert await answers(start(echo, "unary_unary", "hello", metadata=metadata)) == ["hello"]


@pytest.mark.parametrize(("scope", "has"), [("sage:read", "read"), ("", "nothing"), ("write sage:writer", "nothing")])
async def test_user_without_the_scope_is_forbidden(echo, tokens, scope, has):
    """A user who is known and may not is FORBIDDEN; words that only look like a scope are none."""
    error = await _refusal(echo, tokens.user("ada", scope))
    assert _info(error) == ("FORBIDDEN", {"needs": "write", "has": has})


@pytest.mark.parametrize("vouched_by", ["writer", "reader", "old"])
async def test_only_the_gateway_vouches_for_users(echo, tokens, vouched_by):
    """Any other token beside a user's name, though valid for itself, is refused."""
    error = await _refusal(echo, tokens.user("ada", "sage:write", vouched_by=vouched_by))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_users_name_without_the_gateways_token_is_nobodys(echo, tokens):
    """Headers that anybody can send prove nothing, and nor does the gateway's token without a user."""
    headers = tokens.user("ada", "sage:write")
    assert _info(await _refusal(echo, headers[:2]))[0] == "UNAUTHENTICATED"
    assert _info(await _refusal(echo, headers[2:]))[0] == "UNAUTHENTICATED"
    assert _info(await _refusal(echo, [("x-sage-user", ""), *headers[1:]]))[0] == "UNAUTHENTICATED"


async def test_token_beside_a_users_name_counts_alone(echo, tokens):
    """A reader does not become a writer by sending a user's headers along."""
    metadata = tokens.bearer("reader") + tokens.user("ada", "sage:write")
    assert _info(await _refusal(echo, metadata)) == ("FORBIDDEN", {"needs": "write", "has": "read"})


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.7:0", "example.com:0"])
async def test_server_that_others_reach_refuses_to_start_without_sign_in(settings, listen):
    """One sentence names the address, its variable, and the ways out."""
    settings = settings.model_copy(update={"listen": listen})
    with pytest.raises(ListenError) as error:
        async with running_server(settings=settings, services=[Echo().registration]):
            pass
    assert "\n" not in str(error.value)
    for word in (listen, "SAGE_LISTEN", "SAGE_TOKENS_FILE", "SAGE_SIGN_IN=off"):
        assert word in str(error.value)


async def test_server_that_others_reach_starts_with_sign_in_or_when_told_to(settings, tokens):
    """With tokens it listens anywhere; with SAGE_SIGN_IN=off too, and takes every call."""
    for update in ({"tokens_file": str(tokens.file)}, {"sign_in": "off"}):
        wide = settings.model_copy(update={"listen": "0.0.0.0:0", **update})
        async with (
            running_server(settings=wide, services=[Echo().registration]) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            metadata = tokens.bearer("writer") if "tokens_file" in update else []
            assert await answers(start(channel, "unary_unary", "hello", metadata=metadata)) == ["hello"]


async def test_server_of_health_alone_listens_anywhere_and_has_nothing_else(settings):
    """A worker's port has no methods to sign in for, and describes none."""

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
async def test_settings_that_cannot_hold_are_refused(settings, update, named):
    """What contradicts itself or cannot be read ends the start, with a sentence."""
    with pytest.raises(StartError, match=named):
        async with running_server(settings=settings.model_copy(update=update), services=[]):
            pass


async def test_log_has_the_name_and_nothing_has_the_token(guarded, tokens, monkeypatch, caplog):
    """Logs at every level, errors and traces: the caller's name is there, no token and no hash is."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_active", tracing.make_tracing(provider))
    caplog.set_level(logging.DEBUG)
    said = []
    with capture_logs() as logs:
        async with _pair(guarded, token=tokens.secrets["reader"]) as (channel, _):
            for name in ("writer", "reader", "old", "gateway"):
                for text in ("ask hello", "broken", "ask broken"):
                    call = start(channel, "unary_unary", text, metadata=tokens.bearer(name))
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await answers(call)
                    said += [await call.code(), await call.details(), *(await call.trailing_metadata())]
            await _refusal(channel, tokens.user("ada", "sage:read"))
    provider.shutdown()
    spans = [span.to_json() for span in exporter.get_finished_spans()]
    everything = json.dumps([repr(logs), repr(said), spans, caplog.text])
    assert {"writer", "reader", "user:ada"} <= set(_callers(logs))
    for secret in tokens.secrets.values():
        assert secret[5:] not in everything


async def test_refusals_are_warnings_with_the_reason(echo, tokens):
    """Whoever looks for attempts finds them: who from, what at, and why it was refused."""
    with capture_logs() as logs:
        await _refusal(echo, [("authorization", "Bearer sage_guess")])
        await _refusal(echo, tokens.bearer("reader"))
    assert [(line["log_level"], line["reason"], line.get("caller")) for line in logs] == [
        ("warning", "UNAUTHENTICATED", None),
        ("warning", "FORBIDDEN", "reader"),
    ]
    assert all(line["peer"] for line in logs)


def test_process_says_why_it_does_not_start():
    """The process ends with code 2 and one line."""
    serve = Path(__file__).with_name("serve_echo.py")
    environment = {"SAGE_LISTEN": "0.0.0.0:0", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, serve], env=environment, capture_output=True, text=True, check=False)
    (line,) = run.stderr.splitlines()
    assert (run.returncode, run.stdout) == (2, "")
    assert line.startswith("error: SAGE_LISTEN is 0.0.0.0:0")
