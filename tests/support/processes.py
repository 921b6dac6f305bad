"""Looking at processes that others end."""

import psutil


def runs(pid: int) -> bool:
    """Say whether a process is there and has not ended. It may be gone at any moment, in the middle of this too."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
