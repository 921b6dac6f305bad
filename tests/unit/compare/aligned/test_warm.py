import numpy as np
from sage_compare.aligned import kernels
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.warm import warm_up
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import film


def compiled() -> dict[str, int]:
    return {name: len(one.signatures) for name, one in vars(kernels).items() if hasattr(one, "signatures")}


def test_a_comparison_after_warm_up_compiles_nothing(encodes: tuple[Fingerprint, Fingerprint]) -> None:
    good, poor = encodes
    warm_up()
    before = compiled()
    assert before["viterbi"]
    new = film(poor, np.r_[0:100, 140:200, 130:140, 200:300:2, 300:480])
    new.fingerprint.luma.setflags(write=False)
    align(film(good, np.arange(len(good))), new, Options())
    assert compiled() == before
