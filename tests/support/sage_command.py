"""The `sage` command as a process."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    def word(self) -> str:
        """Return the first word of its only line of output. The command must have succeeded."""
        assert self.code == 0, self.err
        (line,) = self.out.splitlines()
        return line.split()[0]


class Sage:
    """Runs the command against one gateway.

    Args:
        address: HOST:PORT of the gateway.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command and return its process."""
        return await asyncio.create_subprocess_exec(
            *_COMMAND,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SAGE_ADDRESS": self.address},
        )

    async def __call__(self, *arguments: str, stdin: str = "") -> Run:
        """Run a command with this standard input and wait for it."""
        process = await self.begin(*arguments)
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Run(process.returncode, out.decode(), err.decode())


_COMMAND: Sequence[str] = (sys.executable, "-m", "sage_cli")
