"""The state folder."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sage_local.errors import StackError
from sage_local.state import State


def test_a_second_stack_is_refused(tmp_path: Path) -> None:
    """The error names the folder and the process that holds it."""
    with State(tmp_path).locked(), pytest.raises(StackError) as caught, State(tmp_path).locked():
        pass
    assert str(tmp_path) in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert "--state" in caught.value.next_step


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """A holder that is killed keeps nobody out."""
    code = (
        "import os, signal, sys; from pathlib import Path; from sage_local.state import State\n"
        "with State(Path(sys.argv[1])).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode < 0
    with State(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_made_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    """It says which folder and how to choose another."""
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be written") as caught, State(tmp_path / "file" / "state").locked():
        pass
    assert "SAGE_STATE" in caught.value.next_step


def test_secrets_are_made_once_and_kept_from_others(tmp_path: Path) -> None:
    """They stay the same over a restart, differ from each other, and only the owner reads them."""
    first = State(tmp_path).secret("postgres")
    assert State(tmp_path).secret("postgres") == first
    assert State(tmp_path).secret("s3") != first
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


def test_wiping_spares_what_a_stack_did_not_put_there(tmp_path: Path) -> None:
    """A folder that was named by mistake keeps everything that is not ours."""
    state = State(tmp_path)
    with state.locked():
        state.secret("postgres")
        (state.s3 / "volumes").mkdir(parents=True)
        (tmp_path / "thesis.txt").write_text("years of work")
        state.wipe()
        assert not state.s3.exists()
        assert not (tmp_path / "secrets.json").exists()
        assert (tmp_path / "thesis.txt").exists()


def test_what_keys_are_encrypted_with_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    """The file has one key of 32 bytes in embed's form, stays the same, is its owner's alone, and goes with a wipe."""
    file = State(tmp_path).encryption_keys()
    text = file.read_text()
    key_id, _, encoded = text.strip().partition(":")
    assert (key_id, len(base64.b64decode(encoded))) == ("local", 32)
    assert State(tmp_path).encryption_keys().read_text() == text
    assert file.stat().st_mode & 0o077 == 0
    state = State(tmp_path)
    with state.locked():
        state.wipe()
    assert not file.exists()
