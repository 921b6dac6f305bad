"""Comparisons to draw and to write."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from sage_cli.comparison import Comparison, Difference, Interval, Kind, Side, TimeRange, TrackComparison
from sage_cli.timecode import FrameRate


def make_side(label: str, seconds: float, *, rate: Fraction | None = Fraction(24)) -> Side:
    """Return a film of some length."""
    frame_rate = FrameRate(rate) if rate else None
    return Side(label, f"video_{label}", f"embed_{label}", seconds, frame_rate, 640, 360)


def make_track(**changes: object) -> TrackComparison:
    """Return a track that differs from 4 to 8 s and goes on in the new film; arguments replace its fields."""
    changed = TimeRange(4.0, 8.0)
    fields: dict[str, object] = {
        "track": "visual",
        "threshold": 0.05,
        "similarity_percent": 71.1,
        "compared_count": 10,
        "differing_count": 2,
        "differences": [
            Difference(Kind.CHANGED, changed, changed, 0.4, 0.35),
            Difference(Kind.ONLY_IN_NEW, None, TimeRange(20.0, 22.5)),
        ],
        "intervals": [Interval(2.0 * i, 2.0 * i, 2.0, 0.4 if i in {2, 3} else 0.01) for i in range(10)],
    }
    return TrackComparison(**{**fields, **changes})  # type: ignore[arg-type] # fields by name


@pytest.fixture
def track() -> Callable[..., TrackComparison]:
    """A call makes what was found in one track."""
    return make_track


@pytest.fixture
def make_comparison() -> Callable[..., Comparison]:
    """A call makes a comparison of 20 with 22.5 s; arguments replace its fields and those of its first track."""

    def make(**changes: object) -> Comparison:
        of_track = {name: changes.pop(name) for name in TrackComparison.__dataclass_fields__ if name in changes}
        fields: dict[str, object] = {
            "old": make_side("old.mp4", 20.0),
            "new": make_side("new.mp4", 22.5),
            "metric": "cosine",
            "model": "local",
            "clip_seconds": 2.0,
            "first": make_track(**of_track),
        }
        return Comparison(**{**fields, **changes})  # type: ignore[arg-type] # fields by name

    return make


@pytest.fixture
def side() -> Callable[..., Side]:
    """A call makes one side of a comparison."""
    return make_side
