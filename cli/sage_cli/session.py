"""Running a command: the loop, the connection, signals, and how it ends."""

import asyncio
import contextlib
import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import grpc

from sage_cli.access import read_access
from sage_cli.client import Client
from sage_cli.errors import Trouble, explain, leaves
from sage_cli.terminal import Terminal, abandon_stdout

SAME_EXIT_CODE = 0
DIFFER_EXIT_CODE = 1
TROUBLE_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141
TERMINATED_EXIT_CODE = 143

Command = Callable[[Client], Awaitable[int | None]]


@dataclass(frozen=True)
class Session:
    """What every command has.

    Attributes:
        terminal: Where output goes.
        address: Where SAGE is.
        quiet: Whether to print trouble only.
    """

    terminal: Terminal
    address: str
    quiet: bool

    def run(self, command: Command) -> NoReturn:
        """Run a command over an open connection, then end the process with its exit code, 0 where it returns none."""
        terminated = False

        async def main() -> int | None:
            task = asyncio.current_task()

            def terminate() -> None:
                nonlocal terminated
                terminated = True
                if task is not None:
                    task.cancel()

            # Whoever stops this command with a signal wants its work stopped as well, as with Ctrl-C.
            with contextlib.suppress(NotImplementedError):  # Windows has no such signal.
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
            async with Client(self.address, read_access(os.environ)) as client:
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
            for trouble in self._troubles(error):
                self.terminal.complain(trouble)
            exit_code = TROUBLE_EXIT_CODE
        raise SystemExit(exit_code)

    def explain(self, error: BaseException) -> Trouble:
        """Return any error as trouble."""
        if isinstance(error, Trouble):
            return error
        if isinstance(error, grpc.RpcError):
            return explain(error, address=self.address)
        if isinstance(error, TimeoutError):
            return Trouble(
                f"Nothing was heard of SAGE at {self.address} for too long.", next_step="Look into its logs."
            )
        if isinstance(error, OSError):
            return Trouble(f"{error.filename or 'A file'}: {error.strerror or error}.")
        if os.environ.get("SAGE_DEBUG"):
            traceback.print_exception(error)
        return Trouble(
            f"This command broke: {type(error).__name__}: {error}.",
            next_step="That is a fault of sage. SAGE_DEBUG=1 shows where; please report it.",
        )

    def _troubles(self, error: BaseException) -> list[Trouble]:
        """Return what is to be said: each thing once, though both films may have met it."""
        troubles = {}
        for leaf in leaves(error):
            trouble = self.explain(leaf)
            troubles[trouble.message] = trouble
        return list(troubles.values())
