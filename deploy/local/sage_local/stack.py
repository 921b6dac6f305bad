"""The full stack: run until it is asked to stop, described while it is ready, or run in the background of a block."""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from sage_local.components import BUCKET, Components, build_components, port_names
from sage_local.display import Display
from sage_local.errors import StackError
from sage_local.ports import choose_ports
from sage_local.postgres import DATABASE, OWNERS
from sage_local.room import LITTLE_BYTES, free_bytes, full_disk_explained
from sage_local.settings import StackSettings
from sage_local.state import RunningRecords, State, end_leftovers
from sage_local.supervision import StopRequest, Supervisor


@dataclass(frozen=True)
class S3Access:
    """How to reach a stack's object store.

    Attributes:
        endpoint_url: URL of its S3 API.
        region: The region to sign for.
        bucket: Where ingest keeps videos.
        access_key: Access key ID.
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
        address: HOST:PORT of the gateway, through which all services are reached.
        client_address: The same for the `sage` command: with TLS it begins with https://.
        addresses: HOST:PORT of `gateway`, `ingest`, `embed` and `compare`, and of further replicas such as `embed-2`.
        admin_socket: Unix socket of Envoy's admin interface.
        probe_url: URL of the part of it that monitoring may use.
        s3: How to reach the object store.
        database_urls: Connection strings of the roles `postgres` (superuser), `ingest` and `embed`.
        logs: Folder with one log per component.
        state: The state folder.
    """

    def __init__(self, components: Components, ports: Mapping[str, int], state: State) -> None:
        self._components = components
        self.address = components.gateway.local_address
        self.client_address = components.gateway.address
        self.addresses = {"gateway": self.address} | {name: one.address for name, one in components.services.items()}
        self.admin_socket = components.gateway.admin_socket
        self.probe_url = f"http://127.0.0.1:{ports['gateway-probe']}"
        s3 = components.s3
        self.s3 = S3Access(s3.endpoint_url, s3.region, BUCKET, s3.access_key, s3.secret_key)
        self.database_urls = {"postgres": components.postgres.dsn(database=DATABASE)}
        self.database_urls |= {owner: components.database_url(owner) for owner in OWNERS}
        self.logs = state.logs
        self.state = state.folder

    @property
    def pids(self) -> dict[str, int]:
        """The current process IDs by component; a restarted component has a new one."""
        lasting = [one.process for one in [*self._components.essential(), *self._components.restartable()]]
        return {process.name: process.pid for process in lasting if process.running}

    def environment(self) -> dict[str, str]:
        """Return how to reach it as environment variables, for the `sage` command, S3 clients and psql."""
        return {
            "SAGE_ADDRESS": self.client_address,
            **{f"SAGE_{name.upper()}_ADDRESS": address for name, address in self._components.targets.items()},
            "SAGE_GATEWAY_ADMIN_SOCKET": self.admin_socket,
            "SAGE_GATEWAY_PROBE_URL": self.probe_url,
            **{f"SAGE_{name.upper()}_DATABASE_URL": url for name, url in self.database_urls.items()},
            **{name: value for name, value in self._components.s3.environment(BUCKET).items() if value},
        }


async def run_stack(
    settings: StackSettings,
    *,
    display: Display,
    stop: StopRequest,
    on_ready: Callable[[RunningStack], None],
    environment: Mapping[str, str] | None = None,
    fresh: bool = False,
    shared: bool = True,
) -> None:
    """Start a stack, watch it until it is asked to stop, and stop it.

    Args:
        settings: Its state folder, ports and number of processes.
        display: Notified of events.
        stop: Stops it.
        on_ready: Called when every component is ready.
        environment: Settings for the services and the gateway, on top of this process's environment.
        fresh: Whether to remove the files of an earlier stack from the state folder.
        shared: Whether other commands may find and use it, as `sage-local env` and `sage-local diff` do.

    Raises:
        StateInUseError: Another stack is running on the state folder.
        StackError: The disk is full, a port is taken, a component did not start, or an essential one exited.
            Everything that ran has been stopped.
    """
    state = State(settings.state)
    with _named_obstacles(), full_disk_explained(state.folder), state.locked():
        if leftovers := await end_leftovers(state):
            display.ended_leftovers(leftovers)
        if fresh:
            state.wipe()
        if (free := free_bytes(state.folder)) < LITTLE_BYTES:
            display.little_room(state.folder, free)
        names = port_names(workers=settings.workers, replicas=settings.replicas)
        ports = choose_ports(names, wanted=settings.wanted_ports(), last=state.read_ports())
        state.write_ports(ports)
        components = build_components(state, ports, environment=environment or {})
        supervisor = Supervisor(components, RunningRecords(state), display)
        running = RunningStack(components, ports, state)
        try:
            await supervisor.start(stop)
            if not stop.asked.is_set():
                if shared:
                    supervisor.records.publish(running.environment())
                on_ready(running)
                await supervisor.watch(stop)
        finally:
            await supervisor.stop(stop)
            state.clear_running()


@contextlib.contextmanager
def _named_obstacles() -> Iterator[None]:
    """Turn an error of the operating system, such as a missing permission, into one that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a timeout
            raise
        where = f": {error.filename}" if error.filename else ""
        raise StackError(f"{error.strerror or error}{where}.") from error


@contextlib.contextmanager
def running_stack(
    *,
    workers: int = 1,
    replicas: int = 1,
    environment: Mapping[str, str] | None = None,
    state: Path | None = None,
) -> Iterator[RunningStack]:
    """Run a complete stack on free ports for the length of the block, for tests and benchmarks.

    It is supervised as by `sage-local up`, so a worker that dies is restarted. The supervisor has its own thread, so
    the block can be synchronous or asynchronous code.

    Args:
        workers: Number of worker processes.
        replicas: Number of processes of each of ingest, embed and compare.
        environment: Settings for its services and its gateway, such as `{"SAGE_SWEEP_INTERVAL_SECONDS": "1"}`.
        state: Its state folder, kept afterwards; without it a temporary one.

    Raises:
        StackError: It could not start, or an essential component exited during the block.
    """
    with contextlib.ExitStack() as stack:
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sage-")))
        settings = StackSettings.on_free_ports(state, workers=workers, replicas=replicas)
        yield stack.enter_context(_in_thread(settings, environment or {}))


@contextlib.contextmanager
def _in_thread(settings: StackSettings, environment: Mapping[str, str]) -> Iterator[RunningStack]:
    ready: Future[RunningStack] = Future()
    ended: Future[None] = Future()
    loop = asyncio.new_event_loop()
    stop = StopRequest()

    def run() -> None:
        try:
            loop.run_until_complete(
                run_stack(settings, display=Display(), stop=stop, on_ready=ready.set_result, environment=environment)
            )
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)
            if not ready.done():
                ready.set_exception(error)

    thread = threading.Thread(target=run, name="sage-local")
    thread.start()
    try:
        running = ready.result()
        yield running
    finally:
        loop.call_soon_threadsafe(stop.asked.set)
        thread.join()
        loop.close()
    ended.result()
