"""The free space on the disk of the state folder."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sage_local.errors import StackError
from sage_local.state import StateInUseError

# Less than a typical film.
LITTLE_BYTES = 2 * 1024**3
# PostgreSQL needs more than this even to start.
_NONE_BYTES = 32 * 1024**2
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists())).free


@contextlib.contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Report whatever fails in the block because the disk is full as one error that says so.

    On a full disk everything fails in its own way: files cannot be written, PostgreSQL and SeaweedFS exit.

    Raises:
        StackError: The disk of the folder is full.
    """
    try:
        yield
    except StateInUseError:
        raise
    except Exception as error:
        free = free_bytes(folder)
        told = isinstance(error, OSError) and error.errno in _NO_SPACE
        if not told and free >= _NONE_BYTES and os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise StackError(
            f"The disk of {folder} is full: {free / 1e6:,.0f} MB are free.",
            next_step="Make room on it, or set SAGE_STATE or --state to a folder on another disk.",
        ) from error
