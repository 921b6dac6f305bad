"""What a confined process can still do."""

import subprocess
import sys

import pytest

_PROGRAM = """
import os, resource, socket, subprocess, threading
from sage_runtime.process.confined import confine, forbid_system_calls
confine(memory_bytes=1024**3, cpu_s=10)
assert forbid_system_calls()
try:
    {action}
except (OSError, MemoryError) as error:
    print(type(error).__name__)
else:
    print("done")
"""


def _try(action: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(action=action)], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    "action",
    [
        "open('/proc/self/environ')",
        "open(f'/proc/{os.getppid()}/environ')",
        "os.listdir('/')",
        "os.unlink('/nowhere')",
        "socket.socket()",
        "socket.socketpair()",
        "subprocess.run(['true'])",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    ],
)
def test_it_reaches_nothing_outside(action: str) -> None:
    assert _try(action) == "OSError"


@pytest.mark.parametrize(
    "action",
    [
        "bytes(100_000_000)",
        "threading.Thread(target=list).start()",
        "resource.setrlimit(resource.RLIMIT_CPU, (5, 10))",
    ],
)
def test_it_can_compute(action: str) -> None:
    assert _try(action) == "done"


def test_its_memory_is_bounded() -> None:
    assert _try("bytes(1024**3)") == "MemoryError"
