"""Default thresholds."""

import math

import pytest
from sage_compare.model import Metric, Mode
from sage_compare.thresholds import default_threshold


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("model", ["local", "marengo3.0", ""])
def test_every_mode_and_model_has_a_default_for_both_metrics(mode, model):
    """Any model has a default within bounds, the Euclidean one the root of twice the cosine one."""
    cosine = default_threshold(mode, Metric.COSINE, model)
    assert 0 < cosine < 2
    assert default_threshold(mode, Metric.EUCLIDEAN, model) == pytest.approx(math.sqrt(2 * cosine))
