"""A stack that is ready, as tests, benchmarks and other commands see it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sage_local.database import DATABASE, OWNERS
from sage_local.parts import BUCKET, Parts
from sage_local.state import State


@dataclass(frozen=True)
class S3Settings:
    """How to reach a stack's object store.

    Attributes:
        endpoint_url: Where S3 answers.
        region: The region to sign for.
        bucket: Where ingest keeps videos.
        access_key: Access key id.
        secret_key: Secret access key.
    """

    endpoint_url: str
    region: str
    bucket: str
    access_key: str
    secret_key: str


class RunningStack:
    """A stack that is ready.

    Attributes:
        address: HOST:PORT of the gateway, where all services answer.
        client_address: The same for the `sage` command: over TLS it begins with https://.
        addresses: HOST:PORT of `gateway`, `ingest`, `embed` and `compare`, and of further replicas such as `embed-2`.
        admin_socket: Unix socket of Envoy's admin interface.
        probe_url: What monitoring may see of it.
        s3: How to reach the object store.
        database_urls: The way into the database of the roles `postgres` (superuser), `ingest` and `embed`.
        logs: Folder of one log per part.
        state: The state folder.
    """

    def __init__(self, parts: Parts, ports: Mapping[str, int], state: State) -> None:
        self._parts = parts
        self.address = f"127.0.0.1:{ports['gateway']}"
        self.client_address = parts.gateway.address
        self.addresses = {"gateway": self.address} | {name: one.address for name, one in parts.services.items()}
        self.admin_socket = parts.gateway.admin_socket
        self.probe_url = f"http://127.0.0.1:{ports['gateway-probe']}"
        s3 = parts.s3
        self.s3 = S3Settings(s3.endpoint_url, s3.region, BUCKET, s3.access_key, s3.secret_key)
        self.database_urls = {"postgres": parts.postgres.dsn(database=DATABASE)}
        self.database_urls |= {owner: parts.database_url(owner) for owner in OWNERS}
        self.logs = state.logs
        self.state = state.folder

    @property
    def pids(self) -> dict[str, int]:
        """The process ids now, by part; a part that was started again has a new one."""
        lasting = [part.process for part in [*self._parts.lasting(), *self._parts.revived()]]
        return {process.name: process.pid for process in lasting if process.running}

    def environment(self) -> dict[str, str]:
        """Return it as environment variables, for the `sage` command, S3 clients and psql."""
        return {
            "SAGE_ADDRESS": self.client_address,
            **{f"SAGE_{name.upper()}_ADDRESS": address for name, address in self._parts.targets.items()},
            "SAGE_GATEWAY_ADMIN_SOCKET": self.admin_socket,
            "SAGE_GATEWAY_PROBE_URL": self.probe_url,
            **{f"SAGE_{name.upper()}_DATABASE_URL": url for name, url in self.database_urls.items()},
            **{name: value for name, value in self._parts.s3.environment(BUCKET).items() if value},
        }
