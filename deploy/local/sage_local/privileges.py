"""What a child process may do, and that it ends when its supervisor does.

Both are the business of `setpriv`, which every Debian has (util-linux): it changes the user and asks the kernel for a
signal on the parent's death between fork and exec, where Python code would not be safe beside threads.
"""

import os
import pwd
import shutil
from pathlib import Path

from sage_local.errors import StackError

# Owns nothing and exists everywhere, so nothing has to be added to the machine.
_NOBODY = "nobody"


def owner_for(folder: Path) -> int | None:
    """Return the user who has to run a program that refuses to be root, or None where we are not root.

    A folder that exists keeps its owner, so state made by a normal user still opens under `sudo`.
    """
    if os.geteuid() != 0:
        return None
    if folder.exists() and (owner := folder.stat().st_uid) != 0:
        return owner
    return pwd.getpwnam(_NOBODY).pw_uid


def launcher(*, death_signal: str = "TERM", user_id: int | None = None, paths: tuple[Path, ...] = ()) -> list[str]:
    """Return what to put before a command: as whom it runs, and that it ends when its parent does.

    Args:
        death_signal: What the child gets when its parent is gone.
        user_id: The user to become; None stays.
        paths: What that user has to reach. Where a folder above them is closed to others, as a home folder often is,
            the child keeps the one capability that gets it through.

    Raises:
        StackError: The command has to run as another user and `setpriv` is not there.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if user_id is None:
            return []
        raise StackError(
            "PostgreSQL does not run as root, and setpriv is missing, which starts it as another user.",
            next_step="Install util-linux, or run this as a normal user.",
        )
    command = [setpriv, "--pdeathsig", death_signal]
    if user_id is not None:
        command += [f"--reuid={user_id}", f"--regid={_group_of(user_id)}", "--clear-groups"]
        if any(_is_closed(path) for path in paths):
            command += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [*command, "--"]


def _group_of(user_id: int) -> int:
    try:
        return pwd.getpwuid(user_id).pw_gid
    except KeyError:
        return user_id


def _is_closed(path: Path) -> bool:
    """Say whether a folder above `path` does not let others through."""
    return any(folder.exists() and not folder.stat().st_mode & 0o001 for folder in path.resolve().parents)
