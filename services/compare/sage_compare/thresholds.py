"""The thresholds that are used where a request has none."""

import math

from sage_compare.model import Metric, Mode

# What a clip may differ by and still be the same picture, by mode and model, as cosine distance. For `local`, a
# harmless re-encode (H.264, crf 33, 360p) of real footage moved a clip by up to 0.080, and an exchanged shot by several
# times that. Small edits (a logo, a subtitle) are below it: no threshold on the vector of a whole clip tells them from
# encoding noise.
_COSINE: dict[tuple[Mode, str], float] = {
    (Mode.TIME, "local"): 0.1,
}
_COSINE_OF_OTHER_MODELS = 0.1


def default_threshold(mode: Mode, metric: Metric, model: str) -> float:
    """Return the threshold for a mode, metric and model.

    Both metrics mark the same clips: for vectors of length 1 the Euclidean distance is the root of twice the cosine
    distance, and so is its threshold.
    """
    cosine = _COSINE.get((mode, model), _COSINE_OF_OTHER_MODELS)
    return cosine if metric is Metric.COSINE else math.sqrt(2.0 * cosine)
