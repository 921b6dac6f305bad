"""What the alignment reads, and how it is asked to work."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from sage_fingerprint.model import Fingerprint

from sage_compare.aligned.script import Region, Sensitivity


@dataclass(frozen=True)
class Film:
    """One of the two films.

    Attributes:
        fingerprint: Its fingerprint.
        frame_rate: Frames per second, the average if it varies; `None` if unknown.
        active: The picture inside its black bars; `None` if it has none, or it is unknown.
        dynamic_range: `SDR`, `PQ` or `HLG`.
    """

    fingerprint: Fingerprint
    frame_rate: Fraction | None = None
    active: Region | None = None
    dynamic_range: str = "SDR"


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        sensitivity: How small a change may be to be reported.
        min_strength: Changes with at least this strength are reported; `None`: as `sensitivity` says.
        include_weak_changes: Whether changes that are weaker are returned too, marked as weak.
        ignored_a: Parts of the picture of a that are not compared.
        ignored_b: Parts of the picture of b that are not compared.
    """

    sensitivity: Sensitivity = Sensitivity.NORMAL
    min_strength: float | None = None
    include_weak_changes: bool = False
    ignored_a: tuple[Region, ...] = ()
    ignored_b: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """Frames of a and b that belong together, in the order of b and without a jump.

    Attributes:
        a: Frame numbers in a, int32, never descending.
        b: Frame numbers in b, int32, consecutive; as many as in `a`.
    """

    a: NDArray[np.int32]
    b: NDArray[np.int32]
