"""The state folder: persistent state, the processes that use it, and the lock that restricts it to one stack."""

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from sage_local.errors import StackError
from sage_local.files import OWNER_ONLY, make_private, open_private, remove_socket_folder, socket_folder, write_private
from sage_local.process import Process

# The kernel counts a process's start in ticks of 10 ms since boot, and reports the boot time in whole seconds: if the
# clock was adjusted in between, however slightly, the same start is reported a second earlier or later.
_CREATE_TIME_TOLERANCE_S = 1.5
_POLL_S = 0.05


class StateInUseError(StackError):
    """A stack is already running on the state folder."""


class State:
    """The state folder of a stack.

    Attributes:
        folder: The folder itself, absolute.
        logs: Folder with one log per component.
        postgres: PostgreSQL's data folder.
        s3: SeaweedFS's data folder.
        gateway_config: The gateway's configuration, rendered at each start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self.postgres = self.folder / "postgres"
        self.s3 = self.folder / "s3"
        self.gateway_config = self.folder / "gateway.yaml"
        self._lock = self.folder / "lock"
        self._secrets = self.folder / "secrets.json"
        self._encryption_keys = self.folder / "key-encryption-keys"
        self._tokens = self.folder / "tokens"
        self._ports = self.folder / "ports.json"
        self._running = self.folder / "running.json"
        self._sockets = self.folder / "sockets"

    def log(self, component: str) -> Path:
        """Return the log file of a component."""
        return self.logs / f"{component}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for the length of the block, creating it if necessary.

        The kernel releases the lock when the process ends, for whatever reason.

        Raises:
            StateInUseError: A stack is running on it.
            StackError: It cannot be written.
        """
        try:
            self._keep_others_out()
            lock = open(self._lock, "a+", opener=open_private)  # noqa: SIM115 -- Path.open has no opener
        except OSError as error:
            raise StackError(
                f"Cannot write to the state folder {self.folder}: {error.strerror}.",
                next_step="Set SAGE_STATE or --state to another folder.",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise StateInUseError(
                    f"A stack is already running on {self.folder} (pid {lock.read().strip() or 'unknown'}).",
                    next_step="Stop that one with Ctrl-C, or set SAGE_STATE and SAGE_GATEWAY_PORT=0 for this one.",
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            try:
                yield
            finally:
                remove_socket_folder(self._sockets)

    def _keep_others_out(self) -> None:
        """Create the folder, and let no other user read what is in it, whichever rights it had before.

        Only a folder that is clearly a state folder gets other rights itself: it could be someone's home.

        Raises:
            StackError: Any user of this machine can write to it.
        """
        if not self.folder.exists():
            make_private(self.folder, _mode_for(os.geteuid()))
        facts = self.folder.stat()
        if facts.st_mode & stat.S_IWOTH and any(self.folder.iterdir()):
            raise StackError(
                f"Every user of this machine can write to {self.folder}, so it cannot be the state folder.",
                next_step=f"Set SAGE_STATE or --state to another one. If it is yours alone: chmod 700 {self.folder}",
            )
        self.logs.mkdir(mode=OWNER_ONLY, exist_ok=True)
        others = [one for one in self.folder.iterdir() if one != self.logs]
        if os.geteuid() in (0, facts.st_uid) and (self._lock in others or not others):
            self.folder.chmod(_mode_for(facts.st_uid))
            self.logs.chmod(OWNER_ONLY)
            for file in (*self.logs.iterdir(), *self._files(), self._lock):
                if file.is_file():
                    file.chmod(0o600)

    def wipe(self) -> None:
        """Remove everything that a stack has written here, and nothing else."""
        for folder in (self.postgres, self.s3):
            if folder.exists():
                shutil.rmtree(folder)
        for file in (*self.logs.glob("*.log"), *self.logs.glob("*.log.1"), *self._files()):
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        settings = [self._secrets, self._encryption_keys, self._tokens, self.gateway_config]
        return [*settings, self._ports, self._running]

    def sockets(self) -> Path:
        """Return the folder for Unix sockets. It exists until the lock is released."""
        return socket_folder(self._sockets)

    def secret(self, name: str) -> str:
        """Return a password, generated when it is first requested."""
        known: dict[str, str] = _read(self._secrets)
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            _write(self._secrets, known)
        return known[name]

    def encryption_keys(self) -> Path:
        """Return the file with the key that embed encrypts providers' keys with, generated when first requested."""
        if not self._encryption_keys.exists():
            write_private(self._encryption_keys, f"local:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        return self._encryption_keys

    def write_tokens(self, *lines: str) -> Path:
        """Write the file of the tokens that components authenticate to each other with, and return its path."""
        write_private(self._tokens, "".join(f"{line}\n" for line in lines))
        return self._tokens

    def read_ports(self) -> dict[str, int]:
        """Return the ports of the last start by component."""
        return _read(self._ports)

    def write_ports(self, ports: dict[str, int]) -> None:
        """Remember the ports of this start."""
        _write(self._ports, ports)

    def read_running(self) -> dict[str, Any]:
        """Return the record of the last start; empty if that stack stopped cleanly."""
        return _read(self._running)

    def write_running(self, facts: dict[str, Any]) -> None:
        """Record the running processes, for the next start and for other commands."""
        _write(self._running, facts)

    def clear_running(self) -> None:
        """Record that nothing is running."""
        self._running.unlink(missing_ok=True)


@dataclass(frozen=True)
class Record:
    """One process that was started. A pid alone may now belong to another process, hence the start time."""

    name: str
    pid: int
    create_time: float
    stop_signal: int

    def find(self) -> psutil.Process | None:
        """Return the process if it is still running."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.create_time) < _CREATE_TIME_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def find_group(self) -> list[psutil.Process]:
        """Return the running members of its process group: the process itself and those that it started.

        As long as one member of a group lives, the kernel does not reuse the group's number.
        """
        group = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
                younger = process.create_time() >= self.create_time - _CREATE_TIME_TOLERANCE_S
                alive = process.status() != psutil.STATUS_ZOMBIE
                if os.getpgid(process.pid) == self.pid and younger and alive:
                    group.append(process)
        if any(process.pid == self.pid for process in group) and self.find() is None:
            return []  # the pid was reused by a process that leads a group
        return group


class RunningRecords:
    """The processes of a running stack, recorded in its state folder as they start."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._records: dict[str, Record] = {}
        self._facts: dict[str, Any] = {}

    def add(self, process: Process) -> None:
        """Record a process that has just started, replacing an earlier one of the same name."""
        record = Record(process.name, process.pid, process.create_time, int(process.stop_signal))
        self._records[process.name] = record
        self._write()

    def publish(self, facts: dict[str, Any]) -> None:
        """Publish the address and other details of the stack, now ready, to other commands."""
        self._facts = facts
        self._write()

    def _write(self) -> None:
        own = Record("supervisor", os.getpid(), psutil.Process().create_time(), int(signal.SIGTERM))
        self._state.write_running(
            {
                "supervisor": asdict(own),
                "processes": [asdict(record) for record in self._records.values()],
                "facts": self._facts,
            }
        )


async def end_leftovers(state: State, *, grace_s: float = 5.0) -> list[str]:
    """Stop processes that a killed stack left running, and return their components' names.

    Call it with the state folder locked, so that these cannot belong to a live stack.

    Args:
        state: The folder that the stack ran on.
        grace_s: How long its processes may take to shut down before they are killed.
    """
    records = [Record(**record) for record in state.read_running().get("processes", [])]
    found = {record: record.find_group() for record in records}
    for record, group in found.items():
        for process in group:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(record.stop_signal)
    everything = [process for group in found.values() for process in group]
    await _wait_for_exit(everything, timeout_s=grace_s)
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    await _wait_for_exit(everything, timeout_s=grace_s)
    state.clear_running()
    return [record.name for record, group in found.items() if group]


def find_running(state: State) -> dict[str, Any] | None:
    """Return the published details of the stack on a state folder, or `None` if no stack is ready on it."""
    running = state.read_running()
    if "supervisor" not in running or Record(**running["supervisor"]).find() is None:
        return None
    facts: dict[str, Any] = running["facts"]
    return facts or None


async def _wait_for_exit(processes: list[psutil.Process], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(map(_runs, processes)) and time.monotonic() < deadline:  # noqa: ASYNC110 -- no event signals their exit
        await asyncio.sleep(_POLL_S)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _mode_for(owner: int) -> int:
    """Return the rights of a state folder. PostgreSQL, which never runs as root, passes through root's to its data."""
    return 0o711 if owner == 0 else OWNER_ONLY


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StackError(
            f"Cannot read {file}: {(error.strerror or str(error)).lower()}.",
            next_step="Run this as the user who started the stack, or set SAGE_STATE to another folder.",
        ) from error
    return content if isinstance(content, dict) else {}


def _write(file: Path, content: dict[str, Any]) -> None:
    write_private(file, json.dumps(content, indent=1) + "\n")
