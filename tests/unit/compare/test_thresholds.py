"""Default thresholds."""

import math

import pytest
from sage_compare.model import Metric, Mode
from sage_compare.thresholds import default_threshold


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("model", ["local", "marengo3.0", ""])
@pytest.mark.parametrize("track", ["visual", "audio"])
def test_every_mode_model_and_track_has_a_default_for_both_metrics(mode, model, track):
    """Any track has a default within bounds, the Euclidean one the root of twice the cosine one."""
    cosine = default_threshold(mode, Metric.COSINE, model=model, track=track)
    assert 0 < cosine < 2
    assert default_threshold(mode, Metric.EUCLIDEAN, model=model, track=track) == pytest.approx(math.sqrt(2 * cosine))
