"""Ctrl-C and its kin."""

import asyncio
import math
import signal
import time

from sage_local.stack import StopRequest

# One Ctrl-C may reach us twice: from the terminal, and from the `make` that passes it on.
_SAME_S = 0.5


def stop_on_signals(stop: StopRequest) -> None:
    """Let the first SIGINT, SIGTERM or SIGHUP (the terminal was closed) ask for a stop, and a later one hurry it."""
    loop = asyncio.get_running_loop()
    asked_at = -math.inf

    def on_signal() -> None:
        nonlocal asked_at
        if not stop.asked.is_set():
            asked_at = time.monotonic()
            stop.asked.set()
        elif time.monotonic() - asked_at > _SAME_S:
            stop.hurried.set()

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(one, on_signal)
