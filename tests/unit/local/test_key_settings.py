"""Who gets to see keys: embed, and no other part of the stack."""

from pathlib import Path

import pytest
from sage_local.parts import Parts, build_parts, port_names
from sage_local.process import PRIVATE_VARIABLES, Process
from sage_local.state import State

SECRET = "tlk_WITNESS_0123456789"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PRIVATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def parts_of(folder: Path, **environment: str) -> Parts:
    """Return the parts of a stack that is not started."""
    ports = {name: 1000 + index for index, name in enumerate(port_names(workers=1))}
    return build_parts(State(folder), ports, environment=environment)


def private(process: Process) -> dict[str, str]:
    """Return the private variables that a process would be started with."""
    return {name: value for name, value in process.environment().items() if name in PRIVATE_VARIABLES}


def test_a_key_of_the_caller_reaches_embed_and_its_workers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service and the workers have it; ingest, compare, the database, the object store and the gateway do not."""
    monkeypatch.setenv("TWELVELABS_API_KEY", SECRET)
    monkeypatch.setenv("TWELVELABS_BASE_URL", "http://127.0.0.1:1/v1.3")
    parts = parts_of(tmp_path)
    theirs = {"TWELVELABS_API_KEY": SECRET, "TWELVELABS_BASE_URL": "http://127.0.0.1:1/v1.3"}
    entitled = [parts.services["embed"].process, parts.workers["worker-1"].process, parts.migrations["embed"].process]
    for process in entitled:
        assert theirs.items() <= private(process).items()
    for part in parts.everything():
        if part.process not in entitled:
            assert private(part.process) == {}, part.process.name


def test_settings_of_a_test_are_kept_apart_as_well(tmp_path: Path) -> None:
    """A key that is handed in, and not in the environment, goes the same way."""
    parts = parts_of(tmp_path, TWELVELABS_API_KEY=SECRET, SAGE_LOG_LEVEL="debug")
    assert private(parts.services["embed"].process)["TWELVELABS_API_KEY"] == SECRET
    assert private(parts.services["ingest"].process) == {}
    assert parts.services["ingest"].process.environment()["SAGE_LOG_LEVEL"] == "debug"


def test_embed_can_store_keys_without_a_word_from_the_user(tmp_path: Path) -> None:
    """The service and its workers get the same file to encrypt with."""
    parts = parts_of(tmp_path)
    file = str(State(tmp_path).encryption_keys())
    for process in (parts.services["embed"].process, parts.workers["worker-1"].process):
        assert private(process) == {"SAGE_KEY_ENCRYPTION_KEYS_FILE": file}


@pytest.mark.parametrize("name", ["SAGE_KEY_ENCRYPTION_KEYS", "SAGE_KEY_ENCRYPTION_KEYS_FILE"])
def test_the_users_own_encryption_keys_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where the caller has some, the stack makes none: both would be an error."""
    monkeypatch.setenv(name, "theirs")
    assert private(parts_of(tmp_path).services["embed"].process) == {name: "theirs"}
