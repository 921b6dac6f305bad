"""The sample films match the edits in `samples/truth.json`."""

import json
from itertools import chain, pairwise
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


def frames_of(span):
    """Return a range in seconds as frames."""
    return range(*(round(seconds * TRUTH["frame_rate"]) for seconds in span))


@pytest.mark.slow
def test_cuts_differ_in_exactly_the_frames_of_the_edits():
    """Elsewhere there is only the noise of two encodings."""
    old, new = read_pictures("old.mp4"), read_pictures("new.mp4")
    assert (len(old), len(new)) == (TRUTH["old"]["frames"], TRUTH["new"]["frames"])
    difference = np.abs(old - new[: len(old)]).mean(axis=(1, 2))
    changed = [edit for edit in TRUTH["edits"] if edit["kind"] == "changed"]
    edited = set(chain.from_iterable(frames_of(edit["a"]) for edit in changed))
    assert all(edit["a"] == edit["b"] for edit in changed)
    assert {number for number, value in enumerate(difference) if value > 8} == edited
    (longer,) = (edit for edit in TRUTH["edits"] if edit["kind"] == "only_in_b")
    assert longer["b"] == [TRUTH["old"]["seconds"], TRUTH["new"]["seconds"]]


def test_a_clip_without_an_edit_lies_between_any_two():
    """On the grid of 2 s no two edits merge into one difference, so the demo shows each of them."""
    clips = [{frame // (2 * TRUTH["frame_rate"]) for frame in frames_of(edit["b"])} for edit in TRUTH["edits"]]
    assert all(max(before) + 1 < min(after) for before, after in pairwise(clips))


@pytest.mark.parametrize("side", ["old", "new"])
def test_samples_have_sound_and_little_weight(side):
    """The sound is AAC and as long as the picture; both files have less than 3 MB together."""
    with av.open(SAMPLES / TRUTH[side]["file"]) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.name == "aac"
        assert float(sound.duration * sound.time_base) == pytest.approx(TRUTH[side]["seconds"], abs=0.05)
    assert sum(path.stat().st_size for path in SAMPLES.glob("*.mp4")) < 3_000_000
