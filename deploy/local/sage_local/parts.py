"""Which parts a stack has, how each is set, and what waits for what."""

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from sage_local.database import DATABASE, OWNERS, prepare_database
from sage_local.gateway import Gateway, gateway_settings, joined
from sage_local.postgres import Postgres
from sage_local.process import PRIVATE_VARIABLES, Process
from sage_local.seaweedfs import SeaweedFS, SeaweedPorts
from sage_local.services import GrpcProcess, Migration
from sage_local.sign_in import prepare_sign_in
from sage_local.state import State
from sage_local.steps import Step

BUCKET = "sage-videos"
_SERVICES = {
    "ingest": "sage.ingest.v1.IngestService",
    "embed": "sage.embed.v1.EmbedService",
    "compare": "sage.compare.v1.CompareService",
}
_NEEDS = {
    "ingest": ["ingest migrations", "bucket"],
    "embed": ["embed migrations"],
    # Not earlier: its channel to embed waits longer after each time that embed was not there.
    "compare": ["embed migrations"],
}
_WORKER_HEALTH = "sage.embed.worker"
_SEAWEED_PORTS = {field.name: field.name.replace("_", "-") for field in fields(SeaweedPorts)}


class Part(Protocol):
    """Something with a process that can be started."""

    @property
    def process(self) -> Process:
        """Its process."""
        ...

    async def start(self) -> None:
        """Start it and return when it is ready."""
        ...


@dataclass(frozen=True)
class Parts:
    """All of a stack.

    Attributes:
        postgres: The database.
        s3: The object store.
        migrations: By service.
        services: ingest, embed and compare; further replicas as `ingest-2` and so on.
        workers: What does the work of embeddings; any of them may die and is started again.
        gateway: Envoy.
        targets: Where `ingest`, `embed` and `compare` are, with all replicas, for gRPC and for the gateway.
        passwords: Of the database's roles.
    """

    postgres: Postgres
    s3: SeaweedFS
    migrations: Mapping[str, Migration]
    services: Mapping[str, GrpcProcess]
    workers: Mapping[str, GrpcProcess]
    gateway: Gateway
    targets: Mapping[str, str]
    passwords: Mapping[str, str]

    def database_url(self, owner: str) -> str:
        """Return a role's way into the services' database."""
        return self.postgres.dsn(user=owner, password=self.passwords[owner], database=DATABASE)

    def stop_order(self) -> list[list[Part]]:
        """Return every part that has a process: stages, one after the other, of what stops at once.

        Once the gateway is gone no calls come in, so the services need no order among themselves.
        """
        ours: list[Part] = [*self.services.values(), *self.workers.values(), *self.migrations.values()]
        return [[self.gateway], ours, [self.s3, self.postgres]]

    def everything(self) -> list[Part]:
        """Return every part that has a process."""
        return [part for stage in self.stop_order() for part in stage]

    def lasting(self) -> list[Part]:
        """Return the parts without which the stack is none."""
        return [self.s3, self.postgres, *([] if self._replicated else self.services.values()), self.gateway]

    def revived(self) -> list[Part]:
        """Return the parts that are started again when they end, since others go on with their work."""
        return [*(self.services.values() if self._replicated else []), *self.workers.values()]

    @property
    def _replicated(self) -> bool:
        return len(self.services) > len(_SERVICES)

    def steps(self) -> dict[str, Step]:
        """Return how the stack starts."""
        return {
            "postgres": Step(self.postgres.start),
            "seaweedfs": Step(self.s3.start),
            "bucket": Step(lambda: asyncio.to_thread(self.s3.make_bucket, BUCKET), after=["seaweedfs"]),
            "schemas": Step(self._prepare_database, after=["postgres"]),
            "ingest migrations": Step(self.migrations["ingest"].start, after=["schemas"]),
            "embed migrations": Step(self.migrations["embed"].start, after=["schemas"]),
            **{name: Step(one.start, after=_NEEDS[_service_of(name)]) for name, one in self.services.items()},
            **{name: Step(worker.start, after=["embed migrations"]) for name, worker in self.workers.items()},
            "gateway": Step(self.gateway.start, after=list(self.services)),
        }

    async def _prepare_database(self) -> None:
        await prepare_database(
            self.postgres.dsn(), self.postgres.dsn(database=DATABASE), passwords=dict(self.passwords)
        )


