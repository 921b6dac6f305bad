"""Default thresholds."""

import math

import pytest
from sage_compare.time_mode.compare import default_threshold
from sage_compare.time_mode.distance import Metric


@pytest.mark.parametrize("model", ["local", "marengo3.0", ""])
@pytest.mark.parametrize("track", ["visual", "audio", "transcription"])
def test_every_model_and_track_has_a_default_that_marks_the_same_for_both_metrics(model, track):
    cosine = default_threshold(Metric.COSINE, model=model, track=track)
    assert cosine == (0.07 if (model, track) == ("local", "visual") else 0.1)
    assert default_threshold(Metric.EUCLIDEAN, model=model, track=track) == pytest.approx(math.sqrt(2 * cosine))
