"""What people see while a stack runs."""

import os
import sys
from pathlib import Path

import pytest
from sage_local.display import TerminalDisplay, relative
from sage_local.errors import StackError


def test_a_closed_terminal_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(os.dup(writer), "w", buffering=1) as stream:
        stream.write("unread\n")
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
    TerminalDisplay().failed(StackError("ingest ended.\n[error] no bucket", next_step="Its log: x"))
    shown = capsys.readouterr().err
    assert "[error] no bucket" in shown
    assert "Its log: x" in shown


def test_paths_below_the_current_folder_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "state" / "logs") == "state/logs"
