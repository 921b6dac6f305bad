"""The edit script: what was done to film a to make film b."""

from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray


class EditKind(Enum):
    """What was done to a range."""

    MATCHED = auto()
    CHANGED = auto()
    INSERTED = auto()
    DELETED = auto()
    MOVED = auto()


class ChangeKind(Enum):
    """What changed within a range that both films have."""

    REPLACED = auto()
    OVERLAY = auto()
    TEXT = auto()
    BLUR = auto()
    CROP = auto()
    GRADE = auto()
    MIRRORED = auto()
    NEGATIVE = auto()
    BLACK = auto()
    FROZEN = auto()
    FADE = auto()
    DISSOLVE = auto()
    RETIMED = auto()
    SOUND_REPLACED = auto()
    SOUND_SHIFTED = auto()
    SOUND_LEVEL = auto()
    SOUND_MISSING = auto()


class ChangeSide(Enum):
    """The film that has what a change adds."""

    A = auto()
    B = auto()


class NormalizationKind(Enum):
    """What was taken out before the films were compared."""

    BLACK_BARS = auto()
    FRAME_RATE_CONFORMED = auto()
    FRAME_RATE_CONVERTED = auto()
    TONE = auto()
    LOUDNESS = auto()
    END_FRAMES = auto()


class Sensitivity(Enum):
    """How small a change may be to be reported."""

    LOW = auto()
    NORMAL = auto()
    HIGH = auto()


@dataclass(frozen=True, order=True)
class Frames:
    """The frames ``[first, end)`` of one film."""

    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class Region:
    """A rectangle of the displayed picture in shares of its width and height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Change:
    """What changed within a range; see `sage.compare.v1.Change`."""

    kind: ChangeKind
    a: Frames
    b: Frames
    strength: float
    confidence: float = 1.0
    region: Region | None = None
    side: ChangeSide | None = None
    amount: float | None = None
    weak: bool = False


@dataclass(frozen=True)
class Edit:
    """A range of one or both films, and what was done to it; see `sage.compare.v1.Edit`."""

    kind: EditKind
    a: Frames | None
    b: Frames | None
    rate: float = 1.0
    confidence: float = 1.0
    changes: tuple[Change, ...] = ()
    repeats: Frames | None = None


@dataclass(frozen=True)
class Normalization:
    """A difference between the two files as a whole that was taken out."""

    kind: NormalizationKind
    a: str
    b: str


@dataclass(frozen=True)
class BurnIn:
    """A part of the picture that differs almost everywhere."""

    side: ChangeSide | None
    region: Region
    frame_share: float


@dataclass(frozen=True)
class Noise:
    """How much the same pictures differ because of the encoding, on the scale of `Change.strength`."""

    median: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True)
class EditScript:
    """What was done to a to make b; see `sage.compare.v1.EditScript`.

    The edits are in the order of b, with each DELETED one after the edit that it follows in a. They tile both films.
    """

    edits: tuple[Edit, ...]
    normalizations: tuple[Normalization, ...] = ()
    noise: Noise = field(default_factory=Noise)
    residuals: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    residual_step_frames: int = 1
    burn_ins: tuple[BurnIn, ...] = ()
