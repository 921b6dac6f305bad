"""Settings: from the environment, with errors that a person can act on."""

import pytest
from pydantic import Field, SecretStr
from sage_runtime.process.settings import ServerSettings, Settings, load


class _Store(Settings):
    bucket: str = Field(validation_alias="S3_BUCKET_NAME")
    database_url: str = Field(pattern="^postgresql://", validation_alias="SAGE_DATABASE_URL")
    passphrase: SecretStr = Field(min_length=16, validation_alias="SAGE_PASSPHRASE")
    names: list[str] = Field(default=[], validation_alias="SAGE_NAMES")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("S3_BUCKET_NAME", "SAGE_DATABASE_URL", "SAGE_PASSPHRASE", "SAGE_NAMES"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_local_and_quiet():
    """Without any variable a server listens on this machine only and sends nothing anywhere."""
    settings = ServerSettings()
    assert settings.listen.startswith("127.0.0.1:")
    assert (settings.metrics_listen, settings.otlp_endpoint) == ("", "")


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("SAGE_GRACE_SECONDS", "1.5")
    assert load(ServerSettings).grace_s == 1.5


def test_empty_variable_counts_as_not_set(monkeypatch):
    """A deployment can list all variables and leave some of them empty."""
    monkeypatch.setenv("SAGE_GRACE_SECONDS", "")
    assert load(ServerSettings).grace_s == 20


def test_keywords_are_field_names():
    assert ServerSettings(listen="127.0.0.1:7").listen == "127.0.0.1:7"


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        ServerSettings().grace_s = 3


def test_every_problem_is_one_line_with_name_rule_and_value(monkeypatch, capsys):
    monkeypatch.setenv("SAGE_LISTEN", "localhost")
    monkeypatch.setenv("SAGE_MAX_MESSAGE_BYTES", "ten")
    monkeypatch.setenv("SAGE_LOG_LEVEL", "loud")
    with pytest.raises(SystemExit) as ended:
        load(ServerSettings)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: SAGE_LISTEN: must be HOST:PORT such as 127.0.0.1:50051 (it is 'localhost')",
        "error: SAGE_LOG_LEVEL: should be 'debug', 'info', 'warning' or 'error' (it is 'loud')",
        "error: SAGE_MAX_MESSAGE_BYTES: should be a valid integer, unable to parse string as an integer (it is 'ten')",
    ]


def test_missing_variables_are_named(capsys):
    with pytest.raises(SystemExit):
        load(_Store)
    assert "error: S3_BUCKET_NAME: is required and not set" in capsys.readouterr().err


def test_secrets_are_never_shown(monkeypatch, capsys):
    monkeypatch.setenv("S3_BUCKET_NAME", "videos")
    monkeypatch.setenv("SAGE_DATABASE_URL", "mysql://root:hunter2@db/sage")
    monkeypatch.setenv("SAGE_PASSPHRASE", "hunter2")
    with pytest.raises(SystemExit):
        load(_Store)
    errors = capsys.readouterr().err
    assert "SAGE_DATABASE_URL: " in errors
    assert "SAGE_PASSPHRASE: " in errors
    assert "hunter2" not in errors


def test_value_that_must_be_json_is_reported_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("SAGE_NAMES", "a,b")
    with pytest.raises(SystemExit) as ended:
        load(_Store)
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("listen", ["50051", ":50051", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"])
def test_address_without_host_and_port_is_refused(listen):
    with pytest.raises(ValueError, match="HOST:PORT"):
        ServerSettings(listen=listen)
