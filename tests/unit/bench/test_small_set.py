"""A small set of pairs, compared without the stack: what `make bench-accuracy` measures does not fall."""

from pathlib import Path

import pytest
from accuracy.generate import CLASSES, make
from accuracy.metric import PairScore, score
from accuracy.predict import aligned
from accuracy.truth import read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BY_NAME = {of.name: of for of in CLASSES}


def measured(name: str, folder: Path) -> PairScore:
    """Return the score of a pair that is made from the sample film."""
    truth = read(make(folder, "sample", BY_NAME[name], 0))
    return score(truth, aligned(truth.old.path, truth.new.path).edits)


@pytest.mark.parametrize("name", ["insert-other", "replace-other", "subtitle"])
def test_edits_are_found_to_the_frame(name: str, tmp_path: Path) -> None:
    found = measured(name, tmp_path)
    assert found.diff_f1 >= 0.98
    assert found.typed_f1 >= 0.95
    assert found.event_f1[1] >= 0.9
    assert max(found.boundary_errors) <= 1
    assert found.mapped[1] >= 0.995 * found.mapped[0]
    assert all(region >= 0.6 for region in found.regions)


def test_most_of_nine_short_trims_are_found(tmp_path: Path) -> None:
    # Some of them lie in shots that hardly move, whose frames can hardly be told apart.
    found = measured("trims", tmp_path)
    assert found.diff_f1 >= 0.8
    assert found.event_f1[0] >= 0.6


def test_two_encodings_of_one_film_do_not_differ(tmp_path: Path) -> None:
    found = measured("reencode", tmp_path)
    assert found.extra_seconds == 0
    assert found.mapped[0] == found.mapped[1]
