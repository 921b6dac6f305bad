"""What other users of this machine may open."""

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path


def open_to_others(path: Path) -> Iterator[Path]:
    """Yield what other users may open at a path whose parents they may enter: itself and what it contains.

    PostgreSQL's own folder, which belongs to another user if the stack runs as root, must be closed like the others.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return
    if not stat.S_ISDIR(mode):
        if mode & 0o077:
            yield path
        return
    if mode & 0o066:
        yield path
    if mode & 0o011:
        for child in path.iterdir():
            yield from open_to_others(child)


def tried_as_other_user(*paths: Path) -> list[str]:
    """Return what an unprivileged user may in fact open at these paths, for tests that run as root.

    PostgreSQL's data belongs to that user and is left out.
    """
    assert os.geteuid() == 0
    stranger = pwd.getpwnam("nobody")  # phrases: allow
    command = ["find", *map(str, paths), "(", "-user", str(stranger.pw_uid), "-prune", ")", "-o"]
    command += ["(", "-readable", "-o", "-writable", ")", "-print"]
    done = subprocess.run(
        command,
        user=stranger.pw_uid,
        group=stranger.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()
