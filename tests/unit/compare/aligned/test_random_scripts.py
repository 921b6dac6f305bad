import numpy as np
import pytest
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Options
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import black, count, edit, film, joined

SCRIPTS = 200


def unrelated(frames: int) -> Fingerprint:
    """A film of shots that drift, none of them in another film."""
    random = np.random.default_rng(7)
    cells = []
    for _ in range(0, frames, 40):
        shot = random.integers(30, 220, (6, 10)).repeat(4, 0).repeat(4, 1)[:, :40]
        cells += [np.roll(shot, step // 4, 1)[3:21, 4:36] for step in range(40)]
    luma = np.array(cells, np.uint8)[:frames]
    dark = black(frames)
    return Fingerprint(luma, np.full_like(luma, 5), dark.chroma, dark.frame_seconds, dark.duration_seconds)


@pytest.mark.timeout(600)
def test_random_scripts_are_found_to_the_frame(encodes: tuple[Fingerprint, Fingerprint]) -> None:
    good, poor = encodes
    luma = good.luma.astype(np.float32)
    steps = np.abs(np.diff(luma, axis=0, prepend=luma[:1])).mean((1, 2))
    moving = np.array([steps[max(k - 3, 0) : k + 4].min() > 0.6 for k in range(len(steps))])
    assert moving.mean() > 0.3
    other = unrelated(400)
    old = film(good, np.arange(len(good)))
    pictures = joined(poor, other, black(480))
    common = either = 0
    errors: list[int] = []
    missed = []
    for seed in range(SCRIPTS):
        truth = edit(np.random.default_rng(seed), moving, len(other))
        counts = count(align(old, film(pictures, truth.frames), Options()), truth)
        common, either = common + counts.common, either + counts.either
        errors += counts.errors
        if counts.common < counts.either or any(counts.errors):
            missed.append((seed, counts.common, counts.either, counts.errors, truth.script))
    report = "\n".join(map(str, missed))
    assert common / either >= 0.99, report
    assert np.percentile(errors, 95) == 0, report
