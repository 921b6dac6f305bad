"""The reader that docs/fingerprint.md shows reads what is written."""

import re
from pathlib import Path

import numpy as np
from sage_fingerprint.codec import encode
from sage_fingerprint.model import Fingerprint

PAGE = Path(__file__).parents[3] / "docs" / "fingerprint.md"


def test_the_documented_reader_works() -> None:
    chance = np.random.default_rng(5)
    fingerprint = Fingerprint(
        chance.integers(0, 256, (300, 18, 32), np.uint8),
        chance.integers(0, 256, (300, 18, 32), np.uint8),
        chance.integers(0, 256, (300, 2, 9, 16), np.uint8),
        np.arange(300) / 20,
        15.0,
        chance.integers(0, 256, (375, 16), np.uint8),
    )
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert np.array_equal(names["read_luma"](b"".join(encode(fingerprint))), fingerprint.luma)
