"""Comparisons to draw and to write, as messages of the contract."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2
from sage_cli.show.comparison import Comparison, Film

CHANGED = compare_pb2.DIFFERENCE_KIND_CHANGED
ONLY_IN_OLD = compare_pb2.DIFFERENCE_KIND_ONLY_IN_A
ONLY_IN_NEW = compare_pb2.DIFFERENCE_KIND_ONLY_IN_B
NOT_COMPARED = compare_pb2.DIFFERENCE_KIND_NOT_COMPARED

Range = tuple[float, float]
# Each in seconds on a, seconds on b, length in seconds, distance.
Interval = tuple[float, float, float, float]


def frame_range(span: Range, rate: Fraction | None = Fraction(24)) -> compare_pb2.FrameRange:
    """Return a range in seconds with its frames."""
    start, end = span
    frames = [round(Fraction(seconds) * rate) for seconds in span] if rate else [0, 0]
    return compare_pb2.FrameRange(first_frame=frames[0], end_frame=frames[1], start_seconds=start, end_seconds=end)


def make_difference(
    kind: int,
    a: Range | None = None,
    b: Range | None = None,
    *,
    distance: float | None = None,
    rates: tuple[Fraction | None, Fraction | None] = (Fraction(24), Fraction(24)),
) -> compare_pb2.Difference:
    """Return a difference."""
    return compare_pb2.Difference(
        kind=kind,  # type: ignore[arg-type] # an enum value, or one of a newer server
        a=frame_range(a, rates[0]) if a else None,
        b=frame_range(b, rates[1]) if b else None,
        max_distance=distance,
        mean_distance=distance,
    )


def make_film(label: str, seconds: float, *, rate: Fraction | None = Fraction(24)) -> Film:
    """Return a film of some length."""
    media = media_pb2.Media(
        duration_seconds=seconds,
        display_width=640,
        display_height=360,
        audio_tracks=[media_pb2.AudioTrack(codec="aac", channels=2, layout="stereo")],
    )
    if rate:
        media.frame_rate.numerator, media.frame_rate.denominator = rate.numerator, rate.denominator
    return Film(label, media)


def make_track(
    *,
    name: str = "visual",
    threshold: float = 0.05,
    similarity_percent: float = 71.1,
    compared_count: int = 10,
    differing_count: int = 2,
    differences: Sequence[compare_pb2.Difference] | None = None,
    intervals: Sequence[Interval] | None = None,
    covered: tuple[Range | None, Range | None] = ((0.0, 20.0), (0.0, 22.5)),
) -> compare_pb2.TrackComparison:
    """Return a track that differs from 4 to 8 s and continues in the new film; arguments replace its fields."""
    if differences is None:
        differences = [
            make_difference(CHANGED, (4.0, 8.0), (4.0, 8.0), distance=0.4),
            make_difference(ONLY_IN_NEW, None, (20.0, 22.5)),
        ]
    if intervals is None:
        intervals = [(2.0 * i, 2.0 * i, 2.0, 0.4 if i in {2, 3} else 0.01) for i in range(10)]
    return compare_pb2.TrackComparison(
        name=name,
        similarity_percent=similarity_percent,
        a_covered=frame_range(covered[0]) if covered[0] else None,
        b_covered=frame_range(covered[1]) if covered[1] else None,
        time=compare_pb2.TimeComparison(
            threshold=threshold,
            compared_count=compared_count,
            differing_count=differing_count,
            differences=differences,
            series=compare_pb2.Series(
                a_start_seconds=[interval[0] for interval in intervals],
                b_start_seconds=[interval[1] for interval in intervals],
                length_seconds=[interval[2] for interval in intervals],
                distances=[interval[3] for interval in intervals],
            ),
        ),
    )


def make_comparison_of(
    *tracks: compare_pb2.TrackComparison,
    old: Film | None = None,
    new: Film | None = None,
    media_differences: Sequence[compare_pb2.MediaDifference] = (),
    not_compared: Sequence[compare_pb2.NotCompared] = (),
) -> Comparison:
    """Return a comparison of these tracks."""
    old, new = old or make_film("old.mp4", 20.0), new or make_film("new.mp4", 22.5)
    response = compare_pb2.CompareEmbeddingsResponse(
        mode=compare_pb2.COMPARE_MODE_TIME,
        metric=compare_pb2.METRIC_COSINE,
        model="local",
        a=compare_pb2.Side(embedding_id="embed_a", video_id="video_a", media=old.media),
        b=compare_pb2.Side(embedding_id="embed_b", video_id="video_b", media=new.media),
        tracks=tracks,
        media_differences=media_differences,
        not_compared=not_compared,
    )
    return Comparison(response, old, new, clip_seconds=2.0)


@pytest.fixture
def difference() -> Callable[..., compare_pb2.Difference]:
    """A call makes a difference."""
    return make_difference


@pytest.fixture
def track() -> Callable[..., compare_pb2.TrackComparison]:
    """A call makes what was found in one track."""
    return make_track


@pytest.fixture
def film() -> Callable[..., Film]:
    """A call makes one of the two films."""
    return make_film


@pytest.fixture
def make_comparison() -> Callable[..., Comparison]:
    """A call makes a comparison of 20 with 22.5 s.

    Arguments replace the films and the fields of the first track; `others` are further tracks.
    """

    def make(
        *,
        old: Film | None = None,
        new: Film | None = None,
        others: Sequence[compare_pb2.TrackComparison] = (),
        media_differences: Sequence[compare_pb2.MediaDifference] = (),
        not_compared: Sequence[compare_pb2.NotCompared] = (),
        **fields: object,
    ) -> Comparison:
        first = make_track(**fields)  # type: ignore[arg-type] # fields by name
        return make_comparison_of(
            first, *others, old=old, new=new, media_differences=media_differences, not_compared=not_compared
        )

    return make
