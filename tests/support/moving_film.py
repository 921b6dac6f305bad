"""A film in which every frame differs from the last one, for tests of held pictures and other speeds."""

import numpy as np
from sage_compare.aligned.inputs import Film
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import black, film


def moving(pauses: tuple[tuple[int, int], ...] = ()) -> Fingerprint:
    """Six shots of 60 frames that move to the side, and stand still in `pauses`."""
    random = np.random.default_rng(7)
    luma = []
    for _ in range(6):
        picture = random.integers(30, 220, (18, 64)).astype(np.float64)
        for _ in range(3):
            picture = (picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1)) / 3
        picture = 128 + 2 * (picture - picture.mean())
        at = 0.0
        for _ in range(60):
            whole = int(at)
            part = at - whole
            luma.append((1 - part) * picture[:, whole : whole + 32] + part * picture[:, whole + 1 : whole + 33])
            still = any(first <= len(luma) < end for first, end in pauses)
            at += 0.0 if still else 0.25
    pictures = np.array(luma).astype(np.uint8)
    plain = black(len(pictures))
    return Fingerprint(pictures, np.full_like(pictures, 6), plain.chroma, plain.frame_seconds, plain.duration_seconds)


MOVING = moving()
WHOLE = film(MOVING, np.arange(len(MOVING)))


def with_noise(one: Film, seed: int, most: int = 1) -> Film:
    """The film as another encode of it."""
    luma = one.fingerprint.luma.astype(np.int16)
    luma = luma + np.random.default_rng(seed).integers(0, most + 1, luma.shape[1:])
    old = one.fingerprint
    return Film(Fingerprint(luma.astype(np.uint8), old.texture, old.chroma, old.frame_seconds, old.duration_seconds))
