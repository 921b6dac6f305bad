"""The sample films match the edits in `samples/truth.json`."""

import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

SAMPLES = Path(__file__).parents[3] / "samples"
TRUTH = json.loads((SAMPLES / "truth.json").read_text())


def read_pictures(name):
    """Return every frame of a sample, small and grey."""
    with av.open(SAMPLES / name) as container:
        frames = container.decode(video=0)
        return np.stack([frame.reformat(64, 36, "gray").to_ndarray().astype(np.float32) for frame in frames])


def differing(old, new, edit):
    """Return the mean difference in each frame of an edit, inside its region and outside."""
    difference = np.abs(old[slice(*edit["a"])] - new[slice(*edit["b"])])
    (change,) = edit.get("changes", [{"region": None}])
    x, y, width, height = change["region"] or (0, 0, 1, 1)
    inside = np.zeros(difference.shape[1:], bool)
    inside[round(y * 36) : round((y + height) * 36), round(x * 64) : round((x + width) * 64)] = True
    outside = difference[:, ~inside].mean(axis=1) if not inside.all() else np.zeros(len(difference))
    return difference[:, inside].mean(axis=1), outside


@pytest.mark.slow
def test_cuts_differ_in_exactly_the_frames_of_the_edits():
    """Elsewhere there is only the noise of two encodings."""
    old, new = read_pictures("old.mp4"), read_pictures("new.mp4")
    assert (len(old), len(new)) == (TRUTH["old"]["frames"], TRUTH["new"]["frames"])
    for edit in TRUTH["edits"]:
        if edit["a"] is None:
            continue
        inside, outside = differing(old, new, edit)
        assert (inside > 8).tolist() == [edit["kind"] == "CHANGED"] * len(inside), edit
        assert outside.max() < 8, edit


@pytest.mark.parametrize(("side", "film"), [("a", "old"), ("b", "new")])
def test_edits_tile_both_cuts(side, film):
    ranges = sorted(edit[side] for edit in TRUTH["edits"] if edit[side])
    assert ranges[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert ranges[-1][1] == TRUTH[film]["frames"]


def test_samples_have_each_kind_of_edit_that_the_demo_shows():
    kinds = {edit["kind"] for edit in TRUTH["edits"]}
    assert kinds == {"MATCHED", "CHANGED", "INSERTED", "MOVED"}
    changes = {change["kind"] for edit in TRUTH["edits"] for change in edit.get("changes", ())}
    assert changes == {"REPLACED", "BLACK", "OVERLAY", "TEXT"}


@pytest.mark.parametrize("side", ["old", "new"])
def test_samples_have_sound_and_little_weight(side):
    """The sound is AAC and as long as the picture; both files have less than 3 MB together."""
    with av.open(SAMPLES / TRUTH[side]["file"]) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.name == "aac"
        assert float(sound.duration * sound.time_base) == pytest.approx(TRUTH[side]["seconds"], abs=0.05)
    assert sum(path.stat().st_size for path in SAMPLES.glob("*.mp4")) < 3_000_000
