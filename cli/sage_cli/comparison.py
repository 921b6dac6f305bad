"""A comparison as this client shows it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.timecode import FrameRate, clock, timecode

# What the contract says of a request that leaves the track open.
DEFAULT_TRACK = "visual"


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
class TrackComparison:
    """What was found in one track.

    Attributes:
        track: Its name.
        threshold: Distances above it are differences.
        similarity_percent: How much of the two is the same, 0 to 100.
        compared_count: How many intervals were compared.
        differing_count: How many of them differ.
        differences: Where the two differ, in the order of time.
        intervals: Every interval with its distance.
        silent: The sides that have nothing in this track, `old` and `new`.
    """

    track: str
    threshold: float
    similarity_percent: float
    compared_count: int
    differing_count: int
    differences: Sequence[Difference]
    intervals: Sequence[Interval]
    silent: Sequence[str] = ()

    @property
    def noun(self) -> str:
        """What people call it."""
        return _NOUNS.get(self.track, self.track)


@dataclass(frozen=True)
class Comparison:
    """The two films, what was measured and where they differ.

    Attributes:
        old: The one film.
        new: The other.
        metric: How distances were measured.
        model: The model that made the vectors.
        clip_seconds: The length of a clip.
        first: The track that was compared.
        second: The other track that was; None where none was asked for.
    """

    old: Side
    new: Side
    metric: str
    model: str
    clip_seconds: float
    first: TrackComparison
    second: TrackComparison | None = None

    @property
    def tracks(self) -> Sequence[TrackComparison]:
        """What was found in each track."""
        return (self.first, self.second) if self.second else (self.first,)

    @property
    def differ(self) -> bool:
        """Whether any track differs, or has a part that was not compared and is more than the tail."""
        return any(self.found_in(track) for track in self.tracks)

    def found_in(self, track: TrackComparison) -> Sequence[Difference]:
        """Return the differences of a track, without the tail that no clip covers."""
        tail = self.tail_of(track)
        return [difference for difference in track.differences if difference is not tail]

    def tail_of(self, track: TrackComparison) -> Difference | None:
        """Return the end of both films that a track's clips leave out, where it is nothing else.

        Some models drop the last clip where it would be a short one. Nothing says that the two differ there, and nearly
        every film has such an end: a diff that counted it would find a difference in all of them. It is less than a
        clip, both films end with it, and the rest was compared; whatever else was not compared counts as a difference.
        """
        last = track.differences[-1] if track.differences and track.compared_count else None
        if last is None or last.kind is not Kind.NOT_COMPARED or last.old is None or last.new is None:
            return None
        ends = ((last.old, self.old), (last.new, self.new))
        at_end = all(abs(where.end_seconds - side.duration_seconds) <= _ONE_MOMENT_SECONDS for where, side in ends)
        short = last.old.end_seconds - last.old.start_seconds < self.clip_seconds
        return last if at_end and short else None


# In TIME mode moments that lie this close are one moment, says the contract; the rest is for rounding.
_ONE_MOMENT_SECONDS = 0.1 + 1e-6

_NOUNS = {"visual": "picture", "audio": "sound", "transcription": "speech"}
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
    clip_seconds: float,
) -> Comparison:
    """Return a comparison.

    Args:
        response: The service's answer.
        old: The label of the one film, and its video where there is one.
        new: The same of the other.
        clip_seconds: The length of the clips of both embeddings.
    """
    return Comparison(
        old=_side(response.a, *old),
        new=_side(response.b, *new),
        metric=_METRICS.get(response.metric, "unknown"),
        model=response.model,
        clip_seconds=clip_seconds,
        first=_track(response, a=response.a.HasField("covered"), b=response.b.HasField("covered")),
        second=_track(response.second, a=response.second.HasField("a_covered"), b=response.second.HasField("b_covered"))
        if response.HasField("second")
        else None,
    )


def _track(
    compared: compare_pb2.CompareEmbeddingsResponse | compare_pb2.TrackComparison, *, a: bool, b: bool
) -> TrackComparison:
    """Return what was found in a track; `a` and `b` say which side has anything in it."""
    series = compared.series
    rows = zip(series.a_start_seconds, series.b_start_seconds, series.length_seconds, series.distances, strict=True)
    return TrackComparison(
        track=compared.track,
        threshold=compared.threshold,
        similarity_percent=compared.similarity_percent,
        compared_count=compared.compared_count,
        differing_count=compared.differing_count,
        differences=[_difference(difference) for difference in compared.differences],
        intervals=[Interval(*row) for row in rows],
        silent=[name for name, there in (("old", a), ("new", b)) if not there],
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
        if not difference.HasField(side):  # type: ignore[arg-type] # one of two literals
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
