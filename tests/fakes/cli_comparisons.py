"""The compare service as the `sage` command sees it: responses that follow from what the fakes hold."""

from typing import TYPE_CHECKING

from fakes.cli_errors import abort
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import media_pb2
from sage_runtime.errors import invalid

if TYPE_CHECKING:
    from fakes.cli_services import FakeSage

OLD_SECONDS = 20.0
NEW_SECONDS = 22.5
DEFAULT_THRESHOLDS = {"visual": 0.05, "audio": 0.1}


class FakeCompareService(compare_pb2_grpc.CompareServiceServicer):
    """Two embeddings of the same content are the same; others differ from 4 to 8 s, and b is 2.5 s longer."""

    def __init__(self, sage: "FakeSage") -> None:
        self._sage = sage

    async def CompareEmbeddings(self, request, context):
        sage = self._sage
        sage.requests.append(request)
        if sage.violations:
            await abort(context, invalid(*sage.violations))
        a, b = sage.embeddings[request.embedding_id_a], sage.embeddings[request.embedding_id_b]
        same = a.video_id == b.video_id or sage.content_of(a) == sage.content_of(b) != ""
        response = compare_pb2.CompareEmbeddingsResponse(
            mode=compare_pb2.COMPARE_MODE_TIME,
            metric=request.metric or compare_pb2.METRIC_COSINE,
            model=a.model,
            a=_side(a, OLD_SECONDS),
            b=_side(b, OLD_SECONDS if same else NEW_SECONDS),
            media_differences=sage.beyond_tracks.media_differences,
            not_compared=sage.beyond_tracks.not_compared,
        )
        for spec in request.tracks or [compare_pb2.TrackSpec(name="visual")]:
            differs = not same or (sage.dubbed and spec.name == "audio")
            track = self._track(spec, response, differs=differs)
            if sage.unknown_results:
                track.ClearField("time")
            response.tracks.append(track)
        return response

    def _track(
        self, spec: compare_pb2.TrackSpec, response: compare_pb2.CompareEmbeddingsResponse, *, differs: bool
    ) -> compare_pb2.TrackComparison:
        def span(start: float, end: float) -> compare_pb2.FrameRange:
            return frame_range(start, end, response.a.media.frame_rate)

        tail_seconds = self._sage.tail_seconds
        time = compare_pb2.TimeComparison(
            threshold=spec.threshold if spec.HasField("threshold") else DEFAULT_THRESHOLDS.get(spec.name, 0.2),
            compared_count=10,
            differing_count=2 if differs else 0,
            series=compare_pb2.Series(
                a_start_seconds=[2.0 * index for index in range(10)],
                b_start_seconds=[2.0 * index for index in range(10)],
                length_seconds=[2.0] * 10,
                distances=[0.01, 0.01, 0.3, 0.4, *([0.01] * 6)] if differs else [0.01] * 10,
            ),
        )
        if differs:
            changed = span(4, 8)
            time.differences.add(
                kind=compare_pb2.DIFFERENCE_KIND_CHANGED, a=changed, b=changed, max_distance=0.4, mean_distance=0.35
            )
            if response.b.media.duration_seconds > OLD_SECONDS:
                time.differences.add(
                    kind=compare_pb2.DIFFERENCE_KIND_ONLY_IN_B,
                    b=span(OLD_SECONDS, NEW_SECONDS),
                )
        elif tail_seconds:
            tail = span(OLD_SECONDS - tail_seconds, OLD_SECONDS)
            time.differences.add(kind=compare_pb2.DIFFERENCE_KIND_NOT_COMPARED, a=tail, b=tail)
        return compare_pb2.TrackComparison(
            name=spec.name,
            a_covered=span(0, response.a.media.duration_seconds),
            b_covered=span(0, response.b.media.duration_seconds),
            similarity_percent=100 * 16 / 22.5 if differs or tail_seconds else 100.0,
            time=time,
        )


def frame_range(start: float, end: float, rate: media_pb2.FrameRate) -> compare_pb2.FrameRange:
    """Return a range in seconds and in frames."""
    per_second = rate.numerator / rate.denominator if rate.denominator else 0.0
    return compare_pb2.FrameRange(
        first_frame=round(start * per_second),
        end_frame=round(end * per_second),
        start_seconds=start,
        end_seconds=end,
    )


def _side(embedding: embed_pb2.Embedding, seconds: float) -> compare_pb2.Side:
    side = compare_pb2.Side(embedding_id=embedding.id, video_id=embedding.video_id, media=embedding.media)
    side.media.duration_seconds = seconds
    return side
