"""Which secrets each component is given: tokens for sign-in, and providers' keys for embed only."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sage_local.components import Components, build_components, port_names
from sage_local.process import PRIVATE_VARIABLES, Process
from sage_local.settings import OPEN_AND_LOCAL, prepare_sign_in
from sage_local.state import State
from sage_runtime.auth.sign_in import token_paths
from sage_runtime.auth.tokens import Scope, TokenFiles, new_token


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state folder, and an environment without sign-in."""
    for name in ("SAGE_TOKENS_FILE", "SAGE_SIGN_IN", "SAGE_GATEWAY_OIDC_ISSUER", "SAGE_SERVICE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "state"
    folder.mkdir()
    return State(folder)


@pytest.fixture
def people(tmp_path):
    """A user's token file, and the token."""
    secret, token = new_token("ada", Scope.WRITE)
    file = tmp_path / "people"
    file.write_text(token.line())
    return file, secret


@pytest.mark.parametrize("environment", [{}, {"SAGE_SIGN_IN": "off", "SAGE_TOKENS_FILE": "tokens"}])
def test_sign_in_is_off_by_default_and_if_switched_off(state, environment):
    settings = prepare_sign_in(state, environment)
    assert (settings.services, settings.workers, settings.gateway) == ({}, {}, {})
    assert list(state.folder.iterdir()) == []


def test_components_get_tokens_in_addition_to_the_users_file(state, people):
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


def test_an_oidc_issuer_alone_switches_sign_in_on(state):
    settings = prepare_sign_in(state, {"SAGE_GATEWAY_OIDC_ISSUER": "https://id.example.com"})
    assert {token.name for token in TokenFiles(token_paths(settings.services["SAGE_TOKENS_FILE"])).tokens} == {
        "service",
        "gateway",
    }


def test_the_tokens_file_is_private_and_wiped_with_the_state(state, people):
    prepare_sign_in(state, {"SAGE_TOKENS_FILE": str(people[0])})
    files = [path for path in state.folder.iterdir() if path.is_file()]
    assert files
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    state.wipe()
    assert [path for path in state.folder.iterdir() if path.is_file()] == []


def test_only_workers_and_the_gateway_hold_a_token(state, people, monkeypatch):
    monkeypatch.setenv("SAGE_TOKENS_FILE", str(people[0]))
    monkeypatch.setenv("SAGE_TOKEN", "sage_mine")
    ports = {name: 20_000 + number for number, name in enumerate(port_names(workers=1))}
    components = build_components(state, ports, environment={})
    secret = prepare_sign_in(state, {}).workers["SAGE_SERVICE_TOKEN"]
    for component in components.services.values():
        environment = component.process.environment()
        assert environment["SAGE_TOKENS_FILE"].split(",")[0] == str(people[0])
        assert not {"SAGE_SERVICE_TOKEN", "SAGE_GATEWAY_TOKEN", "SAGE_TOKEN"} & set(environment)
    for component in components.workers.values():
        assert component.process.environment()["SAGE_SERVICE_TOKEN"] == secret


def test_the_demo_stack_is_open_whatever_the_environment_says(state, people, monkeypatch):
    monkeypatch.setenv("SAGE_TOKENS_FILE", str(people[0]))
    monkeypatch.setenv("SAGE_GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("SAGE_GATEWAY_TLS_CERT", "/cert.pem")
    monkeypatch.setenv("SAGE_GATEWAY_TLS_KEY", "/key.pem")
    monkeypatch.setenv("SAGE_GATEWAY_NAMES", "sage.example.com")
    monkeypatch.setenv("SAGE_GATEWAY_RATE_LIMIT", "1")
    ports = {name: 20_000 + number for number, name in enumerate(port_names(workers=1))}
    components = build_components(state, ports, environment=OPEN_AND_LOCAL)
    assert "SAGE_TOKENS_FILE" not in components.services["ingest"].process.environment()
    assert components.gateway.address == f"127.0.0.1:{ports['gateway']}"
    settings = components.gateway._settings
    assert (settings.host, settings.names, settings.rate_limit) == ("127.0.0.1", "localhost,127.0.0.1,[::1]", 0)


def test_an_expired_token_in_the_users_file_is_accepted(state, tmp_path):
    _, token = new_token("old", Scope.READ, expires=datetime(2020, 1, 31, tzinfo=UTC).date())
    (tmp_path / "people").write_text(token.line())
    settings = prepare_sign_in(state, {"SAGE_TOKENS_FILE": str(tmp_path / "people")})
    assert len(TokenFiles(token_paths(settings.services["SAGE_TOKENS_FILE"])).tokens) == 3


SECRET = "tlk_WITNESS_0123456789"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PRIVATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def components_of(folder: Path, **environment: str) -> Components:
    """Return the components of a stack that is not started."""
    ports = {name: 1000 + index for index, name in enumerate(port_names(workers=1))}
    return build_components(State(folder), ports, environment=environment)


def private(process: Process) -> dict[str, str]:
    """Return the private variables that a process would be started with."""
    return {name: value for name, value in process.environment().items() if name in PRIVATE_VARIABLES}


def test_a_providers_key_reaches_only_embed_and_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWELVELABS_API_KEY", SECRET)
    monkeypatch.setenv("TWELVELABS_BASE_URL", "http://127.0.0.1:1/v1.3")
    components = components_of(tmp_path)
    theirs = {"TWELVELABS_API_KEY": SECRET, "TWELVELABS_BASE_URL": "http://127.0.0.1:1/v1.3"}
    entitled = [
        components.services["embed"].process,
        components.workers["worker-1"].process,
        components.migrations["embed"].process,
    ]
    for process in entitled:
        assert theirs.items() <= private(process).items()
    for component in (one for stage in components.stop_order() for one in stage):
        if component.process not in entitled:
            assert private(component.process) == {}, component.process.name


def test_a_providers_key_passed_as_a_setting_reaches_only_embed(tmp_path: Path) -> None:
    components = components_of(tmp_path, TWELVELABS_API_KEY=SECRET, SAGE_LOG_LEVEL="debug")
    assert private(components.services["embed"].process)["TWELVELABS_API_KEY"] == SECRET
    assert private(components.services["ingest"].process) == {}
    assert components.services["ingest"].process.environment()["SAGE_LOG_LEVEL"] == "debug"


def test_embed_gets_a_generated_key_to_encrypt_with(tmp_path: Path) -> None:
    components = components_of(tmp_path)
    file = str(State(tmp_path).encryption_keys())
    for process in (components.services["embed"].process, components.workers["worker-1"].process):
        assert private(process) == {"SAGE_KEY_ENCRYPTION_KEYS_FILE": file}


@pytest.mark.parametrize("name", ["SAGE_KEY_ENCRYPTION_KEYS", "SAGE_KEY_ENCRYPTION_KEYS_FILE"])
def test_the_users_encryption_keys_take_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "theirs")
    assert private(components_of(tmp_path).services["embed"].process) == {name: "theirs"}


def test_ingest_leaves_room_on_the_disk_of_the_state_folder(tmp_path: Path) -> None:
    """Room to free that of deleted films, but never so much that a small disk accepts nothing."""

    def ingest(**environment: str) -> dict[str, str]:
        return components_of(tmp_path, **environment).services["ingest"].process.environment()

    assert ingest()["SAGE_STORE_FOLDER"] == str(tmp_path)
    reserved = int(ingest()["SAGE_STORE_MIN_FREE_BYTES"])
    assert 0 < reserved <= min(512 * 1024**2, shutil.disk_usage(tmp_path).total // 4)
    assert ingest(SAGE_STORE_MIN_FREE_BYTES="7")["SAGE_STORE_MIN_FREE_BYTES"] == "7"
