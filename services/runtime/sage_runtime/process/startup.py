"""How a process starts and stops: command lines (`python -m PACKAGE COMMAND`), signals, and memory settings."""

import argparse
import asyncio
import ctypes
import gc
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from sage_runtime.process.settings import fail

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024
_TRIM_THRESHOLD_BYTES = 64 * 1024 * 1024
_ARENAS = 2


@dataclass(frozen=True)
class Command:
    """A command without arguments; its settings come from the environment.

    Attributes:
        help: What it does, for `--help`.
        run: Runs it.
    """

    help: str
    run: Callable[[], None]


class CommandParser(argparse.ArgumentParser):
    """An argument parser that reports bad usage in one line on stderr and exits with code 2, as bad settings do."""

    def error(self, message: str) -> NoReturn:
        """See the base class."""
        usage = " ".join(self.format_usage().split())
        fail(f"{message} ({usage})")


def run_command(
    package: str, description: str, commands: Mapping[str, Command], arguments: Sequence[str] | None = None
) -> None:
    """Run the command that the command line names.

    Example:
        run_command("sage_ingest", "Stores videos.", {"serve": Command("serve until SIGTERM or SIGINT", serve)})

    Args:
        package: The package of the `__main__` module, such as `sage_ingest`.
        description: What the package is, for `--help`.
        commands: The commands by name.
        arguments: The command line without the program; that of the process by default.

    Raises:
        SystemExit: With code 2 on bad usage, 0 after `--help`.
    """
    parser = CommandParser(prog=f"python -m {package}", description=description)
    choices = parser.add_subparsers(dest="command", required=True, metavar="|".join(commands))
    for name, command in commands.items():
        choices.add_parser(name, help=command.help, description=command.help)
    commands[parser.parse_args(arguments).command].run()


def stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets. A second signal ends the process at once.

    Call it in the running event loop, once per process.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        stop.set()
        for one in signals:
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)

    for one in signals:
        loop.add_signal_handler(one, on_signal)
    return stop


def keep_freed_memory() -> bool:
    """Make glibc reuse freed blocks of up to 32 MiB instead of returning them to the kernel each time.

    Otherwise gRPC messages of 1 MiB and parts of 10 MiB are mapped, faulted in and unmapped one by one; reusing them
    gave 1.3 to 6 times the upload throughput at half the CPU. This has the effect of MALLOC_MMAP_THRESHOLD_ and
    MALLOC_TRIM_THRESHOLD_ in the environment, but for a running process: four parts of up to 12 MiB at a time cost
    10,751 page faults either way, and 1,236,715 without. Both settings are needed, or freed memory at the top of the
    heap is trimmed.

    All threads share two heaps. By default nearly every thread of gRPC and of a pool has its own and keeps megabytes
    in it that no other thread can use: 22 MB in total during four concurrent uploads.

    Returns:
        Whether the allocator accepted the settings. It does not if it is not glibc's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
        and mallopt(_M_ARENA_MAX, _ARENAS)
    )


def freeze_loaded_objects() -> None:
    """Exclude everything loaded so far from later garbage collections. Call it once, when the process is ready.

    A full collection visits every object and blocks the event loop meanwhile. The modules, generated messages
    and SDKs of embed's worker are 120,000 objects, which takes 70 ms on an otherwise idle processor; without them it
    takes well under a millisecond. They live until the process ends anyway.
    """
    gc.collect()
    gc.freeze()
