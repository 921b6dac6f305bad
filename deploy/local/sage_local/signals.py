"""Ctrl-C and its kin."""

import asyncio
import signal

from sage_local.stack import StopRequest


def stop_on_signals(stop: StopRequest) -> None:
    """Let the first SIGINT, SIGTERM or SIGHUP (the terminal was closed) ask for a stop, and the next one hurry it."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (stop.hurried if stop.asked.is_set() else stop.asked).set()

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(one, on_signal)
