"""The state folder: what survives a restart, and the lock that keeps it to one stack at a time."""

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sage_local.errors import StackError


class State:
    """The state folder of a stack.

    Attributes:
        folder: The folder itself, absolute.
        logs: Folder of one log per part.
        postgres: PostgreSQL's data folder.
        s3: SeaweedFS' data folder.
        gateway_config: The gateway's configuration, filled in at each start.
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

    def log(self, part: str) -> Path:
        """Return where a part's output goes."""
        return self.logs / f"{part}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder to this process for the length of the block, making it where there is none.

        The kernel drops the lock with the process, however that ends.

        Raises:
            StackError: A stack runs on it, or it cannot be written.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            lock = self._lock.open("a+")
        except OSError as error:
            raise StackError(
                f"The state folder {self.folder} cannot be written: {error.strerror}.",
                next_step="Set SAGE_STATE or --state to a folder that can.",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise StackError(
                    f"A stack runs already on {self.folder} (pid {lock.read().strip() or 'unknown'}).",
                    next_step="Stop it there with Ctrl-C, or give this one another folder with --state and --port 0.",
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def wipe(self) -> None:
        """Remove everything that a stack has kept here, and nothing else."""
        for folder in (self.postgres, self.s3):
            if folder.exists():
                shutil.rmtree(folder)
        settings = (self._secrets, self._encryption_keys, self._tokens, self.gateway_config)
        kept = (*settings, self._ports, self._running)
        for file in (*self.logs.glob("*.log"), *kept):
            file.unlink(missing_ok=True)

    def secret(self, name: str) -> str:
        """Return a password, made when it is asked for first."""
        known: dict[str, str] = _read(self._secrets)
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            _write(self._secrets, known)
        return known[name]

    def encryption_keys(self) -> Path:
        """Return the file of what embed encrypts providers' keys with, made when it is asked for first."""
        if not self._encryption_keys.exists():
            _replace(self._encryption_keys, f"local:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        return self._encryption_keys

    def write_tokens(self, *lines: str) -> Path:
        """Write the file of the tokens that the stack's parts show each other, and return it."""
        _replace(self._tokens, "".join(f"{line}\n" for line in lines))
        return self._tokens

    def read_ports(self) -> dict[str, int]:
        """Return the ports of the last start by the name of their part."""
        return _read(self._ports)

    def write_ports(self, ports: dict[str, int]) -> None:
        """Remember the ports of this start."""
        _write(self._ports, ports)

    def read_running(self) -> dict[str, Any]:
        """Return what the last start wrote about itself; empty where it stopped in order."""
        return _read(self._running)

    def write_running(self, facts: dict[str, Any]) -> None:
        """Write down what runs, for the next start and for other commands."""
        _write(self._running, facts)

    def clear_running(self) -> None:
        """Say that nothing runs."""
        self._running.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return content if isinstance(content, dict) else {}


def _write(file: Path, content: dict[str, Any]) -> None:
    _replace(file, json.dumps(content, indent=1) + "\n")


def _replace(file: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone: there are passwords in some."""
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(file)
