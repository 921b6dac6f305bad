"""What people see of a stack."""

import os
import sys
from pathlib import Path

import pytest
from sage_local.display import TerminalDisplay, relative
from sage_local.errors import StackError


def test_a_reader_that_is_gone_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed terminal or pipe keeps no stack from being stopped."""
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(os.dup(writer), "w", buffering=1) as stream:
        stream.write("nobody reads this\n")
    stream = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    display = TerminalDisplay()
    display.starting(["postgres"])
    display.started("postgres", 0.5)
    display.stopping()
    display.stopped()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_an_error_is_shown_with_its_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    """Both sentences are there, and brackets of a log are not taken for markup."""
    TerminalDisplay().failed(StackError("ingest ended.\n[error] no bucket", next_step="Its log: x"))
    shown = capsys.readouterr().err
    assert "[error] no bucket" in shown
    assert "Its log: x" in shown


def test_paths_are_as_people_would_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the current folder they are relative to it."""
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "state" / "logs") == "state/logs"
