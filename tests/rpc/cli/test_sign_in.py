"""Sign-in: tokens, TLS, and the errors when either is wrong."""

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakes.contract import registrations
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import ingest_pb2
from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError
from sage_cli.api.sign_in import Credentials, read_credentials
from sage_runtime.auth.sign_in import ReadMethods, SignIn
from sage_runtime.auth.tokens import Scope, TokenFiles, new_token
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server.admission import Admission
from sage_runtime.server.interceptor import CallInterceptor


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> dict[str, str]:
    """Tokens by scope, and the file of them under `file`."""
    made = {scope: new_token(str(scope), scope) for scope in (Scope.READ, Scope.WRITE)}
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("\n".join(token.line() for _, token in made.values()))
    return {"file": str(file), **{str(scope): secret for scope, (secret, _) in made.items()}}


def _server(secrets) -> grpc.aio.Server:
    services = registrations()
    sign_in = SignIn(
        TokenFiles([Path(secrets["file"])]), ReadMethods({service.name: service.read_methods for service in services})
    )
    server = grpc.aio.server(interceptors=[CallInterceptor(sign_in=sign_in, admission=Admission(ServerSettings()))])
    for service in services:
        service.add(server)
    return server


@pytest.fixture
async def guarded(secrets) -> AsyncIterator[str]:
    """The address of services that require sign-in."""
    server = _server(secrets)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[bytes, bytes, Path]:
    """A key and a certificate for 127.0.0.1, PEM, and the file of the latter."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sage test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    file.write_bytes(pem)
    return private, pem, file


@pytest.fixture
async def encrypted(secrets, certificate) -> AsyncIterator[str]:
    """The HOST:PORT of services that use TLS."""
    server = _server(secrets)
    private, pem, _ = certificate
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(private, pem)]))
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def token_file(secrets, tmp_path) -> str:
    """A file with a token of scope `write` and a final newline, as editors write it."""
    file = tmp_path / "token"
    file.write_text(f"{secrets['write']}\n")
    return str(file)


async def test_token_from_the_environment_signs_in(sage, guarded, secrets, token_file):
    for environment in ({"SAGE_TOKEN": secrets["read"]}, {"SAGE_TOKEN_FILE": token_file}):
        outcome = await sage("videos", SAGE_ADDRESS=guarded, **environment)
        assert outcome.code == 0, outcome.err


async def test_command_without_a_token_says_how_to_sign_in(sage, guarded):
    outcome = await sage("videos", SAGE_ADDRESS=guarded)
    assert outcome.code == 2
    assert "The call has no token." in outcome.err
    assert "SAGE_TOKEN_FILE" in outcome.err


async def test_token_without_the_scope_is_told_which_scope_is_needed(sage, guarded, secrets):
    outcome = await sage("delete", f"video_{'0' * 32}", SAGE_ADDRESS=guarded, SAGE_TOKEN=secrets["read"])
    assert outcome.code == 2
    assert "needs the scope write" in outcome.err
    assert "SAGE_TOKEN" in outcome.err


async def test_wrong_token_is_never_printed(sage, guarded):
    """It may be valid elsewhere."""
    outcome = await sage("videos", SAGE_ADDRESS=guarded, SAGE_TOKEN="sage_hunter2")
    assert outcome.code == 2
    assert "not known" in outcome.err
    assert "hunter2" not in outcome.out + outcome.err


async def test_calls_of_every_shape_carry_the_token(guarded, secrets):
    async with Client(guarded, Credentials(token=secrets["write"])) as client:
        await client.get_video(f"video_{'0' * 32}")
        await client.ingest.UploadVideo(iter([ingest_pb2.UploadVideoRequest()]))
        watch = client.embed.WatchEmbedding(embed_pb2.WatchEmbeddingRequest(embedding_id=f"embed_{'0' * 32}"))
        assert len([message async for message in watch]) == 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SAGE_TOKEN": "a", "SAGE_TOKEN_FILE": "b"}, "both set"),
        ({"SAGE_TOKEN_FILE": "nowhere"}, "SAGE_TOKEN_FILE: nowhere cannot be read"),
        ({"SAGE_TOKEN": "hunter2 hunter2"}, "does not contain a token"),
        ({"SAGE_TOKEN": "hünter2"}, "does not contain a token"),
        ({"SAGE_CA_FILE": "nowhere"}, "SAGE_CA_FILE: nowhere cannot be read"),
    ],
)
def test_invalid_environment_is_refused_without_printing_a_token(environment, message):
    with pytest.raises(CommandError) as caught:
        read_credentials(environment)
    assert message in caught.value.message
    assert "nter2" not in caught.value.message + caught.value.next_step


def test_empty_variables_count_as_unset():
    assert read_credentials({"SAGE_TOKEN": "", "SAGE_TOKEN_FILE": "", "SAGE_CA_FILE": ""}) == Credentials()


def test_token_is_not_in_tracebacks():
    assert "hunter2" not in repr(read_credentials({"SAGE_TOKEN": "hunter2"}))


async def test_token_does_not_leave_this_machine_unencrypted_unless_allowed(sage, secrets):
    environment = {"SAGE_ADDRESS": "sage.invalid:8080", "SAGE_TOKEN": secrets["read"]}
    outcome = await sage("videos", **environment)
    assert outcome.code == 2
    assert "would go to sage.invalid unencrypted" in outcome.err
    assert "https://sage.invalid:8080" in outcome.err
    assert "Cannot connect" in (await sage("videos", **environment, SAGE_PLAINTEXT_TOKEN="1")).err


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
async def test_tls_with_a_private_ca(sage, encrypted, secrets, certificate, scheme):
    environment = {"SAGE_ADDRESS": f"{scheme}://{encrypted}", "SAGE_TOKEN": secrets["read"]}
    outcome = await sage("videos", **environment, SAGE_CA_FILE=str(certificate[2]))
    assert outcome.code == 0, outcome.err


async def test_untrusted_certificate_is_reported(sage, encrypted, secrets):
    """The error is not that SAGE cannot be reached."""
    outcome = await sage("videos", SAGE_ADDRESS=f"https://{encrypted}", SAGE_TOKEN=secrets["read"])
    assert outcome.code == 2
    assert "certificate" in outcome.err
    assert "SAGE_CA_FILE" in outcome.err


async def test_wrong_scheme_is_reported_with_the_right_one(sage, encrypted, guarded):
    """Plain text to a server with TLS, and TLS to one without."""
    plain, secure = await asyncio.gather(
        sage("videos", SAGE_ADDRESS=encrypted), sage("videos", SAGE_ADDRESS=f"https://{guarded}")
    )
    assert (plain.code, secure.code) == (2, 2)
    assert f"https://{encrypted}" in plain.err
    assert "TLS" in secure.err


def test_ca_file_without_certificates_is_refused(token_file):
    with pytest.raises(CommandError, match=r"SAGE_CA_FILE: .* contains no certificates"):
        read_credentials({"SAGE_CA_FILE": token_file})
