from pathlib import Path

import pytest
from sage_fingerprint.film import fingerprint_file
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import encode

SAMPLE = Path(__file__).parents[4] / "samples" / "old.mp4"


@pytest.fixture(scope="session")
def encodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fingerprint, Fingerprint]:
    """Two encodes of one film: a good one, and a small MPEG-4 one."""
    folder = tmp_path_factory.mktemp("encodes")
    good = encode(SAMPLE, folder / "good.mp4", "libx264", {"crf": "18", "preset": "ultrafast"}, 640, 360)
    poor = encode(SAMPLE, folder / "poor.mp4", "mpeg4", {"b": "400000", "g": "100"}, 426, 240)
    return fingerprint_file(good), fingerprint_file(poor)
