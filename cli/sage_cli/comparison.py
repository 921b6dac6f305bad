"""A comparison as this client shows it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.timecode import FrameRate, clock, timecode


class Kind(enum.Enum):
    """What kind of difference, in the words of the terminal."""

    CHANGED = "changed"
    ONLY_IN_OLD = "only in old"
    ONLY_IN_NEW = "only in new"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class TimeRange:
    """A half-open range of a film's timeline, in seconds."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Side:
    """One of the two films.

    Attributes:
        label: What to call it: the path that was given, or the name that it was uploaded under.
        video_id: The video.
        embedding_id: The embedding that was compared.
        duration_seconds: Its length.
        frame_rate: Its frame rate. None where the video is deleted and its embedding is all that is left.
        width: Pixels as stored. 0 where not known.
        height: Pixels as stored. 0 where not known.
    """

    label: str
    video_id: str
    embedding_id: str
    duration_seconds: float
    frame_rate: FrameRate | None
    width: int = 0
    height: int = 0

    def time_name(self, seconds: float) -> str:
        """Return the timecode of a time in this film, or clock time where its frame rate has none."""
        rate = self.frame_rate
        return timecode(seconds, rate) if rate and rate.has_timecode else clock(seconds)


@dataclass(frozen=True)
class Difference:
    """A place where the two differ. A range is None on the side that does not have it."""

    kind: Kind
    old: TimeRange | None
    new: TimeRange | None
    max_distance: float | None = None
    mean_distance: float | None = None


@dataclass(frozen=True)
class Interval:
    """A stretch that was compared, and its distance."""

    old_start_seconds: float
    new_start_seconds: float
    length_seconds: float
    distance: float


@dataclass(frozen=True)
class Comparison:
    """The two films, what was measured and where they differ, in the order of time."""

    old: Side
    new: Side
    metric: str
    threshold: float
    model: str
    track: str
    similarity_percent: float
    compared_count: int
    differing_count: int
    differences: Sequence[Difference]
    intervals: Sequence[Interval]

    @property
    def differ(self) -> bool:
        """Whether there is any difference, or any part that nobody could compare."""
        return bool(self.differences)


_KINDS = {
    compare_pb2.DIFFERENCE_KIND_CHANGED: Kind.CHANGED,
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_A: Kind.ONLY_IN_OLD,
    compare_pb2.DIFFERENCE_KIND_ONLY_IN_B: Kind.ONLY_IN_NEW,
    compare_pb2.DIFFERENCE_KIND_NOT_COMPARED: Kind.NOT_COMPARED,
}
_METRICS = {compare_pb2.METRIC_COSINE: "cosine", compare_pb2.METRIC_EUCLIDEAN: "euclidean"}


def read_comparison(
    response: compare_pb2.CompareEmbeddingsResponse,
    *,
    old: tuple[str, ingest_pb2.Video | None],
    new: tuple[str, ingest_pb2.Video | None],
) -> Comparison:
    """Return a comparison from the service's answer and, for each side, its label and its video where there is one."""
    return Comparison(
        old=_side(response.a, *old),
        new=_side(response.b, *new),
        metric=_METRICS.get(response.metric, "unknown"),
        threshold=response.threshold,
        model=response.model,
        track=response.track,
        similarity_percent=response.similarity_percent,
        compared_count=response.compared_count,
        differing_count=response.differing_count,
        differences=[_difference(difference) for difference in response.differences],
        intervals=[
            Interval(*row)
            for row in zip(
                response.series.a_start_seconds,
                response.series.b_start_seconds,
                response.series.length_seconds,
                response.series.distances,
                strict=True,
            )
        ],
    )


def read_frame_rate(media: ingest_pb2.Media) -> FrameRate | None:
    """Return the frame rate of a video, or None where its container does not say."""
    rate = media.frame_rate
    if rate.numerator <= 0 or rate.denominator <= 0:
        return None
    return FrameRate(Fraction(rate.numerator, rate.denominator))


def _side(side: compare_pb2.Side, label: str, video: ingest_pb2.Video | None) -> Side:
    media = video.media if video else ingest_pb2.Media()
    return Side(
        label=label,
        video_id=side.video_id,
        embedding_id=side.embedding_id,
        duration_seconds=side.duration_seconds,
        frame_rate=read_frame_rate(media),
        width=media.width,
        height=media.height,
    )


def _difference(difference: compare_pb2.Difference) -> Difference:
    def time_range(side: str) -> TimeRange | None:
        if not difference.HasField(side):  # type: ignore[arg-type]
            return None
        value: compare_pb2.TimeRange = getattr(difference, side)
        return TimeRange(value.start_seconds, value.end_seconds)

    return Difference(
        # A server newer than this client may know other kinds; all that can be said of them is that they differ.
        kind=_KINDS.get(difference.kind, Kind.CHANGED),
        old=time_range("a"),
        new=time_range("b"),
        max_distance=difference.max_distance if difference.HasField("max_distance") else None,
        mean_distance=difference.mean_distance if difference.HasField("mean_distance") else None,
    )
