"""The components of a stack, their configuration and their start order."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from sage_local.gateway import Gateway, gateway_settings, joined
from sage_local.postgres import DATABASE, OWNERS, Postgres, prepare_database
from sage_local.process import PRIVATE_VARIABLES
from sage_local.seaweedfs import SeaweedFS, SeaweedPorts
from sage_local.services import GrpcProcess, Migration
from sage_local.settings import key_settings, prepare_sign_in, room_settings
from sage_local.state import State
from sage_local.supervision import Component, Step

BUCKET = "sage-videos"
_SERVICES = {
    "ingest": "sage.ingest.v1.IngestService",
    "embed": "sage.embed.v1.EmbedService",
    "compare": "sage.compare.v1.CompareService",
}
_START_AFTER = {
    "ingest": ["ingest migrations", "bucket"],
    "embed": ["embed migrations"],
    # Not earlier: its channel to embed backs off after each failed attempt to connect.
    "compare": ["embed migrations"],
}
_WORKER_HEALTH = "sage.embed.worker"
_SEAWEED_PORTS = {field.name: field.name.replace("_", "-") for field in fields(SeaweedPorts)}


@dataclass(frozen=True)
class Components:
    """Every component of a stack.

    Attributes:
        postgres: The database.
        s3: The object store.
        migrations: By service.
        services: ingest, embed and compare; further replicas as `ingest-2` and so on.
        workers: The processes that compute embeddings. One that dies is restarted.
        gateway: Envoy.
        targets: gRPC targets of `ingest`, `embed` and `compare` with all their replicas.
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
        """Return the connection string of a role to the services' database."""
        return self.postgres.dsn(user=owner, password=self.passwords[owner], database=DATABASE)

    def stop_order(self) -> list[list[Component]]:
        """Return every component that has a process, in the stages in which they stop.

        No calls arrive once the gateway has stopped, so the services may stop in any order.
        """
        ours: list[Component] = [*self.services.values(), *self.workers.values(), *self.migrations.values()]
        return [[self.gateway], ours, [self.s3, self.postgres]]

    def essential(self) -> list[Component]:
        """Return the components without which the stack cannot run."""
        return [self.s3, self.postgres, *([] if self._replicated else self.services.values()), self.gateway]

    def restartable(self) -> list[Component]:
        """Return the components that are restarted when they exit, because the others can continue meanwhile."""
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
            **{name: Step(one.start, after=_START_AFTER[_service_of(name)]) for name, one in self.services.items()},
            **{name: Step(worker.start, after=["embed migrations"]) for name, worker in self.workers.items()},
            "gateway": Step(self.gateway.start, after=list(self.services)),
        }

    async def _prepare_database(self) -> None:
        await prepare_database(
            self.postgres.dsn(), self.postgres.dsn(database=DATABASE), passwords=dict(self.passwords)
        )


def port_names(*, workers: int, replicas: int = 1) -> list[str]:
    """Return the names that require a port."""
    further = [f"{name}-{number}" for name in _SERVICES for number in range(2, replicas + 1)]
    numbered = [f"worker-{number}" for number in range(1, workers + 1)]
    gateway = ["gateway", "gateway-probe"]
    return [*gateway, *_SERVICES, *further, *numbered, "postgres", *_SEAWEED_PORTS.values()]


def build_components(state: State, ports: Mapping[str, int], *, environment: Mapping[str, str]) -> Components:
    """Return the components of a stack, none of them started.

    Args:
        state: Where their state is kept.
        ports: A port for each of `port_names`.
        environment: Additional settings for all services and the gateway.

    Raises:
        StackError: A setting of the gateway is invalid.
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
    shared = {f"SAGE_{name.upper()}_ADDRESS": target for name, target in targets.items()}
    shared |= {name: value for name, value in environment.items() if name not in PRIVATE_VARIABLES}
    admin = {"SAGE_GATEWAY_ADMIN_SOCKET": str(state.sockets() / "gateway.sock")}
    sign_in = prepare_sign_in(state, environment)
    shared |= sign_in.services
    # One bucket for both: videos and fingerprints have different prefixes.
    store = s3.environment(BUCKET) | room_settings(state, environment)
    settings = {
        "ingest": shared | store | {"SAGE_DATABASE_URL": urls["ingest"]},
        "embed": shared | store | key_settings(state, environment) | {"SAGE_DATABASE_URL": urls["embed"]},
        "compare": shared | {"SAGE_REFLECT_ALSO": ",".join(_SERVICES.values())},
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

    return Components(
        postgres=postgres,
        s3=s3,
        migrations={
            owner: Migration(f"sage_{owner}", log=state.log(owner), environment=settings[owner]) for owner in OWNERS
        },
        services={one: service(name, one) for name in _SERVICES for one in replicas[name]},
        workers={name: worker(name) for name in ports if name.startswith("worker-")},
        gateway=Gateway(
            state.gateway_config,
            settings=gateway_settings(ports, targets, {**environment, **sign_in.gateway, **admin}),
            log=state.log("gateway"),
        ),
        targets=targets,
        passwords=passwords,
    )


def _service_of(component: str) -> str:
    """Return the service that a component is a replica of, such as `embed` for `embed-2`."""
    return re.sub(r"-\d+$", "", component)
