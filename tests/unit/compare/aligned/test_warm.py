import sys
from dataclasses import replace

import numpy as np
from sage_compare.aligned import kernels
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.warm import warm_up
from sage_fingerprint.codec import decode, encode
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import film


def compiled() -> dict[str, int]:
    """Return how often each kernel of each module was compiled."""
    modules = [module for name, module in sys.modules.items() if name.startswith(kernels.__package__)]
    return {
        f"{module.__name__}.{name}": len(one.signatures)
        for module in modules
        for name, one in vars(module).items()
        if hasattr(one, "signatures")
    }


def test_a_comparison_after_warm_up_compiles_nothing(encodes: tuple[Fingerprint, Fingerprint]) -> None:
    good, poor = encodes
    warm_up()
    before = compiled()
    assert before["sage_compare.aligned.viterbi._path"]
    assert before["sage_compare.aligned.crops._search"]
    new = film(poor, np.r_[0:100, 140:200, 130:140, 200:300:2, 300:480])
    # As the service reads them: numba has other types for arrays that are read-only.
    old, new = (replace(one, fingerprint=decode(encode(one.fingerprint))) for one in (film(good, np.arange(480)), new))
    align(old, new, Options())
    assert compiled() == before
