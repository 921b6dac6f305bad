"""Running a command: the event loop, the connection, signals, and the exit code."""

import asyncio
import contextlib
import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import grpc

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError, explain, leaves
from sage_cli.api.sign_in import read_credentials
from sage_cli.show.terminal import Terminal, abandon_stdout

SAME_EXIT_CODE = 0
DIFFER_EXIT_CODE = 1
TROUBLE_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141
TERMINATED_EXIT_CODE = 143

Command = Callable[[Client], Awaitable[int | None]]


@dataclass(frozen=True)
class Session:
    """The environment of every command.

    Attributes:
        terminal: Where output goes.
        address: The address of SAGE.
        quiet: Whether to print no progress and no report.
    """

    terminal: Terminal
    address: str
    quiet: bool

    def run(self, command: Command) -> NoReturn:
        """Run a command over an open connection, then end the process with the exit code that it returns; None is 0."""
        terminated = False

        async def main() -> int | None:
            task = asyncio.current_task()

            def terminate() -> None:
                nonlocal terminated
                terminated = True
                if task is not None:
                    task.cancel()

            # SIGTERM cancels the work that was started, as Ctrl-C does.
            with contextlib.suppress(NotImplementedError):  # Windows has no such signal.
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
            async with Client(self.address, read_credentials(os.environ)) as client:
                return await command(client)

        try:
            exit_code = asyncio.run(main()) or SAME_EXIT_CODE
        except KeyboardInterrupt:
            exit_code = INTERRUPTED_EXIT_CODE
        except asyncio.CancelledError:
            exit_code = TERMINATED_EXIT_CODE if terminated else INTERRUPTED_EXIT_CODE
        except BrokenPipeError:
            abandon_stdout()
            exit_code = BROKEN_PIPE_EXIT_CODE
        except Exception as error:
            # Both films may have failed with the same error; it is printed once.
            explained = {found.message: found for found in map(self.explain, leaves(error))}
            for found in explained.values():
                self.terminal.error(found)
            exit_code = TROUBLE_EXIT_CODE
        raise SystemExit(exit_code)

    def explain(self, error: BaseException) -> CommandError:
        """Return this command's error for any exception."""
        if isinstance(error, CommandError):
            return error
        if isinstance(error, grpc.RpcError):
            return explain(error, address=self.address)
        if isinstance(error, TimeoutError):
            return CommandError(f"Timed out waiting for SAGE at {self.address}.", next_step="Check the server's logs.")
        if isinstance(error, OSError):
            return CommandError(f"{error.filename or 'A file'}: {error.strerror or error}.")
        if os.environ.get("SAGE_DEBUG"):
            traceback.print_exception(error)
        return CommandError(
            f"Unexpected error: {type(error).__name__}: {error}.",
            next_step="This is a bug in sage; please report it. SAGE_DEBUG=1 shows the traceback.",
        )
