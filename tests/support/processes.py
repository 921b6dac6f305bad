"""Observing processes."""

import psutil


def runs(pid: int) -> bool:
    """Return whether a process exists and is no zombie. It may disappear at any time, even during this call."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
