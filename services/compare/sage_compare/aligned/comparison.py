"""An edit script with what a client needs to show it: times, similarity and the limit that was used."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sage_compare.aligned.inputs import Film
from sage_compare.aligned.script import EditKind, EditScript, Frames

# One entry of the series takes four bytes of a message that must stay below 4 MiB.
MAX_RESIDUALS = 100_000


@dataclass(frozen=True)
class FilmTimes:
    """When the frames of a film are shown.

    Attributes:
        starts: Start of each frame in seconds, ascending, shape ``(frames,)``.
        duration: End of the last frame.
    """

    starts: NDArray[np.float64]
    duration: float

    @classmethod
    def of(cls, film: Film) -> "FilmTimes":
        """Return the times of a film."""
        return cls(film.fingerprint.frame_seconds, film.fingerprint.duration_seconds)

    def at(self, frame: int) -> float:
        """Return the start of a frame; the end of the film for the frame after the last one."""
        return float(self.starts[frame]) if frame < len(self.starts) else self.duration

    def length(self, frames: Frames) -> float:
        """Return the length of a range in seconds."""
        return self.at(frames.end) - self.at(frames.first)

    @property
    def whole(self) -> Frames:
        """The whole film."""
        return Frames(0, len(self.starts))


@dataclass(frozen=True)
class AlignedComparison:
    """What was done to one film to make the other.

    Attributes:
        script: The edit script.
        a: Times of film a.
        b: Times of film b.
        min_strength: The strength from which a change is reported.
        semantic_distances: For each edit, the distance between the embeddings of its two ranges; `None` if unknown.
    """

    script: EditScript
    a: FilmTimes
    b: FilmTimes
    min_strength: float
    semantic_distances: tuple[float | None, ...] = field(default=())

    @property
    def similarity_percent(self) -> float:
        """100 times the length of what matches in both films, divided by the length of both films."""
        edits = self.script.edits
        if all(edit.kind is EditKind.MATCHED for edit in edits):
            return 100.0
        matched = sum(
            times.length(frames)
            for edit in edits
            if edit.kind is EditKind.MATCHED
            for times, frames in ((self.a, edit.a), (self.b, edit.b))
            if frames is not None
        )
        return min(100.0 * matched / (self.a.duration + self.b.duration), math.nextafter(100.0, 0.0))


def with_bounded_residuals(script: EditScript) -> EditScript:
    """Return a script with at most `MAX_RESIDUALS` residuals: the largest of each step."""
    residuals = script.residuals
    factor = -(-len(residuals) // MAX_RESIDUALS)
    if factor <= 1:
        return script
    padded = np.full(-(-len(residuals) // factor) * factor, -1, np.float32)
    padded[: len(residuals)] = residuals
    return replace(
        script,
        residuals=padded.reshape(-1, factor).max(axis=1),
        residual_step_frames=script.residual_step_frames * factor,
    )
