"""A server beside which SAGE is measured, in a process of its own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def running_peer(script: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a script of this folder for the length of the block and yield its address.

    Args:
        script: Its name. It prints its port when it serves, and ends with its standard input.
        environment: Variables on top of ours.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(script))],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the server has no pipes")
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
