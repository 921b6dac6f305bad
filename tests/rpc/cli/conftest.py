"""The `sage` command as a process, calling services in memory."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fakes.cli_services import FakeSage
from support.sage_command import Run

COMMAND = (sys.executable, "-m", "sage_cli")


@pytest.fixture
def fake() -> FakeSage:
    """The services, empty."""
    return FakeSage()


@pytest.fixture
async def address(fake: FakeSage) -> AsyncIterator[str]:
    """The address of the services."""
    async with fake.serve() as where:
        yield where


@pytest.fixture
def environ(address: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a command, without the developer's colours and addresses."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SAGE_ADDRESS": address, "PYTHONUTF8": "1"}


@pytest.fixture
def sage(environ: dict[str, str], tmp_path: Path) -> Callable[..., Awaitable[Run]]:
    """A call runs the command in an empty folder, with pipes for its streams; keywords extend its environment."""

    async def run(*arguments: str, **extra: str) -> Run:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            cwd=tmp_path,
            env=environ | extra,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Run(process.returncode or 0, out.decode(), err.decode())

    return run


@pytest.fixture
def sage_in_terminal(environ: dict[str, str], tmp_path: Path) -> Callable[..., Awaitable[Run]]:
    """A call runs the command in a terminal of `columns`; `out` has everything that appears on it."""

    async def run(*arguments: str, columns: int = 80, **extra: str) -> Run:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            cwd=tmp_path,
            env=environ | {"TERM": "xterm-256color"} | extra,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = await asyncio.to_thread(_read_all, ours)
        os.close(ours)
        return Run(await process.wait(), shown.decode(), "")

    return run


@pytest.fixture
def films(tmp_path: Path) -> tuple[str, str]:
    """Two files that differ, named relative to the folder of the command."""
    (tmp_path / "old.mp4").write_bytes(b"old" * 1_000_000)
    (tmp_path / "new.mp4").write_bytes(b"new" * 1_000_000)
    return "old.mp4", "new.mp4"


def _read_all(terminal: int) -> bytes:
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:
            # Linux raises EIO once the other end is closed.
            return shown
        if not chunk:
            return shown
        shown += chunk
