"""What the demo says of its own."""

import json

import pytest
from sage_local.demo import _show_truth
from sage_local.project import project_file


def test_true_edits_are_shown_in_the_notation_of_sage_diff(capsys: pytest.CaptureFixture[str]) -> None:
    """Timecodes count frames, so that they can be held beside what was found."""
    edits = [
        {"kind": "changed", "a": [2.5, 61.0], "b": [2.5, 61.0], "what": "another shot"},
        {"kind": "only_in_b", "a": None, "b": [20.0, 22.5], "what": "it goes on"},
    ]
    _show_truth({"frame_rate": 24, "edits": edits})
    shown = capsys.readouterr().out
    assert "00:00:02:12-00:01:01:00" in shown
    assert "only in new" in shown
    assert "00:00:20:00-00:00:22:12" in shown


def test_the_samples_have_what_the_demo_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Every edit that is written down beside the samples finds its way into the table."""
    truth = json.loads(project_file("samples/truth.json").read_text())
    _show_truth(truth)
    shown = capsys.readouterr().out
    assert all(edit["what"].split()[-1] in shown for edit in truth["edits"])
