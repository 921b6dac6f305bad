"""How the command signs in: with what, where to, and what it says when it is not let in."""

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
from sage_cli.access import Access, read_access
from sage_cli.client import Client
from sage_cli.errors import Trouble
from sage_runtime.access import ReadMethods
from sage_runtime.interceptor import CallInterceptor
from sage_runtime.sign_in import SignIn
from sage_runtime.tokens.files import TokenFiles
from sage_runtime.tokens.model import Scope, new_token


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> dict[str, str]:
    """Tokens by scope, and the file of them under `file`."""
    made = {scope: new_token(str(scope), scope) for scope in (Scope.READ, Scope.WRITE)}
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("\n".join(token.line() for _, token in made.values()))
    return {"file": str(file), **{str(scope): secret for scope, (secret, _) in made.items()}}


def _server(secrets) -> grpc.aio.Server:
    services = registrations()
    sign_in = SignIn(TokenFiles([Path(secrets["file"])]), ReadMethods(service.name for service in services))
    server = grpc.aio.server(interceptors=[CallInterceptor(sign_in=sign_in)])
    for service in services:
        service.add(server)
    return server


@pytest.fixture
async def guarded(secrets) -> AsyncIterator[str]:
    """The address of services that ask for sign-in."""
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
    """The HOST:PORT of services that speak TLS."""
    server = _server(secrets)
    private, pem, _ = certificate
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(private, pem)]))
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def token_file(secrets, tmp_path) -> str:
    """A file with a token of scope `write`, as an editor leaves it."""
    file = tmp_path / "token"
    file.write_text(f"{secrets['write']}\n")
    return str(file)


async def test_token_of_the_environment_gets_in(sage, guarded, secrets, token_file):
    """SAGE_TOKEN, or a file that SAGE_TOKEN_FILE names, signs the command in."""
    for environment in ({"SAGE_TOKEN": secrets["read"]}, {"SAGE_TOKEN_FILE": token_file}):
        outcome = await sage("videos", SAGE_ADDRESS=guarded, **environment)
        assert outcome.code == 0, outcome.err


async def test_command_without_a_token_says_how_to_sign_in(sage, guarded):
    """The error names the variables."""
    outcome = await sage("videos", SAGE_ADDRESS=guarded)
    assert outcome.code == 2
    assert "The call has no token." in outcome.err
    assert "SAGE_TOKEN_FILE" in outcome.err


async def test_token_that_may_not_says_what_it_needs(sage, guarded, secrets):
    """A reader who deletes learns which scope that takes."""
    outcome = await sage("delete", f"video_{'0' * 32}", SAGE_ADDRESS=guarded, SAGE_TOKEN=secrets["read"])
    assert outcome.code == 2
    assert "needs the scope write" in outcome.err
    assert "SAGE_TOKEN" in outcome.err


async def test_wrong_token_is_not_repeated(sage, guarded):
    """What is refused is not shown: it may be right somewhere else."""
    outcome = await sage("videos", SAGE_ADDRESS=guarded, SAGE_TOKEN="sage_hunter2")
    assert outcome.code == 2
    assert "not known" in outcome.err
    assert "hunter2" not in outcome.out + outcome.err


async def test_calls_of_every_shape_carry_the_token(guarded, secrets):
    """Single calls, uploads and watches are signed alike."""
    async with Client(guarded, Access(token=secrets["write"])) as client:
        await client.get_video("video_1")
        await client.ingest.UploadVideo(iter([ingest_pb2.UploadVideoRequest()]))
        watch = client.embed.WatchEmbedding(embed_pb2.WatchEmbeddingRequest())
        assert len([answer async for answer in watch]) == 1


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SAGE_TOKEN": "a", "SAGE_TOKEN_FILE": "b"}, "both set"),
        ({"SAGE_TOKEN_FILE": "nowhere"}, "SAGE_TOKEN_FILE: nowhere cannot be read"),
        ({"SAGE_TOKEN": "hunter2 hunter2"}, "not a token"),
        ({"SAGE_TOKEN": "hünter2"}, "not a token"),
        ({"SAGE_CA_FILE": "nowhere"}, "SAGE_CA_FILE: nowhere cannot be read"),
    ],
)
def test_environment_that_cannot_be_meant_is_refused(environment, said):
    """One sentence names the variable, and never shows a token."""
    with pytest.raises(Trouble) as caught:
        read_access(environment)
    assert said in caught.value.message
    assert "nter2" not in caught.value.message + caught.value.next_step


def test_empty_variables_say_nothing():
    """What is set to nothing counts as not set."""
    assert read_access({"SAGE_TOKEN": "", "SAGE_TOKEN_FILE": "", "SAGE_CA_FILE": ""}) == Access()


def test_token_is_not_shown_by_mistake():
    """What is printed of it in a traceback is not the token."""
    assert "hunter2" not in repr(read_access({"SAGE_TOKEN": "hunter2"}))


async def test_token_does_not_leave_this_machine_unencrypted(sage, secrets):
    """Without TLS nothing is sent to another machine, unless that is asked for by name."""
    environment = {"SAGE_ADDRESS": "sage.invalid:8080", "SAGE_TOKEN": secrets["read"]}
    outcome = await sage("videos", **environment)
    assert outcome.code == 2
    assert "would go to sage.invalid unencrypted" in outcome.err
    assert "https://sage.invalid:8080" in outcome.err
    assert "does not answer" in (await sage("videos", **environment, SAGE_PLAINTEXT_TOKEN="1")).err


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
async def test_tls_with_a_ca_of_ones_own(sage, encrypted, secrets, certificate, scheme):
    """SAGE_CA_FILE names the certificates to trust."""
    environment = {"SAGE_ADDRESS": f"{scheme}://{encrypted}", "SAGE_TOKEN": secrets["read"]}
    outcome = await sage("videos", **environment, SAGE_CA_FILE=str(certificate[2]))
    assert outcome.code == 0, outcome.err


async def test_certificate_that_is_not_trusted_says_so(sage, encrypted, secrets):
    """Without the CA the command does not claim that nobody is there."""
    outcome = await sage("videos", SAGE_ADDRESS=f"https://{encrypted}", SAGE_TOKEN=secrets["read"])
    assert outcome.code == 2
    assert "certificate" in outcome.err
    assert "SAGE_CA_FILE" in outcome.err


async def test_two_ways_of_speaking_that_do_not_meet_are_named(sage, encrypted, guarded):
    """Plain to a server with TLS, and TLS to a plain one: the error has the address' other scheme."""
    plain, secure = await asyncio.gather(
        sage("videos", SAGE_ADDRESS=encrypted), sage("videos", SAGE_ADDRESS=f"https://{guarded}")
    )
    assert (plain.code, secure.code) == (2, 2)
    assert f"https://{encrypted}" in plain.err
    assert "TLS" in secure.err


def test_file_that_has_no_certificates_is_named(token_file):
    """A CA file of something else is refused, before anything is connected to."""
    with pytest.raises(Trouble, match=r"SAGE_CA_FILE: .* has no certificates"):
        read_access({"SAGE_CA_FILE": token_file})
