"""As whom a part runs."""

import os
import subprocess
from pathlib import Path

import pytest
from sage_local.privileges import launcher, owner_for

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@needs_root
def test_a_folder_keeps_its_owner(tmp_path: Path) -> None:
    """State that a normal user made is opened as that user; new state belongs to nobody."""
    os.chown(tmp_path, 1234, -1)
    assert owner_for(tmp_path) == 1234
    assert owner_for(tmp_path / "new") == owner_for(tmp_path / "newer")
    assert owner_for(tmp_path / "new") not in (0, None)


@needs_root
def test_a_checkout_below_a_closed_home_is_reached(tmp_path: Path) -> None:
    """A program that must not be root runs and writes below a folder that is closed to others."""
    home = tmp_path / "home"
    work = home / "work"
    work.mkdir(parents=True)
    home.chmod(0o700)
    user = owner_for(work / "new")
    assert user is not None
    os.chown(work, user, -1)
    file = work / "written"
    subprocess.run([*launcher(user_id=user, paths=(work,)), "touch", str(file)], check=True)
    assert file.stat().st_uid == user


@pytest.mark.skipif(os.geteuid() == 0, reason="root always has to become somebody else")
def test_a_normal_user_stays_itself(tmp_path: Path) -> None:
    """Nothing but root needs another user."""
    assert owner_for(tmp_path) is None
