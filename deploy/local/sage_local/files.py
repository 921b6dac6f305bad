"""Folders and files that only the stack's user can read."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

OWNER_ONLY = 0o700
# The path of a Unix socket has at most 107 bytes (103 on macOS). A name in the folder has at most 12.
_MAX_SOCKET_FOLDER_BYTES = 90


def make_private(folder: Path, mode: int = OWNER_ONLY) -> None:
    """Create a folder, and missing ones above it, with these rights; an existing folder gets them too."""
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir(mode)
    folder.chmod(mode)


def write_private(file: Path, text: str) -> None:
    """Replace a file atomically with one that only its owner can read: some hold passwords."""
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as content:
        content.write(text)
    draft.replace(file)


def open_private(path: str, flags: int) -> int:
    """Open a file, created so that only its owner can read it: an `opener` for `open`."""
    return os.open(path, flags, 0o600)


def socket_folder(wanted: Path) -> Path:
    """Return a folder for Unix sockets that only its owner can enter.

    Args:
        wanted: The folder itself if its path is short enough. Otherwise a link to a temporary folder, which is used
            again as long as it exists.
    """
    if len(os.fsencode(wanted)) <= _MAX_SOCKET_FOLDER_BYTES:
        make_private(wanted)
        return wanted
    if wanted.is_symlink() and _is_private(target := wanted.readlink()):
        return target
    wanted.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="sage-"))
    wanted.symlink_to(folder)
    return folder


def remove_socket_folder(wanted: Path) -> None:
    """Remove the folder that `socket_folder` returned, with the sockets of killed processes."""
    if wanted.is_symlink():
        if _is_private(target := wanted.readlink()):
            shutil.rmtree(target)
        wanted.unlink()
    elif wanted.is_dir():
        shutil.rmtree(wanted)


def _is_private(folder: Path) -> bool:
    """Return whether this is a folder of ours, and not what another user has put in its place."""
    try:
        facts = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and stat.S_IMODE(facts.st_mode) == OWNER_ONLY
