"""Sign-in to a stack on one machine."""

from datetime import UTC, datetime

import pytest
from sage_local.parts import build_parts, port_names
from sage_local.sign_in import OPEN_AND_LOCAL, prepare_sign_in
from sage_local.state import State
from sage_runtime.exposure import token_paths
from sage_runtime.tokens.files import TokenFiles
from sage_runtime.tokens.model import Scope, new_token


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state folder, and an environment that says nothing of sign-in."""
    for name in ("SAGE_TOKENS_FILE", "SAGE_SIGN_IN", "SAGE_GATEWAY_OIDC_ISSUER", "SAGE_SERVICE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "state"
    folder.mkdir()
    return State(folder)


@pytest.fixture
def people(tmp_path):
    """A file with somebody's token, and the token."""
    secret, token = new_token("ada", Scope.WRITE)
    file = tmp_path / "people"
    file.write_text(token.line())
    return file, secret


@pytest.mark.parametrize("environment", [{}, {"SAGE_SIGN_IN": "off", "SAGE_TOKENS_FILE": "tokens"}])
def test_nobody_is_asked_by_default_or_when_told_so(state, environment):
    """Without tokens, or with sign-in off, the parts get no settings of it."""
    settings = prepare_sign_in(state, environment)
    assert (settings.services, settings.workers, settings.gateway) == ({}, {}, {})
    assert list(state.folder.iterdir()) == []


def test_parts_get_tokens_of_their_own_beside_the_peoples(state, people):
    """Services know both files; the worker's token reads, the gateway's vouches; both stay over a restart."""
    file, secret = people
    before = file.read_text()
    settings = prepare_sign_in(state, {"SAGE_TOKENS_FILE": str(file)})
    tokens = TokenFiles(token_paths(settings.services["SAGE_TOKENS_FILE"]))
    worker = tokens.find(settings.workers["SAGE_SERVICE_TOKEN"])
    gateway = tokens.find(settings.gateway["SAGE_GATEWAY_TOKEN"])
    assert tokens.find(secret).name == "ada"
    assert (worker.scope, gateway.scope) == (Scope.READ, Scope.GATEWAY)
    assert file.read_text() == before
    assert prepare_sign_in(state, {"SAGE_TOKENS_FILE": str(file)}) == settings


def test_oidc_alone_asks_callers_too(state):
    """Where only an OIDC provider signs people in, the stack's own tokens are the file."""
    settings = prepare_sign_in(state, {"SAGE_GATEWAY_OIDC_ISSUER": "https://id.example.com"})
    assert {token.name for token in TokenFiles(token_paths(settings.services["SAGE_TOKENS_FILE"])).tokens} == {
        "service",
        "gateway",
    }


def test_own_tokens_are_readable_by_their_owner_alone_and_go_with_the_rest(state, people):
    """What the state folder keeps of them is private, and wiped with it."""
    prepare_sign_in(state, {"SAGE_TOKENS_FILE": str(people[0])})
    files = [path for path in state.folder.iterdir() if path.is_file()]
    assert files
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    state.wipe()
    assert [path for path in state.folder.iterdir() if path.is_file()] == []


def test_each_part_gets_what_it_needs_and_no_more(state, people, monkeypatch):
    """Only workers and the gateway hold a token; services hold hashes, and no caller's token that lies about."""
    monkeypatch.setenv("SAGE_TOKENS_FILE", str(people[0]))
    monkeypatch.setenv("SAGE_TOKEN", "sage_mine")
    ports = {name: 20_000 + number for number, name in enumerate(port_names(workers=1))}
    parts = build_parts(state, ports, environment={})
    secret = prepare_sign_in(state, {}).workers["SAGE_SERVICE_TOKEN"]
    for part in parts.services.values():
        environment = part.process.environment()
        assert environment["SAGE_TOKENS_FILE"].split(",")[0] == str(people[0])
        assert not {"SAGE_SERVICE_TOKEN", "SAGE_GATEWAY_TOKEN", "SAGE_TOKEN"} & set(environment)
    for part in parts.workers.values():
        assert part.process.environment()["SAGE_SERVICE_TOKEN"] == secret


def test_demo_asks_nobody_whatever_the_environment_says(state, people, monkeypatch):
    """The demo's own command has no token, and nobody else reaches its stack."""
    monkeypatch.setenv("SAGE_TOKENS_FILE", str(people[0]))
    monkeypatch.setenv("SAGE_GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("SAGE_GATEWAY_TLS_CERT", "/cert.pem")
    monkeypatch.setenv("SAGE_GATEWAY_TLS_KEY", "/key.pem")
    monkeypatch.setenv("SAGE_GATEWAY_NAMES", "sage.example.com")
    monkeypatch.setenv("SAGE_GATEWAY_RATE_LIMIT", "1")
    ports = {name: 20_000 + number for number, name in enumerate(port_names(workers=1))}
    parts = build_parts(state, ports, environment=OPEN_AND_LOCAL)
    assert "SAGE_TOKENS_FILE" not in parts.services["ingest"].process.environment()
    assert parts.gateway.address == f"127.0.0.1:{ports['gateway']}"
    settings = parts.gateway._settings
    assert (settings.host, settings.names, settings.rate_limit) == ("127.0.0.1", "localhost,127.0.0.1,[::1]", 0)


def test_expired_token_of_somebody_does_not_stop_the_stack(state, tmp_path):
    """Files may hold tokens whose day is over."""
    _, token = new_token("old", Scope.READ, expires=datetime(2020, 1, 31, tzinfo=UTC).date())
    (tmp_path / "people").write_text(token.line())
    settings = prepare_sign_in(state, {"SAGE_TOKENS_FILE": str(tmp_path / "people")})
    assert len(TokenFiles(token_paths(settings.services["SAGE_TOKENS_FILE"])).tokens) == 3
