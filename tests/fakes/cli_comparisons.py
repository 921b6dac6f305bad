"""The compare service as the `sage` command sees it: responses that follow from what the fakes hold."""

from typing import TYPE_CHECKING

import grpc
from fakes.cli_errors import abort
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import media_pb2
from sage_runtime.errors import Reason, SageError, invalid

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
        aligned = request.mode != compare_pb2.COMPARE_MODE_TIME
        if aligned:
            for embedding in (a, b):
                await self._check_fingerprint(embedding.video_id, context)
        response = compare_pb2.CompareEmbeddingsResponse(
            mode=compare_pb2.COMPARE_MODE_ALIGNED if aligned else compare_pb2.COMPARE_MODE_TIME,
            metric=request.metric or compare_pb2.METRIC_COSINE,
            model=a.model,
            a=_side(a, OLD_SECONDS),
            b=_side(b, OLD_SECONDS if same else NEW_SECONDS),
            media_differences=sage.beyond_tracks.media_differences,
            not_compared=sage.beyond_tracks.not_compared,
        )
        for spec in request.tracks or [compare_pb2.TrackSpec(name="visual")]:
            differs = not same or (sage.dubbed and spec.name == "audio")
            track = (self._aligned if aligned else self._track)(spec, response, differs=differs)
            if sage.unknown_results:
                track.ClearField("result")
            response.tracks.append(track)
        return response

    async def _check_fingerprint(self, video_id: str, context: grpc.aio.ServicerContext) -> None:
        found = self._sage.fingerprints.get(video_id)
        if found is None:
            await abort(context, SageError(Reason.FINGERPRINT_NOT_FOUND, video_id=video_id))
        if found.state != embed_pb2.EMBEDDING_STATE_COMPLETED:
            await abort(context, SageError(Reason.FINGERPRINT_NOT_COMPLETED, video_id=video_id, state="PENDING"))

    def _aligned(
        self, spec: compare_pb2.TrackSpec, response: compare_pb2.CompareEmbeddingsResponse, *, differs: bool
    ) -> compare_pb2.TrackComparison:
        """A shot from 4 to 8 s is replaced, and the end is inserted, unless another script is given."""
        rate = response.a.media.frame_rate
        seconds = (response.a.media.duration_seconds, response.b.media.duration_seconds)
        given = self._sage.script if spec.name == "visual" else self._sage.sound
        if not differs:
            whole = [frame_range(0, end, rate) for end in seconds]
            script = compare_pb2.EditScript(
                edits=[compare_pb2.Edit(kind=compare_pb2.EDIT_KIND_MATCHED, a=whole[0], b=whole[1], rate=1)]
            )
        else:
            script = given or default_script(rate)
            if spec.name == "audio" and not given:
                # The shot was replaced with its sound.
                script.edits[1].changes[0].kind = compare_pb2.CHANGE_KIND_SOUND_REPLACED
        return compare_pb2.TrackComparison(
            name=spec.name,
            a_covered=frame_range(0, seconds[0], rate),
            b_covered=frame_range(0, seconds[1], rate),
            similarity_percent=100 * 32 / 42.5 if differs else 100.0,
            script=script,
        )

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


def default_script(rate: media_pb2.FrameRate) -> compare_pb2.EditScript:
    """Return the script of two films: a shot is replaced, and the end is inserted."""
    replaced = frame_range(4, 8, rate)
    change = compare_pb2.Change(kind=compare_pb2.CHANGE_KIND_REPLACED, a=replaced, b=replaced, strength=12)
    edits = [
        compare_pb2.Edit(kind=compare_pb2.EDIT_KIND_MATCHED, a=frame_range(0, 4, rate), b=frame_range(0, 4, rate)),
        compare_pb2.Edit(kind=compare_pb2.EDIT_KIND_CHANGED, a=replaced, b=replaced, changes=[change]),
        compare_pb2.Edit(kind=compare_pb2.EDIT_KIND_MATCHED, a=frame_range(8, 20, rate), b=frame_range(8, 20, rate)),
        compare_pb2.Edit(kind=compare_pb2.EDIT_KIND_INSERTED, b=frame_range(OLD_SECONDS, NEW_SECONDS, rate)),
    ]
    for edit in edits:
        edit.rate = 1 if edit.HasField("a") else 0
        edit.confidence = 1
    return compare_pb2.EditScript(
        edits=edits,
        noise=compare_pb2.Noise(median=0.4, p95=1.1, p99=1.6),
        min_strength=3,
        levels=compare_pb2.SensitivityLevels(low=6, normal=3, high=1.5),
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