def port_names(*, workers: int, replicas: int = 1) -> list[str]:
    """Return the name of everything that needs a port."""
    further = [f"{name}-{number}" for name in _SERVICES for number in range(2, replicas + 1)]
    numbered = [f"worker-{number}" for number in range(1, workers + 1)]
    gateway = ["gateway", "gateway-probe"]
    return [*gateway, *_SERVICES, *further, *numbered, "postgres", *_SEAWEED_PORTS.values()]


def build_parts(state: State, ports: Mapping[str, int], *, environment: Mapping[str, str]) -> Parts:
    """Return the parts of a stack, none of them started.

    Args:
        state: Where they keep what they keep.
        ports: A port for each of `port_names`.
        environment: Settings of ours on top of theirs, for all services and the gateway.

    Raises:
        StackError: A setting of the gateway is not valid.
    """
    passwords = {owner: state.secret(f"postgres-{owner}") for owner in OWNERS}
    postgres = Postgres(
        state.postgres, port=ports["postgres"], password=state.secret("postgres"), log=state.log("postgres")
    )
    s3 = SeaweedFS(
        state.s3,
        ports=SeaweedPorts(**{field: ports[name] for field, name in _SEAWEED_PORTS.items()}),
        access_key=state.secret("s3-access-key"),
        secret_key=state.secret("s3-secret-key"),
        log=state.log("seaweedfs"),
    )
    urls = {owner: postgres.dsn(user=owner, password=passwords[owner], database=DATABASE) for owner in OWNERS}
    replicas = {name: [one for one in ports if _service_of(one) == name] for name in _SERVICES}
    targets = {name: joined([f"127.0.0.1:{ports[one]}" for one in replicas[name]]) for name in _SERVICES}
    common = {f"SAGE_{name.upper()}_ADDRESS": target for name, target in targets.items()}
    common |= {name: value for name, value in environment.items() if name not in PRIVATE_VARIABLES}
    sign_in = prepare_sign_in(state, environment)
    common |= sign_in.services
    settings = {
        "ingest": common | s3.environment(BUCKET) | {"SAGE_DATABASE_URL": urls["ingest"]},
        "embed": common | _key_settings(state, environment) | {"SAGE_DATABASE_URL": urls["embed"]},
        "compare": common | {"SAGE_REFLECT_ALSO": ",".join(_SERVICES.values())},
    }

    def service(name: str, replica: str) -> GrpcProcess:
        return GrpcProcess(
            replica,
            f"sage_{name}",
            "serve",
            health=_SERVICES[name],
            port=ports[replica],
            log=state.log(replica),
            environment=settings[name] | {f"SAGE_{name.upper()}_LISTEN": f"127.0.0.1:{ports[replica]}"},
            replicated=len(replicas[name]) > 1,
        )

    def worker(name: str) -> GrpcProcess:
        return GrpcProcess(
            name,
            "sage_embed",
            "worker",
            health=_WORKER_HEALTH,
            port=ports[name],
            log=state.log(name),
            environment=settings["embed"] | sign_in.workers | {"SAGE_WORKER_LISTEN": f"127.0.0.1:{ports[name]}"},
        )

    return Parts(
        postgres=postgres,
        s3=s3,
        migrations={
            owner: Migration(f"sage_{owner}", log=state.log(owner), environment=settings[owner]) for owner in OWNERS
        },
        services={one: service(name, one) for name in _SERVICES for one in replicas[name]},
        workers={name: worker(name) for name in ports if name.startswith("worker-")},
        gateway=Gateway(
            state.gateway_config,
            settings=gateway_settings(ports, targets, {**environment, **sign_in.gateway}),
            log=state.log("gateway"),
        ),
        targets=targets,
        passwords=passwords,
    )


def _service_of(part: str) -> str:
    """Return the service that a part is a replica of, such as `embed` for `embed-2`."""
    return re.sub(r"-\d+$", "", part)


def _key_settings(state: State, environment: Mapping[str, str]) -> dict[str, str]:
    """Return embed's settings for providers' keys: those of this process, and else something to encrypt them with."""
    ours = {**os.environ, **environment}
    settings = {name: ours[name] for name in PRIVATE_VARIABLES if ours.get(name)}
    if not any(name.startswith("SAGE_KEY_ENCRYPTION_KEYS") for name in settings):
        settings["SAGE_KEY_ENCRYPTION_KEYS_FILE"] = str(state.encryption_keys())
    return settings
