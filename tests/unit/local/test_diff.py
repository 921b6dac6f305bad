"""What the demo shows in addition to the diff."""

import json

import pytest
from sage_local.diff import _show_truth, project_file


def test_true_edits_are_shown_with_timecodes_that_count_frames(capsys: pytest.CaptureFixture[str]) -> None:
    edits = [
        {"kind": "MATCHED", "a": [0, 60], "b": [0, 60]},
        {"kind": "CHANGED", "a": [60, 1464], "b": [60, 1464], "what": "another shot"},
        {"kind": "INSERTED", "a": None, "b": [480, 540], "what": "a longer end"},
    ]
    _show_truth({"frame_rate": 24, "edits": edits})
    shown = capsys.readouterr().out
    assert "00:00:02:12-00:01:01:00" in shown
    assert "+ inserted" in shown
    assert "matched" not in shown
    assert "00:00:20:00-00:00:22:12" in shown


def test_every_edit_of_the_samples_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    truth = json.loads(project_file("samples/truth.json").read_text())
    _show_truth(truth)
    shown = capsys.readouterr().out
    assert all(edit["what"].split()[-1] in shown for edit in truth["edits"] if edit["kind"] != "MATCHED")
