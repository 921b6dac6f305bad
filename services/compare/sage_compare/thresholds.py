"""The thresholds that are used where a request has none."""

import math

from sage_compare.model import Metric, Mode

# What a clip may differ by and still be the same, by mode, model and track, as cosine distance.
#
# `local`, `visual`, with 2 s clips, measured on three films of 204 to 480 lines: an H.264 re-encode at the same size
# moved no clip by more than 0.047 at crf 28 (median 0.004 to 0.015); at crf 33, or scaled to three quarters, the worst
# clips came to 0.08 to 0.11. A shot that was replaced in one half of its clip moved that by 0.097, replaced throughout
# by 0.24 and more. Small edits (a logo, a subtitle) lie below: no threshold on the vector of a whole clip tells them
# from encoding.
_COSINE: dict[tuple[Mode, str, str], float] = {
    (Mode.TIME, "local", "visual"): 0.07,
}
_COSINE_OF_OTHERS = 0.1


def default_threshold(mode: Mode, metric: Metric, *, model: str, track: str) -> float:
    """Return the threshold for a mode, metric, model and track.

    Both metrics mark the same clips: for vectors of length 1 the Euclidean distance is the root of twice the cosine
    distance, and so is its threshold.
    """
    cosine = _COSINE.get((mode, model, track), _COSINE_OF_OTHERS)
    return cosine if metric is Metric.COSINE else math.sqrt(2.0 * cosine)
